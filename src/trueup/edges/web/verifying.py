"""Verification of the journal on demand: one at a time, in a thread, and not again within a moment."""

import asyncio

import msgspec

from trueup.edges.parts import JournalFile
from trueup.model import limits
from trueup.model.errors import TrueupError
from trueup.model.settings import StoreSettings
from trueup.ports import Clock


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What it found, and when. `what` is '' if all is sound."""

    at_ms: int
    ok: bool
    records: int = 0
    head: str = ""
    what: str = ""


class Verifying:
    """Verifies, and remembers the last result."""

    def __init__(self, file: JournalFile, store: StoreSettings, clock: Clock) -> None:
        """Nothing was verified yet."""
        self._file = file
        self._store = store
        self._clock = clock
        self._alone = asyncio.Lock()
        self._ended: float | None = None
        self.last: Verified | None = None

    async def verify(self) -> None:
        """Read all of it, unless somebody just did."""
        async with self._alone:
            if self._ended is not None and self._clock.monotonic() - self._ended < limits.VERIFY_KEPT_S:
                return
            self.last = await asyncio.to_thread(self._verify)
            self._ended = self._clock.monotonic()

    def _verify(self) -> Verified:
        at_ms = self._clock.now_ms()
        try:
            found = self._file.verify(self._store)
        except TrueupError as error:
            return Verified(at_ms=at_ms, ok=False, what=str(error))
        return Verified(at_ms=at_ms, ok=found.ok, records=found.records, head=found.head, what=found.what)
