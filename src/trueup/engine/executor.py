"""The executor: carries one planned operation out, with a durable record before and after each step.

The order is the promise: look once more, journal the intent, send once, journal PVE's task, wait for its end, and let
recovery's table judge the end as it would after a crash. A lost answer is not an end: the operation stays open and
goes to the same judge.
"""

import msgspec

from trueup.core import intents, lifecycle, sighting, tasksearch
from trueup.core.intents import Prepared, Stamp
from trueup.core.kinds import KINDS
from trueup.core.recovery import Open
from trueup.engine.deck import Deck
from trueup.engine.lanes import Lanes
from trueup.engine.observer import guest_row
from trueup.engine.recoverer import Recoverer
from trueup.model import limits
from trueup.model.errors import Absent, NotSent, PveError, ReadFailed, Refused, Unknown
from trueup.model.gate import RequestState
from trueup.model.guests import Observed
from trueup.model.ids import OpId, Upid
from trueup.model.notes import What
from trueup.model.ops import Failed, OpView, Reason, Started, TaskRunning
from trueup.model.plan import PlannedOp
from trueup.model.pve import Call, TaskStarted

_WATCH_FIRST_S = 0.1
_NOT_REACHED = frozenset({0, 595})


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The operation has its terminal record."""

    view: OpView


class LeftOpen(msgspec.Struct, frozen=True, kw_only=True):
    """Its outcome cannot be told yet: it stays in flight, and its guest is left alone."""

    view: OpView


class NotNow(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was sent: the guest is not as it was planned. The next look plans anew."""

    why: str


Outcome = Ended | LeftOpen | NotNow


class Executor:
    """Carries out planned operations, each at most once."""

    def __init__(self, deck: Deck, recoverer: Recoverer, lanes: Lanes) -> None:
        """Send through the deck's ports, within the lanes; `recoverer` judges every end."""
        self._deck = deck
        self._recoverer = recoverer
        self.lanes = lanes
        self.stopping = False
        """Nothing more is journaled or sent, also not what waits for a lane; what was sent is followed to its end."""

    async def run(self, op: PlannedOp, planned_on: Observed | None) -> Outcome:
        """Carry one operation out and wait for its end.

        `planned_on` is the guest that the plan saw; None for one that is to be made.

        Raises:
            Stale, JournalFailed: the journal refused a record; no request left after it.
        """
        async with self.lanes.hold(op.vmid, op.source_node or op.node, op.source):
            fresh = await self._fresh(op, planned_on)
            if isinstance(fresh, NotNow):
                return fresh
            if self.stopping:
                return NotNow(why="trueup was told to stop")
            if await self._deck.journal.doubts():
                return NotNow(why="the journal may not know all that was done (`trueup journal acknowledge`)")
            if await self._deck.journal.paused() & {"*", op.name}:
                return NotNow(why="it is paused (`trueup resume`)")  # said while this waited for its turn
            if await self._spoken_for(op):
                return NotNow(why="what people signed for it comes first, on the guest as they saw it")
            prepared, view, send_by = await self._intend(op, fresh)
            view = await self.send(view, prepared, send_by)
            return await self.followed(view)

    async def follow(self, view: OpView) -> Outcome:
        """Wait for the end of an operation that recovery found at work."""
        async with self.lanes.hold(view.intent.vmid, view.intent.node, view.intent.source):
            return await self.followed(view)

    # -- before ----------------------------------------------------------------------------------------------------

    async def _fresh(self, op: PlannedOp, planned_on: Observed | None) -> Observed | NotNow | None:
        """Look at the guest once more, where it is now; slots may have been long to come by."""
        spec = KINDS[op.kind]
        try:
            if spec.needs_quorum and not (await self._deck.pve.cluster()).quorate:
                return NotNow(why="the cluster has no quorum")
            if planned_on is None:
                return None  # a new guest: PVE itself refuses a vmid that is taken, in the whole cluster
            read = await self._deck.pve.config(planned_on.node, planned_on.type, planned_on.vmid)
            running = await self._deck.pve.running(planned_on.node, planned_on.type, planned_on.vmid)
        except Absent:
            return NotNow(why="the guest has been moved or deleted")
        except ReadFailed as error:
            return NotNow(why=f"the guest cannot be read: {error.what}")
        seen = sighting.observed(guest_row(planned_on), read, running=running)
        if seen.lock:
            return NotNow(why=f"the guest has been locked ({seen.lock})")
        if seen.identity != planned_on.identity or (spec.guarded and seen.digest != planned_on.digest):
            return NotNow(why="the guest has been changed since it was planned")
        if op.goal.get("power") == seen.status:
            return NotNow(why=f"the guest is {seen.status} already")
        return seen

    async def _spoken_for(self, op: PlannedOp) -> bool:
        """Whether people signed for the guest, or are about to: then it stays as they saw it."""
        if any(signed.intent.vmid == op.vmid for signed in await self._deck.journal.accepted()):
            return True
        pending = await self._deck.journal.requests(state=RequestState.PENDING)
        return any(asked.request.target.vmid == op.vmid for asked in pending)

    async def _intend(self, op: PlannedOp, fresh: Observed | None) -> tuple[Prepared, OpView, float]:
        """Journal the intent. After this the request may leave; before it, it may not."""
        clock, entropy = self._deck.clock, self._deck.entropy
        now_ms = clock.now_ms()
        send_by = min(clock.monotonic() + self._deck.limits.send_by_s, self._deck.journal.lead_until())
        stamp = Stamp(
            op_id=OpId(entropy.uuid7(now_ms)),
            uid=entropy.uuid7(now_ms),
            installation=self._deck.installation,
            token=self._deck.pve.token,
            now_ms=now_ms,
            send_by_ms=now_ms + int(self._deck.limits.send_by_s * 1000),
        )
        prepared = await self.disowned(intents.prepare(op, fresh, stamp))
        # The commit point of the intent.
        records = await self._deck.record(stamp.op_id, Started(intent=prepared.intent))
        view = lifecycle.step(None, records[0])
        self._deck.tell(What.OP_STARTED, f"{op.kind} {op.type} {op.vmid} {op.name}", view)
        return prepared, view, send_by

    async def disowned(self, prepared: Prepared) -> Prepared:
        """Note the tasks that are like this request's own but were there before it.

        Only where an earlier request like it was never accounted for; its task must not be taken for ours.
        """
        intent = prepared.intent
        since_ms = self._deck.clock.now_ms() - int(limits.PRESUMED_WATCH_S * 1000)
        earlier = await self._deck.journal.unaccounted_since(since_ms)
        if not intent.task_type or not any(tasksearch.same_target(intent, op.intent) for op in earlier):
            return prepared
        try:
            rows = (await self._deck.pve.tasks(intent.node)).rows
        except ReadFailed:
            return prepared  # then a task like it will be one too many, and that is said
        there = tuple(row.upid.text for row in rows if tasksearch.matches(intent, row.upid))
        return msgspec.structs.replace(prepared, intent=msgspec.structs.replace(intent, not_mine=there))

    # -- the one request -------------------------------------------------------------------------------------------

    async def send(self, view: OpView, prepared: Prepared, send_by: float) -> OpView:
        """Send a request whose intent is durable, once; journal what PVE says.

        `send_by` is on the monotonic clock. An operation that lifted `protection` ends badly only after it is back.
        """
        intent = prepared.intent
        call = Call(method=intent.method, path=intent.path, params=prepared.params, send_by=send_by)
        try:
            reply = await self._deck.pve.send(call)
        except NotSent as error:
            expired = self._deck.clock.monotonic() >= send_by and error.status == 0
            not_reached = Reason.NOT_STARTED if error.status in _NOT_REACHED else Reason.REFUSED
            return await self._close(view, Reason.EXPIRED if expired else not_reached, error)
        except Refused as error:
            return await self._close(view, Reason.REFUSED, error)
        except Unknown as error:
            self._deck.tell(What.WAITING, f"no certain answer ({error.what}); finding out what became of it", view)
            return view
        if isinstance(reply, TaskStarted):
            records = await self._deck.record(view.op_id, TaskRunning(upid=reply.upid.text))
            view = lifecycle.step(view, records[0])
            self._deck.tell(What.OP_TASK, reply.upid.text, view)
        else:
            self._recoverer.answered(view.op_id)
        return view

    async def _close(self, view: OpView, reason: Reason, error: PveError) -> OpView:
        if KINDS[view.intent.kind].lifts:
            view, stands = await self._recoverer.protect(view)
            if not stands:
                self._deck.tell(What.ALARM, f"{reason}: {error.what}; `protection` could not be put back yet", view)
                return view
        records = await self._deck.record(view.op_id, Failed(reason=reason, exit_status=error.text or error.what))
        view = lifecycle.step(view, records[0])
        self._deck.tell(What.OP_ENDED, f"{reason}: {error.what}", view)
        return view

    # -- after -----------------------------------------------------------------------------------------------------

    async def followed(self, view: OpView) -> Outcome:
        """Wait for the end of the task, then let the table judge; it may ask to wait longer for the guest's state."""
        pause_s = limits.TASK_WATCH_S
        while lifecycle.is_in_flight(view):
            if view.upid:
                await self._task_end(Upid.parse(view.upid))
            report = await self._recoverer.recover([view])
            judged = report.judged[0]
            view = judged.view
            if isinstance(judged.verdict, Open):
                return LeftOpen(view=view)
            if lifecycle.is_in_flight(view):
                await self._deck.clock.sleep(pause_s)
                pause_s = min(pause_s * 1.5, limits.STATE_WATCH_S)
        return Ended(view=view)

    async def _task_end(self, upid: Upid) -> None:
        """Poll the node's active tasks until this one no longer runs there; a failed read says nothing about it."""
        pause_s = _WATCH_FIRST_S
        while True:
            await self._deck.clock.sleep(pause_s)
            pause_s = min(pause_s * 1.5, limits.TASK_WATCH_S)
            try:
                rows = await self._deck.pve.active_tasks(upid.node)
            except ReadFailed:
                continue
            if not any(row.upid.text == upid.text and row.status == "RUNNING" for row in rows):
                return
