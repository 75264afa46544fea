"""Whether a journal is what was written: its chain, its head, and its derived tables against its records.

The records are replayed in memory, apart from the SQL that writers use, so that the two check each other. A damaged
journal is never mended in silence: the first bad record is named, and the reader is told what can be done.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from trueup.adapters.journal_standing import Placed, PlacedRequest, Standings
from trueup.adapters.sqlite import file, gate_tables, tables
from trueup.adapters.sqlite.replay import Replay, Rows, fingerprint, rows_of
from trueup.core import codec
from trueup.model.errors import Corrupt, TrueupError
from trueup.model.ids import OpId
from trueup.model.ops import Gap, OpState, Pruned, Record

VERIFY_ALL_UP_TO: Final = 100_000
"""Records up to which a writer verifies all of the journal when it opens it: about two seconds."""

VERIFY_TAIL: Final = 10_000
"""Records at the end that it verifies in a longer one, besides all open operations."""

REBUILD_BATCH: Final = 2_000
"""Records that a rebuild works through at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `verify` found.

    `records` is how many were read and sound, `head` the hash of the last of them, `first_bad` the place of the first
    bad record (None = none, or not a record is bad but a table), `what` the fact and '' if all is well. `records_ok`
    tells that every record is sound, so that the derived tables can be made anew.
    """

    ok: bool
    records: int
    head: str
    first_bad: int | None
    what: str
    records_ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What is in a journal. Instants are in epoch milliseconds, 0 = no record; sizes count the log beside the file."""

    records: int
    last_seq: int
    ops: dict[OpState, int]
    size_bytes: int
    oldest_ms: int
    newest_ms: int
    epochs: int


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Verify a journal that is about to be written, all of it or its end; raises Corrupt.

    Derived tables of an older version of the rules are made anew first.
    """
    head = tables.head(connection)
    version: int = connection.execute("SELECT derived_version FROM head").fetchone()[0]
    if version != tables.DERIVED_VERSION:
        rebuild_tables(connection)
    found = examine(connection, path) if head.seq <= VERIFY_ALL_UP_TO else _examine_tail(connection, path, head)
    if not found.ok:
        raise Corrupt(
            what=found.what,
            first_bad=found.first_bad or 0,
            where=str(path),
            remedy=tables.REBUILD if found.records_ok else file.RESTORE,
        )


def examine(connection: sqlite3.Connection, path: Path) -> Verification:
    """Verify everything, as of one moment. Damage is not raised but told."""
    try:
        with file.mapped(path), file.snapshot(connection):
            return examine_open(connection, path)
    except TrueupError as error:
        return _bad(codec.Head(), 0, error)


def examine_open(connection: sqlite3.Connection, path: Path) -> Verification:
    """Verify everything within the transaction that is open. Damage is not raised but told."""
    replay = Replay()
    end = codec.Head()
    try:
        with file.mapped(path):
            for record in _chain(connection, end):
                replay.add(record, partial(_stood, connection))
                end = codec.Head(seq=record.seq, epoch=record.epoch, hash=record.hash)
            _compare_head(tables.head(connection), end)
            return _sound(end, replay.records, _told(path, partial(_difference, connection, replay)))
    except TrueupError as error:
        return _bad(end, replay.records, error)


def verify(path: Path) -> Verification:
    """Verify the journal at `path`, beside its writer if there is one.

    Raises:
        BadInput: there is no journal, or it is of another version.
    """
    try:
        connection = file.open_for_reading(path)
    except Corrupt as error:
        return _bad(codec.Head(), 0, error)
    with contextlib.closing(connection):
        return examine(connection, path)


def export(path: Path) -> Generator[str]:
    """Every record's line, oldest first, as of one moment; the records of a damaged journal that are sound.

    Raises:
        BadInput: there is no journal, or it is of another version.
        Corrupt: after the last line, if any record was left out; names the first of them.
    """
    first: Corrupt | None = None
    with file.mapped(path), contextlib.closing(file.open_for_reading(path)) as connection:
        for seq, line in connection.execute("SELECT seq, line FROM records ORDER BY seq"):
            try:
                codec.decode(tables.blob(line, seq), seq=seq)
            except Corrupt as error:
                first = first or error
            else:
                yield line.decode()
    if first is not None:
        raise Corrupt(what=first.what, first_bad=first.first_bad, where=str(path), remedy=first.remedy or file.RESTORE)


def stats(path: Path) -> Stats:
    """Count what is in the journal; raises BadInput or Corrupt."""
    log = path.with_name(path.name + "-wal")
    with file.mapped(path), contextlib.closing(file.open_for_reading(path)) as connection, file.snapshot(connection):
        counted: list[tuple[str, int]] = connection.execute("SELECT state, count(*) FROM ops GROUP BY state").fetchall()
        oldest = connection.execute("SELECT seq, line FROM records ORDER BY seq LIMIT 1").fetchall()
        newest = connection.execute("SELECT seq, line FROM records ORDER BY seq DESC LIMIT 1").fetchall()
        instants = [codec.decode(tables.blob(line, seq), seq=seq).at_ms for seq, line in (*oldest, *newest)]
        states = {state.value: state for state in OpState}
        return Stats(
            records=connection.execute("SELECT count(*) FROM records").fetchone()[0],
            last_seq=newest[0][0] if newest else 0,
            ops={states[state]: count for state, count in counted if state in states},
            size_bytes=path.stat().st_size + (log.stat().st_size if log.exists() else 0),
            oldest_ms=instants[0] if instants else 0,
            newest_ms=instants[-1] if instants else 0,
            epochs=connection.execute("SELECT count(*) FROM epochs").fetchone()[0],
        )


def rebuild_tables(connection: sqlite3.Connection) -> None:
    """Make the derived tables anew from the records, in one transaction.

    Raises:
        Corrupt: a record is damaged; the tables are as they were.
        sqlite3.Error: the file cannot be written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in tables.DERIVED:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        _derive_gaps(connection)
        batch: list[Record] = []
        for record in _chain(connection, codec.Head()):
            batch.append(record)
            if len(batch) == REBUILD_BATCH:
                _derive_batch(connection, batch)
                batch = []
        _derive_batch(connection, batch)
        connection.execute("UPDATE head SET derived_version = ?", (tables.DERIVED_VERSION,))
        connection.execute("REINDEX")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _derive_gaps(connection: sqlite3.Connection) -> None:
    """Gaps come first: without them the chain cannot be walked. One that nobody would own up to is no gap."""
    connection.execute("DELETE FROM gaps")
    for seq, line in connection.execute("SELECT seq, line FROM records WHERE op_id = '' ORDER BY seq").fetchall():
        event = codec.decode(tables.blob(line, seq), seq=seq).event
        if isinstance(event, Pruned):
            tables.add_gaps(connection, event.gaps)


def _derive_batch(connection: sqlite3.Connection, batch: list[Record]) -> None:
    standings = Standings()
    tables.standing(connection, {record.op_id for record in batch if record.op_id}, standings)
    for record in batch:
        standings.add(record)
    tables.derive(connection, batch, standings)


def _examine_tail(connection: sqlite3.Connection, path: Path, head: codec.Head) -> Verification:
    """Verify the last records, the head, and every open operation against its own records."""
    end = codec.Head(seq=head.seq - VERIFY_TAIL)
    count = 0
    try:
        with file.mapped(path), file.snapshot(connection):
            # The record there may have been pruned: then the walk begins at the one before it that is not.
            row = connection.execute(
                "SELECT seq, line FROM records WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (end.seq,)
            ).fetchone()
            seq, line = row or (end.seq, None)
            before = codec.decode(tables.blob(line, seq), seq=seq)
            end = codec.Head(seq=before.seq, epoch=before.epoch, hash=before.hash)
            for record in _chain(connection, end):
                end = codec.Head(seq=record.seq, epoch=record.epoch, hash=record.hash)
                count += 1
            _compare_head(head, end)
            return _sound(end, count, _open_difference(connection))
    except TrueupError as error:
        return _bad(end, count, error)


def _chain(connection: sqlite3.Connection, start: codec.Head) -> Iterator[Record]:
    """Read the records behind `start`, each verified by itself, by the one before it and by its row."""
    head = start
    gaps = tables.gaps(connection)
    rows = connection.execute(
        "SELECT seq, record_id, op_id, line FROM records WHERE seq > ? ORDER BY seq", (start.seq,)
    )
    for seq, record_id, op_id, line in rows:
        head = _over_gaps(head, seq, gaps)
        if seq != head.seq + 1:
            raise Corrupt(what=f"record {head.seq + 1} is missing", first_bad=head.seq + 1)
        record = codec.decode(tables.blob(line, seq), seq=seq)
        head = codec.link(head, record)
        if (record_id, op_id) != (record.record_id, record.op_id):
            raise Corrupt(what=f"record {seq} is filed under another name than its own", first_bad=seq)
        yield record


def _over_gaps(head: codec.Head, seq: int, gaps: Mapping[int, Gap]) -> codec.Head:
    """Go over what was pruned between `head` and the record at `seq`; the first of it had to follow `head`."""
    while head.seq + 1 < seq and (gap := gaps.get(head.seq + 1)) is not None:
        if gap.prev_hash != head.hash:
            what = f"what was pruned from record {gap.first_seq} on did not follow the record before it"
            raise Corrupt(what=what, first_bad=gap.first_seq)
        head = codec.Head(seq=gap.last_seq, epoch=gap.epoch, hash=gap.hash)
    return head


def _compare_head(head: codec.Head, end: codec.Head) -> None:
    """Compare the head row with the last record; raises Corrupt."""
    if head.seq > end.seq:
        raise Corrupt(what=f"the journal ends at record {end.seq}, its head says {head.seq}", first_bad=end.seq + 1)
    if head.seq < end.seq:
        raise Corrupt(what=f"record {head.seq + 1} stands behind the journal's head", first_bad=head.seq + 1)
    if head != end:
        raise Corrupt(what="the journal's head is not its last record", first_bad=end.seq)


def _difference(connection: sqlite3.Connection, replay: Replay) -> str:
    """Return in what the tables differ from the records; '' = in nothing."""
    if file.schema_of(connection) != file.expected_schema():
        return "the schema is not the one that trueup made"
    version: int = connection.execute("SELECT derived_version FROM head").fetchone()[0]
    if version == tables.DERIVED_VERSION:  # else the next writer makes them anew
        upids: dict[str, str] = dict(connection.execute("SELECT upid, op_id FROM upids").fetchall())
        checks = (
            ("upids", upids == replay.upids),
            ("epochs", tables.epochs(connection) == tuple(replay.epochs)),
            ("tokens", tables.tokens(connection) == replay.tokens()),
            ("adopted", tables.adopted(connection) == replay.adopted),
            ("paused", tables.paused(connection) == frozenset(replay.paused)),
            ("doubts", tables.doubts(connection) == tuple(sorted(replay.doubts))),
            ("gaps", tables.gaps(connection) == replay.gaps),
            ("newest", gate_tables.newest_ms(connection) == replay.newest_ms),
            ("adopted", gate_tables.labels(connection) == replay.labels),
        )
        for table, equal in checks:
            if not equal:
                return f"the table {table} differs from the records"
        if difference := _rows_difference(connection, replay.rows()):
            return difference
    report: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return "" if report == "ok" else f"SQLite finds: {report}"


def _rows_difference(connection: sqlite3.Connection, expected: Mapping[OpId, Rows], only: OpId | None = None) -> str:
    """Compare the rows of every id, or of one, with what its records add up to; '' = they are the same."""
    for place, (table, name, column, again) in enumerate(_TABLES):
        wanted = {op_id: rows[place] for op_id, rows in expected.items() if rows[place] is not None}
        where, values = (f" WHERE {column} = json_extract(?, '$')", (json.dumps(only),)) if only else ("", ())
        for row in connection.execute(f"SELECT {_COLUMNS[table]} FROM {table}{where}", values):  # noqa: S608
            row_id = OpId(row[_COLUMNS[table].split(", ").index(column)])
            # Written anew, since a field that came later is not in an older row, but has its default.
            now = again(row)
            if now[:-1] != row[:-1] or wanted.pop(row_id, None) != fingerprint(now):
                return f"{name} {row_id} differs from its records"
        for op_id in wanted:
            return f"{name} {op_id} is missing from its table"
    return ""


def _op_again(row: tables.OpRow) -> tuple[object, ...]:
    return tables.op_row(Placed(first_seq=row[0], view=tables.view_of(row[9])))


def _request_again(row: gate_tables.RequestRow) -> tuple[object, ...]:
    return gate_tables.request_row(PlacedRequest(first_seq=row[0], view=gate_tables.view_of(row[3])))


def _claim_again(row: gate_tables.ClaimRow) -> tuple[object, ...]:
    return row


_COLUMNS: Final = {
    "ops": "first_seq, op_id, state, vmid, kind, reason, upid, started_at_ms, ended_at_ms, view",
    "requests": "first_seq, request_id, state, view",
    "claims": "op_id, nonce, idempotency_key, held, started_at_ms",
}
_TABLES: Final[tuple[tuple[str, str, str, Callable[..., tuple[object, ...]]], ...]] = (
    ("ops", "operation", "op_id", _op_again),
    ("requests", "request", "request_id", _request_again),
    ("claims", "the claim of request", "op_id", _claim_again),
)
"""In the order of `replay.Rows`: the table, what a row is, its id, and how it would be written now."""


def _open_difference(connection: sqlite3.Connection) -> str:
    """Compare the open operations and requests with their records."""
    ids = connection.execute(
        "SELECT op_id FROM ops WHERE state IN ('started', 'task_running') UNION"
        " SELECT op_id FROM ops WHERE state = 'accepted' UNION"
        " SELECT request_id FROM requests WHERE state = 'pending'"
    ).fetchall()
    for (op_id,) in ids:
        stands = _stood(connection, op_id, codec.INT_MAX)
        if difference := _rows_difference(connection, {op_id: rows_of(stands, op_id)}, op_id):
            return difference
    return ""


def _stood(connection: sqlite3.Connection, op_id: OpId, before: int) -> Standings:
    """What stood for one id before the record at `before`; raises Corrupt if none of its records can be found."""
    found = Standings()
    for record in tables.records(connection, op_id, 0, 0):
        if record.seq < before:
            found.add(record)
    if not found.ids():
        raise Corrupt(what=f"the records of operation {op_id} cannot be found", first_bad=0)
    return found


def _told(path: Path, compare: Callable[[], str]) -> str:
    """Return in what the tables differ; one that cannot even be read differs."""
    try:
        with file.mapped(path):
            return compare()
    except Corrupt as error:
        return error.what


def _sound(end: codec.Head, count: int, what: str) -> Verification:
    """Tell of a walk that found every record sound; `what` is in what a derived table differs."""
    return Verification(ok=not what, records=count, head=end.hash, first_bad=None, what=what, records_ok=True)


def _bad(end: codec.Head, count: int, error: TrueupError) -> Verification:
    """Tell of an error that ended a walk whose last sound record is `end`."""
    first_bad = error.first_bad if isinstance(error, Corrupt) and error.first_bad else end.seq + 1
    return Verification(ok=False, records=count, head=end.hash, first_bad=first_bad, what=error.what, records_ok=False)
