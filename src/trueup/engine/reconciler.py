"""The reconciler: level-triggered. It looks, plans, and sends the first operation of each guest that may be touched.

After each operation the guest is looked at and planned again; nothing is ever worked off from an older plan. Guests do
not wait for each other, but for those that they name in `after`.
"""

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

import msgspec

from trueup.core import planner
from trueup.core.recovery import Watch
from trueup.engine.backoff import Backoff
from trueup.engine.contradictions import Contradictions
from trueup.engine.deck import Deck
from trueup.engine.executor import Ended, Executor, LeftOpen, NotNow, Outcome
from trueup.engine.lanes import Lanes
from trueup.engine.memory import Memory
from trueup.engine.one_shots import CheckAgain, OneShots
from trueup.engine.recoverer import Recoverer
from trueup.engine.standing import Standing
from trueup.engine.surveyor import Survey, Surveyor
from trueup.model import limits
from trueup.model.errors import ReadFailed, TrueupError
from trueup.model.guests import Desired, Observed, Power
from trueup.model.ids import OpId, Vmid
from trueup.model.notes import What
from trueup.model.ops import Kind, OpState, OpView, Released
from trueup.model.plan import Bucket, GuestPlan, Plan, PlannedOp


class Reconciler:
    """Brings guests to their manifests. Use as an async context manager: leaving it cancels what is at work.

    Cancelled work is not lost: its operations stay in flight, and the next recovery ends them.
    """

    def __init__(self, deck: Deck, recoverer: Recoverer, check: CheckAgain | None = None) -> None:
        """Work through the deck's ports; `recoverer` has finished the start's recovery.

        `check` is the gate's last word on each one-shot that people signed; without it none is sent.
        """
        self._deck = deck
        self._recoverer = recoverer
        self._executor = Executor(deck, recoverer, Lanes(deck.limits.slots_per_node))
        self._one_shots = OneShots(deck, self._executor, check)
        self._signed_again: dict[OpId, float] = {}
        self._signed_why: dict[OpId, str] = {}
        self._memory = Memory(deck.clock)
        self._surveyor = Surveyor(
            pve=deck.pve,
            journal=deck.journal,
            clock=deck.clock,
            installation=deck.installation,
            memory=self._memory,
        )
        self._contradictions = Contradictions(deck)
        self._standing = Standing(deck)
        self.backoff = Backoff(deck.clock, deck.entropy)
        self._group = asyncio.TaskGroup()
        self._working: dict[Vmid, asyncio.Task[None]] = {}
        self._progress = asyncio.Event()
        self._shutdown_failed: set[Vmid] = set()
        self._desired: dict[Vmid, Desired] = {}
        self._declared: dict[str, Desired] = {}
        self._seen: dict[Vmid, Observed] = {}
        self._survey: Survey | None = None
        self.latest: Survey | None = None
        """What the last pass saw, for whoever shows it."""
        self.survey_s = 0.0
        """How long it took to look and plan."""
        self.stopping = False
        self._asked = False
        self._missed = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._working.values():
            task.cancel()
        with _alone():
            await self._group.__aexit__(kind, error, trace)

    @property
    def working(self) -> int:
        """How many guests are being worked on."""
        return len(self._working)

    async def step(self, desired: Sequence[Desired]) -> Plan:
        """Look at everything once, judge what is open, and begin the work that may be done now.

        Raises:
            ReadFailed: the cluster cannot be read; nothing was begun.
            Stale, JournalFailed: the journal refused a record.
        """
        journal = self._deck.journal
        self._missed = False
        await self._judge_open()
        survey = await self._look(desired)
        back = await self._contradictions.look(survey.world)
        if back:
            await self._judge_open()
            survey = await self._look(desired)
        await self._release(survey, desired)
        spoken_for = {op.intent.vmid for op in (*await journal.in_flight(), *await journal.accepted())}
        await self._standing.look(survey.world.rows, spoken_for | self._working.keys())
        self._desired = {want.vmid: want for want in desired}
        self._declared = {want.name: want for want in desired}
        self._seen = dict(survey.world.guests)
        self._survey = survey
        self._missed = _missed(survey)
        await self._begin_signed()
        for guest in survey.plan.guests:
            if guest.bucket is Bucket.UNCHANGED:  # so there is nothing to begin
                self.backoff.succeeded(guest.vmid)
            else:
                self._begin(guest)
        return survey.plan

    async def look(self, desired: Sequence[Desired]) -> Plan:
        """Look and plan without beginning anything. Raises ReadFailed."""
        return (await self._look(desired)).plan

    async def _look(self, desired: Sequence[Desired]) -> Survey:
        began = self._deck.clock.monotonic()
        survey = await self._surveyor.survey(desired, self._shutdown_failed)
        self.latest, self.survey_s = survey, self._deck.clock.monotonic() - began
        return survey

    async def tend(self) -> None:
        """Wait until nothing is at work; begin the work of guests that waited for others."""
        while self._working:
            self._progress.clear()
            await self._progress.wait()
            self._begin_waiting()

    async def idle(self, timeout_s: float) -> None:
        """Wait so long, or until `wind_down`; begin the work of guests that waited for others as these get ready.

        The wait is shorter where something is to be tried again: a guest that could not be read or touched, or one
        whose operation failed and whose time has come.
        """
        began = self._deck.clock.monotonic()
        while not (self.stopping or self._asked):
            left = self._next_pass(began, timeout_s) - self._deck.clock.monotonic()
            if left <= 0:
                break
            self._progress.clear()
            await self._progress_or(left)
            self._begin_waiting()
        self._asked = False

    def _next_pass(self, began: float, timeout_s: float) -> float:
        soonest = [began if self._missed else self.backoff.soonest(began), *self._signed_again.values()]
        again = min((at for at in soonest if at is not None), default=None)
        return began + timeout_s if again is None else min(began + timeout_s, max(again, began + limits.AGAIN_S))

    def look_now(self) -> None:
        """Somebody changed something that a pass should see: do not wait for the next one's time."""
        self._asked = True
        self._progress.set()

    async def carry_out(self, op: PlannedOp, planned_on: Observed | None) -> Outcome:
        """Carry out one operation that a person asked for, unless its guest is being worked on."""
        if op.vmid in self._working:
            return NotNow(why="it is being worked on just now; ask again in a moment")
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                outcome = await self._executor.run(op, planned_on)
            except BaseException:
                ended.cancel()  # the group hears what it was
                raise
            if not ended.done():
                ended.set_result(outcome)

        self._spawn(op.vmid, work())
        return await ended

    def wind_down(self) -> None:
        """Begin nothing more; what is at work goes on."""
        self.stopping = self._executor.stopping = True
        self._progress.set()

    def _begin_waiting(self) -> None:
        for guest in self._waiting():
            self._begin(guest)

    async def _progress_or(self, timeout_s: float) -> None:
        timer = asyncio.ensure_future(self._deck.clock.sleep(timeout_s))
        done = asyncio.ensure_future(self._progress.wait())
        try:
            await asyncio.wait({timer, done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            done.cancel()

    # -- beginning -------------------------------------------------------------------------------------------------

    async def _judge_open(self) -> None:
        """Look again at everything that is open and that nobody here is waiting for."""
        idle = [op for op in await self._deck.journal.in_flight() if op.intent.vmid not in self._working]
        report = await self._recoverer.recover(idle)
        for op in idle:
            self._memory.forget(op.intent.vmid)
        for judged in report.judged:
            if isinstance(judged.verdict, Watch):
                self._spawn(judged.view.intent.vmid, self._follow(judged.view))

    async def _release(self, survey: Survey, desired: Sequence[Desired]) -> None:
        """Guests of ours that no manifest names and that are gone are no longer ours to watch."""
        wanted = {want.vmid for want in desired}
        gone = [
            Released(vmid=vmid, uid=uid)
            for vmid, uid in sorted(survey.context.adopted.items())
            if vmid not in wanted and vmid not in survey.world.rows
        ]
        if gone and await self._deck.pve.sees_all_guests():
            await self._deck.record("", *gone)

    def _begin(self, guest: GuestPlan) -> None:
        """Begin the first operation of a guest, if it may be touched now."""
        if self.stopping or guest.vmid in self._working or planner.next_op(guest) is None:
            return
        if self.backoff.waits_s(guest.vmid) > 0:
            return
        self._spawn(guest.vmid, self._work(guest))

    async def _begin_signed(self) -> None:
        """Begin what people signed, oldest first; one operation of a guest at a time."""
        accepted = await self._deck.journal.accepted()
        self._signed_again = {op.op_id: at for op in accepted if (at := self._signed_again.get(op.op_id)) is not None}
        now = self._deck.clock.monotonic()
        for op in accepted:
            due = self._signed_again.get(op.op_id, now) <= now
            if due and not self.stopping and op.intent.vmid not in self._working:
                self._spawn(op.intent.vmid, self._carry_out_signed(op))

    async def _carry_out_signed(self, accepted: OpView) -> None:
        outcome = await self._one_shots.run(accepted)
        if isinstance(outcome, NotNow):
            held_s = (accepted.not_before_ms - self._deck.clock.now_ms()) / 1000
            self._signed_again[accepted.op_id] = self._deck.clock.monotonic() + max(held_s, limits.AGAIN_S)
            if self._signed_why.get(accepted.op_id) != outcome.why:
                self._signed_why[accepted.op_id] = outcome.why
                intent = accepted.intent
                self._deck.tell(What.BLOCKED, f"{intent.kind} of {intent.vmid} {intent.name}: {outcome.why}", accepted)
        else:
            self._signed_why.pop(accepted.op_id, None)
            self.look_now()

    def _spawn(self, vmid: Vmid, work: Coroutine[object, object, None]) -> None:
        task = self._group.create_task(work)
        self._working[vmid] = task
        task.add_done_callback(lambda _: self._ended(vmid))

    def _ended(self, vmid: Vmid) -> None:
        self._working.pop(vmid, None)
        self._memory.forget(vmid)
        self._progress.set()

    def _waiting(self) -> list[GuestPlan]:
        """Guests that waited for others, planned again on what is known by now."""
        if self._survey is None:
            return []
        waiting = [guest.vmid for guest in self._survey.plan.guests if guest.waits_for and guest.vmid in self._desired]
        return [self._plan(vmid) for vmid in waiting if vmid not in self._working]

    def _plan(self, vmid: Vmid) -> GuestPlan:
        """Plan one guest on what is known by now; what this very worker has in flight does not stop it."""
        if self._survey is None:
            raise TrueupError(what="nothing was surveyed yet")
        closed = self._survey.context.closed
        if vmid in closed:
            closed = {other: why for other, why in closed.items() if other != vmid}
        context = msgspec.structs.replace(
            self._survey.context,
            closed=closed,
            now_ms=self._deck.clock.now_ms(),
            shutdown_failed=frozenset(self._shutdown_failed),
        )
        return planner.plan_guest(self._desired[vmid], self._declared, self._seen, context)

    # -- working on one guest --------------------------------------------------------------------------------------

    async def _work(self, guest: GuestPlan) -> None:
        """Issue one operation after the other until the guest is as declared, or cannot be touched."""
        while not self.stopping and (op := planner.next_op(guest)) is not None:
            outcome = await self._executor.run(op, self._seen.get(guest.vmid))
            if isinstance(outcome, NotNow):
                self._deck.tell(What.BLOCKED, f"{op.name} ({op.vmid}): {outcome.why}; it is planned again")
                self._memory.forget(op.vmid)
                self._missed = True
                return
            if not self._judge(op, outcome):
                return
            await self._look_again(op)
            guest = self._plan(guest.vmid)
            if planner.next_op(guest) == op:
                self._deck.tell(What.ALARM, f"{op.kind} of {op.vmid} {op.name} ended well, and the difference remains")
                self.backoff.failed(op.vmid)
                return
            self.backoff.succeeded(op.vmid)

    def _judge(self, op: PlannedOp, outcome: Ended | LeftOpen) -> bool:
        """Whether the guest may be planned on at once."""
        if isinstance(outcome, LeftOpen):
            return False
        if outcome.view.state is OpState.SUCCEEDED:
            self._shutdown_failed.discard(op.vmid)
            return True
        if op.kind is Kind.SHUTDOWN:
            self._shutdown_failed.add(op.vmid)
        self.backoff.failed(op.vmid)
        return False

    async def _look_again(self, op: PlannedOp) -> None:
        try:
            seen = await self._surveyor.one(self._desired[op.vmid])
            if seen is None:
                self._seen.pop(op.vmid, None)
            else:
                self._seen[op.vmid] = seen
        except ReadFailed as error:
            # Not known is not gone: the guest keeps its last sight, and its next operation looks again anyway.
            self._deck.tell(What.BLOCKED, f"{op.name} ({op.vmid}) cannot be read: {error.what}")

    async def _follow(self, view: OpView) -> None:
        """Wait for the end of an operation that was found at work."""
        await self._executor.follow(view)


def _missed(survey: Survey) -> bool:
    """Whether a guest could not be seen though its node is there: that passes, so it is worth another look soon."""
    world = survey.world
    online = {node.name for node in world.cluster.nodes if node.online}
    dim = {vmid for vmid, guest in world.guests.items() if guest.status is Power.UNKNOWN} | world.unread.keys()
    return any(world.rows[vmid].node in online for vmid in dim)


@contextmanager
def _alone() -> Generator[None]:
    """Let a single error out of its exception group, so that it can be caught by name."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    return _first(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
