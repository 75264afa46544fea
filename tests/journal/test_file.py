"""What durability rests on is asked for, read back, and refused where it cannot be had."""

import asyncio
import os
import sqlite3
import stat
from importlib import resources
from pathlib import Path

import pytest

from tests.journal.samples import epoch, failed, started
from trueup.adapters.sqlite import file, open_journal, open_reader, tables, verify
from trueup.core import codec
from trueup.model.errors import (
    BadInput,
    Corrupt,
    JournalBusy,
    JournalFailed,
    TrueupError,
)
from trueup.model.gate import RequestView
from trueup.model.ops import OpView


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


def close(*journals) -> None:
    for journal in journals:
        asyncio.run(journal.close())


def connection_of(journal) -> sqlite3.Connection:
    return journal._store._connection


def test_the_log_is_synced_at_every_commit(path):
    journal = open_journal(path, inline=True)
    ask = connection_of(journal).execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,)
    assert ask("PRAGMA application_id").fetchone() == (file.APPLICATION_ID,)
    close(journal)


def test_folders_are_made_and_their_names_synced(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a" / "b" / "journal.db"
    close(open_journal(path))
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_the_journal_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "state" / "journal.db"
    journal = open_journal(path)
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    close(journal)


def test_a_setting_that_cannot_be_had_is_refused(path, monkeypatch):
    class Memory(sqlite3.Connection):
        def execute(self, sql, *arguments):
            return super().execute("SELECT 'delete'" if "journal_mode" in sql else sql, *arguments)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Memory))
    with pytest.raises(JournalFailed, match="journal_mode=delete"):
        open_journal(path)
    monkeypatch.undo()
    close(open_journal(path))  # and let go of the lock


# --- Schema ----------------------------------------------------------------------------------------------------------


def normal(schema) -> set:
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in schema}


def test_the_migrations_add_up_to_the_schema():
    described = sqlite3.connect(":memory:")
    described.executescript((resources.files("trueup.adapters.sqlite") / "schema.sql").read_text())
    assert normal(file.schema_of(described)) == normal(file.expected_schema())
    described.close()


def test_migrations_are_numbered_from_one():
    folder = resources.files("trueup.adapters.sqlite") / "migrations"
    names = sorted(f.name for f in folder.iterdir())
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]


def test_the_first_head_is_the_genesis(path):
    journal = open_journal(path)
    assert journal.head == codec.Head()
    close(journal)


def test_a_migration_that_was_cut_short_is_taken_up(path, monkeypatch):
    broken = (*file.migrations(), "CREATE TABLE more (one TEXT); INSERT INTO nowhere VALUES (1);")
    close(open_journal(path))
    monkeypatch.setattr(file, "migrations", lambda: broken)
    with pytest.raises(Corrupt):
        open_journal(path)
    monkeypatch.undo()
    assert verify(path).ok


def test_an_older_schema_is_brought_up_to_date_by_the_writer_only(path, monkeypatch):
    close(open_journal(path))
    known = len(file.migrations())
    more = (*file.migrations(), "CREATE TABLE more (one TEXT);")
    monkeypatch.setattr(file, "migrations", lambda: more)
    file.expected_schema.cache_clear()
    with pytest.raises(BadInput, match="older trueup"):
        open_reader(path)
    close(open_journal(path))
    close(open_reader(path))
    monkeypatch.undo()
    file.expected_schema.cache_clear()
    for opener in (open_journal, open_reader):
        with pytest.raises(BadInput, match=rf"newer trueup \(schema {known + 1}; this one knows {known}\)"):
            opener(path)


def test_the_derived_version_is_raised_when_a_view_changes():
    """If this fails: raise `tables.DERIVED_VERSION`, so that writers make the tables anew, and mend the list."""
    assert tables.DERIVED_VERSION == 2
    assert OpView.__struct_fields__ == (
        "op_id", "state", "intent", "started_at_ms", "epoch", "ended_at_ms", "upid", "adopted", "reason", "row",
        "exit_status", "leftovers", "unresolved", "fencing", "fenced", "guarded", "contradicted", "execute_by_ms",
        "not_before_ms",
    )  # fmt: skip
    assert RequestView.__struct_fields__ == (
        "request_id", "state", "request", "payload", "payload_sha256", "ruling", "approvals", "vetoed", "lapsed",
        "requested_at_ms", "ended_at_ms", "via",
    )  # fmt: skip


def test_queries_of_open_operations_use_their_indexes(path):
    journal = open_journal(path, inline=True)
    plans = []
    connection_of(journal).set_trace_callback(plans.append)
    tables.in_flight(connection_of(journal))
    tables.accepted(connection_of(journal))
    tables.presumed_since(connection_of(journal), 5)
    connection_of(journal).set_trace_callback(None)
    for sql, index in zip(plans, ("ops_in_flight", "ops_accepted", "ops_presumed"), strict=True):
        steps = connection_of(journal).execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        assert index in steps[0][3], steps
    close(journal)


def test_records_are_neither_changed_nor_removed(path):
    async def story():
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        await journal.append(e, [started("a")])
        for sql in ("UPDATE records SET op_id = 'b'", "DELETE FROM records", "DELETE FROM records WHERE seq = 2"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection_of(journal).execute(sql)
        assert len(await journal.records()) == 2
        await journal.close()

    asyncio.run(story())


# --- What is not a journal -------------------------------------------------------------------------------------------


def test_another_programs_database_is_refused_and_left_alone(path):
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (one TEXT)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    for opener in (open_journal, open_reader, verify):
        with pytest.raises(BadInput, match="no journal of trueup"):
            opener(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opener", [open_journal, open_reader])
def test_a_file_that_is_no_database_is_refused(path, opener):
    path.write_text("[cluster]\nname = 'lab'\n" * 100)
    with pytest.raises(Corrupt, match="damaged"):
        opener(path)
    assert not verify(path).ok
    assert path.read_text().startswith("[cluster]")


def test_a_folder_in_the_journals_place_is_refused(tmp_path):
    for opener in (open_journal, open_reader):
        with pytest.raises(BadInput):
            opener(tmp_path)


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "state").write_text("")
    for opener in (open_journal, open_reader):
        with pytest.raises(BadInput):
            opener(tmp_path / "state" / "journal.db")


def test_an_empty_file_becomes_a_journal_but_is_none_to_a_reader(path):
    path.touch()
    with pytest.raises(BadInput, match="empty"):
        open_reader(path)
    close(open_journal(path))
    assert verify(path).ok


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_a_file_that_lost_its_content_does_not_take_its_log_along(path, tmp_path, how):
    async def story():
        journal = open_journal(path, inline=True)
        await epoch(journal)
        log = path.with_name("journal.db-wal")
        copy = tmp_path / "copy" / "journal.db"
        copy.parent.mkdir()
        copy.with_name(log.name).write_bytes(log.read_bytes())
        if how == "emptied":
            copy.touch()
        await journal.close()
        before = copy.with_name(log.name).read_bytes()
        with pytest.raises(Corrupt, match=r"no content, but journal\.db-wal beside"):
            open_journal(copy)
        assert copy.with_name(log.name).read_bytes() == before

    asyncio.run(story())


# --- Errors of SQLite ------------------------------------------------------------------------------------------------


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


CODES = {name: getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_")}


def test_no_error_of_sqlite_is_unmapped(path):
    """Whatever SQLite answers, somebody can read it, and it never means that all is well or that nothing is there."""
    for name, code in CODES.items():
        mapped = file.map_error(sqlite_error(code), path)
        assert type(mapped) in (BadInput, Corrupt, JournalBusy, JournalFailed), name
        assert mapped.where == str(path)
        assert mapped.remedy
    for unmarked in (sqlite3.ProgrammingError("Cannot operate on a closed database."), sqlite3.Error("?")):
        assert type(file.map_error(unmarked, path)) is JournalFailed
    assert type(file.map_error(sqlite3.OperationalError("Could not decode to UTF-8"), path)) is Corrupt


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("SQLITE_FULL", JournalFailed),
        ("SQLITE_IOERR_FSYNC", JournalFailed),
        ("SQLITE_IOERR_WRITE", JournalFailed),
        ("SQLITE_CORRUPT", Corrupt),
        ("SQLITE_CORRUPT_VTAB", Corrupt),
        ("SQLITE_NOTADB", Corrupt),
        ("SQLITE_IOERR_CORRUPTFS", Corrupt),
        ("SQLITE_BUSY", JournalBusy),
        ("SQLITE_BUSY_RECOVERY", JournalBusy),
        ("SQLITE_READONLY_DBMOVED", BadInput),
        ("SQLITE_CANTOPEN", BadInput),
    ],
)
def test_errors_mean_what_follows_from_them(path, name, meaning):
    assert type(file.map_error(sqlite_error(CODES[name]), path)) is meaning


def test_errors_are_one_line_for_people(path):
    full = file.map_error(sqlite_error(sqlite3.SQLITE_FULL), path)
    assert str(full) == f"{path}: the journal's disk is full (free space on {path.parent}, then restart)"
    assert isinstance(full, TrueupError)


def test_an_older_view_lacks_what_came_later(path):
    """A field that came later is not in an older view; it has its default, and the table is still right."""

    async def story():
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        await journal.append(e, [started("a"), failed("a")])
        await journal.close()
        older = sqlite3.connect(path)
        older.execute("UPDATE ops SET view = CAST(replace(view, '\"contradicted\":false,', '') AS BLOB)")
        assert b"contradicted" not in older.execute("SELECT view FROM ops").fetchone()[0]
        older.commit()
        older.close()
        assert verify(path).ok

    asyncio.run(story())
