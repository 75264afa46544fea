"""An event loop whose clock jumps: it never waits, and a program that nobody will ever wake is a failure.

Thousands of stories are lived on it, so it does nothing but that: no files, no signals, no debug mode, and handles
that only hold what is called.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SAME_INSTANT_S = 1e-9
"""What is due so soon after an instant is due at it: floats that stand for the same one differ a little."""


class Deadlock(Exception):
    """Nothing is ready and no timer is set: the program would hang for ever."""


class _Handle:
    """A call that is due, now or at its time; like `asyncio.TimerHandle`, as far as asyncio and tests use it."""

    __slots__ = ("_args", "_callback", "_context", "_when", "dropped")

    def __init__(
        self, when: float, callback: Callable[..., object], args: Any, context: contextvars.Context | None
    ) -> None:
        self.dropped = False
        self._when = when
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = contextvars.copy_context() if context is None else context

    def cancel(self) -> None:
        self.dropped = True
        self._callback, self._args = None, ()  # what they hold may go

    def cancelled(self) -> bool:
        return self.dropped

    def when(self) -> float:
        return self._when

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._context.run(self._callback, *self._args)  # type: ignore[arg-type]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as every loop does
            message = f"Exception in callback {self._callback}"
            loop.call_exception_handler({"message": message, "exception": error, "handle": self})


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """Same program, same trace: calls are made in the order of their times, those of one time as they were made."""

    _closed: bool
    _stopping: bool
    _ready: "deque[_Handle]"

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._made = 0
        self._timers: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = _Handle(self.now, callback, args, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # the program has one thread

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = _Handle(when, callback, args, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def skip_to(self, when: float) -> bool:
        """Set the clock forward at once, if nothing else would be done until then; whether it could be."""
        if self._ready or self._stopping:
            return False
        due = self._next_due()
        if due is not None and due < when + SAME_INSTANT_S:
            return False
        self.now = max(self.now, when)
        return True

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """What would be done in a thread is done at once: it takes no time, and nobody can come in between."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits for it hears it
            done.set_exception(error)
        return done

    def close(self) -> None:
        self._timers.clear()
        super().close()

    def _next_due(self) -> float | None:
        timers = self._timers
        while timers and timers[0][2].dropped:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _run_once(self) -> None:
        """One round: `asyncio.BaseEventLoop` runs these until it is told to stop."""
        ready, timers = self._ready, self._timers
        due = self._next_due()
        if not ready and not self._stopping:
            # Instead of waiting for files, the clock is set forward.
            if due is None:
                raise Deadlock
            self.now = max(self.now, due)
        if due is not None:
            end = self.now + SAME_INSTANT_S
            while timers and timers[0][0] < end:
                ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.dropped:
                handle.run(self)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program to its end on virtual time."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
