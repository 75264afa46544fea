"""Fences: the one write that makes PVE itself refuse a dead agent's request, should it still arrive.

A fence is journaled before it is written (`fencing`) and after it was read back (`fenced`, with the new digest). It
may be repeated at will: each write raises the counter in our marker. It must stay: if somebody restores the old text,
the digest is the old one again and PVE would let the dead request in; `state` notices, and it is raised anew.
"""

from collections import Counter

import msgspec

from trueup.core import incarnation, lifecycle
from trueup.core import marker as markers
from trueup.core.kinds import KINDS, STATE_FENCES, Fence
from trueup.core.probes import Sight
from trueup.core.recovery import FenceState, Lock
from trueup.engine.deck import Deck
from trueup.engine.observer import Observer, guest_row
from trueup.model import limits
from trueup.model.errors import NotSent, ReadFailed, Refused, Unknown
from trueup.model.guests import Marker, Observed
from trueup.model.ids import OpId
from trueup.model.notes import What
from trueup.model.ops import Fenced, Fencing, OpView
from trueup.model.pve import Call

_AT_WORK = ("got timeout", "is locked (")


class Fences:
    """Raises fences, tells whether they stand, and asks whether a guest's lock is free."""

    def __init__(self, deck: Deck) -> None:
        """Write through the deck's Pve port."""
        self._deck = deck
        self._observer = Observer(deck.pve)
        self._tries: Counter[OpId] = Counter()

    def state(self, op: OpView, sight: Sight) -> FenceState:
        """Whether the state fence of this operation stands in what was just seen."""
        fence = KINDS[op.intent.kind].fence_for(op.intent)
        if fence not in STATE_FENCES:
            return FenceState.NO_KIND
        gone = sight.absent or (sight.guest is not None and not incarnation.still(op.intent, sight.guest))
        if fence is Fence.PROTECTION and gone:
            # Another's guest is never written to. Only a guard is refused there, by its digest; a DELETE is not.
            return FenceState.IMPOSSIBLE if op.guarded else FenceState.STANDS
        if sight.absent:
            # A write to nothing is refused, and a guest made anew has another text, so another digest.
            return FenceState.STANDS
        if self._stands(op, sight.guest, fence):
            return FenceState.STANDS
        return FenceState.IMPOSSIBLE if self._tries[op.op_id] >= limits.FENCE_TRIES else FenceState.MISSING

    @staticmethod
    def _stands(op: OpView, guest: Observed | None, fence: Fence) -> bool:
        if guest is None or guest.marker is None or op.fencing is None or op.fenced is None:
            return False
        if guest.digest == op.intent.digest or guest.marker.counter < op.fencing.counter:
            return False
        return fence is not Fence.PROTECTION or guest.config.get("protection") == "1"

    async def pointless(self, op: OpView) -> bool:
        """Whether the guest that a fence would protect is gone for sure, or its vmid another's by now."""
        try:
            row = (await self._observer.rows()).get(op.intent.vmid)
            if row is None:
                return await self._deck.pve.sees_all_guests()
            return not incarnation.still(op.intent, await self._observer.one(row))
        except ReadFailed:
            return False

    def forget(self, op_id: OpId) -> None:
        """Forget the tries of an operation whose recovery is over for now; the next one begins anew."""
        del self._tries[op_id]

    async def raise_(self, op: OpView) -> OpView | None:
        """Write the fence of one operation; None if it does not stand yet (somebody is at work, or no answer)."""
        self._tries[op.op_id] += 1
        try:
            row = (await self._observer.rows()).get(op.intent.vmid)
            guest = await self._observer.one(row) if row else None
        except ReadFailed:
            return None
        fence = KINDS[op.intent.kind].fence_for(op.intent)
        if guest is None or (fence is Fence.PROTECTION and not incarnation.still(op.intent, guest)):
            return None
        # A guest of somebody else's has no marker before its destroy writes one.
        own = guest.marker or (op.intent.marker if fence is Fence.PROTECTION else None)
        if own is None:
            return None
        mark = _above(own, op)
        fencing = Fencing(counter=mark.counter, digest=guest.digest)
        op = await self._note(op, fencing)
        params = {"description": markers.render(guest.description, mark), "digest": guest.digest}
        if fence is Fence.PROTECTION:
            params["protection"] = "1"
        try:
            await self._deck.pve.send(Call(method="PUT", path=config_path(guest), params=params))
        except (NotSent, Refused):
            return None  # "checksum mismatch" too: something landed first, so look again
        except Unknown:
            pass  # the write may be there all the same; reading it back tells
        try:
            after = await self._observer.one(guest_row(guest))
        except ReadFailed:
            return None
        fenced = Fenced(digest=after.digest)
        raised = msgspec.structs.replace(op, fenced=fenced)
        if not self._stands(raised, after, fence):
            return None
        # The commit point of the fence is PVE's 200 above; this record only saves the next look from writing again.
        raised = await self._note(op, fenced)
        self._deck.tell(What.FENCE_RAISED, f"fence raised on {guest.type} {guest.vmid} {guest.name}", raised)
        return raised

    async def _note(self, op: OpView, event: Fencing | Fenced) -> OpView:
        records = await self._deck.record(op.op_id, event)
        return lifecycle.step(op, records[0])

    async def probe_lock(self, guest: Observed) -> Lock:
        """Ask PVE for the guest's lock by writing its own description back, unchanged (200 = free, nothing written).

        A wrong digest leaves it unknown. The write waits up to 10 s while a worker holds the flock. It is harmless
        any number of times, so a lost answer is asked for again.
        """
        params = {"description": guest.description_raw, "digest": guest.digest}
        for _ in range(limits.LOCK_ASKS):
            try:
                await self._deck.pve.send(Call(method="PUT", path=config_path(guest), params=params))
            except Refused as error:
                return Lock.HELD if any(text in error.text for text in _AT_WORK) else Lock.UNKNOWN
            except NotSent:
                return Lock.UNKNOWN
            except Unknown:
                continue
            return Lock.FREE
        return Lock.UNKNOWN


def _above(mark: Marker, op: OpView) -> Marker:
    """The guest's own marker with a counter above everything that this operation ever wrote or meant to write."""
    highest = max(
        mark.counter,
        op.intent.marker.counter if op.intent.marker else 0,
        op.fencing.counter if op.fencing else 0,
    )
    return msgspec.structs.replace(mark, counter=highest + 1)


def config_path(guest: Observed) -> str:
    """Where PVE's API has this guest's config."""
    return f"/nodes/{guest.node}/{guest.type.value}/{guest.vmid}/config"
