"""Reading a journal: a connection of its own, beside the writer, never waiting for it.

Where a query runs is the runner's choice: in a thread, so that a long one does not hold the loop, or at once, inside
the coroutine, for the simulation, which knows no threads.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from trueup.adapters.sqlite import file, gate_moment, gate_tables, tables
from trueup.model.errors import JournalFailed
from trueup.model.gate import RequestState, RequestView
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.ids import OpId, TokenId, Vmid
from trueup.model.ops import EpochTaken, OpState, OpView, Record

T = TypeVar("T")


class Runner(Protocol):
    """Where a blocking piece of work is done."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do it and return its result."""
        ...

    def close(self) -> None:
        """Finish what is under way."""
        ...


class InLine:
    """Here and now."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do it before anything else runs."""
        return work()

    def close(self) -> None:
        """Nothing is under way."""


class InThread:
    """In one thread of its own, one after the other."""

    def __init__(self) -> None:
        """The thread starts with the first piece of work."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-reader")

    async def run(self, work: Callable[[], T]) -> T:
        """Wait for it; a caller that is cancelled leaves it to finish unheard."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()


class Reader:
    """`ports.JournalReader` over one read-only connection. Each call sees all that was committed before it.

    Every call may raise Corrupt (what it touched is damaged) or JournalFailed (the disk does not answer). Nothing is
    verified beforehand, so that the sound parts of a damaged journal can still be read.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, runner: Runner) -> None:
        """Take over an open connection."""
        self._path = path
        self._connection = connection
        self._runner = runner
        self._closed = False

    async def in_flight(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.in_flight)

    async def accepted(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.accepted)

    async def unaccounted_since(self, since_ms: int) -> tuple[OpView, ...]:
        """Operations that ended at or after this instant and whose task, if any, was never known."""
        return await self._ask(lambda connection: tables.unaccounted_since(connection, since_ms))

    async def presumed_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: tables.presumed_since(connection, since_ms))

    async def ops(
        self, *, state: OpState | None = None, vmid: Vmid | None = None, limit: int = 0
    ) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: tables.ops(connection, state, vmid, limit))

    async def op(self, op_id: OpId) -> OpView | None:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: tables.op(connection, op_id))

    async def records(self, *, op_id: OpId | None = None, after_seq: int = 0, limit: int = 0) -> tuple[Record, ...]:
        """See `ports.JournalReader`; each record is verified by its own hash."""
        return await self._ask(lambda connection: tables.records(connection, op_id, after_seq, limit))

    async def request(self, request_id: OpId) -> RequestView | None:
        """See `ports.JournalReader`."""
        found = await self._ask(lambda connection: gate_tables.placed(connection, (request_id,)))
        return found[request_id].view if request_id in found else None

    async def requests(self, *, state: RequestState | None = None, limit: int = 0) -> tuple[RequestView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_tables.requests(connection, state, limit))

    async def request_of_nonce(self, nonce: str) -> RequestView | None:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_tables.request_of_nonce(connection, nonce))

    async def requests_of_key(self, idempotency_key: str) -> tuple[RequestView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_tables.requests_of_key(connection, idempotency_key))

    async def moment(self, lookup: Lookup) -> Moment:
        """See `ports.JournalReader`."""
        return await self._ask(lambda connection: gate_moment.moment(connection, lookup))

    async def one_shots_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `ports.JournalReader`; those that were accepted but never started are not among them."""
        return await self._ask(lambda connection: tables.one_shots_since(connection, since_ms))

    async def standing_fences(self) -> tuple[OpView, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.standing_fences)

    async def labels(self) -> dict[Vmid, Mapping[str, str]]:
        """See `ports.JournalReader`."""
        return await self._ask(gate_tables.labels)

    async def newest_ms(self) -> int:
        """See `ports.JournalReader`."""
        return await self._ask(gate_tables.newest_ms)

    async def claimed_upids(self, candidates: frozenset[str]) -> frozenset[str]:
        """See `ports.JournalReader`; a UPID is held by the operation whose `TaskRunning` names it."""
        return await self._ask(lambda connection: tables.claimed(connection, candidates))

    async def adopted(self) -> dict[Vmid, str]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.adopted)

    async def paused(self) -> frozenset[str]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.paused)

    async def doubts(self) -> tuple[str, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.doubts)

    async def epochs(self) -> tuple[EpochTaken, ...]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.epochs)

    async def tokens(self) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
        """See `ports.JournalReader`."""
        return await self._ask(tables.tokens)

    async def close(self) -> None:
        """Finish what is under way and close the connection. Safe to call twice."""
        self._close_reading()

    def _close_reading(self) -> None:
        if not self._closed:
            self._closed = True
            self._runner.close()
            self._connection.close()

    def _require_readable(self) -> None:
        """Raise if what reads say may not be trusted."""
        if self._closed:
            raise JournalFailed(what="the journal is closed", where=str(self._path))

    async def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._require_readable()

        def work() -> T:
            with file.mapped(self._path):
                return query(self._connection)

        return await self._runner.run(work)
