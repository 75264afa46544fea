"""The journal in one SQLite file: append-only, chained, one writer, many readers.

| module | decides |
| --- | --- |
| `file` | how the file is opened, what SQLite's errors mean |
| `lock` | who may write |
| `store` | what a transaction is, and what follows when its outcome is not known |
| `group_commit` | which appends share a transaction |
| `tables` | what records change in the derived tables |
| `gate_moment` | what the gate is told in one read |
| `reader` | where queries run |
| `audit` | whether a journal is what was written |
| `retention` | which records may go, and how the chain goes over them |
| `copies` | backups, imports, and what is saved of a damaged journal |
"""

import contextlib
from pathlib import Path

from trueup.adapters.sqlite import audit, file
from trueup.adapters.sqlite.audit import Stats, Verification, export, stats, verify
from trueup.adapters.sqlite.copies import backup, import_lines, quarantine
from trueup.adapters.sqlite.journal import SqliteJournal
from trueup.adapters.sqlite.lock import WriterLock
from trueup.adapters.sqlite.reader import InThread, Reader
from trueup.adapters.sqlite.retention import prune

__all__ = [
    "Reader",
    "SqliteJournal",
    "Stats",
    "Verification",
    "backup",
    "durability",
    "export",
    "import_lines",
    "open_journal",
    "open_reader",
    "prune",
    "quarantine",
    "rebuild",
    "stats",
    "verify",
]


def open_journal(path: Path, *, inline: bool = False) -> SqliteJournal:
    """Make or open the journal for writing, and take its lock until `close`.

    `inline` does all work within the calling coroutine, without a thread: for the simulation.

    Raises:
        JournalBusy: another process writes it; the message names its pid.
        BadInput: the path, or the version of what is there, does not do.
        Corrupt: it is damaged; names the first bad record.
        JournalFailed: no space, or no durability to be had.
    """
    return SqliteJournal.open(path, inline=inline)


def open_reader(path: Path) -> Reader:
    """Open the journal for reading, beside its writer if there is one. Takes no lock, changes and verifies nothing.

    Raises:
        BadInput: there is no journal, or it is of another version.
        Corrupt: it is too damaged to be opened.
    """
    path = path.absolute()
    return Reader(path, file.open_for_reading(path), InThread())


def durability(path: Path) -> str:
    """In what the file is not kept as a writer would keep it; '' = in nothing. Raises BadInput or Corrupt."""
    connection = file.open_for_reading(path)
    with file.mapped(path), contextlib.closing(connection):
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return "" if mode == "wal" else f"SQLite's log is in mode {mode} instead of wal"


def rebuild(path: Path) -> Verification:
    """Make the derived tables anew from the records, and verify the whole. Needs the writer's lock.

    Raises:
        BadInput: there is no journal, or it is of another version.
        JournalBusy: another process writes it.
        Corrupt: a record is damaged; nothing was changed.
        JournalFailed: the disk does not take it.
    """
    path = path.absolute().resolve()
    file.open_for_reading(path).close()  # never makes a journal
    lock = WriterLock.acquire(path)
    try:
        connection = file.open_for_writing(path)
        try:
            with file.mapped(path):
                audit.rebuild_tables(connection)
                return audit.examine(connection, path)
        finally:
            connection.close()
    finally:
        lock.release()
