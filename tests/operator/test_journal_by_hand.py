"""What is told about the journal's file in mid-work is done, and then the journal takes records again."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journal.samples import epoch, started
from tests.operator.following import followed
from trueup.adapters.sqlite import SqliteJournal, open_journal, open_reader, verify
from trueup.adapters.sqlite.lock import WriterLock
from trueup.model.ids import Epoch

PUT_BACK = "find out what did it, put the journal back, then restart"
SPACE = "free space on {}, then restart"
LOCAL = "keep the journal on a local disk"
OTHER = "end the other trueup that writes this file, as `trueup status` names it, then start this one again"
DISK = "look at the disk and the kernel's log, then restart"
FOLLOWED = {PUT_BACK, SPACE, LOCAL, OTHER, DISK}

Held = list[SqliteJournal]
"""The journal of one program; the last one is open."""


def writes(held: Held, name: str = "one:1", *, count: int = 1) -> Epoch:
    """Take an epoch, and begin operations after it."""

    async def work() -> Epoch:
        journal = held[-1]
        taken, seq = await epoch(journal, name), journal.head.seq
        await journal.append(taken, [started(f"op-{seq + n}", 101 + seq + n) for n in range(count)])
        return taken

    return asyncio.run(work())


def restart(held: Held, path: Path) -> None:
    asyncio.run(held[-1].close())
    held.append(open_journal(path, inline=True))


def follows(remedy: str, path: Path, attempt: Callable[[Held], object], mend: Callable[[], object]) -> None:
    """A journal that is at work meets it; it is mended, and the journal opened anew."""
    held = [open_journal(path, inline=True)]

    def follow(_: str) -> None:
        mend()
        restart(held, path)

    followed(remedy, lambda: attempt(held), follow)
    asyncio.run(held[-1].close())
    assert verify(path).ok


def test_a_journal_that_somebody_moved(tmp_path: Path) -> None:
    path, away = tmp_path / "journal.db", tmp_path / "away.db"
    moved: list[Path] = []

    def attempt(held: Held) -> None:
        writes(held)
        if not moved:
            moved.append(path.rename(away))
        writes(held)

    follows(PUT_BACK, path, attempt, lambda: away.rename(path))


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    class Small(sqlite3.Connection):
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[arg-type]
            self.execute("PRAGMA max_page_count = 60")

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Small))
    follows(SPACE, tmp_path / "journal.db", lambda held: writes(held, count=100), monkeypatch.undo)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is mended, or another one, when trueup is started again."""
    real = sqlite3.connect

    class Failing(sqlite3.Connection):
        def executemany(self, sql: str, *more: object) -> sqlite3.Cursor:
            if sql.startswith("INSERT INTO records"):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
                raise error
            return super().executemany(sql, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Failing))
    follows(DISK, tmp_path / "journal.db", writes, monkeypatch.undo)


def test_a_journal_on_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory that two machines share, and without it no write-ahead log."""
    share, local = tmp_path / "share", tmp_path / "local"
    share.mkdir()
    local.mkdir()
    real = sqlite3.connect

    def connect(name: str, **more: object) -> sqlite3.Connection:
        return real(f"{name}&vfs=unix-none" if str(share) in name else name, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(sqlite3, "connect", connect)
    held = [share / "journal.db"]

    def opens() -> None:
        asyncio.run(open_journal(held[0], inline=True).close())

    followed(LOCAL, opens, lambda _: held.__setitem__(0, Path(shutil.move(held[0], local / "journal.db"))))
    assert verify(held[0]).ok


def test_a_second_one_that_got_round_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is on another machine, of whose locks nobody hears here."""
    path = tmp_path / "journal.db"
    first = [open_journal(path, inline=True)]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(WriterLock, "acquire", lambda _: WriterLock(-1))
        second = [open_journal(path, inline=True)]
    taken = [writes(first)]
    writes(second, "two:2")

    def goes_on() -> None:
        asyncio.run(first[-1].append(taken[-1], [started("later", 900)]))

    def follow(_: str) -> None:
        reader = open_reader(path)
        assert asyncio.run(reader.epochs())[-1].holder == "two:2", "as `trueup status` names it"
        asyncio.run(reader.close())
        asyncio.run(second[0].close())
        restart(first, path)
        taken.append(writes(first))

    followed(OTHER, goes_on, follow)
    asyncio.run(first[-1].close())
    assert verify(path).ok
