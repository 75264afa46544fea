"""Processes, time and locks of the simulated machines.

Rule kept here: nothing happens except at an instant taken from the one queue, in an order fixed by
(time, number) and the seed. A process is a generator; a killed one is simply never resumed, as after SIGKILL,
so processes clean up in `except` clauses and never in `finally`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from pvesim.wire import Failure

T = TypeVar("T")
Group: TypeAlias = tuple[str, str]
THAW_SPREAD_S = 0.004


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take a lock, waiting at most `timeout_s` (None: for ever); resumed with True when it was got."""

    key: str
    timeout_s: float | None
    shared: bool = False
    capacity: int = 1


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the end of another process; resumed with True when it ended in time."""

    proc: Proc
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Die:
    """The process is killed here, without any cleanup."""


Command: TypeAlias = Sleep | Acquire | Join | Die
Steps: TypeAlias = Generator[Command, object, T]


@dataclass(slots=True)
class Timer:
    """One entry of the queue."""

    due: float
    action: Callable[[], None]
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class Proc:
    """A running generator with the group it can be frozen and killed by."""

    number: int
    steps: Steps[object]
    group: Group
    outcome: Literal["alive", "returned", "raised", "killed"] = "alive"
    value: object = None
    error: Failure | None = None
    on_exit: Callable[[Proc], None] | None = None
    timer: Timer | None = None
    wanted: Waiter | None = None
    joined: Proc | None = None
    joiners: list[Proc] = field(default_factory=list["Proc"])
    held: set[str] = field(default_factory=set[str])

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.outcome == "alive"


@dataclass(slots=True, eq=False)
class Waiter:
    """A process waiting for a lock."""

    proc: Proc
    want: Acquire


@dataclass(slots=True)
class LockState:
    """Holders and waiters of one lock."""

    holders: dict[Proc, bool] = field(default_factory=dict["Proc", bool])
    waiters: list[Waiter] = field(default_factory=list["Waiter"])

    def admits(self, want: Acquire) -> bool:
        """Whether `want` is compatible with the present holders."""
        if want.shared:
            return all(self.holders.values())
        return not any(self.holders.values()) and len(self.holders) < want.capacity


class Kernel:
    """The queue of instants and all that waits in it."""

    def __init__(self, now: float, rng: random.Random) -> None:
        """Start at `now` with nothing due."""
        self.now = now
        self._rng = rng
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._procs: dict[Group, dict[Proc, None]] = {}
        self._frozen: dict[Group, list[Proc]] = {}
        self._locks: dict[str, LockState] = {}

    def at(self, due: float, action: Callable[[], None]) -> Timer:
        """Run `action` at `due`."""
        timer = Timer(max(due, self.now), action)
        self._count += 1
        heapq.heappush(self._queue, (timer.due, self._count, timer))
        return timer

    def next_due(self) -> float | None:
        """The next instant at which something happens."""
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def run_until(self, now: float) -> None:
        """Let everything happen that is due up to `now`."""
        while (due := self.next_due()) is not None and due <= now:
            timer = heapq.heappop(self._queue)[2]
            self.now = max(self.now, due)
            timer.action()
        self.now = max(self.now, now)

    def spawn(self, steps: Steps[object], group: Group, on_exit: Callable[[Proc], None] | None = None) -> Proc:
        """Start a process; its first step runs at this instant, after what is already due."""
        self._count += 1
        proc = Proc(number=self._count, steps=steps, group=group, on_exit=on_exit)
        self._procs.setdefault(group, {})[proc] = None
        proc.timer = self.at(self.now, lambda: self._resume(proc, None))
        return proc

    def group(self, group: Group) -> list[Proc]:
        """The living processes of a group, oldest first."""
        return list(self._procs.get(group, {}))

    def freeze(self, group: Group) -> None:
        """Stop every process of the group where it stands; lock waits and timers go on counting."""
        self._frozen.setdefault(group, [])

    def thaw(self, group: Group) -> None:
        """Let a frozen group go on, in an order nobody can rely on."""
        backlog = self._frozen.pop(group, [])
        self._rng.shuffle(backlog)
        for proc in backlog:
            delay = self._rng.uniform(0, THAW_SPREAD_S)
            proc.timer = self.at(self.now + delay, self._resumer(proc, proc.value))

    def is_frozen(self, group: Group) -> bool:
        """Whether the group stands still."""
        return group in self._frozen

    def kill(self, proc: Proc) -> None:
        """SIGKILL."""
        if proc.alive:
            self._end(proc, "killed")

    def interrupt(self, proc: Proc, error: Exception) -> None:
        """SIGTERM: the process finds `error` raised where it waits."""
        if proc.alive:
            self._forget_wait(proc)
            proc.timer = self.at(self.now, lambda: self._resume(proc, None, error))

    def hand_over_locks(self, old: Proc, new: Proc) -> None:
        """Make `new` the holder of all that `old` holds, as a child that inherited the open files."""
        for key in sorted(old.held):
            self.hand_over(old, new, key)

    def hand_over(self, old: Proc, new: Proc, key: str) -> None:
        """Make `new` the holder of one lock of `old`."""
        state = self._locks[key]
        state.holders[new] = state.holders.pop(old)
        new.held.add(key)
        old.held.discard(key)

    def is_held(self, key: str) -> bool:
        """Whether anybody holds the lock."""
        state = self._locks.get(key)
        return state is not None and bool(state.holders)

    def release(self, proc: Proc, key: str) -> None:
        """Give a lock back and wake whoever may have it now."""
        state = self._locks.get(key)
        if state is None or state.holders.pop(proc, None) is None:
            return
        proc.held.discard(key)
        self._rng.shuffle(state.waiters)  # flock queues are not first come, first served
        for waiter in list(state.waiters):
            if state.admits(waiter.want):
                state.waiters.remove(waiter)
                self._grant(state, waiter.proc, waiter.want)
                self._wake(waiter.proc, value=True)
        if not state.holders and not state.waiters:
            del self._locks[key]

    def _resumer(self, proc: Proc, value: object) -> Callable[[], None]:
        return lambda: self._resume(proc, value)

    def _wake(self, proc: Proc, *, value: object) -> None:
        self._forget_wait(proc)
        proc.timer = self.at(self.now, self._resumer(proc, value))

    def _forget_wait(self, proc: Proc) -> None:
        if proc.timer is not None:
            proc.timer.cancelled = True
            proc.timer = None
        if proc.wanted is not None:
            state = self._locks.get(proc.wanted.want.key)
            if state is not None and proc.wanted in state.waiters:
                state.waiters.remove(proc.wanted)
            proc.wanted = None
        if proc.joined is not None:
            if proc in proc.joined.joiners:
                proc.joined.joiners.remove(proc)
            proc.joined = None

    def _resume(self, proc: Proc, value: object, error: Exception | None = None) -> None:
        self._forget_wait(proc)
        if not proc.alive:
            return
        if proc.group in self._frozen and error is None:
            proc.value = value
            self._frozen[proc.group].append(proc)
            return
        try:
            command = proc.steps.throw(error) if error is not None else proc.steps.send(value)
        except StopIteration as stop:
            proc.value = stop.value
            self._end(proc, "returned")
        except Failure as failed:
            proc.error = failed
            self._end(proc, "raised")
        except Exception:  # a defect: nobody may wait for this process for ever, but it must be seen
            self._end(proc, "raised")
            raise
        else:
            self._obey(proc, command)

    def _obey(self, proc: Proc, command: Command) -> None:
        match command:
            case Sleep():
                proc.timer = self.at(self.now + command.seconds, self._resumer(proc, value=True))
            case Acquire():
                self._acquire(proc, command)
            case Join():
                self._join(proc, command)
            case Die():
                self._end(proc, "killed")

    def _acquire(self, proc: Proc, want: Acquire) -> None:
        state = self._locks.setdefault(want.key, LockState())
        if state.admits(want):
            self._grant(state, proc, want)
            self._wake(proc, value=True)
            return
        proc.wanted = Waiter(proc, want)
        state.waiters.append(proc.wanted)
        if want.timeout_s is not None:
            proc.timer = self.at(self.now + want.timeout_s, self._resumer(proc, value=False))

    def _grant(self, state: LockState, proc: Proc, want: Acquire) -> None:
        state.holders[proc] = want.shared
        proc.held.add(want.key)

    def _join(self, proc: Proc, command: Join) -> None:
        if not command.proc.alive:
            self._wake(proc, value=True)
            return
        command.proc.joiners.append(proc)
        proc.joined = command.proc
        if command.timeout_s is not None:
            proc.timer = self.at(self.now + command.timeout_s, self._resumer(proc, value=False))

    def _end(self, proc: Proc, outcome: Literal["returned", "raised", "killed"]) -> None:
        self._forget_wait(proc)
        proc.outcome = outcome
        members = self._procs[proc.group]
        del members[proc]
        if not members:
            del self._procs[proc.group]
        if proc.on_exit is not None:
            proc.on_exit(proc)
        for key in sorted(proc.held):
            self.release(proc, key)
        for joiner in list(proc.joiners):
            self._wake(joiner, value=True)


def sleep(seconds: float) -> Steps[None]:
    """Wait inside a process."""
    yield Sleep(seconds)


def acquire(want: Acquire) -> Steps[bool]:
    """Wait for a lock inside a process."""
    got = yield want
    return got is True


def join(proc: Proc, timeout_s: float | None) -> Steps[bool]:
    """Wait for another process; False when the time ran out first."""
    ended = yield Join(proc, timeout_s)
    return ended is True
