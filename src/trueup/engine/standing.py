"""Standing fences: `protection` that must stay for as long as a dead agent's DELETE could still arrive.

A destroy that never took effect leaves its guest protected. Until the token of that request is known to be dead,
nothing but a newly signed destroy may lift that, and each pass looks whether it stands. Where somebody lifted it, it is
raised again, journaled like every fence, and said aloud.
"""

from collections.abc import Collection, Mapping

from trueup.core import incarnation
from trueup.engine.deck import Deck
from trueup.engine.fences import Fences
from trueup.engine.observer import Observer
from trueup.model.errors import ReadFailed
from trueup.model.guests import ResourceRow
from trueup.model.ids import OpId, Vmid
from trueup.model.notes import What
from trueup.model.ops import OpView


class Standing:
    """Looks after the fences that stand for good."""

    def __init__(self, deck: Deck) -> None:
        """Read and write through the deck's ports."""
        self._deck = deck
        self._fences = Fences(deck)
        self._observer = Observer(deck.pve)
        self._told: set[OpId] = set()

    async def look(self, rows: Mapping[Vmid, ResourceRow], spoken_for: Collection[Vmid]) -> None:
        """Look at each once; `spoken_for` are guests at which somebody else is at work, or about to be.

        Raises:
            Stale, JournalFailed: the journal refused a record.
        """
        for op in await self._deck.journal.standing_fences():
            row = rows.get(op.intent.vmid)
            if row is not None and row.vmid not in spoken_for:
                await self._look(op, row)

    async def _look(self, op: OpView, row: ResourceRow) -> None:
        try:
            guest = await self._observer.one(row)
        except ReadFailed:
            return  # the next pass looks again
        if not incarnation.still(op.intent, guest):
            self._tell_once(
                op,
                f"vmid {guest.vmid} is another guest's by now, and a DELETE meant for the one before may still arrive: "
                f"set `protection` there (see `trueup ops show {op.op_id}`)",
            )
            return
        if guest.config.get("protection") == "1":
            return
        self._deck.tell(What.ALARM, f"`protection` of {guest.vmid} was lifted, which a late DELETE needs", op)
        if await self._fences.raise_(op) is None:
            self._deck.tell(What.ALARM, f"`protection` of {guest.vmid} could not be put back; tried again soon", op)
        self._fences.forget(op.op_id)

    def _tell_once(self, op: OpView, text: str) -> None:
        if op.op_id not in self._told:
            self._told.add(op.op_id)
            self._deck.tell(What.ALARM, text, op)
