"""Journaled operations a second, with full durability: what it costs to remember each step before it is taken.

An operation is three durable records, each waited for, 64 operations in flight. The raw loop writes the very same bytes
with nothing around them: one file, whoever waits shares the next fdatasync. DBOS runs a workflow of one step, which
is three durable records too, on SQLite in its default settings.
"""

import asyncio
import os
from pathlib import Path

from benchmarks import fleet, peers, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn
from trueup.adapters import sqlite
from trueup.model.ops import Event, Reason, Started, Succeeded, TaskRunning

IN_FLIGHT = 64
AGAINST_RAW = Goal(bound=0.3, least=True)
AGAINST_DBOS = Goal(bound=100, least=True)


async def measure(size: Size) -> list[Figure]:
    """Operations a second: ours, the raw loop's, DBOS's."""
    count = size.of(64, 4_000, 10_000)
    with stage.scratch() as folder:
        turn = _Turn(folder, count)
        await turn.ours()
        ours, raw = await in_turn(size.of(1, 5, 15), turn.ours, turn.raw)
        dbos = await _dbos(folder, size)
    sample = Sample(name="trueup", values=ours, unit="ops/s")
    notes = {"bytes_an_op": turn.bytes_an_op, "cpu_ms_an_op": turn.cpu_s / count * 1000}
    figures = [
        compared(
            "journal/raw",
            f"journaled ops/s, {IN_FLIGHT} in flight",
            sample,
            Sample(name="bare group commit of the same bytes", values=raw, unit="ops/s"),
            AGAINST_RAW,
            notes,
        )
    ]
    what = f"journaled ops/s, {IN_FLIGHT} in flight, against DBOS"
    if isinstance(dbos, str):
        return [*figures, Figure(key="journal/dbos", what=what, goal=AGAINST_DBOS, missing=dbos)]
    peer = Sample(name="DBOS on SQLite", values=dbos, unit="ops/s")
    return [*figures, compared("journal/dbos", what, sample, peer, AGAINST_DBOS)]


async def _dbos(folder: Path, size: Size) -> list[float] | str:
    if size is Size.TINY:
        return "not measured at this size"
    args = [str(folder / "dbos.db"), str(size.of(0, 150, 400)), str(IN_FLIGHT), str(size.of(0, 1, 3))]
    return peers.numbers("dbos_ops.py", *args, timeout_s=120)


class _Turn:
    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._ops = [
            (op_id, _events(number, started))
            for number, (op_id, started) in enumerate(map(stage.intent_of, range(count)))
        ]
        self._lines: list[bytes] = []
        self.cpu_s = 0.0
        self.bytes_an_op = 0

    def _path(self, name: str) -> Path:
        for old in self._folder.glob(f"{name}*"):
            old.unlink()
        return self._folder / name

    async def ours(self) -> float:
        path = self._path("ops.db")
        journal = sqlite.open_journal(path)
        epoch = await journal.take_epoch(
            holder="b", token=stage.TOKEN, record_id=fleet.INSTALLATION, at_ms=fleet.BEGAN_S
        )
        make, todo = stage.Drafts(), iter(self._ops)

        async def work() -> None:
            for op_id, events in todo:
                for event in events:
                    await journal.append(epoch, [make.of(op_id, event)])

        with Stopwatch() as watch:
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        await journal.close()
        self.cpu_s = watch.cpu_s
        if not self._lines:
            self._lines = [line + b"\n" for line in stage.lines_of(path)][1:]
            self.bytes_an_op = sum(map(len, self._lines)) // self._count
        return self._count / watch.wall_s

    async def raw(self) -> float:
        """The same bytes, gathered while an fdatasync is under way."""
        todo, loop = iter(self._lines), asyncio.get_running_loop()
        waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        more = asyncio.Event()
        file = os.open(self._path("raw"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def write(group: bytes) -> None:
            os.write(file, group)
            os.fdatasync(file)

        async def commit() -> None:
            while True:
                await more.wait()
                more.clear()
                group = waiting[:]
                waiting.clear()
                await loop.run_in_executor(None, write, b"".join(line for line, _ in group))
                for _, done in group:
                    done.set_result(None)

        async def work() -> None:
            for line in todo:
                done: asyncio.Future[None] = loop.create_future()
                waiting.append((line, done))
                more.set()
                await done

        committer = asyncio.ensure_future(commit())
        with Stopwatch() as watch:
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        committer.cancel()
        os.close(file)
        return self._count / watch.wall_s


def _events(number: int, started: Started) -> tuple[Event, Event, Event]:
    return started, TaskRunning(upid=fleet.upid(number)), Succeeded(reason=Reason.TASK_OK, exit_status="OK")
