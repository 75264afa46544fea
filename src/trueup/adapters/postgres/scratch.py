"""A journal of PostgreSQL in a SQLite file of its own for a moment: for work on the whole of it.

Verifying, rebuilding, pruning and saving are rules about records, not about a database; they are written once, in
`adapters.sqlite`, and used here on a copy. What is derived there is then compared with what PostgreSQL has, or takes
its place: two stores that check each other.
"""

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import asyncpg

from trueup.adapters.journal_standing import Placed, PlacedRequest
from trueup.adapters.postgres import tables
from trueup.adapters.postgres.names import name
from trueup.adapters.postgres.server import Connection
from trueup.adapters.sqlite import audit, file
from trueup.adapters.sqlite import gate_tables as gate_rules
from trueup.adapters.sqlite import tables as rules
from trueup.adapters.sqlite.audit import Verification
from trueup.core import codec
from trueup.model.errors import Corrupt

T = TypeVar("T")
Row = tuple[object, ...]

ALL: Final = (*rules.DERIVED, "gaps")
"""Tables that follow from the records."""

_BATCH: Final = 1_000
_LOST: Final = b"?"
"""Stands for a line or a name that is gone: no record can be read from it."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """The copy: its file, and what a verification of its records found."""

    path: Path
    found: Verification

    def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask it something. Raises Corrupt."""
        with file.mapped(self.path), contextlib.closing(file.connect(self.path, write=False)) as connection:
            return query(connection)


@asynccontextmanager
async def copied(connection: Connection, journal: int) -> AsyncGenerator[Scratch]:
    """A copy as of one moment, while this is open, with its tables made anew and all of it verified.

    `connection` is within a transaction that sees one moment, or that holds the head's lock.
    """
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        path = Path(folder) / "journal.db"
        target = file.open_for_writing(path)
        try:
            target.execute("PRAGMA synchronous = OFF")  # it is gone in a moment
            target.execute("BEGIN IMMEDIATE")
            await _copy(connection, journal, target)
            target.execute("COMMIT")
            found = await asyncio.to_thread(_examined, target, path)
        finally:
            target.close()
        yield Scratch(path, found)


async def _copy(connection: Connection, journal: int, target: sqlite3.Connection) -> None:
    head = await tables.head(connection, journal)
    target.execute("UPDATE head SET seq = ?, epoch = ?, hash = ?", (head.seq, head.epoch, head.hash))
    gaps = await connection.fetch("SELECT * FROM trueup.gaps WHERE journal = $1", journal)
    target.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?, ?)", [tuple(row)[1:] for row in gaps])
    sql = "SELECT seq, record_id, op_id, line FROM trueup.records WHERE journal = $1 ORDER BY seq"
    async for batch in batches(connection, sql, journal):
        rows = [(r["seq"], _name(r["record_id"]), _name(r["op_id"]), r["line"] or _LOST) for r in batch]
        target.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)


async def batches(connection: Connection, sql: str, *values: object) -> AsyncGenerator[Sequence[asyncpg.Record]]:
    """Rows as they come, some at a time, within the transaction that is open."""
    cursor = await connection.cursor(sql, *values)
    while batch := await cursor.fetch(_BATCH):
        yield batch


def _examined(connection: sqlite3.Connection, path: Path) -> Verification:
    """Make the tables anew and verify all; damage is told."""
    with contextlib.suppress(Corrupt), file.mapped(path):
        audit.rebuild_tables(connection)
    return audit.examine(connection, path)


def _name(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes) else ""


# --- Comparing, and putting back --------------------------------------------------------------------------------------


async def difference(connection: Connection, journal: int, scratch: Scratch) -> str:
    """In what PostgreSQL's tables differ from what the records add up to; '' = in nothing."""
    for table in ALL:
        expected = scratch.ask(lambda copy, table=table: _rows(copy, table))
        names = scratch.ask(lambda copy, table=table: _columns(copy, table))
        listed = ", ".join(column for column, _ in names)
        rows = await connection.fetch(f"SELECT {listed} FROM trueup.{table} WHERE journal = $1", journal)  # noqa: S608
        there = [tuple(_as_there(row[column], kind) for column, kind in names) for row in rows]
        if _comparable(table, there) != _comparable(table, expected):
            return f"the table {table} differs from the records"
    return ""


async def put_back(connection: Connection, journal: int, scratch: Scratch) -> None:
    """Let PostgreSQL's tables be those of the copy: what was derived, and the head. Records are not touched."""
    for table in rules.DERIVED:
        await connection.execute(f"DELETE FROM trueup.{table} WHERE journal = $1", journal)  # noqa: S608
    for table in ALL:
        names = scratch.ask(lambda copy, table=table: _columns(copy, table))
        rows = scratch.ask(lambda copy, table=table: _rows(copy, table))
        kinds = await _kinds(connection, table)
        values = [
            (journal, *(_as_here(value, kinds[column]) for value, (column, _) in zip(row, names, strict=True)))
            for row in rows
        ]
        listed = ", ".join(column for column, _ in names)
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 2))
        sql = f"INSERT INTO trueup.{table} (journal, {listed}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        await connection.executemany(sql, values)
    head = scratch.ask(rules.head)
    await connection.execute(
        "UPDATE trueup.head SET seq = $2, epoch = $3, hash = $4, derived_version = $5 WHERE journal = $1",
        journal,
        head.seq,
        head.epoch,
        head.hash,
        rules.DERIVED_VERSION,
    )


async def add_records(connection: Connection, journal: int, scratch: Scratch, after_seq: int) -> None:
    """Append the copy's records behind this place."""
    sql = "SELECT seq, line FROM records WHERE seq > ? ORDER BY seq"
    rows = scratch.ask(lambda copy: copy.execute(sql, (after_seq,)).fetchall())
    for start in range(0, len(rows), _BATCH):
        lines = [(codec.decode(line, seq=seq), line) for seq, line in rows[start : start + _BATCH]]
        await tables.add_records(connection, journal, lines)


def seqs(copy: sqlite3.Connection) -> list[int]:
    """The places of all records."""
    return [seq for (seq,) in copy.execute("SELECT seq FROM records ORDER BY seq")]


async def _kinds(connection: Connection, table: str) -> dict[str, str]:
    """The type of each of PostgreSQL's columns."""
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute WHERE attrelid = to_regclass($1)"
        " AND attnum > 0 AND NOT attisdropped",
        f"trueup.{table}",
    )
    return {str(row["attname"]): str(row["kind"]) for row in rows}


def _columns(copy: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Name and type of each column."""
    return [(column, kind) for _, column, kind, *_ in copy.execute(f"PRAGMA table_info({table})").fetchall()]


def _rows(copy: sqlite3.Connection, table: str) -> list[Row]:
    return copy.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names


def _as_there(value: object, kind: str) -> object:
    """PostgreSQL's value as SQLite has it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) and kind == "TEXT" else value


def _as_here(value: object, kind: str) -> object:
    """SQLite's value as PostgreSQL takes it: names are bytes there."""
    return name(value) if isinstance(value, str) and kind == "bytea" else value


def _comparable(table: str, rows: Iterable[Row]) -> list[Row]:
    """Rows in one order, whatever the store; views are written anew, since fields may have come later."""
    if table == "requests":
        views = [(row, gate_rules.view_of(row[-1])) for row in rows]
        rows = [(*row[:-1], gate_rules.request_row(PlacedRequest(first_seq=0, view=v))[-1]) for row, v in views]
    if table == "ops":
        rows = [(*row[:-1], rules.op_row(Placed(first_seq=0, view=rules.view_of(row[-1])))[-1]) for row in rows]
    return sorted(rows, key=repr)
