"""The power goes at any moment: no record is missing that somebody had been told of, and the chain is whole.

The journal of the shipped code, by the SQLite that it ships with, as strace saw it: see `power.py`.
"""

import asyncio
import atexit
import json
import random
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest

from tests.journal.power import Disk, NotTraceable, Step, trace
from tests.journal.samples import TOKEN, started
from trueup.adapters.sqlite import export, open_journal, verify
from trueup.model.ops import Draft

ROOT = Path(__file__).parents[2]
# Three lives. Records are big, so that SQLite moves its log into the file now and then; the end of a life does, too.
CHILD = """
import asyncio, os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from tests.journal.samples import epoch, running, started, succeeded
from trueup.adapters.sqlite import file, open_journal

PATH = pathlib.Path(sys.argv[1])
if sys.argv[3] != "FULL":
    real = file._make_durable
    def careless(connection, path):
        real(connection, path)
        connection.execute("PRAGMA synchronous = " + sys.argv[3])
    file._make_durable = careless

async def life(number):
    journal = open_journal(PATH)
    e = await epoch(journal)
    free = asyncio.Semaphore(3)
    async def one(name):
      async with free:
        op = f"{number}-{name}"
        big = "x" * (40_000 if name % 4 == 0 else 300)
        for step in (started(op, 200 + name), running(op, upid=op + big), succeeded(op)):
            for record in await journal.append(e, [step]):
                os.write(1, f"{record.record_id}\\n".encode())
    await asyncio.gather(*(one(name) for name in range(20)))
    await journal.close()

for number in range(3):
    asyncio.run(life(number))
"""
CUTS = 40
"""So many moments are tried in each run of the tests, each with four ways of what is left."""


@cache
def steps(synchronous: str) -> tuple[Path, list[Step]]:
    outer = Path(mkdtemp(prefix="power-"))
    atexit.register(shutil.rmtree, outer, ignore_errors=True)
    folder = outer / "state"
    command = [sys.executable, "-c", CHILD, str(folder / "journal.db"), str(ROOT), synchronous]
    try:
        return folder, trace(command, folder)
    except NotTraceable as error:
        pytest.skip(str(error))


def told(done: list[Step]) -> set[str]:
    return {step.data.decode().strip() for step in done if step.name == "told"}


def cut(synchronous: str, number: int, seed: int, keep: float, where: Path) -> set[str]:
    """Let the power go after so many steps; the records that were promised and are gone."""
    folder, done = steps(synchronous)
    done = done[:number]
    disk = Disk()
    for step in done:
        disk.do(step)
    where.mkdir()
    for path, content in disk.left(random.Random(f"{number} {seed}"), keep).items():
        if not path.endswith(("-shm", ".lock")):  # not of the record: SQLite and we make them anew
            (where / Path(path).relative_to(folder)).write_bytes(content)

    async def story() -> None:
        journal = open_journal(where / "journal.db", inline=True)
        after = await journal.take_epoch(holder="after", token=TOKEN, record_id="after", at_ms=1)
        draft = started("after", 999)
        await journal.append(after, [Draft(record_id="then", at_ms=1, op_id=draft.op_id, event=draft.event)])
        await journal.close()

    if not told(done) and not (where / "journal.db").exists():
        return set()
    asyncio.run(story())
    found = verify(where / "journal.db")
    assert found.ok, found.what
    there = {json.loads(line)["record_id"] for line in export(where / "journal.db")}
    return told(done) - there


def moments(synchronous: str, shard: int = 0, shards: int = 1) -> list[int]:
    """Moments all over the run; most of them right before and after a sync, where it matters."""
    _, done = steps(synchronous)
    syncs = [number for number, step in enumerate(done) if step.name == "sync"]
    chance = random.Random(7)
    near = [number + side for number in syncs for side in (0, 1)]
    chosen = {*chance.sample(near, min(CUTS // 2, len(near))), *chance.sample(range(len(done)), CUTS // 2), len(done)}
    return sorted(chosen)[shard::shards]


@pytest.fixture
def fast() -> Iterator[Path]:
    """A folder in memory: what is tried here is in the steps, not on this machine's disk."""
    with TemporaryDirectory(prefix="power-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("shard", range(2))
def test_nothing_that_was_promised_is_lost(fast: Path, shard: int) -> None:
    for number in moments("FULL", shard, 2):
        for seed, keep in enumerate((0.0, 1.0, 0.5, 0.9)):
            gone = cut("FULL", number, seed, keep, fast / f"{number}-{seed}")
            assert gone == set(), (number, seed, keep)


def test_the_run_was_worth_it() -> None:
    _, done = steps("FULL")
    names = [Path(step.path).name for step in done if step.name == "write"]
    assert len(told(done)) == 180
    assert names.count("journal.db-wal") > 500
    assert names.count("journal.db") > 50  # the log was moved into the file
    assert sum(step.name == "sync" for step in done) > 60


def test_a_careless_setting_loses_records(fast: Path) -> None:
    """The same with `synchronous=NORMAL`, which syncs too seldom: proof that this test can see a loss."""
    lost: set[str] = set()
    for number in moments("NORMAL", 0, 4):
        lost |= cut("NORMAL", number, 0, 0.0, fast / str(number))
    assert lost
