"""Opening the file: settings that durability rests on, the schema, and the one place that maps SQLite's errors.

Settings are read back after they were asked for: SQLite does not refuse a setting that it cannot keep, it answers with
another one. WAL with `synchronous=FULL` syncs the log at each commit, so a commit that returned survives a power loss.
"""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from trueup.core.codec import UPGRADE
from trueup.model.errors import (
    BadInput,
    Corrupt,
    JournalBusy,
    JournalFailed,
    TrueupError,
)
from trueup.model.limits import JOURNAL_BUSY_S

APPLICATION_ID: Final = 1416787312
"""Stands in the file's header and tells it from other SQLite files: "Trup"."""

RESTORE: Final = "bring back the last good copy, or save what can be read with `trueup journal quarantine`"
RIGHTS: Final = "trueup needs to read and write this file, and to write in its folder"
RESTART: Final = "look at the disk and the kernel's log, then restart"

_SYNCHRONOUS_FULL: Final = 2
_PRIMARY: Final = 0xFF
"""The low byte of SQLite's extended result codes is the primary one."""

_FSYNC_CODES: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

# Primary result code -> what it means to us. Codes that are not listed are taken for a journal that failed.
_MEANING: Final[Mapping[int, type[TrueupError]]] = MappingProxyType(
    {
        sqlite3.SQLITE_CORRUPT: Corrupt,
        sqlite3.SQLITE_NOTADB: Corrupt,
        sqlite3.SQLITE_CONSTRAINT: Corrupt,  # admission has checked all of them: head and records disagree
        sqlite3.SQLITE_ERROR: Corrupt,  # our statements are right, so a table or a column is gone
        sqlite3.SQLITE_MISMATCH: Corrupt,
        sqlite3.SQLITE_FORMAT: Corrupt,
        sqlite3.SQLITE_BUSY: JournalBusy,
        sqlite3.SQLITE_LOCKED: JournalBusy,
        sqlite3.SQLITE_PROTOCOL: JournalBusy,
        sqlite3.SQLITE_CANTOPEN: BadInput,
        sqlite3.SQLITE_PERM: BadInput,
        sqlite3.SQLITE_AUTH: BadInput,
        sqlite3.SQLITE_READONLY: BadInput,
        sqlite3.SQLITE_FULL: JournalFailed,
        sqlite3.SQLITE_IOERR: JournalFailed,
        sqlite3.SQLITE_NOLFS: JournalFailed,
        sqlite3.SQLITE_INTERRUPT: JournalFailed,
    }
)


def is_sync_error(error: Exception) -> bool:
    """Whether a sync failed: what the kernel then holds is not known, and no later sync can tell."""
    return getattr(error, "sqlite_errorcode", None) in _FSYNC_CODES


Foreign = (sqlite3.Error, UnicodeDecodeError)
"""What calls of sqlite3 raise; the second is Python's own when SQLite quotes a damaged page in its message."""


def map_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> TrueupError:
    """Say what an error of SQLite means; the only place that does. Never "not found", whatever it is."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python's own: text that is no UTF-8 comes from a damaged page; the rest is a connection that was closed.
        damaged = not isinstance(error, sqlite3.ProgrammingError) and "decode" in str(error).lower()
        meaning: type[TrueupError] = Corrupt if damaged else JournalFailed
    elif code == sqlite3.SQLITE_IOERR_CORRUPTFS:
        meaning = Corrupt
    else:
        meaning = _MEANING.get(code & _PRIMARY, JournalFailed)
    where = str(path)
    if meaning is Corrupt:
        return Corrupt(what=f"the journal is damaged: {error}", first_bad=0, where=where, remedy=RESTORE)
    if meaning is JournalBusy:
        return JournalBusy(what=f"another program holds the journal's file: {error}", where=where, remedy="end it")
    if meaning is BadInput:
        return BadInput(what=f"the journal cannot be used: {error}", where=where, remedy=RIGHTS)
    if code is not None and code & _PRIMARY == sqlite3.SQLITE_FULL:
        remedy = f"free space on {path.parent}, then restart"
        return JournalFailed(what="the journal's disk is full", where=where, remedy=remedy)
    return JournalFailed(what=f"the journal failed: {error}", where=where, remedy=RESTART)


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Read as of one moment, whatever is appended meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # a damaged file may not even let go
                connection.execute("ROLLBACK")


@contextlib.contextmanager
def mapped(path: Path) -> Generator[None]:
    """Turn SQLite's errors into ours, and let damage say in which file it is."""
    try:
        yield
    except Foreign as error:
        raise map_error(error, path) from error
    except Corrupt as error:
        if error.where:
            raise
        remedy = error.remedy or RESTORE
        raise Corrupt(what=error.what, first_bad=error.first_bad, where=str(path), remedy=remedy) from error


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open an existing file; may be used from any thread, by one at a time. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}",
        uri=True,
        timeout=JOURNAL_BUSY_S,
        isolation_level=None,  # transactions are ours alone to begin and to end
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if not write:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the journal for its one writer, made or migrated if need be.

    Raises:
        BadInput: the file is not a journal, is of a newer trueup, or may not be written.
        Corrupt: it is damaged.
        JournalFailed: the disk is full, or durability cannot be had here.
    """
    _create(path)
    with mapped(path):
        connection = connect(path, write=True)
        try:
            _recognise(connection, path, fresh_allowed=True)
            _make_durable(connection, path)
            migrate(connection)
        except BaseException:
            connection.close()
            raise
    sync_folder(path.parent)  # the names of the file and of its log are durable too
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the journal beside its writer, if there is one. Takes no lock and changes nothing.

    Raises:
        BadInput: there is no journal, or it is of another version of trueup.
        Corrupt: it is damaged.
    """
    if not path.is_file():
        raise BadInput(what="there is no journal", where=str(path), remedy="`trueup apply` or `trueup agent` makes it")
    with mapped(path):
        connection = connect(path, write=False)
        try:
            version = _recognise(connection, path, fresh_allowed=False)
        except BaseException:
            connection.close()
            raise
    if version < len(migrations()):
        connection.close()
        raise BadInput(
            what=f"the journal is of an older trueup (schema {version})",
            where=str(path),
            remedy="start `trueup agent` once: it brings the journal up to date",
        )
    return connection


@cache
def migrations() -> tuple[str, ...]:
    """Return the SQL that leads from schema n to n + 1, in order: the files `migrations/NNNN_name.sql`, from 1."""
    folder = resources.files("trueup.adapters.sqlite") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(f.read_text(encoding="utf-8") for f in files)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, each step in a transaction of its own. Raises sqlite3.Error."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, sql in enumerate(migrations()[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@cache
def expected_schema() -> frozenset[tuple[str, str, str]]:
    """Return what `schema_of` says of an undamaged journal."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        return schema_of(connection)
    finally:
        connection.close()


def schema_of(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    """Return type, name and SQL of everything in the schema. Raises sqlite3.Error."""
    return frozenset(connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").fetchall())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises JournalFailed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise JournalFailed(
            what=f"cannot sync the folder: {error.strerror}", where=str(folder), remedy=RESTART
        ) from error


def make_folder(folder: Path) -> None:
    """Make the journal's folder and those above it, each with a durable name; raises BadInput or JournalFailed."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadInput(what=f"cannot make the folder: {error.strerror}", where=str(each)) from error
        sync_folder(each.parent)


def _create(path: Path) -> None:
    """Make an empty file for us alone, unless there is one; refuse one that lost its content."""
    log = path.with_name(path.name + "-wal")
    empty = not path.exists() or (path.is_file() and path.stat().st_size == 0)
    if empty and log.exists() and log.stat().st_size > 0:
        # SQLite would remove the log of a file without content, and with it the only copy of its records.
        raise Corrupt(
            what=f"the journal has no content, but {log.name} beside it has",
            first_bad=0,
            where=str(path),
            remedy="bring the file back that belongs to it, or move both away",
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        what = f"the journal cannot be opened: {error.strerror}"
        raise BadInput(what=what, where=str(path), remedy=RIGHTS) from error


def _recognise(connection: sqlite3.Connection, path: Path, *, fresh_allowed: bool) -> int:
    """Return the schema's version, or refuse the file before anything in it is touched."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if (application, version, tables) == (0, 0, 0):
        if fresh_allowed:
            return 0
        raise BadInput(what="the journal is empty", where=str(path), remedy="it was never written to")
    if application != APPLICATION_ID:
        raise BadInput(
            what="the file is an SQLite database, but no journal of trueup",
            where=str(path),
            remedy="point [store] url elsewhere",
        )
    if version > len(migrations()):
        raise BadInput(
            what=f"the journal is of a newer trueup (schema {version}; this one knows {len(migrations())})",
            where=str(path),
            remedy=UPGRADE,
        )
    return version


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    """Ask for the settings that durability rests on, and read them back."""
    mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous = FULL")
    level: int = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, level) != ("wal", _SYNCHRONOUS_FULL):
        raise JournalFailed(
            what=f"SQLite cannot make records durable here (journal_mode={mode}, synchronous={level})",
            where=str(path),
            remedy="keep the journal on a local disk",
        )
