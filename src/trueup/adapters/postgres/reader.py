"""Reading a journal in PostgreSQL: a few connections beside the writer, never waiting for it.

A read that finds its connection gone is asked again on another one, for a while: reads may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeVar

import asyncpg

from trueup.adapters.postgres import gate_moment, gate_tables, lease, server, tables, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.lease import Leader
from trueup.adapters.postgres.server import Connection, Pool, Target
from trueup.model import limits
from trueup.model.errors import JournalFailed
from trueup.model.gate import RequestState, RequestView
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.ids import OpId, TokenId, Vmid
from trueup.model.ops import EpochTaken, OpState, OpView, Record
from trueup.ports import Clock

T = TypeVar("T")


class Reader:
    """`ports.JournalReader` over a pool. Each call sees all that was committed before it.

    Every call may raise Corrupt (what it touched is damaged) or JournalFailed (the database does not answer). Nothing
    is verified beforehand, so that the sound parts of a damaged journal can still be read.
    """

    _journal: int
    _pool: Pool

    def __init__(self, address: Address, clock: Clock) -> None:
        """Nothing is connected before `attach`."""
        self._address = address
        self._clock = clock
        self._closed = True

    def attach(self, journal: int, pool: Pool) -> None:
        """Read the journal of this number through an open pool."""
        self._journal = journal
        self._pool = pool
        self._closed = False

    @classmethod
    async def open(cls, address: Address, clock: Clock) -> Self:
        """Open for reading only. Raises BadInput if there is no journal, Corrupt or JournalFailed."""
        with trouble.mapped(address.shown):
            pool = await open_pool(address, target="any")
            try:
                async with pool.acquire() as connection:
                    journal = await server.require_number(connection, address)
            except BaseException:
                pool.terminate()
                raise
        reader = cls(address, clock)
        reader.attach(journal, pool)
        return reader

    async def in_flight(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._views(tables.IN_FLIGHT)

    async def accepted(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._views(tables.ACCEPTED)

    async def presumed_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._views(tables.PRESUMED, since_ms)

    async def unaccounted_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._views(tables.UNACCOUNTED, since_ms)

    async def request(self, request_id: OpId) -> RequestView | None:
        """See `ports.JournalReader`."""
        found = await self._ask(lambda connection: gate_tables.placed(connection, self._journal, (request_id,)))
        return found[request_id].view if request_id in found else None

    async def requests(self, *, state: RequestState | None = None, limit: int = 0) -> tuple[RequestView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_tables.requests(connection, self._journal, state, limit))

    async def request_of_nonce(self, nonce: str) -> RequestView | None:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_tables.request_of_nonce(connection, self._journal, nonce))

    async def requests_of_key(self, idempotency_key: str) -> tuple[RequestView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(
            lambda connection: gate_tables.requests_of_key(connection, self._journal, idempotency_key)
        )

    async def moment(self, lookup: Lookup) -> Moment:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_moment.moment(connection, self._journal, lookup))

    async def one_shots_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `ports.JournalReader`; those that were accepted but never started are not among them."""
        return await self._ask(lambda connection: tables.one_shots_since(connection, self._journal, since_ms))

    async def standing_fences(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._of(tables.standing_fences)

    async def labels(self) -> dict[Vmid, Mapping[str, str]]:
        """See `ports.JournalReader`."""
        return await self._of(gate_tables.labels)

    async def newest_ms(self) -> int:
        """See `ports.JournalReader`."""
        return await self._of(gate_tables.newest_ms)

    async def ops(
        self, *, state: OpState | None = None, vmid: Vmid | None = None, limit: int = 0
    ) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: tables.ops(connection, self._journal, state, vmid, limit))

    async def op(self, op_id: OpId) -> OpView | None:
        """See `ports.JournalReader`."""
        found = await self._ask(lambda connection: tables.placed(connection, self._journal, (op_id,)))
        return found[op_id].view if op_id in found else None

    async def records(self, *, op_id: OpId | None = None, after_seq: int = 0, limit: int = 0) -> tuple[Record, ...]:
        """See `ports.JournalReader`; each record is verified by its own hash."""
        return await self._ask(lambda connection: tables.records(connection, self._journal, op_id, after_seq, limit))

    async def claimed_upids(self, candidates: frozenset[str]) -> frozenset[str]:
        """See `ports.JournalReader`; a UPID is held by the operation whose `TaskRunning` names it."""
        if not candidates:
            return frozenset()
        return frozenset(await self._ask(lambda connection: tables.holders(connection, self._journal, candidates)))

    async def adopted(self) -> dict[Vmid, str]:
        """See `ports.JournalReader`."""
        return await self._of(tables.adopted)

    async def paused(self) -> frozenset[str]:
        """See `ports.JournalReader`."""
        return await self._of(tables.paused)

    async def doubts(self) -> tuple[str, ...]:
        """See `ports.JournalReader`."""
        return await self._of(tables.doubts)

    async def epochs(self) -> tuple[EpochTaken, ...]:
        """See `ports.JournalReader`."""
        return await self._of(tables.epochs)

    async def tokens(self) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
        """See `ports.JournalReader`."""
        return await self._of(tables.tokens)

    async def leader(self) -> Leader | None:
        """Who leads now; None = nobody."""
        return await self._of(lease.look)

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        if not self._closed:
            self._closed = True
            await close_pool(self._pool)

    async def _views(self, rest: str, *values: object) -> tuple[OpView, ...]:
        return await self._ask(lambda connection: tables.views(connection, self._journal, rest, *values))

    async def _of(self, query: Callable[[Connection, int], Awaitable[T]]) -> T:
        return await self._ask(lambda connection: query(connection, self._journal))

    async def _ask(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        give_up = self._clock.monotonic() + limits.POSTGRES_PATIENCE_S
        while True:
            if self._closed:
                raise JournalFailed(what="the journal is closed", where=self._address.shown)
            with trouble.mapped(self._address.shown):
                try:
                    async with self._pool.acquire(timeout=limits.POSTGRES_CONNECT_S) as connection:
                        return await query(connection)
                except (*trouble.Foreign, TimeoutError) as error:
                    if not trouble.is_transient(error) or self._clock.monotonic() >= give_up:
                        raise
            await self._clock.sleep(limits.POSTGRES_AGAIN_S)


async def open_pool(address: Address, *, target: Target) -> Pool:
    """Connections for reading; made when they are needed. Raises asyncpg's errors and OSError."""
    return await asyncpg.create_pool(
        address.url.reveal(),
        min_size=0,  # none is kept up in the background, where its failures would be nobody's
        max_size=limits.POSTGRES_READERS,
        timeout=limits.POSTGRES_CONNECT_S,
        target_session_attrs=target,
        server_settings=server.session_settings(),
    )


async def close_pool(pool: Pool) -> None:
    """Close a pool, soon; connections that do not answer are cut off."""
    try:
        async with asyncio.timeout(limits.POSTGRES_HANG_UP_S):
            await pool.close()
    except (*trouble.Foreign, TimeoutError):
        pool.terminate()
