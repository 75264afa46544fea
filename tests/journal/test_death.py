"""A writer killed at any moment leaves a whole chain, with every record that it had been told was written."""

import asyncio
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journal.samples import epoch, succeeded
from trueup.adapters.sqlite import export, open_journal, verify

# Appends operations from 16 callers and prints each record's hash once its append has returned.
CHILD = """
import asyncio, itertools, os, pathlib, sys
sys.path.insert(0, sys.argv[3])
from tests.journal.samples import epoch, running, started, succeeded
from trueup.adapters.sqlite import open_journal

async def main():
    journal = open_journal(pathlib.Path(sys.argv[1]), inline=sys.argv[2] == "inline")
    holder = f"child {os.getpid()}"
    e = await epoch_of(journal, holder)
    async def worker(name):
        for turn in itertools.count():
            op = f"{os.getpid()}-{name}-{turn}"
            for step in (started(op, 200 + name), running(op), succeeded(op)):
                step = type(step)(record_id=f"{op}-{step.record_id}", at_ms=1, op_id=step.op_id, event=step.event)
                for record in await journal.append(e, [step]):
                    os.write(1, f"{record.seq} {record.hash}\\n".encode())
                await asyncio.sleep(0)
    await asyncio.gather(*(worker(name) for name in range(16)))

async def epoch_of(journal, holder):
    return await journal.take_epoch(holder=holder, token="t", record_id=f"epoch-{os.getpid()}", at_ms=1)

asyncio.run(main())
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


def live_and_die(path: Path, how: str, seconds: float) -> list[str]:
    """Let a child append for a while, kill it, and return what it had been told was written."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), how, str(ROOT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what is read ahead would be lost to `communicate`
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    assert err == b""
    return (first + out).decode().split("\n")[:-1]  # a line that was cut is no promise


@pytest.mark.parametrize("how", ["thread", "inline"])
def test_every_record_that_was_acknowledged_survives_kill_9(path, how):
    chance = random.Random(3)
    told: list[str] = []
    for life in range(1, 5):
        told += live_and_die(path, how, chance.random() * 0.25)
        found = verify(path)
        assert found.ok, found.what
        there = {f"{(line := json.loads(text))['seq']} {line['hash']}" for text in export(path)}
        assert set(told) <= there
        assert len(told) >= life

    async def story():
        journal = open_journal(path)
        open_ops = await journal.in_flight()
        e = await epoch(journal)
        assert int(e) == 5
        await journal.append(e, [succeeded(view.op_id) for view in open_ops])
        assert await journal.in_flight() == ()
        await journal.close()

    asyncio.run(story())
    assert verify(path).ok


SYNCED = """
import asyncio, os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from tests.journal.samples import epoch, started
from trueup.adapters.sqlite import open_journal

async def main():
    journal = open_journal(pathlib.Path(sys.argv[1]))
    e = await epoch(journal)
    os.write(1, b"ready\\n")
    for number in range(10):
        await journal.append(e, [started(f"op-{number}", 200 + number)])
        os.write(1, b"told\\n")
    await journal.close()

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_nobody_is_told_before_the_kernel_has_synced(path, tmp_path):
    """As the kernel saw it: between two answers there is a write to the log, and behind it a sync of the log."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-o", trace, "-e", "trace=write,pwrite64,fdatasync,fsync"]
    run = subprocess.run(
        [*command, sys.executable, "-c", SYNCED, path, ROOT], check=False, capture_output=True, text=True, timeout=60
    )
    if run.returncode and "ptrace" in run.stderr:
        pytest.skip("this machine does not let processes be traced")
    assert run.returncode == 0, run.stderr
    calls = trace.read_text()
    assert "journal.db-wal" in calls
    between = calls.split('"ready\\n"')[1].split('"told\\n"')[:-1]
    assert len(between) == 10
    for span in between:
        last_write = max(found.start() for found in re.finditer(r"pwrite64\(\d+<[^>]*-wal>", span))
        syncs = [found.start() for found in re.finditer(r"(fdatasync|fsync)\(\d+<[^>]*-wal>", span)]
        assert syncs
        assert max(syncs) > last_write
