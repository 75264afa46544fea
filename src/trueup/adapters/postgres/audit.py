"""Whether a journal in PostgreSQL is what was written: its chain, its head, and its derived tables."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from trueup.adapters.journal_standing import Standings
from trueup.adapters.postgres import lease, scratch, server, tables, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.server import Connection, connected
from trueup.adapters.sqlite import tables as rules
from trueup.adapters.sqlite.audit import Stats, Verification
from trueup.core import codec
from trueup.model.errors import Corrupt, IllegalTransition
from trueup.model.ids import OpId
from trueup.model.ops import Gap, OpState, OpView, Record

VERIFY_TAIL: Final = 10_000
"""Records at the end that a writer verifies when it opens the journal, besides all open operations; a take-over must
not take long. `trueup journal verify` reads them all."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What durability rests on, as the server says. `standbys` are those that a COMMIT waits for, by name."""

    version: str
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    standbys: str
    replicas: int
    replicas_in_step: int


async def prepare(connection: Connection, journal: int, address: Address) -> None:
    """Verify the end of a journal that is about to be written, and bring tables of older rules up to date.

    Raises:
        Corrupt: it is damaged; names the first bad record.
    """
    version = await connection.fetchval("SELECT derived_version FROM trueup.head WHERE journal = $1", journal)
    with trouble.mapped(address.shown):
        if version is not None and version != tables.DERIVED_VERSION:
            found = await rebuild(connection, journal)
            if not found.ok:
                raise Corrupt(what=found.what, first_bad=found.first_bad or 0)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _walk_end(connection, journal)
            await _compare_open(connection, journal)


async def _walk_end(connection: Connection, journal: int) -> None:
    """Walk over the last records to the head. Raises Corrupt."""
    head = await tables.head(connection, journal)
    gaps = await _gaps(connection, journal)
    start = await connection.fetchrow(
        "SELECT seq, line FROM trueup.records WHERE journal = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1",
        journal,
        head.seq - VERIFY_TAIL,
    )
    end = codec.Head()
    if start is not None:
        first = codec.decode(rules.blob(start["line"], start["seq"]), seq=start["seq"])
        end = codec.Head(seq=first.seq, epoch=first.epoch, hash=first.hash)
    sql = "SELECT seq, line FROM trueup.records WHERE journal = $1 AND seq > $2 ORDER BY seq"
    async for batch in scratch.batches(connection, sql, journal, end.seq):
        for row in batch:
            while end.seq + 1 < row["seq"] and (gap := gaps.get(end.seq + 1)) is not None:
                if gap.prev_hash != end.hash:
                    raise Corrupt(
                        what=f"what was pruned from record {gap.first_seq} on did not follow", first_bad=end.seq
                    )
                end = codec.Head(seq=gap.last_seq, epoch=gap.epoch, hash=gap.hash)
            end = codec.link(end, codec.decode(rules.blob(row["line"], row["seq"]), seq=row["seq"]))
    if head != end:
        raise Corrupt(what=f"the journal ends at record {end.seq}, its head says {head.seq}", first_bad=end.seq + 1)


async def _gaps(connection: Connection, journal: int) -> dict[int, Gap]:
    rows = await connection.fetch("SELECT * FROM trueup.gaps WHERE journal = $1", journal)
    return {row["first_seq"]: msgspec.convert({**row}, Gap) for row in rows}


async def _compare_open(connection: Connection, journal: int) -> None:
    """Compare every open operation with its own records. Raises Corrupt."""
    opened = [
        *await tables.views(connection, journal, tables.IN_FLIGHT),
        *await tables.views(connection, journal, tables.ACCEPTED),
    ]
    for view in opened:
        records = await tables.records(connection, journal, view.op_id, 0, 0)
        if _add_up(records, view.op_id) != view:
            what = f"operation {view.op_id} differs from its records"
            raise Corrupt(what=what, first_bad=0, remedy=rules.REBUILD)


def _add_up(records: Sequence[Record], op_id: OpId) -> OpView | None:
    """What the records of an id say about its operation; those of its request, if it was signed, are among them."""
    standings = Standings()
    try:
        for record in records:
            standings.add(record)
    except IllegalTransition as error:
        what = f"the records of operation {op_id} contradict each other: {error.what}"
        raise Corrupt(what=what, first_bad=0, remedy=rules.REBUILD) from error
    placed = standings.ops.get(op_id)
    return placed.view if placed else None


async def verify(address: Address) -> Verification:
    """Verify everything as of one moment, beside the writer. Damage is not raised but told. Raises BadInput."""
    async with connected(address) as connection:
        journal = await server.require_number(connection, address)
        async with (
            connection.transaction(isolation="repeatable_read", readonly=True),
            scratch.copied(connection, journal) as copy,
        ):
            found = copy.found
            version = await connection.fetchval("SELECT derived_version FROM trueup.head WHERE journal = $1", journal)
            if not found.ok or version != tables.DERIVED_VERSION:  # the next writer makes the tables anew
                return found
            what = await scratch.difference(connection, journal, copy)
            return found if not what else _tables_differ(found, what)


def _tables_differ(found: Verification, what: str) -> Verification:
    return Verification(ok=False, records=found.records, head=found.head, first_bad=None, what=what, records_ok=True)


async def rebuild(connection: Connection, journal: int) -> Verification:
    """Make the derived tables anew from the records, and verify the whole. The caller holds the lease."""
    async with connection.transaction():
        await connection.fetchrow("SELECT 1 FROM trueup.head WHERE journal = $1 FOR UPDATE", journal)
        async with scratch.copied(connection, journal) as copy:
            if copy.found.ok:
                await scratch.put_back(connection, journal, copy)
            return copy.found


async def export(address: Address) -> AsyncGenerator[str]:
    """Every record's line, oldest first, as of one moment; the records of a damaged journal that are sound.

    Raises:
        BadInput: there is no journal, or it is of another version.
        Corrupt: after the last line, if any record was left out; names the first of them.
    """
    first: Corrupt | None = None
    async with connected(address) as connection:
        journal = await server.require_number(connection, address)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sql = "SELECT seq, line FROM trueup.records WHERE journal = $1 ORDER BY seq"
            async for batch in scratch.batches(connection, sql, journal):
                for row in batch:
                    try:
                        codec.decode(rules.blob(row["line"], row["seq"]), seq=row["seq"])
                    except Corrupt as error:
                        first = first or error
                    else:
                        yield row["line"].decode()
    if first is not None:
        remedy = first.remedy or trouble.RESTORE
        raise Corrupt(what=first.what, first_bad=first.first_bad, where=address.shown, remedy=remedy)


async def stats(address: Address) -> Stats:
    """Count what is in the journal; raises BadInput, Corrupt or JournalFailed. The size is that of its records."""
    async with connected(address) as connection:
        journal = await server.require_number(connection, address)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            counted = await connection.fetch(
                "SELECT state, count(*) AS ops FROM trueup.ops WHERE journal = $1 GROUP BY state", journal
            )
            row = await connection.fetchrow(
                "SELECT count(*) AS records, coalesce(max(seq), 0) AS last,"
                " coalesce(sum(length(line) + length(record_id) + length(op_id)), 0)::bigint AS size"
                " FROM trueup.records WHERE journal = $1",
                journal,
            )
            ends: list[int] = []
            for order in ("ASC", "DESC"):
                sql = f"SELECT seq, line FROM trueup.records WHERE journal = $1 ORDER BY seq {order} LIMIT 1"  # noqa: S608
                end = await connection.fetchrow(sql, journal)
                ends.append(codec.decode(rules.blob(end["line"], end["seq"]), seq=end["seq"]).at_ms if end else 0)
            states = {state.value: state for state in OpState}
            return Stats(
                records=row["records"] if row else 0,
                last_seq=row["last"] if row else 0,
                ops={states[one["state"]]: one["ops"] for one in counted if one["state"] in states},
                size_bytes=row["size"] if row else 0,
                oldest_ms=ends[0],
                newest_ms=ends[1],
                epochs=await connection.fetchval("SELECT count(*) FROM trueup.epochs WHERE journal = $1", journal),
            )


async def settings(address: Address) -> Settings:
    """What the server says about its durability. Raises BadInput or JournalFailed."""
    async with connected(address, target="read-write") as connection:
        said = await server.durability(connection)
        version = connection.get_server_version()
        # Whose replication is it? Without the right to see, there is a row without a state.
        rows = await connection.fetch("SELECT state, sync_state FROM pg_stat_replication")
        return Settings(
            version=f"{version.major}.{version.minor}",
            fsync=said["fsync"] == "on",
            full_page_writes=said["full_page_writes"] == "on",
            synchronous_commit=said["synchronous_commit"],
            standbys=said["synchronous_standby_names"],
            replicas=len(rows),
            replicas_in_step=sum(1 for row in rows if row["sync_state"] in {"sync", "quorum"}),
        )


def weakness(found: Settings) -> str:
    """What is wrong with how a server keeps what it committed; '' = nothing."""
    if not found.fsync:
        return "PostgreSQL runs with fsync off: it forgets what it committed"
    if not found.full_page_writes:
        return "PostgreSQL runs with full_page_writes off: a power loss can damage pages for good"
    if found.replicas and not found.replicas_in_step:
        what = f"PostgreSQL has {found.replicas} replicas, none of which a COMMIT waits for"
        return f"{what}: a failover may forget operations and nonces"
    return ""


def described(found: Settings) -> str:
    """A server's settings in a line."""
    replicas = f", {found.replicas_in_step} of {found.replicas} replicas in step" if found.replicas else ""
    kept = f"fsync {_on(found.fsync)}, full_page_writes {_on(found.full_page_writes)}"
    return f"PostgreSQL {found.version}, {kept}, synchronous_commit {found.synchronous_commit}{replicas}"


def _on(value: bool) -> str:  # noqa: FBT001 - it is what it is about
    return "on" if value else "off"


async def leader(address: Address) -> lease.Leader | None:
    """Who leads now; None = nobody, or there is no journal yet. Raises BadInput or JournalFailed."""
    async with connected(address) as connection:
        there = await server.schema_version(connection)
        journal = await server.number_of(connection, address.journal) if there else None
        return None if journal is None else await lease.look(connection, journal)


async def exists(address: Address) -> bool:
    """Whether there is a journal. Raises BadInput or JournalFailed if the database does not say."""
    async with connected(address) as connection:
        if not await server.schema_version(connection):
            return False
        return await server.number_of(connection, address.journal) is not None
