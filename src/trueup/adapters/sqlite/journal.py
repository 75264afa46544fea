"""`ports.Journal` over one SQLite file: a store that writes, and a reader beside it."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from trueup.adapters.journal_admission import Append
from trueup.adapters.sqlite import file
from trueup.adapters.sqlite.group_commit import GroupCommit, InlineWriter, Writer
from trueup.adapters.sqlite.reader import InLine, InThread, Reader
from trueup.adapters.sqlite.store import Store
from trueup.core import codec
from trueup.model.ids import Epoch, OpId, TokenId
from trueup.model.ops import Draft, EpochTaken, Record


class SqliteJournal(Reader):
    """The journal for its one writer.

    Durability: a call returns after the commit that holds its records, and SQLite has synced its log by then. What is
    appended while a commit is under way shares the next one. Order: as called. Cancellation: an append that is
    cancelled while it waits is written all the same, or refused unheard; its record ids tell which.
    """

    def __init__(self, store: Store, *, inline: bool) -> None:
        """Take over an open store; `inline` does everything within the calling coroutine."""
        super().__init__(store.path, file.open_for_reading(store.path), InLine() if inline else InThread())
        self._store = store
        self._writer: Writer = InlineWriter(store) if inline else GroupCommit(store)

    @classmethod
    def open(cls, path: Path, *, inline: bool = False) -> Self:
        """See `Store.open` for what is checked and raised."""
        store = Store.open(path)
        try:
            return cls(store, inline=inline)
        except BaseException:
            store.close()
            raise

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._store.path

    @property
    def head(self) -> codec.Head:
        """Where the chain ended after the last commit; keep it outside too, since a chain hides a cut tail."""
        return self._store.head

    async def enter(self) -> None:
        """See `ports.Journal`: the lock was taken when the file was opened."""

    def lead_until(self) -> float:
        """For ever: the lock is held for life."""
        return math.inf

    async def led(self) -> None:
        """See `ports.Journal`: nobody takes the lock away; an append that fails says so itself."""
        await asyncio.Event().wait()

    async def take_epoch(self, *, holder: str, token: TokenId, record_id: str, at_ms: int) -> Epoch:
        """See `ports.Journal`. Raises JournalFailed."""
        event = EpochTaken(epoch=Epoch(0), holder=holder, token=token)
        draft = Draft(record_id=record_id, at_ms=at_ms, op_id=OpId(""), event=event)
        return await self._writer.take_epoch(draft, event)

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        """See `ports.Journal`.

        Raises:
            Stale: the epoch is over, or somebody else wrote the file.
            IllegalTransition: the lifecycle forbids one of the drafts, or its task belongs to another operation.
            BadInput: a draft cannot be written: too large, or no text that JSON can carry.
            JournalFailed: nothing counts as written; mutations must stop until the journal is opened again.
        """
        if not drafts:
            return ()
        return await self._writer.append(Append.of(epoch, drafts))

    async def close(self) -> None:
        """Write what is queued, close the file and let go of the lock. Safe to call twice."""
        self._close_reading()  # first: the last connection to close empties the log, and a reader may not write
        await self._writer.close()

    def _require_readable(self) -> None:
        super()._require_readable()
        self._store.require_readable()
