"""The record of what the gate refused, bounded in rate: a flood of forged requests must not fill the journal.

The first `DENIALS_RECORDED` of each `DENIALS_PER_S` get a record each; of the rest each reason gets one record with its
count, as soon as the time is over.
"""

from trueup.engine.deck import Deck
from trueup.model import limits
from trueup.model.gate import Denied, Refusal


class Denials:
    """Counts and records refusals."""

    def __init__(self, deck: Deck) -> None:
        """Record into the deck's journal."""
        self._deck = deck
        self._began = float("-inf")
        self._recorded = 0
        self._more: dict[Refusal, int] = {}
        self.total: dict[Refusal, int] = {}

    async def note(self, denied: Denied) -> None:
        """Record one, or count it."""
        self.total[denied.refusal] = self.total.get(denied.refusal, 0) + 1
        await self.flush()
        if self._recorded >= limits.DENIALS_RECORDED:
            self._more[denied.refusal] = self._more.get(denied.refusal, 0) + 1
            return
        self._recorded += 1
        await self._deck.record("", denied)

    async def flush(self) -> None:
        """Once the time is over: one record for each reason that was only counted."""
        now = self._deck.clock.monotonic()
        if now - self._began < limits.DENIALS_PER_S:
            return
        self._began, self._recorded = now, 0
        more, self._more = self._more, {}
        if more:
            await self._deck.record(
                "", *(Denied(refusal=why, text="too many to record each", times=n) for why, n in more.items())
            )
