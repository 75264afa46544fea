"""Carrying out what people signed: each accepted one-shot at most once, on the very guest that they saw.

Everything is asked once more right before the intent is durable: the gate (signatures, policy, budget, veto), the
guest's identity and digest, locks, quorum, the time. What is not as signed ends unsent; what cannot be told yet waits,
until `execute_by` at the most. The append of `Started` is a compare-and-set on `Accepted`: who was vetoed or expired in
the meantime is not sent.

A destroy is two journaled writes. The first proves by PVE's digest that this is the guest, writes our mark and lifts
`protection` in one instant; the DELETE follows at once, and every end but success puts `protection` back first.
"""

from typing import Protocol

import msgspec

from trueup.core import incarnation, intents, lifecycle, one_shots, tasksearch
from trueup.core.intents import Stamp
from trueup.core.kinds import KINDS, Tier
from trueup.core.one_shots import NotYet, Objection
from trueup.engine.deck import Deck
from trueup.engine.executor import Ended, Executor, NotNow, Outcome
from trueup.engine.fences import config_path
from trueup.engine.observer import Observer, guest_row
from trueup.model.errors import IllegalTransition, NotSent, ReadFailed, Refused, Unknown
from trueup.model.guests import Observed
from trueup.model.ids import GuestType
from trueup.model.notes import What
from trueup.model.ops import Failed, Guarded, Guarding, OpState, OpView, Reason, Started
from trueup.model.pve import Call


class CheckAgain(Protocol):
    """The gate's last word on an accepted one-shot, right before it is sent."""

    async def __call__(self, view: OpView, observed: Observed, /) -> Objection | NotYet | None:
        """Check signatures, revocations, policy, windows, budget and veto once more; None = it may be sent now."""
        ...


class OneShots:
    """Carries out accepted one-shots, within the lanes of the executor."""

    def __init__(self, deck: Deck, executor: Executor, check: CheckAgain | None) -> None:
        """Ask `check` before each; without one, nothing that was accepted is ever sent."""
        self._deck = deck
        self._executor = executor
        self._check = check
        self._observer = Observer(deck.pve)

    async def run(self, accepted: OpView) -> Outcome:
        """Carry one accepted one-shot out and wait for its end, or say why not now.

        Raises:
            Stale, JournalFailed: the journal refused a record; no request left after it.
        """
        early = await self._held_back(accepted)
        if early is not None:
            return early
        async with self._executor.lanes.hold(accepted.intent.vmid, accepted.intent.node, None):
            held = await self._held_back(accepted)
            if held is not None:
                return held
            seen = await self._ready(accepted)
            if isinstance(seen, NotYet):
                return NotNow(why=seen.why)
            if isinstance(seen, Objection):
                return await self._end(accepted, seen.reason, seen.why)
            return await self._carry_out(accepted, seen)

    # -- before ----------------------------------------------------------------------------------------------------

    async def _held_back(self, accepted: OpView) -> Outcome | None:
        """What needs no look at the guest: time, and whether anything may be sent at all."""
        now_ms = await self._now_ms()
        if now_ms > accepted.execute_by_ms:
            return await self._end(accepted, Reason.EXPIRED, "it was not begun before `execute_by`")
        if now_ms < accepted.not_before_ms:
            left_s = (accepted.not_before_ms - now_ms) // 1000 + 1
            return NotNow(why=f"it is sent in {left_s} s at the earliest; until then it can be vetoed")
        if self._executor.stopping:
            return NotNow(why="trueup was told to stop")
        if self._check is None:
            return NotNow(why="there is no gate to ask once more (no keyring and policy)")
        if await self._deck.journal.doubts():
            return NotNow(why="the journal may not know all that was done (`trueup journal acknowledge`)")
        other = await self._still_open(accepted)
        if other is not None:
            return NotNow(why=f"operation {other.op_id} on this guest is still open (see `trueup ops show`)")
        if await self._deck.journal.paused() & {"*", accepted.intent.name}:
            return NotNow(why="it is paused (`trueup resume`)")
        return None

    async def _still_open(self, accepted: OpView) -> OpView | None:
        """Another operation of the guest whose end is not known: it closes the guest's lane, whoever began it."""
        in_flight = await self._deck.journal.in_flight()
        return next((other for other in in_flight if other.intent.vmid == accepted.intent.vmid), None)

    async def _now_ms(self) -> int:
        """Our clock, never behind the journal: a clock that was set back does not open what had closed."""
        return max(self._deck.clock.now_ms(), await self._deck.journal.newest_ms())

    async def _ready(self, accepted: OpView) -> Observed | Objection | NotYet:
        """Look at the guest where it is now, and ask everything once more."""
        intent = accepted.intent
        try:
            quorate = (await self._deck.pve.cluster()).quorate
            row = (await self._observer.rows()).get(intent.vmid)
            if row is None:
                if await self._deck.pve.sees_all_guests():
                    return Objection(reason=Reason.NOT_AS_SIGNED, why="the guest is gone")
                return NotYet(why="the guest is not listed, and not all guests are (VM.Audit on /vms)")
            seen = await self._observer.one(row)
            found = one_shots.judge(intent, seen, installation=self._deck.installation, quorate=quorate)
            if found is None and seen.type is GuestType.LXC and KINDS[intent.kind].tier is Tier.DESTRUCTIVE:
                found = await self._made_anew(accepted)
        except ReadFailed as error:
            return NotYet(why=f"the guest cannot be read: {error.what}")
        if found is None and self._check is not None:
            found = await self._check(accepted, seen)
        return found or seen

    async def _made_anew(self, accepted: OpView) -> Objection | NotYet | None:
        """A container has no identity of PVE's own: nobody may have made, overwritten or destroyed it since.

        Raises ReadFailed.
        """
        intent = accepted.intent
        since_ms = await self._signed_ms(accepted)
        known = frozenset(
            op.upid for op in await self._deck.journal.ops(vmid=intent.vmid) if op.upid and _ended_by(op, since_ms)
        )
        for node in (await self._deck.pve.cluster()).nodes:
            if not node.online:
                return NotYet(why=f"whether the container is still the same cannot be told: {node.name} is offline")
            listed = await self._deck.pve.tasks(node.name)
            since = msgspec.structs.replace(intent, sent_not_before_s=since_ms // 1000)
            if not (listed.sees_all and tasksearch.reaches_back(since, listed)):
                return NotYet(why=f"the task list of {node.name} does not reach back to the signing")
            row = one_shots.made_since(intent.vmid, listed.rows, since_ms, known)
            if row is not None:
                why = f"the container was made, overwritten or destroyed since it was signed for ({row.upid.text})"
                return Objection(reason=Reason.NOT_AS_SIGNED, why=why)
        return None

    async def _signed_ms(self, accepted: OpView) -> int:
        """The earliest instant at which this may have been signed."""
        request = await self._deck.journal.request(accepted.op_id)
        if request is None:
            return accepted.started_at_ms
        stated = (request.requested_at_ms, request.request.not_before_ms, accepted.started_at_ms)
        return min(at_ms for at_ms in stated if at_ms)

    async def _end(self, accepted: OpView, reason: Reason, why: str) -> Ended | NotNow:
        """Close what was not sent, unless somebody else closed it first."""
        try:
            records = await self._deck.record(accepted.op_id, Failed(reason=reason, exit_status=why))
        except IllegalTransition:
            return NotNow(why="it has ended meanwhile")
        view = lifecycle.step(accepted, records[0])
        self._deck.tell(What.OP_ENDED, f"{reason}: {why}", view)
        return Ended(view=view)

    # -- carrying out ----------------------------------------------------------------------------------------------

    async def _carry_out(self, accepted: OpView, seen: Observed) -> Outcome:
        clock = self._deck.clock
        now_ms = await self._now_ms()
        left_s = min(self._deck.limits.send_by_s, (accepted.execute_by_ms - now_ms) / 1000)
        send_by = min(clock.monotonic() + left_s, self._deck.journal.lead_until())
        stamp = Stamp(
            op_id=accepted.op_id,
            uid=self._deck.entropy.uuid7(now_ms),
            installation=self._deck.installation,
            token=self._deck.pve.token,
            now_ms=now_ms,
            send_by_ms=now_ms + int(left_s * 1000),
        )
        prepared = await self._executor.disowned(intents.again(accepted.intent, seen, stamp))
        try:
            # The commit point of the intent, and the compare-and-set on `accepted`.
            records = await self._deck.record(accepted.op_id, Started(intent=prepared.intent))
        except IllegalTransition:
            return NotNow(why="it was vetoed, or has ended meanwhile")
        view = lifecycle.step(accepted, records[0])
        intent = view.intent
        self._deck.tell(What.OP_STARTED, f"{intent.kind} {intent.type} {intent.vmid} {intent.name}", view)
        if KINDS[intent.kind].lifts:
            view = await self._guard(view, seen, send_by)
        if _may_be_sent(view):
            view = await self._executor.send(view, prepared, send_by)
        return await self._executor.followed(view)

    async def _guard(self, view: OpView, seen: Observed, send_by: float) -> OpView:
        """Write our mark and lift `protection`, by the digest that was just checked; what is there then is read back.

        Whatever else it finds, the operation does not go on: a guard that PVE did not take ends it, one whose answer
        was lost and that does not show is left to recovery, which fences the guest.
        """
        view = await self._note(view, Guarding(digest=seen.digest))
        call = Call(method="PUT", path=config_path(seen), params=intents.guard(view.intent, seen), send_by=send_by)
        try:
            await self._deck.pve.send(call)
        except NotSent as error:
            late = self._deck.clock.monotonic() >= send_by and error.status == 0
            return await self._not_guarded(view, Reason.EXPIRED if late else Reason.NOT_STARTED, error)
        except Refused as error:
            return await self._not_guarded(view, Reason.NOT_AS_SIGNED, error)
        except Unknown as error:
            self._deck.tell(What.WAITING, f"no certain answer to the guard ({error.what}); reading it back", view)
        try:
            after = await self._observer.one(guest_row(seen))
        except ReadFailed:
            return view
        mark = view.intent.marker
        stands = after.marker == mark and after.config.get("protection", "0") != "1"
        if not stands or after.digest == seen.digest or not incarnation.still(view.intent, after):
            return view
        return await self._note(view, Guarded(digest=after.digest))

    async def _not_guarded(self, view: OpView, reason: Reason, error: NotSent | Refused) -> OpView:
        """PVE did not take the guard: nothing was changed, and nothing can come of it later."""
        view = await self._note(view, Failed(reason=reason, exit_status=error.text or error.what))
        self._deck.tell(What.OP_ENDED, f"{reason}: {error.what}", view)
        return view

    async def _note(self, view: OpView, event: Guarding | Guarded | Failed) -> OpView:
        records = await self._deck.record(view.op_id, event)
        return lifecycle.step(view, records[0])


def _may_be_sent(view: OpView) -> bool:
    if view.state is not OpState.STARTED:
        return False
    return view.guarded is not None or not KINDS[view.intent.kind].lifts


def _ended_by(op: OpView, at_ms: int) -> bool:
    return op.state in lifecycle.TERMINAL and op.ended_at_ms <= at_ms
