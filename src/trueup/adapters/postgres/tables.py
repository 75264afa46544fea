"""The derived tables in PostgreSQL: what each record changes in them, and how they are asked.

The rules are those of `adapters.sqlite.tables`, and so are the rows; `audit` compares the two. Every statement names
the journal, since several share the tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from trueup.adapters.journal_admission import Append, Asked, Known
from trueup.adapters.journal_standing import Placed, Standings
from trueup.adapters.postgres import gate_tables
from trueup.adapters.postgres.names import name, text
from trueup.adapters.postgres.server import Connection
from trueup.adapters.sqlite import gate_tables as gate_rules
from trueup.adapters.sqlite import tables as rules
from trueup.core import codec
from trueup.model.errors import Corrupt
from trueup.model.ids import Epoch, OpId, TokenId, Vmid
from trueup.model.ops import (
    Acknowledged,
    Adopted,
    Denied,
    Doubted,
    EpochTaken,
    Gap,
    OpState,
    OpView,
    Paused,
    Pruned,
    Record,
    Released,
    Resumed,
    SystemEvent,
    TaskRunning,
    TokenPlanned,
    TokenRetired,
)

DERIVED_VERSION: Final = rules.DERIVED_VERSION
"""One version for both stores: the rules are the same."""

_OPS: Final = (
    "INSERT INTO trueup.ops (journal, first_seq, op_id, state, vmid, kind, reason, upid, started_at_ms, ended_at_ms,"
    " view) SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::text[], $5::bigint[], $6::text[], $7::text[],"
    " $8::bytea[], $9::bigint[], $10::bigint[], $11::bytea[]) ON CONFLICT (journal, first_seq) DO UPDATE SET"
    " state = excluded.state, vmid = excluded.vmid, kind = excluded.kind, reason = excluded.reason,"
    " upid = excluded.upid, started_at_ms = excluded.started_at_ms, ended_at_ms = excluded.ended_at_ms,"
    " view = excluded.view"
)


# --- Writing: inside a transaction of the caller; each raises asyncpg's errors ----------------------------------------


async def add_records(connection: Connection, journal: int, lines: Sequence[tuple[Record, bytes]]) -> None:
    """Append the records themselves."""
    await connection.execute(
        "INSERT INTO trueup.records (journal, seq, record_id, op_id, line)"
        " SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[])",
        journal,
        [record.seq for record, _ in lines],
        [name(record.record_id) for record, _ in lines],
        [name(record.op_id) for record, _ in lines],
        [line for _, line in lines],
    )


async def move_head(connection: Connection, journal: int, before: codec.Head, after: codec.Head) -> bool:
    """Move the head on, if it still is `before`; False = somebody else wrote."""
    done = await connection.execute(
        "UPDATE trueup.head SET seq = $2, epoch = $3, hash = $4 WHERE journal = $1 AND epoch = $5 AND hash = $6",
        journal,
        after.seq,
        after.epoch,
        after.hash,
        before.epoch,
        before.hash,
    )
    return done == "UPDATE 1"


async def derive(connection: Connection, journal: int, records: Sequence[Record], standings: Standings) -> None:
    """Bring the derived tables up to date with these records; `standings` are what stands after them."""
    if standings.ops:
        rows = [rules.op_row(placed) for placed in standings.ops.values()]
        columns = [list(column) for column in zip(*rows, strict=True)]
        for number in (1, 6):  # op_id and upid
            columns[number] = [name(str(value)) for value in columns[number]]
        await connection.execute(_OPS, journal, *columns)
    tasks = [(name(r.event.upid), name(r.op_id)) for r in records if isinstance(r.event, TaskRunning)]
    if tasks:
        await connection.executemany(
            "INSERT INTO trueup.upids VALUES ($1, $2, $3) ON CONFLICT (journal, upid) DO NOTHING",
            [(journal, upid, op_id) for upid, op_id in tasks],
        )
    await gate_tables.derive(connection, journal, standings)
    for record in records:
        if isinstance(record.event, SystemEvent):
            await _derive_system(connection, journal, record.event)
    if records:
        await gate_tables.note_instant(connection, journal, max(record.at_ms for record in records))


async def _derive_system(connection: Connection, journal: int, event: SystemEvent) -> None:
    """Apply one system event; one arm each."""
    do = connection.execute
    match event:
        case EpochTaken():
            row = (event.epoch, name(event.holder), name(event.token))
            await do("INSERT INTO trueup.epochs VALUES ($1, $2, $3, $4)", journal, *row)
        case TokenPlanned():
            await do(
                "INSERT INTO trueup.tokens VALUES ($1, $2, 1, 0)"
                " ON CONFLICT (journal, token) DO UPDATE SET planned = 1",
                journal,
                name(event.token),
            )
        case TokenRetired():
            await do(
                "INSERT INTO trueup.tokens VALUES ($1, $2, 0, 1)"
                " ON CONFLICT (journal, token) DO UPDATE SET retired = 1",
                journal,
                name(event.token),
            )
        case Adopted():
            await do(
                "INSERT INTO trueup.adopted (journal, vmid, uid, labels) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (journal, vmid) DO UPDATE SET uid = excluded.uid, labels = excluded.labels",
                journal,
                event.vmid,
                name(event.uid),
                gate_rules.labels_text(event.labels),
            )
        case Released():
            sql = "DELETE FROM trueup.adopted WHERE journal = $1 AND vmid = $2 AND uid = $3"
            await do(sql, journal, event.vmid, name(event.uid))
        case Paused() | Resumed():
            await _derive_pause(connection, journal, event)
        case Pruned() | Doubted() | Acknowledged():
            await _derive_upkeep(connection, journal, event)
        case Denied():
            pass  # it is only told


async def _derive_pause(connection: Connection, journal: int, event: Paused | Resumed) -> None:
    names = [name(guest) for guest in event.guests]
    if isinstance(event, Paused):
        sql = "INSERT INTO trueup.paused SELECT $1, unnest($2::bytea[]) ON CONFLICT DO NOTHING"
        await connection.execute(sql, journal, list(dict.fromkeys(names or [name(rules.ALL_GUESTS)])))
    elif names:
        await connection.execute("DELETE FROM trueup.paused WHERE journal = $1 AND guest = ANY($2)", journal, names)
    else:
        await connection.execute("DELETE FROM trueup.paused WHERE journal = $1", journal)


async def _derive_upkeep(connection: Connection, journal: int, event: Pruned | Doubted | Acknowledged) -> None:
    """Apply one event about the journal itself."""
    match event:
        case Pruned():
            await add_gaps(connection, journal, event.gaps)
        case Doubted():
            sql = "INSERT INTO trueup.doubts VALUES ($1, $2) ON CONFLICT DO NOTHING"
            await connection.execute(sql, journal, name(event.what))
        case Acknowledged():
            await connection.execute("DELETE FROM trueup.doubts WHERE journal = $1", journal)


async def add_gaps(connection: Connection, journal: int, stretches: Iterable[Gap]) -> None:
    """Note where records are gone; only there can they be removed."""
    await connection.executemany(
        "INSERT INTO trueup.gaps VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        [(journal, gap.first_seq, gap.last_seq, gap.epoch, gap.prev_hash, gap.hash) for gap in stretches],
    )


# --- Asking: each raises asyncpg's errors, or Corrupt for a row that cannot be read -----------------------------------


async def head(connection: Connection, journal: int) -> codec.Head:
    """Where the chain ends, as the head row says."""
    row = await connection.fetchrow("SELECT seq, epoch, hash FROM trueup.head WHERE journal = $1", journal)
    return head_of(row)


def head_of(row: Mapping[str, object] | None) -> codec.Head:
    """Read a head row; raises Corrupt."""
    if row is None:
        raise Corrupt(what="the journal is damaged: its head is gone", first_bad=0)
    return codec.Head(seq=int(str(row["seq"])), epoch=Epoch(int(str(row["epoch"]))), hash=str(row["hash"]))


async def known(connection: Connection, journal: int, appends: Sequence[Append], cached: Standings) -> Known:
    """What the tables know of the things that these appends speak of; ids that are `cached` are not asked for again."""
    asked = Asked.of(appends)
    there = Standings()
    for op_id in asked.op_ids:
        there.take(op_id, cached)
    await standing(connection, journal, asked.op_ids - there.ops.keys() - there.requests.keys(), there)
    keys = asked.keys | {claim.idempotency_key for claim in there.claims.values()}
    return Known(
        record_ids=await written(connection, journal, asked.record_ids),
        standings=there,
        upids=await holders(connection, journal, asked.upids),
        claims=(
            *there.claims.values(),
            *await gate_tables.claims_met(connection, journal, asked.nonces, keys),
        ),
    )


async def standing(connection: Connection, journal: int, ids: Iterable[OpId], into: Standings) -> None:
    """Add what stands for these ids."""
    wanted = list(ids)
    if wanted:
        into.ops |= await placed(connection, journal, wanted)
        into.requests |= await gate_tables.placed(connection, journal, wanted)
        into.claims |= await gate_tables.claims_of(connection, journal, wanted)


async def placed(connection: Connection, journal: int, op_ids: Iterable[OpId]) -> dict[OpId, Placed]:
    """Those of these operations that are in the journal."""
    wanted = [name(op_id) for op_id in op_ids]
    if not wanted:
        return {}
    rows = await connection.fetch(
        "SELECT first_seq, view FROM trueup.ops WHERE journal = $1 AND op_id = ANY($2)", journal, wanted
    )
    views = [(int(row["first_seq"]), rules.view_of(row["view"])) for row in rows]
    return {view.op_id: Placed(first_seq=first_seq, view=view) for first_seq, view in views}


async def holders(connection: Connection, journal: int, upids: Iterable[str]) -> dict[str, OpId]:
    """Which operation holds each of these UPIDs; those that none holds are left out."""
    wanted = [name(upid) for upid in upids]
    if not wanted:
        return {}
    rows = await connection.fetch(
        "SELECT upid, op_id FROM trueup.upids WHERE journal = $1 AND upid = ANY($2)", journal, wanted
    )
    return {text(row["upid"]): OpId(text(row["op_id"])) for row in rows}


async def written(connection: Connection, journal: int, record_ids: Iterable[str]) -> frozenset[str]:
    """Those of these record ids that are in the journal."""
    rows = await connection.fetch(
        "SELECT record_id FROM trueup.records WHERE journal = $1 AND record_id = ANY($2)",
        journal,
        [name(record_id) for record_id in record_ids],
    )
    return frozenset(text(row["record_id"]) for row in rows)


async def views(connection: Connection, journal: int, rest: str, *values: object) -> tuple[OpView, ...]:
    """Operations; `rest` is our own SQL behind the journal's condition."""
    rows = await connection.fetch(f"SELECT view FROM trueup.ops WHERE journal = $1 {rest}", journal, *values)  # noqa: S608
    return tuple(rules.view_of(row["view"]) for row in rows)


IN_FLIGHT: Final = "AND state IN ('started', 'task_running') ORDER BY first_seq"
ACCEPTED: Final = "AND state = 'accepted' ORDER BY first_seq"
PRESUMED: Final = (
    "AND reason = 'presumed_not_started' AND ended_at_ms >= $2 AND state = 'failed' ORDER BY ended_at_ms, first_seq"
)
UNACCOUNTED: Final = (
    "AND upid = '' AND ended_at_ms > 0 AND ended_at_ms >= $2"
    " AND reason IN ('presumed_not_started', 'not_started', 'superseded', 'observed') ORDER BY ended_at_ms, first_seq"
)


ONE_SHOTS: Final = (
    "SELECT o.view FROM trueup.claims c JOIN trueup.ops o ON (o.journal, o.op_id) = (c.journal, c.op_id)"
    " WHERE c.journal = $1 AND c.started_at_ms > 0 AND c.started_at_ms >= $2 ORDER BY c.started_at_ms, o.first_seq"
)


async def one_shots_since(connection: Connection, journal: int, since_ms: int) -> tuple[OpView, ...]:
    """One-shots that were started at or after this instant, oldest start first."""
    rows = await connection.fetch(ONE_SHOTS, journal, since_ms)
    return tuple(rules.view_of(row["view"]) for row in rows)


async def standing_fences(connection: Connection, journal: int) -> tuple[OpView, ...]:
    """Destroys that ended as never having arrived, whose fence must stand, oldest first."""
    found = await views(connection, journal, "AND kind = 'destroy' AND reason = 'not_started' ORDER BY first_seq")
    _, retired = await _tokens(connection, journal, "retired = 1")
    return tuple(view for view in found if rules.is_fenced(view) and view.intent.token not in retired)


async def ops(
    connection: Connection, journal: int, state: OpState | None, vmid: Vmid | None, limit: int
) -> tuple[OpView, ...]:
    """Operations, newest first; limit 0 = all."""
    if vmid is not None and not 0 < vmid <= codec.INT_MAX:
        return ()
    rest = (
        "AND ($2::text IS NULL OR state = $2) AND ($3::bigint IS NULL OR vmid = $3)"
        " ORDER BY first_seq DESC LIMIT NULLIF($4::bigint, 0)"
    )
    return await views(connection, journal, rest, state.value if state else None, vmid, limit)


async def records(
    connection: Connection, journal: int, op_id: OpId | None, after_seq: int, limit: int
) -> tuple[Record, ...]:
    """Records, oldest first, each verified by its own hash; limit 0 = all."""
    sql = "SELECT seq, line FROM trueup.records WHERE journal = $1 AND seq > $2"
    end = " ORDER BY seq LIMIT NULLIF($3::bigint, 0)"
    if op_id is None:
        rows = await connection.fetch(sql + end, journal, after_seq, limit)
    else:
        rows = await connection.fetch(f"{sql} AND op_id = $4{end}", journal, after_seq, limit, name(op_id))
    return tuple(codec.decode(rules.blob(row["line"], row["seq"]), seq=row["seq"]) for row in rows)


async def adopted(connection: Connection, journal: int) -> dict[Vmid, str]:
    """The guests known as ours: vmid to marker uid."""
    rows = await connection.fetch("SELECT vmid, uid FROM trueup.adopted WHERE journal = $1 ORDER BY vmid", journal)
    return {Vmid(int(row["vmid"])): text(row["uid"]) for row in rows}


async def paused(connection: Connection, journal: int) -> frozenset[str]:
    """Names of paused guests; '*' = all."""
    rows = await connection.fetch("SELECT guest FROM trueup.paused WHERE journal = $1", journal)
    return frozenset(text(row["guest"]) for row in rows)


async def doubts(connection: Connection, journal: int) -> tuple[str, ...]:
    """Why the journal may not know all that was done."""
    rows = await connection.fetch("SELECT what FROM trueup.doubts WHERE journal = $1 ORDER BY what", journal)
    return tuple(text(row["what"]) for row in rows)


async def epochs(connection: Connection, journal: int) -> tuple[EpochTaken, ...]:
    """Every epoch that was taken, oldest first."""
    rows = await connection.fetch(
        "SELECT epoch, holder, token FROM trueup.epochs WHERE journal = $1 ORDER BY epoch", journal
    )
    return tuple(
        EpochTaken(epoch=Epoch(int(row["epoch"])), holder=text(row["holder"]), token=TokenId(text(row["token"])))
        for row in rows
    )


async def tokens(connection: Connection, journal: int) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
    """Incarnation tokens: those ever planned, and those of them that are retired."""
    return await _tokens(connection, journal, "planned = 1")


async def _tokens(connection: Connection, journal: int, which: str) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
    rows = await connection.fetch(f"SELECT token, retired FROM trueup.tokens WHERE journal = $1 AND {which}", journal)  # noqa: S608
    names = [(TokenId(text(row["token"])), row["retired"]) for row in rows]
    return frozenset(token for token, _ in names), frozenset(token for token, retired in names if retired)
