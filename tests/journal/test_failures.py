"""A disk that does not take a record stops the journal; nothing that was not durable is ever said to be written."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.journal.samples import epoch, running, started, succeeded
from trueup.adapters.sqlite import open_journal, open_reader, stats, verify
from trueup.model.errors import JournalFailed, TrueupError
from trueup.model.ids import OpId


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture(params=[False, True], ids=["in a thread", "inline"])
def inline(request) -> bool:
    return request.param


class Disk:
    """What goes wrong, and when: set `at` to the start of a statement, and `error` to SQLite's code.

    `after` lets the statement have its effect first, as when only the answer is lost.
    """

    def __init__(self) -> None:
        self.at = ""
        self.error = 0
        self.after = False
        self.times = 1
        self.pages = 0

    def fail(self, at: str, error: int, *, after: bool = False, times: int = 1) -> None:
        self.at, self.error, self.after, self.times = at, error, after, times

    def strikes(self, sql: str) -> bool:
        if not self.at or not sql.startswith(self.at) or self.times < 1:
            return False
        self.times -= 1
        return True

    def answer(self) -> sqlite3.Error:
        answer = sqlite3.OperationalError("disk I/O error")
        answer.sqlite_errorcode = self.error
        return answer


@pytest.fixture
def disk(monkeypatch) -> Disk:
    """Every connection from here on goes over this disk."""
    disk = Disk()
    real = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if not disk.strikes(sql):
                return super().execute(sql, *arguments)
            if disk.after:
                super().execute(sql, *arguments)
            raise disk.answer()

        def executemany(self, sql, *arguments):
            if disk.strikes(sql):
                raise disk.answer()
            return super().executemany(sql, *arguments)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Connection))
    return disk


async def refuses(journal, e) -> JournalFailed:
    """Every kind of append is refused."""
    with pytest.raises(JournalFailed):
        await epoch(journal)
    with pytest.raises(JournalFailed) as error:
        await journal.append(e, [started("later", 300)])
    return error.value


STATEMENTS = [
    "BEGIN IMMEDIATE",
    "SELECT seq, epoch, hash FROM head",
    "UPDATE head",
    "INSERT INTO records",
    "INSERT INTO ops",
]


@pytest.mark.parametrize("at", STATEMENTS)
@pytest.mark.parametrize("code", ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT", "SQLITE_READONLY"])
def test_what_fails_before_the_commit_was_not_written_and_stops_the_journal(path, inline, disk, at, code):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        await journal.append(e, [started("a")])
        disk.fail(at, getattr(sqlite3, code))
        with pytest.raises(JournalFailed) as error:
            await journal.append(e, [running("a")])
        assert error.value.remedy
        assert str((await refuses(journal, e)).what) == error.value.what
        assert [v.op_id for v in await journal.in_flight()] == ["a"]  # reading goes on
        assert len(await journal.records()) == 2
        await journal.close()
        journal = open_journal(path, inline=inline)
        assert len(await journal.records()) == 2
        await journal.append(await epoch(journal), [running("a")])
        await journal.close()

    asyncio.run(story())


def test_a_busy_file_fails_one_append_only(path, inline, disk):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        disk.fail("BEGIN IMMEDIATE", sqlite3.SQLITE_BUSY)
        with pytest.raises(JournalFailed, match="another program holds"):
            await journal.append(e, [started("a")])
        await journal.append(e, [started("a")])
        await journal.close()

    asyncio.run(story())


@pytest.mark.parametrize("code", ["SQLITE_IOERR", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR_WRITE"])
def test_a_lost_answer_to_a_commit_that_happened_counts(path, inline, disk, code):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        disk.fail("COMMIT", getattr(sqlite3, code), after=True)
        records = await journal.append(e, [started("a")])
        assert records == (await journal.records())[-1:]
        await journal.append(e, [running("a")])  # and the journal goes on, on the chain's true end
        disk.fail("COMMIT", getattr(sqlite3, code), after=True)
        assert await epoch(journal) == e + 1
        await journal.append(e + 1, [succeeded("a")])
        await journal.close()
        assert verify(path).records == 5
        assert verify(path).ok

    asyncio.run(story())


@pytest.mark.parametrize("code", ["SQLITE_IOERR", "SQLITE_FULL", "SQLITE_IOERR_WRITE"])
def test_a_commit_that_did_not_happen_is_not_repeated(path, inline, disk, code):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        disk.fail("COMMIT", getattr(sqlite3, code))
        appends = [journal.append(e, [started(f"op-{n}", 200 + n)]) for n in range(5)]
        answers = await asyncio.gather(*appends, return_exceptions=True)
        assert all(isinstance(answer, JournalFailed) for answer in answers[: 1 if inline else 5])
        await refuses(journal, e)
        assert len(await journal.records()) == 1
        await journal.close()
        assert verify(path).ok

    asyncio.run(story())


def test_a_commit_whose_outcome_cannot_be_read_fails(path, inline, disk):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        for at in ("COMMIT", "PRAGMA cell_size_check"):
            disk.fail(at, sqlite3.SQLITE_IOERR, times=99)
            with pytest.raises(JournalFailed):
                await journal.append(e, [started("a")])
        await journal.close()

    asyncio.run(story())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("code", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"])
def test_a_failed_sync_ends_all_use_of_the_file(path, inline, disk, code, after):
    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        disk.fail("COMMIT", getattr(sqlite3, code), after=after)
        with pytest.raises(JournalFailed):
            await journal.append(e, [started("a")])
        await refuses(journal, e)
        for read in (journal.records(), journal.in_flight(), journal.op(OpId("a")), journal.epochs()):
            with pytest.raises(JournalFailed):
                await read
        await journal.close()

    asyncio.run(story())


def test_a_bug_while_writing_reaches_the_caller_and_undoes_the_transaction(path, inline, monkeypatch):
    async def story():
        from trueup.adapters.sqlite import tables

        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        monkeypatch.setattr(tables, "derive", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await journal.append(e, [started("a")])
        with pytest.raises(ZeroDivisionError):
            await epoch(journal)
        monkeypatch.undo()
        await journal.append(e, [started("a")])
        assert len(await journal.records()) == 2
        await journal.close()

    asyncio.run(story())


# --- A full disk, twice: SQLite's own limit, and a real one -----------------------------------------------------------


async def fill(journal, e) -> list[str]:
    """Append until the disk is full; return the operations that were said to be written."""
    done = []
    with contextlib.suppress(JournalFailed):
        for number in range(100_000):
            await journal.append(e, [started(f"op-{number}", 200 + number)])
            done.append(f"op-{number}")
    return done


def test_a_file_that_may_not_grow_loses_nothing(path, inline, monkeypatch):
    real = sqlite3.connect

    class Small(sqlite3.Connection):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            self.execute("PRAGMA max_page_count = 60")

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Small))

    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        done = await fill(journal, e)
        assert 5 < len(done) < 500
        failure = await refuses(journal, e)
        assert str(failure) == f"{path}: the journal's disk is full (free space on {path.parent}, then restart)"
        assert [view.op_id for view in await journal.in_flight()] == done
        await journal.close()
        monkeypatch.undo()
        journal = open_journal(path, inline=inline)
        assert [view.op_id for view in await journal.in_flight()] == done
        await journal.append(await epoch(journal), [running(done[0])])
        await journal.close()
        assert verify(path).ok

    asyncio.run(story())


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing(small_disk, inline):
    async def story():
        path = small_disk / "journal.db"
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        done = await fill(journal, e)
        assert len(done) > 5
        assert "free space on" in (await refuses(journal, e)).remedy
        assert [view.op_id for view in await journal.in_flight()] == done
        await journal.close()

        # Still full: reading works, writing says why it does not, and nothing is lost by trying.
        (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
        with contextlib.suppress(JournalFailed):
            again = open_journal(path, inline=inline)
            assert [view.op_id for view in await again.in_flight()] == done
            with contextlib.suppress(JournalFailed):
                await epoch(again)
            await again.close()

        (small_disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
        journal = open_journal(path, inline=inline)
        assert [view.op_id for view in await journal.in_flight()] == done
        await journal.append(await epoch(journal), [running(done[-1])])
        await journal.close()
        assert verify(path).ok
        assert stats(path).size_bytes > 0

    asyncio.run(story())


def test_a_journal_cannot_be_made_on_a_full_disk(small_disk):
    space = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (space.f_bavail * space.f_frsize))
    with pytest.raises(TrueupError) as error:
        open_journal(small_disk / "journal.db")
    assert "full" in str(error.value) or "No space" in str(error.value)


def test_reading_goes_on_after_a_failure_in_other_processes(path, disk):
    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        await journal.append(e, [started("a")])
        disk.fail("COMMIT", sqlite3.SQLITE_IOERR_FSYNC)
        with pytest.raises(JournalFailed):
            await journal.append(e, [running("a")])
        reader = open_reader(path)
        assert [view.op_id for view in await reader.in_flight()] == ["a"]
        await reader.close()
        await journal.close()

    asyncio.run(story())
