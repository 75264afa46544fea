"""The derived tables: what each record changes in them, and how they are asked.

They hold nothing that the records do not, and are written in the transaction of the records, so they are never ahead
or behind. `DERIVED_VERSION` tells an older content apart: the next writer then makes them anew.

Names are handed to SQLite as JSON in ASCII: one statement takes any number of them, and a name that is no UTF-8 (from a
command line, say) is merely not found.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Final

import msgspec

from trueup.adapters.journal_admission import Append, Asked, Known
from trueup.adapters.journal_standing import Placed, Standings
from trueup.adapters.sqlite import gate_tables
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

DERIVED_VERSION: Final = 2
"""Raised whenever a view, a step of `core` or a rule below changes what a record adds up to."""

DERIVED: Final = ("ops", "requests", "claims", "upids", "epochs", "tokens", "adopted", "paused", "doubts", "newest")

ALL_GUESTS: Final = "*"
"""The name that stands for every guest among the paused ones."""

REBUILD: Final = gate_tables.REBUILD

OpRow = tuple[int, str, str, int, str, str, str, int, int, bytes]

_RECORDS_AMONG: Final = "SELECT record_id, '' FROM records WHERE record_id IN (SELECT value FROM json_each(?))"
_UPIDS_AMONG: Final = "SELECT upid, op_id FROM upids WHERE upid IN (SELECT value FROM json_each(?))"

_view_encoder = msgspec.json.Encoder(order="deterministic")  # keys sorted; fields as they are declared


@cache
def _view_decoder() -> msgspec.json.Decoder[OpView]:
    return msgspec.json.Decoder(OpView)


# --- Writing: each raises sqlite3.Error, inside a transaction of the caller -------------------------------------------


def add_records(connection: sqlite3.Connection, lines: Sequence[tuple[Record, bytes]]) -> None:
    """Append the records themselves."""
    connection.executemany(
        "INSERT INTO records (seq, record_id, op_id, line) VALUES (?, ?, ?, ?)",
        [(record.seq, record.record_id, record.op_id, line) for record, line in lines],
    )


def move_head(connection: sqlite3.Connection, before: codec.Head, after: codec.Head) -> bool:
    """Move the head on, if it still is `before`; False = somebody else wrote."""
    cursor = connection.execute(
        "UPDATE head SET seq = ?, epoch = ?, hash = ? WHERE epoch = ? AND hash = ?",
        (after.seq, after.epoch, after.hash, before.epoch, before.hash),
    )
    return cursor.rowcount == 1


def derive(connection: sqlite3.Connection, records: Sequence[Record], standings: Standings) -> None:
    """Bring the derived tables up to date with these records; `standings` are what stands after them."""
    connection.executemany(
        # vmid and kind never change (`journal_admission`), and naming them here would write their index each time.
        "INSERT INTO ops (first_seq, op_id, state, vmid, kind, reason, upid, started_at_ms, ended_at_ms, view)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (first_seq) DO UPDATE SET state = excluded.state,"
        " reason = excluded.reason, upid = excluded.upid, started_at_ms = excluded.started_at_ms,"
        " ended_at_ms = excluded.ended_at_ms, view = excluded.view",
        [op_row(placed) for placed in standings.ops.values()],
    )
    # An operation may find its own task again after a contradiction; another's was refused.
    connection.executemany(
        "INSERT INTO upids (upid, op_id) VALUES (?, ?) ON CONFLICT (upid) DO NOTHING",
        [(record.event.upid, record.op_id) for record in records if isinstance(record.event, TaskRunning)],
    )
    gate_tables.derive(connection, standings)
    system = [record.event for record in records if not record.op_id and isinstance(record.event, SystemEvent)]
    for adopting, events in groupby(system, key=_is_adoption):
        if adopting:  # a recovery adopts thousands of guests at once
            _adopt(connection, events)
            continue
        for event in events:
            _derive_system(connection, event)
    if records:
        gate_tables.note_instant(connection, max(record.at_ms for record in records))


def _derive_system(connection: sqlite3.Connection, event: SystemEvent) -> None:
    """Apply one system event; one arm each."""
    match event:
        case EpochTaken():
            row = (event.epoch, event.holder, event.token)
            connection.execute("INSERT INTO epochs (epoch, holder, token) VALUES (?, ?, ?)", row)
        case TokenPlanned():
            connection.execute(
                "INSERT INTO tokens VALUES (?, 1, 0) ON CONFLICT (token) DO UPDATE SET planned = 1", (event.token,)
            )
        case TokenRetired():
            connection.execute(
                "INSERT INTO tokens VALUES (?, 0, 1) ON CONFLICT (token) DO UPDATE SET retired = 1", (event.token,)
            )
        case Adopted() | Released():
            _derive_adoption(connection, event)
        case Paused():
            names = event.guests or (ALL_GUESTS,)
            connection.executemany("INSERT INTO paused VALUES (?) ON CONFLICT DO NOTHING", [(n,) for n in names])
        case Resumed(guests=()):
            connection.execute("DELETE FROM paused")
        case Resumed():
            connection.executemany("DELETE FROM paused WHERE guest = ?", [(n,) for n in event.guests])
        case Pruned() | Doubted() | Acknowledged():
            _derive_upkeep(connection, event)
        case Denied():
            pass  # it is only told


def _derive_adoption(connection: sqlite3.Connection, event: Adopted | Released) -> None:
    """Apply one event about who is ours."""
    match event:
        case Adopted():
            _adopt(connection, (event,))
        case Released():
            connection.execute("DELETE FROM adopted WHERE vmid = ? AND uid = ?", (event.vmid, event.uid))


def _adopt(connection: sqlite3.Connection, events: Iterable[SystemEvent]) -> None:
    """Apply events that say who is ours, in their order."""
    connection.executemany(
        "INSERT INTO adopted (vmid, uid, labels) VALUES (?, ?, ?)"
        " ON CONFLICT (vmid) DO UPDATE SET uid = excluded.uid, labels = excluded.labels",
        [(e.vmid, e.uid, gate_tables.labels_text(e.labels)) for e in events if isinstance(e, Adopted)],
    )


def _is_adoption(event: SystemEvent) -> bool:
    return isinstance(event, Adopted)


def _derive_upkeep(connection: sqlite3.Connection, event: Pruned | Doubted | Acknowledged) -> None:
    """Apply one event about the journal itself."""
    match event:
        case Pruned():
            add_gaps(connection, event.gaps)
        case Doubted():
            connection.execute("INSERT INTO doubts VALUES (?) ON CONFLICT DO NOTHING", (event.what,))
        case Acknowledged():
            connection.execute("DELETE FROM doubts")


def add_gaps(connection: sqlite3.Connection, stretches: Iterable[Gap]) -> None:
    """Note where records are gone; only there can they be removed."""
    connection.executemany(
        "INSERT INTO gaps (first_seq, last_seq, epoch, prev_hash, hash) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (first_seq) DO NOTHING",
        [(gap.first_seq, gap.last_seq, gap.epoch, gap.prev_hash, gap.hash) for gap in stretches],
    )


def op_row(placed: Placed) -> OpRow:
    """Return an operation as its row."""
    view = placed.view
    return (
        placed.first_seq,
        view.op_id,
        view.state.value,
        view.intent.vmid,
        view.intent.kind.value,
        view.reason.value if view.reason else "",
        view.upid,
        view.started_at_ms,
        view.ended_at_ms,
        _view_encoder.encode(view),
    )


# --- Asking: each raises sqlite3.Error, or Corrupt for a row that cannot be read --------------------------------------


def head(connection: sqlite3.Connection) -> codec.Head:
    """Where the chain ends, as the head row says."""
    row = connection.execute("SELECT seq, epoch, hash FROM head WHERE one = 1").fetchone()
    match row:
        case (int(seq), int(epoch), str(hash_)):
            return codec.Head(seq=seq, epoch=Epoch(epoch), hash=hash_)
        case _:
            raise Corrupt(what="the journal is damaged: its head is gone", first_bad=0)


def known(connection: sqlite3.Connection, appends: Sequence[Append], cached: Standings) -> Known:
    """What the tables know of the things that these appends speak of; ids that are `cached` are not asked for again."""
    asked = Asked.of(appends)
    there = Standings()
    for op_id in asked.op_ids:
        there.take(op_id, cached)
    standing(connection, asked.op_ids - there.ops.keys() - there.requests.keys(), there)
    keys = asked.keys | {claim.idempotency_key for claim in there.claims.values()}
    met = gate_tables.claims_met(connection, asked.nonces, keys)
    held = _among(connection, _UPIDS_AMONG, asked.upids)
    return Known(
        record_ids=frozenset(_among(connection, _RECORDS_AMONG, asked.record_ids)),
        standings=there,
        upids={upid: OpId(op_id) for upid, op_id in held.items()},
        claims=(*there.claims.values(), *met),
    )


def standing(connection: sqlite3.Connection, ids: Iterable[OpId], into: Standings) -> None:
    """Add what stands for these ids."""
    wanted = list(ids)
    if wanted:
        into.ops |= placed(connection, wanted)
        into.requests |= gate_tables.placed(connection, wanted)
        into.claims |= gate_tables.claims_of(connection, wanted)


def placed(connection: sqlite3.Connection, op_ids: Iterable[OpId]) -> dict[OpId, Placed]:
    """Those of these operations that are in the journal."""
    rows = connection.execute(
        "SELECT first_seq, view FROM ops WHERE op_id IN (SELECT value FROM json_each(?))", (json.dumps(list(op_ids)),)
    ).fetchall()
    views = [(first_seq, view_of(data)) for first_seq, data in rows]
    return {view.op_id: Placed(first_seq=first_seq, view=view) for first_seq, view in views}


def claimed(connection: sqlite3.Connection, candidates: Iterable[str]) -> frozenset[str]:
    """Those of these UPIDs that an operation holds."""
    return frozenset(_among(connection, _UPIDS_AMONG, candidates))


def written(connection: sqlite3.Connection, record_ids: Iterable[str]) -> frozenset[str]:
    """Those of these record ids that are in the journal."""
    return frozenset(_among(connection, _RECORDS_AMONG, record_ids))


def in_flight(connection: sqlite3.Connection) -> tuple[OpView, ...]:
    """Operations that PVE may have received, oldest first."""
    # The condition stands as in the index, word for word: so SQLite knows that the index has all of them.
    return _views(connection, "SELECT view FROM ops WHERE state IN ('started', 'task_running') ORDER BY first_seq", ())


def unresolved(connection: sqlite3.Connection, guests: Iterable[Vmid]) -> dict[Vmid, OpId]:
    """Of these guests, those with an operation in flight whose end nobody knows, and the oldest such operation."""
    wanted = list(guests)
    if not wanted:
        return {}
    sql = (
        "SELECT view FROM ops WHERE vmid IN (SELECT value FROM json_each(?)) AND state IN ('started', 'task_running')"
        " ORDER BY first_seq DESC"
    )
    found = _views(connection, sql, (json.dumps(wanted),))
    return {view.intent.vmid: view.op_id for view in found if view.unresolved is not None}


def accepted(connection: sqlite3.Connection) -> tuple[OpView, ...]:
    """One-shots that were not sent, oldest first."""
    return _views(connection, "SELECT view FROM ops WHERE state = 'accepted' ORDER BY first_seq", ())


def presumed_since(connection: sqlite3.Connection, since_ms: int) -> tuple[OpView, ...]:
    """Operations that ended `presumed_not_started` at or after this instant, oldest end first."""
    sql = (
        "SELECT view FROM ops WHERE reason = 'presumed_not_started' AND ended_at_ms >= ? AND state = 'failed'"
        " ORDER BY ended_at_ms, first_seq"
    )
    return _views(connection, sql, (since_ms,))


def unaccounted_since(connection: sqlite3.Connection, since_ms: int) -> tuple[OpView, ...]:
    """Operations that ended at or after this instant and whose task, if there was one, was never known."""
    sql = (
        "SELECT view FROM ops WHERE upid = '' AND ended_at_ms > 0 AND ended_at_ms >= ?"
        " AND reason IN ('presumed_not_started', 'not_started', 'superseded', 'observed')"
        " ORDER BY ended_at_ms, first_seq"
    )
    return _views(connection, sql, (since_ms,))


def one_shots_since(connection: sqlite3.Connection, since_ms: int) -> tuple[OpView, ...]:
    """One-shots that were started at or after this instant, oldest start first."""
    sql = (
        "SELECT ops.view FROM claims JOIN ops ON ops.op_id = claims.op_id"
        " WHERE claims.started_at_ms > 0 AND claims.started_at_ms >= ? ORDER BY claims.started_at_ms, ops.first_seq"
    )
    return _views(connection, sql, (since_ms,))


def standing_fences(connection: sqlite3.Connection) -> tuple[OpView, ...]:
    """Destroys that ended as never having arrived, whose fence must stand, oldest first."""
    sql = "SELECT view FROM ops WHERE kind = 'destroy' AND reason = 'not_started' ORDER BY first_seq"
    retired = frozenset(token for (token,) in connection.execute("SELECT token FROM tokens WHERE retired = 1"))
    return tuple(view for view in _views(connection, sql, ()) if is_fenced(view) and view.intent.token not in retired)


def is_fenced(view: OpView) -> bool:
    """Whether a fence was raised, or is being raised again, on a guest that is there."""
    return bool(view.fenced.digest) if view.fenced is not None else view.fencing is not None


def ops(connection: sqlite3.Connection, state: OpState | None, vmid: Vmid | None, limit: int) -> tuple[OpView, ...]:
    """Operations, newest first; limit 0 = all."""
    if vmid is not None and not 0 < vmid <= codec.INT_MAX:
        return ()
    conditions: list[str] = []
    values: list[str | int] = []
    if state is not None:
        conditions.append("state = ?")
        values.append(state.value)
    if vmid is not None:
        conditions.append("vmid = ?")
        values.append(vmid)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT view FROM ops {where} ORDER BY first_seq DESC LIMIT ?"  # noqa: S608 - both conditions stand above
    return _views(connection, sql, (*values, limit or -1))


def op(connection: sqlite3.Connection, op_id: OpId) -> OpView | None:
    """One operation as it stands."""
    found = placed(connection, (op_id,)).get(op_id)
    return found.view if found else None


def records(connection: sqlite3.Connection, op_id: OpId | None, after_seq: int, limit: int) -> tuple[Record, ...]:
    """Records, oldest first, each verified by its own hash; limit 0 = all."""
    if op_id is None:
        sql, values = "SELECT seq, line FROM records WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit or -1)
        rows = connection.execute(sql, values)
    else:
        sql = "SELECT seq, line FROM records WHERE op_id = json_extract(?, '$') AND seq > ? ORDER BY seq LIMIT ?"
        rows = connection.execute(sql, (json.dumps(op_id), after_seq, limit or -1))
    return tuple(codec.decode(blob(line, seq), seq=seq) for seq, line in rows)


def adopted(connection: sqlite3.Connection) -> dict[Vmid, str]:
    """The guests known as ours: vmid to marker uid."""
    rows: list[tuple[int, str]] = connection.execute("SELECT vmid, uid FROM adopted ORDER BY vmid").fetchall()
    return {Vmid(vmid): uid for vmid, uid in rows}


def paused(connection: sqlite3.Connection) -> frozenset[str]:
    """Names of paused guests; '*' = all."""
    rows: list[tuple[str]] = connection.execute("SELECT guest FROM paused").fetchall()
    return frozenset(name for (name,) in rows)


def doubts(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Why the journal may not know all that was done."""
    rows: list[tuple[str]] = connection.execute("SELECT what FROM doubts ORDER BY what").fetchall()
    return tuple(what for (what,) in rows)


def gaps(connection: sqlite3.Connection) -> dict[int, Gap]:
    """Where records are gone, by the place of the first of each stretch."""
    rows: list[tuple[int, int, int, str, str]] = connection.execute(
        "SELECT first_seq, last_seq, epoch, prev_hash, hash FROM gaps ORDER BY first_seq"
    ).fetchall()
    return {
        first: Gap(first_seq=first, last_seq=last, epoch=Epoch(epoch), prev_hash=before, hash=end)
        for first, last, epoch, before, end in rows
    }


def epochs(connection: sqlite3.Connection) -> tuple[EpochTaken, ...]:
    """Every epoch that was taken, oldest first."""
    rows: list[tuple[int, str, str]] = connection.execute(
        "SELECT epoch, holder, token FROM epochs ORDER BY epoch"
    ).fetchall()
    return tuple(EpochTaken(epoch=Epoch(e), holder=holder, token=TokenId(token)) for e, holder, token in rows)


def tokens(connection: sqlite3.Connection) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
    """Incarnation tokens: those ever planned, and those of them that are retired."""
    rows: list[tuple[str, int]] = connection.execute("SELECT token, retired FROM tokens WHERE planned = 1").fetchall()
    planned = frozenset(TokenId(token) for token, _ in rows)
    return planned, frozenset(TokenId(token) for token, retired in rows if retired)


def blob(value: object, seq: int) -> bytes:
    """Return a record's line as bytes: a damaged row can give anything. Raises Corrupt."""
    if not isinstance(value, bytes):
        raise Corrupt(what=f"record {seq} is damaged: its line is gone", first_bad=seq)
    return value


def view_of(data: object) -> OpView:
    """Read an operation's row; raises Corrupt."""
    if not isinstance(data, bytes):
        raise Corrupt(what="the journal is damaged: an operation's row is gone", first_bad=0, remedy=REBUILD)
    try:
        return _view_decoder().decode(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            what=f"the journal is damaged: an operation's row: {error}", first_bad=0, remedy=REBUILD
        ) from error


def _views(connection: sqlite3.Connection, sql: str, values: tuple[str | int, ...]) -> tuple[OpView, ...]:
    rows: list[tuple[bytes]] = connection.execute(sql, values).fetchall()
    return tuple(view_of(data) for (data,) in rows)


def _among(connection: sqlite3.Connection, sql: str, names: Iterable[str]) -> dict[str, str]:
    """Ask for all names at once, however many: `sql` takes them as one JSON array, and gives two columns."""
    wanted = list(names)
    if not wanted:
        return {}
    rows: list[tuple[str, str]] = connection.execute(sql, (json.dumps(wanted),)).fetchall()
    return dict(rows)
