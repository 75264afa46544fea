"""`ports.Journal` over PostgreSQL: a lease, a store that writes under it, and readers beside it."""

import asyncio
from collections.abc import Sequence

from trueup.adapters.journal_admission import Append
from trueup.adapters.postgres import audit, inbox, lease, server, tables, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.bell import Bell
from trueup.adapters.postgres.group_commit import GroupCommit
from trueup.adapters.postgres.lease import Keeping
from trueup.adapters.postgres.reader import Reader, close_pool, open_pool
from trueup.adapters.postgres.store import Store
from trueup.core import codec
from trueup.model.ids import Epoch, OpId, TokenId
from trueup.model.ops import Draft, EpochTaken, Record
from trueup.ports import Clock


class PostgresJournal(Reader):
    """The journal for its one writer, who holds the lease.

    Durability: a call returns after the COMMIT that holds its records was answered, or was found to have happened.
    Order: as called. Cancellation: an append that is cancelled while it waits is written all the same, or refused
    unheard; its record ids tell which.
    """

    _keeping: Keeping
    _store: Store
    _writer: GroupCommit

    def __init__(self, address: Address, *, holder: str, lease_s: float, clock: Clock) -> None:
        """Nothing is connected before `enter`. `holder` is this process, for people."""
        super().__init__(address, clock)
        self._holder = holder
        self._lease_s = lease_s
        self._entered = False
        self._ending: asyncio.Task[None] | None = None
        self._bell = Bell(address, inbox.CHANNEL, clock)

    async def enter(self) -> None:
        """Make or open the journal, take its lease, and verify it as far as a writer does.

        Raises:
            JournalBusy: somebody else leads; the message names them.
            BadInput: the address, the rights, or the version of what is there, do not do.
            Corrupt: it is damaged. JournalFailed: no answer, or no durability to be had.
        """
        address = self._address
        with trouble.mapped(address.shown):
            connection = await server.connect(address, target="read-write")
            try:
                await server.require_durable(connection, address.shown)
                await server.migrate(connection, address.shown)
                journal = await server.found(connection, address.journal)
                hold = await lease.take(connection, journal, self._holder, self._lease_s, self._clock, address.shown)
                keeping = Keeping(address, journal, self._lease_s, hold, self._clock)
                keeping.start()
                try:
                    await audit.prepare(connection, journal, address)
                    head = await tables.head(connection, journal)
                    pool = await open_pool(address, target="read-write")
                except BaseException:
                    await keeping.let_go()
                    raise
            finally:
                await server.hang_up(connection)
        self.attach(journal, pool)
        self._keeping = keeping
        self._store = Store(address, journal, keeping, self._clock, head)
        self._writer = GroupCommit(self._store)
        self._entered = True

    @property
    def head(self) -> codec.Head:
        """Where the chain ended after the last commit; keep it outside too, since a chain hides a cut tail."""
        return self._store.head

    def lead_until(self) -> float:
        """See `ports.Journal`."""
        return self._keeping.until()

    async def led(self) -> None:
        """See `ports.Journal`."""
        raise await self._keeping.lost()

    async def take_epoch(self, *, holder: str, token: TokenId, record_id: str, at_ms: int) -> Epoch:
        """See `ports.Journal`. Raises Stale or JournalFailed."""
        event = EpochTaken(epoch=Epoch(0), holder=holder, token=token)
        draft = Draft(record_id=record_id, at_ms=at_ms, op_id=OpId(""), event=event)
        return await self._writer.take_epoch(draft, event)

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        """See `ports.Journal`.

        Raises:
            Stale: the epoch is over, or somebody else leads.
            IllegalTransition: the lifecycle forbids one of the drafts, or its task belongs to another operation.
            BadInput: a draft cannot be written: too large, or no text that JSON can carry.
            JournalFailed: nothing counts as written; mutations must stop until the journal is opened again.
        """
        if not drafts:
            return ()
        return await self._writer.append(Append.of(epoch, drafts))

    async def inbox_take(self, after: int = 0) -> tuple[inbox.Waiting, ...]:
        """What standbys put there, oldest first; it stays until `inbox_done`, so that a crash loses nothing."""
        return await self._ask(lambda connection: inbox.waiting(connection, self._journal, after))

    async def inbox_wait(self, seconds: float) -> None:
        """Wait until a standby has put something there, or so long."""
        await self._bell.wait(seconds)

    async def inbox_done(self, ids: Sequence[int]) -> None:
        """These were verified, and what came of them is in the journal."""
        await self._ask(lambda connection: inbox.remove(connection, self._journal, ids))

    async def close(self) -> None:
        """Write what is queued, give the lease back, close. Safe to call twice, and by several at once."""
        if not self._entered:
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self._closed = True
        await self._writer.close()
        await self._keeping.let_go()
        await self._bell.close()
        await close_pool(self._pool)
