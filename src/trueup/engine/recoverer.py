"""The recoverer: finds out what became of open operations and records it. It never sends an operation again.

It looks, lets `core.recovery` judge, records the verdicts in one append, raises the fences that are asked for, and
looks again until every operation is closed, still at work, or honestly unresolved. It may crash at any point: all that
it knows is read anew, and a fence may be raised twice.
"""

from collections.abc import Mapping, Sequence

import msgspec

from trueup.core import lifecycle, recovery
from trueup.core.kinds import KINDS, STATE_FENCES, Fence
from trueup.core.recovery import Again, Close, Evidence, Need, Open, Requeue, Verdict, Watch
from trueup.engine.deck import Deck
from trueup.engine.fences import Fences
from trueup.engine.looker import Looker, Timing
from trueup.model import limits
from trueup.model.ids import OpId, TokenId
from trueup.model.notes import What
from trueup.model.ops import (
    Adopted,
    Draft,
    Failed,
    OpEvent,
    OpView,
    Reason,
    Row,
    Succeeded,
    TaskRunning,
)

_NEVER_TOOK_EFFECT = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED})


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One operation with its verdict and the look that it rests on."""

    view: OpView
    verdict: Verdict
    evidence: Evidence


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one recovery found: every operation once, as it stands afterwards."""

    judged: tuple[Judged, ...] = ()

    def _closed(self, *, succeeded: bool) -> list[Succeeded | Failed]:
        events = [judged.verdict.event for judged in self.judged if isinstance(judged.verdict, Close)]
        return [event for event in events if isinstance(event, Succeeded) == succeeded]

    @property
    def resumed(self) -> int:
        """Operations that turned out to have taken effect."""
        return len(self._closed(succeeded=True))

    @property
    def failed(self) -> int:
        """Operations that ended badly."""
        return sum(1 for event in self._closed(succeeded=False) if event.reason not in _NEVER_TOOK_EFFECT)

    @property
    def rolled_back(self) -> int:
        """Operations that never took effect."""
        return sum(1 for event in self._closed(succeeded=False) if event.reason in _NEVER_TOOK_EFFECT)

    @property
    def presumed(self) -> int:
        """Of those, the ones that rest on time."""
        return sum(1 for event in self._closed(succeeded=False) if event.reason is Reason.PRESUMED_NOT_STARTED)

    @property
    def still_running(self) -> int:
        """Operations that are still at work."""
        return sum(1 for judged in self.judged if isinstance(judged.verdict, Watch))

    @property
    def unresolved(self) -> int:
        """Operations whose outcome cannot be told. In a dry run, those too that would need a fence or a wait."""
        return sum(1 for judged in self.judged if isinstance(judged.verdict, Open | Again))

    @property
    def adopted(self) -> int:
        """Operations whose task was found though its UPID had never reached us."""
        return sum(1 for judged in self.judged if judged.evidence.upid and judged.view.adopted)

    @property
    def examined(self) -> int:
        """All that were looked at; an accepted one-shot counts only once it is closed."""
        return sum(1 for judged in self.judged if not isinstance(judged.verdict, Requeue))

    @property
    def left_open(self) -> int:
        """Operations that are still in flight."""
        return self.still_running + self.unresolved


class Recoverer:
    """Judges open operations, for the start of the agent and for whatever the executor had to leave open."""

    def __init__(self, deck: Deck) -> None:
        """Work through the deck's ports, under its epoch."""
        self._deck = deck
        self._fences = Fences(deck)
        self._looker = Looker(deck, self._fences)
        self._since: dict[OpId, float] = {}
        self._well_since: dict[OpId, float] = {}
        self._answered: set[OpId] = set()

    def answered(self, op_id: OpId) -> None:
        """Note that PVE answered this request with success, without a UPID.

        The call is synchronous, or PVE keeps the UPID to itself (making a template of a container).
        """
        self._answered.add(op_id)

    async def protect(self, view: OpView) -> tuple[OpView, bool]:
        """Put `protection` back after a request that PVE did not take; tell whether it stands, or nothing needs it.

        Where it cannot be put back now, the operation stays open, and recovery goes on with it.
        """
        stands = False
        for _ in range(limits.FENCE_TRIES):
            raised = await self._fences.raise_(view)
            view = raised or view
            stands = raised is not None or await self._fences.pointless(view)
            if stands:
                break
            await self._deck.clock.sleep(limits.RECOVERY_LOOK_S)
        self._fences.forget(view.op_id)
        return view, stands

    async def recover(self, ops: Sequence[OpView], *, dry: bool = False) -> Report:
        """Work through these operations. `dry`: look once, judge, write nothing.

        Raises:
            Stale, JournalFailed: the journal refused a record; what was found is found again by the next recovery.
        """
        waiting = {op.op_id: op for op in ops}
        done: list[Judged] = []
        now = self._deck.clock.monotonic()
        for op_id in waiting:
            self._since.setdefault(op_id, now)
        while waiting:
            looked = await self._looker.look(list(waiting.values()), await self._timing(list(waiting.values())))
            judged = [self._judge(waiting[op_id], evidence) for op_id, evidence in looked.items()]
            if dry:
                return Report(judged=tuple(judged))
            judged = await self._record(judged)
            again = [one for one in judged if isinstance(one.verdict, Again)]
            done += [one for one in judged if not isinstance(one.verdict, Again)]
            waiting = {one.view.op_id: one.view for one in again}
            if again:
                waiting |= await self._prepare(again)
        for one in done:
            self._forget(one)
        return Report(judged=tuple(done))

    def _judge(self, view: OpView, evidence: Evidence) -> Judged:
        verdict = recovery.decide(view, evidence)
        if isinstance(verdict, Watch) and verdict.row is Row.R4:
            self._well_since.setdefault(view.op_id, self._deck.clock.monotonic())
        return Judged(view=view, verdict=verdict, evidence=evidence)

    async def _timing(self, ops: Sequence[OpView]) -> dict[OpId, Timing]:
        now = self._deck.clock.monotonic()
        _, retired = await self._deck.journal.tokens()
        return {
            op.op_id: Timing(
                settled=now - self._since[op.op_id] >= self._settle_s(op, retired),
                answered=op.op_id in self._answered,
                patience_over=now - self._well_since.get(op.op_id, now) >= limits.PATIENCE_S[op.intent.kind],
            )
            for op in ops
        }

    def _settle_s(self, op: OpView, retired: frozenset[TokenId]) -> float:
        fence = KINDS[op.intent.kind].fence_for(op.intent)
        if fence in STATE_FENCES:
            return 0.0
        if fence is Fence.GOAL:
            return self._deck.limits.settle_goal_s
        dead = op.intent.token in retired
        return self._deck.limits.settle_token_s if dead else self._deck.limits.settle_time_s

    async def _record(self, judged: Sequence[Judged]) -> list[Judged]:
        """Append all records of one look at once; return the operations as they then stand."""
        drafts: list[Draft] = []
        for one in judged:
            drafts += [self._deck.draft(one.view.op_id, event) for event in _events(one)]
            if (adoption := _adoption(one.view, one.verdict)) is not None:
                drafts.append(self._deck.draft("", adoption))
        # The commit point of every verdict of this look.
        records = await self._deck.journal.append(self._deck.epoch, drafts) if drafts else ()
        views = {one.view.op_id: one.view for one in judged}
        for record in records:
            if record.op_id:
                views[record.op_id] = lifecycle.step(views[record.op_id], record)
        after = [msgspec.structs.replace(one, view=views[one.view.op_id]) for one in judged]
        for one in after:
            self._tell(one)
        return after

    def _tell(self, one: Judged) -> None:
        match one.verdict:
            case Close(event=event):
                self._deck.tell(What.OP_ENDED, f"{event.reason} ({one.verdict.row})", one.view)
            case Open(event=event):
                self._deck.tell(What.OP_OPEN, f"{event.reason} ({one.verdict.row})", one.view)
            case Watch() | Again() | Requeue():
                pass

    async def _prepare(self, again: Sequence[Judged]) -> dict[OpId, OpView]:
        """Do what R10 asks for; return the operations whose view changed by it."""
        changed: dict[OpId, OpView] = {}
        for one in again:
            if isinstance(one.verdict, Again) and one.verdict.need is Need.FENCE:
                raised = await self._fences.raise_(one.view)
                if raised is not None:
                    changed[one.view.op_id] = raised
        if len(changed) < len(again):
            await self._pause(again, changed)
        return changed

    async def _pause(self, again: Sequence[Judged], changed: Mapping[OpId, OpView]) -> None:
        """Wait for the next look, and say so: a person sees why nothing seems to happen."""
        pause_s = self._pause_s(again, changed)
        left = max((self._left_s(one.view) for one in again if one.view.op_id not in changed), default=0.0)
        more = f" ({left:.0f} s are left of the settle time)" if left > pause_s else ""
        count = len(again) - len(changed)
        whose = "the request of 1 operation" if count == 1 else f"the requests of {count} operations"
        self._deck.tell(What.WAITING, f"waiting {max(1.0, pause_s):.0f} s: {whose} may still arrive{more}")
        await self._deck.clock.sleep(pause_s)

    def _left_s(self, view: OpView) -> float:
        """How much of an operation's settle time is left, at the most."""
        return self._since[view.op_id] + self._settle_s(view, frozenset()) - self._deck.clock.monotonic()

    def _pause_s(self, again: Sequence[Judged], changed: Mapping[OpId, OpView]) -> float:
        """Until the next look: the shortest remaining settle time, within a pace that is slower the longer it is."""
        left = min((self._left_s(one.view) for one in again if one.view.op_id not in changed), default=0.0)
        pace_s = min(max(limits.RECOVERY_LOOK_S, left / 20), limits.STATE_WATCH_S)
        return min(pace_s, max(0.1, left))

    def _forget(self, one: Judged) -> None:
        self._fences.forget(one.view.op_id)
        if isinstance(one.verdict, Close):
            self._since.pop(one.view.op_id, None)
            self._well_since.pop(one.view.op_id, None)
            self._answered.discard(one.view.op_id)


def _events(one: Judged) -> list[OpEvent]:
    """The records that one verdict asks for, in order; none for what is already said."""
    events: list[OpEvent] = []
    if one.evidence.upid and not one.view.upid:
        events.append(TaskRunning(upid=one.evidence.upid, adopted=True))
    match one.verdict:
        case Close(event=event):
            events.append(event)
        case Open(event=event):
            said = one.view.unresolved
            if said is None or (said.reason, said.row) != (event.reason, event.row):
                events.append(event)
        case Watch() | Again() | Requeue():
            pass
    return events


def _adoption(view: OpView, verdict: Verdict) -> Adopted | None:
    """A success that wrote our marker makes the guest known as ours, with the labels that were applied."""
    ours = view.intent.marker
    if not isinstance(verdict, Close) or not isinstance(verdict.event, Succeeded) or ours is None:
        return None
    if not KINDS[view.intent.kind].marks:
        return None
    signed_for = view.intent.identity.marker_uid if view.intent.one_shot and view.intent.identity else ours.uid
    if signed_for != ours.uid:
        return None  # what people signed for a guest of somebody else's does not make it ours
    return Adopted(vmid=view.intent.vmid, uid=ours.uid, labels=view.intent.labels)
