"""Looks for signs that more was done than the journal knows (`core.rolled_back`), and records a doubt if there are any.

While there is a doubt nothing is changed, until somebody has looked (`trueup journal acknowledge`). The look uses what
is read anyway: the guests of each pass, and with a keeper the list of tokens at the start.
"""

from collections.abc import Iterable, Sequence

from trueup.core import rolled_back
from trueup.engine.deck import Deck
from trueup.engine.observer import Observer
from trueup.model import limits
from trueup.model.guests import Observed
from trueup.model.ids import OpId, Vmid
from trueup.model.notes import What
from trueup.model.ops import Doubted, OpView


class Hindsight:
    """What one incarnation has looked up."""

    def __init__(self, deck: Deck) -> None:
        """Look into the deck's journal, and record there."""
        self._deck = deck
        self._known: set[OpId] = set()

    async def before_recovery(self, ops: Sequence[OpView]) -> tuple[str, ...]:
        """Look at the guests that recovery may have to write to; tell the doubts there are then.

        With more in flight than can be read one by one, the first pass looks instead. Raises ReadFailed.
        """
        doubts = await self._deck.journal.doubts()
        if doubts or not ops or len(ops) > limits.HINDSIGHT_OPS_MAX:
            return doubts
        rows = await Observer(self._deck.pve).rows()
        wanted = {op.intent.vmid for op in ops}
        guests, _ = await Observer(self._deck.pve).closely({vmid: row for vmid, row in rows.items() if vmid in wanted})
        return await self.look(guests.values())

    async def look(self, guests: Iterable[Observed]) -> tuple[str, ...]:
        """Compare the markers of these guests with the journal; tell what is doubted now.

        For a journal that is not in doubt: acknowledging a doubt covers whatever else would be found meanwhile.
        """
        journal = self._deck.journal
        written = rolled_back.writers(guests, self._deck.installation)
        unknown: dict[OpId, Vmid] = {}
        for op_id in sorted(written.keys() - self._known):
            if await journal.op(op_id) is None:
                unknown[op_id] = written[op_id]
            else:
                self._known.add(op_id)
        if not unknown:
            return ()
        lost = rolled_back.missing(unknown, rolled_back.told_from_ms(await journal.records(op_id=OpId(""))))
        self._known |= unknown.keys() - lost.keys()
        if not lost:
            return ()
        doubt = rolled_back.doubt_of_markers(lost)
        await self._deck.record("", Doubted(what=doubt))
        self._deck.tell(What.ALARM, f"nothing is changed: {doubt} (look, then `trueup journal acknowledge`)")
        return (doubt,)
