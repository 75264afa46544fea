"""What can happen to the journal's file: damage, a full disk, no right to write, a newer version.

Whatever it is, the command says it in one line and asks PVE for nothing; and what was recorded stays recorded.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.hostile.conftest import Disk
from tests.hostile.test_bad_input import says
from tests.real_death.evidence import settled
from tests.real_death.stage import GUESTS, Done, Simulator, Stage, until, vm
from tests.sampling import sampled


@pytest.fixture
def used(sim: Simulator, stage: Stage) -> Stage:
    """A stage with a journal of some operations, and something to do; nobody's guests but its own."""
    stage.manifest("guests", vm(201))
    if stage.run("apply", "--yes").code != 0:
        raise AssertionError(stage.err())
    with closing(sqlite3.connect(stage.journal_file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stage.manifest("guests", vm(201, "source: {empty: true}", "config: {cores: 4}"))
    return stage


@pytest.fixture(autouse=True)
def _clean(sim: Simulator):
    yield
    known = {guest["vmid"] for guest in GUESTS["guests"]}
    for guest in sim.ask("/_sim/state")["guests"]:
        if guest["vmid"] not in known:
            sim.by_hand(vmid=guest["vmid"], deleted=True)


def _flip(at: Callable[[bytes], int]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[at(bytes(data))] ^= 0x01
        file.write_bytes(data)

    return damage


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the first byte": _flip(lambda data: 0),
    "a byte of the first record": _flip(lambda data: data.index(b'"seq":1,') + 30),
    "a byte of a record in the middle": _flip(lambda data: data.index(b'"seq":4,') + 30),
    "a byte of the last record": _flip(lambda data: max(data.rindex(b'"seq":%d,' % seq) for seq in (6, 7)) + 30),
    "the second half": _cut,
    "the beginning of a page": _flip(lambda data: data.index(b'"seq":1,') // 4096 * 4096),
}


@pytest.mark.parametrize("name", sampled(DAMAGES, 2))
def test_a_damaged_journal_is_not_worked_on(sim: Simulator, used: Stage, name: str) -> None:
    DAMAGES[name](used.journal_file)
    before, size = len(sim.mutations()), used.journal_file.read_bytes()
    for command in (("apply", "--yes"), ("recover",)):
        says(used.run(*command), "journal.db")
    done = used.run("agent")
    lines = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert done.code == 1
    assert len(lines) == 1, done.err
    verified = used.run("journal", "verify")
    assert verified.code == 1
    assert "Traceback" not in verified.err
    assert len(sim.mutations()) == before
    assert used.journal_file.read_bytes() == size  # not even touched


def test_a_journal_of_a_newer_version_is_left_alone(sim: Simulator, used: Stage) -> None:
    with closing(sqlite3.connect(used.journal_file)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, content = len(sim.mutations()), used.journal_file.read_bytes()
    says(used.run("apply", "--yes"), "newer")
    assert used.run("journal", "verify").code == 1
    assert len(sim.mutations()) == before
    assert used.journal_file.read_bytes() == content


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Simulator, Stage]]:
    """A simulator that nobody else has changed, so that everything in it can be accounted for."""
    with (
        Simulator(tmp_path) as sim,
        Stage(tmp_path / "alone", sim.url, sim.ca_file, sim.token_id, sim.token_secret) as stage,
    ):
        yield sim, stage


def test_a_disk_that_fills_up_in_the_middle_of_work(
    alone: tuple[Simulator, Stage], disk: Callable[[Path], Disk]
) -> None:
    sim, stage = alone
    small = disk(stage.folder / "state")
    stage.manifest("guests", *(vm(210 + number) for number in range(6)))
    sim.control("duration", type="qmcreate", seconds=10)  # 0.5 s
    agent = stage.start("apply", "--yes")
    until(sim.mutations)
    small.fill()
    done = stage.end(agent)
    says_in_the_end(done, "full")
    # Reading goes on while the disk is full, and what PVE was asked for is there to be read.
    assert stage.run("journal", "verify").code == 0
    known = {(op.intent.method, op.intent.path) for op in stage.journal().ops}
    assert {(row["method"], row["path"]) for row in sim.mutations()} <= known
    small.empty()
    small.remount("size=16m")
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)


def test_a_disk_that_fills_up_under_the_daemon(alone: tuple[Simulator, Stage], disk: Callable[[Path], Disk]) -> None:
    sim, stage = alone
    small = disk(stage.folder / "state")
    stage.manifest("guests", vm(231))
    agent = stage.start("agent")
    until(lambda: '"1 unchanged"' in stage.err())
    small.fill()
    for number in range(40):
        stage.manifest(f"more-{number}", vm(240 + number, "source: {empty: true}", "power: stopped"))
    done = stage.end(agent)
    says_in_the_end(done, "full")
    small.empty()
    small.remount("size=16m")
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)


def says_in_the_end(done: Done, expected: str) -> None:
    assert done.code == 1, done
    assert "Traceback" not in done.err, done.err
    (error,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert expected in error
    assert done.err.splitlines()[-1] == error


def test_a_full_disk_stops_every_mutation(sim: Simulator, used: Stage, disk: Callable[[Path], Disk]) -> None:
    content = used.journal_file.read_bytes()
    small = disk(used.folder / "small")
    target = used.folder / "small" / "journal.db"
    target.write_bytes(content)
    used.change("sqlite:state/journal.db", "sqlite:small/journal.db")
    small.fill()
    before = len(sim.mutations())
    says(used.run("apply", "--yes"), "full")
    assert len(sim.mutations()) == before
    small.empty()
    small.remount("size=16m")
    assert used.run("apply", "--yes").code in {0, 2}  # the cores of a running guest wait for its restart
    assert len(sim.mutations()) == before + 1
    assert used.run("journal", "verify").code == 0


def test_a_journal_that_cannot_be_made(sim: Simulator, stage: Stage, disk: Callable[[Path], Disk]) -> None:
    stage.manifest("guests", vm(221))
    small = disk(stage.folder / "state")
    small.fill()
    before = len(sim.mutations())
    done = stage.run("apply", "--yes")
    assert done.code == 1
    assert done.err.count("\n") == 1, done.err
    assert len(sim.mutations()) == before
    small.empty()
    small.remount("ro")
    says(stage.run("apply", "--yes"), "journal.db")
    assert len(sim.mutations()) == before


def test_a_journal_that_may_only_be_read(sim: Simulator, used: Stage, disk: Callable[[Path], Disk]) -> None:
    content = used.journal_file.read_bytes()
    small = disk(used.folder / "small")
    (used.folder / "small" / "journal.db").write_bytes(content)
    used.change("sqlite:state/journal.db", "sqlite:small/journal.db")
    small.remount("ro")
    before = len(sim.mutations())
    says(used.run("apply", "--yes"), "journal.db")
    assert len(sim.mutations()) == before
    # SQLite makes a file beside the journal even to read it; that it cannot is said as well.
    says(used.run("journal", "verify"), "trueup needs to read and write this file")
    small.remount("rw")
    assert used.run("journal", "verify").code == 0


def _replace(file: Path) -> None:
    """As somebody does who puts a backup in its place."""
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


REMOVALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the journal is removed": (Path.unlink, "journal.db was removed or replaced"),
    "its folder is removed": (lambda file: shutil.rmtree(file.parent), "journal.db was removed or replaced"),
    "its log is removed": (lambda file: file.with_name("journal.db-wal").unlink(), "journal.db-wal was removed"),
    "a copy is put in its place": (_replace, "journal.db was removed or replaced"),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_what_nobody_would_read_is_not_sent(sim: Simulator, stage: Stage, name: str) -> None:
    stage.manifest("guests", vm(251))
    agent = stage.start("agent")
    until(lambda: '"1 unchanged"' in stage.err())
    remove, expected = REMOVALS[name]
    remove(stage.journal_file)
    before = len(sim.mutations())
    stage.manifest("more", vm(252))
    done = stage.end(agent)
    says_in_the_end(done, expected)
    assert len(sim.mutations()) == before
    assert sim.guest(252) is None
