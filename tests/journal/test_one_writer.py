"""One process writes a journal; it is told apart from the others by the kernel, and by the chain if that fails."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journal.samples import epoch, started, succeeded
from trueup.adapters.sqlite import open_journal, open_reader, rebuild, verify
from trueup.model.errors import BadInput, JournalBusy, Stale
from trueup.ports import JournalReader

HOLDER = """
import sys, pathlib
from trueup.adapters.sqlite import open_journal
journal = open_journal(pathlib.Path(sys.argv[1]), inline=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


def hold(path: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def close(*journals) -> None:
    for journal in journals:
        asyncio.run(journal.close())


def test_a_second_process_is_refused_and_told_which_one_is_there(path):
    with hold(path) as process:
        with pytest.raises(JournalBusy) as error:
            open_journal(path)
        assert str(error.value) == (
            f"{path}: another trueup (pid {process.pid}) writes this journal (stop it or point [store] url elsewhere)"
        )
        with pytest.raises(JournalBusy):
            rebuild(path)
        process.send_signal(signal.SIGKILL)
    close(open_journal(path))  # the lock died with its holder


def test_a_second_journal_in_one_process_is_refused_too(path):
    first = open_journal(path)
    with pytest.raises(JournalBusy, match=f"pid {os.getpid()}"):
        open_journal(path)
    close(first)
    close(open_journal(path))


def test_two_names_of_one_file_share_a_lock(path, tmp_path):
    first = open_journal(path)
    other = tmp_path / "elsewhere" / "name.db"
    other.parent.mkdir()
    other.symlink_to(path)
    with pytest.raises(JournalBusy):
        open_journal(other)
    close(first)


def test_a_lock_file_without_a_pid_still_locks(path):
    first = open_journal(path)
    path.with_name("journal.db.lock").write_text("nonsense")
    with pytest.raises(JournalBusy, match="another trueup writes this journal"):
        open_journal(path)
    close(first)


def test_a_refused_writer_touches_nothing(path):
    with hold(path) as process:
        before = {f.name: f.read_bytes() for f in path.parent.iterdir()}
        with pytest.raises(JournalBusy):
            open_journal(path)
        assert {f.name: f.read_bytes() for f in path.parent.iterdir()} == before
        process.kill()


def test_readers_see_what_a_live_writer_has_committed(path):
    async def story():
        journal = open_journal(path)
        reader = open_reader(path)
        port: JournalReader = reader
        e = await epoch(journal)
        for number in range(5):
            await journal.append(e, [started(f"op-{number}", 200 + number)])
            assert len(await port.in_flight()) == number + 1
            assert verify(path).records == number + 2
        assert await reader.records() == await journal.records()
        await reader.close()
        await reader.close()
        await journal.close()

    asyncio.run(story())


def test_a_reader_cannot_write_and_makes_nothing(path):
    with pytest.raises(BadInput, match="there is no journal"):
        open_reader(path)
    assert not path.exists()
    with pytest.raises(BadInput, match="there is no journal"):
        verify(path)
    with pytest.raises(BadInput, match="there is no journal"):
        rebuild(path)
    close(open_journal(path))
    reader = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM head")
    close(reader)


@pytest.mark.parametrize("inline", [False, True])
def test_a_foreign_write_makes_the_writer_stale(path, inline):
    """The lock was got round, or belongs to another machine: the head in the file is what counts."""

    async def story():
        journal = open_journal(path, inline=inline)
        e = await epoch(journal)
        await journal.append(e, [started("a")])
        with sqlite3.connect(path) as foreign:
            foreign.execute("UPDATE head SET hash = 'of somebody else'")
        foreign.close()
        for _ in range(2):
            with pytest.raises(Stale, match="somebody else wrote the journal"):
                await journal.append(e, [succeeded("a")])
        assert len(await journal.records()) == 2
        await journal.close()

    asyncio.run(story())


def test_the_head_is_compared_again_by_the_write_itself(path, monkeypatch):
    """Even if the look before it had lied."""

    async def story():
        from trueup.adapters.sqlite import tables

        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        old = journal.head
        with sqlite3.connect(path) as foreign:
            foreign.execute("UPDATE head SET epoch = 9")
        foreign.close()
        monkeypatch.setattr(tables, "head", lambda _: old)
        with pytest.raises(Stale):
            await journal.append(e, [started("a")])
        monkeypatch.undo()
        assert await journal.op(started("a").op_id) is None
        await journal.close()

    asyncio.run(story())
