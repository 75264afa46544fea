"""Where the journal's chain ends, kept outside of it: a chain does not show that its tail was cut.

The agent's log has the head at the start, at intervals while it moves, and at the end. Whoever keeps the log can tell
that a journal is older than what was said of it: `trueup status --json` and `trueup journal verify` say the head too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from trueup.model.ops import Record
from trueup.ports import Clock, JournalReader

if TYPE_CHECKING:
    from trueup.edges.log import Log  # whoever only reads a head needs no log, and starts sooner without it

SAY_EVERY_S: Final = 300.0
"""Between two lines about a head that moves."""


class Head(Protocol):
    """The newest record, as far as it matters here."""

    @property
    def seq(self) -> int:
        """Its number."""
        ...

    @property
    def hash(self) -> str:
        """The hash over everything up to it."""
        ...

    @property
    def epoch(self) -> int:
        """Under which it was written."""
        ...

    @property
    def at_ms(self) -> int:
        """When."""
        ...


class HeadLog:
    """Puts the head into the log."""

    def __init__(self, log: "Log", clock: Clock, head: Callable[[], Head | None]) -> None:
        """`head` tells the newest record that this process knows; None before the first."""
        self._log = log
        self._clock = clock
        self._head = head
        self._said = 0

    def say(self, *, again: bool = False) -> None:
        """Say it; not `again` if it is what was said last."""
        head = self._head()
        if head is not None and (again or head.seq != self._said):
            self._said = head.seq
            self._log.info("journal_head", seq=head.seq, hash=head.hash)

    async def at_intervals(self) -> None:
        """Say it now and then, for ever."""
        while True:
            self.say()
            await self._clock.sleep(SAY_EVERY_S)


async def newest_record(journal: JournalReader) -> Record | None:
    """The record at the head; None of an empty journal.

    Readers give records oldest first and do not tell how many there are, so the end is narrowed down: a few dozen
    reads of one record, whatever the journal's size.
    """
    found, step = await _next(journal, 0), 1
    if found is None:
        return None
    while (further := await _next(journal, found.seq + step - 1)) is not None:
        found, step = further, step * 2
    while step > 1:
        step //= 2
        further = await _next(journal, found.seq + step - 1)
        found = further or found
    return found


async def _next(journal: JournalReader, after_seq: int) -> Record | None:
    records = await journal.records(after_seq=after_seq, limit=1)
    return records[0] if records else None
