"""Recovery of operations whose tasks ended while nobody watched: it costs pages, and little more than reading them.

The bare script knows what to look for and judges nothing: it loads the rows in flight, reads the same pages, and
commits as many records of the same size at once (an end for each creation, and that its guest is ours). It computes no
chain of hashes and checks no transition. The other peer is this engine itself, with lists that show nothing: it asks
for the status of each task.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn
from trueup.adapters import sqlite
from trueup.model.ids import NodeName
from trueup.model.limits import TASK_PAGE
from trueup.model.pve import TaskList

WALL = Goal(bound=2.5)
AGAINST_STATUS_CALLS = Goal(bound=10, least=True)


async def measure(size: Size) -> list[Figure]:
    """Recovery of 1,000 and of 10,000 operations on 16 nodes."""
    figures: list[Figure] = []
    with stage.scratch() as folder, stage.StandIn(folder) as stand_in:
        for count in {size.of(48, 1_000, 1_000), size.of(48, 10_000, 10_000)}:
            figures += await _of(count, size.of(1, 3, 11), folder, stand_in)
    return sorted(figures, key=lambda figure: figure.key)


async def _of(count: int, times: int, folder: Path, stand_in: stage.StandIn) -> list[Figure]:
    source = folder / f"{count}.db"
    await stage.new_journal(source, in_flight=range(count))
    await stand_in.set(ops=count, guests=0)
    turn = _Turn(source, stand_in, count)
    ours, bare, opening, single = [], [], [], []
    for values in await in_turn(1, turn.ours):  # caches of files and of imports are warm for everybody
        ours += values
    ours, bare = await in_turn(times, turn.ours, turn.bare)
    opening = turn.opened[1:]
    (single,) = await in_turn(max(1, times // 4), turn.one_by_one)
    calls, pages = turn.calls, turn.pages
    nodes = len({fleet.node_of(number) for number in range(count)})
    sample = Sample(name="trueup", values=ours)
    notes = {
        "pages": pages, "calls": calls, "cpu_s": turn.cpu_s, "stand_in_cpu_s": turn.stand_in_cpu_s,
        "opening_s": opening, "goal_of_calls": f"pages + nodes + 10 = {pages + nodes + 10}",
    }  # fmt: skip
    return [
        Figure(
            key=f"recovery/{count}/calls",
            what=f"recovery of {count:,} ops in flight: HTTP calls",
            value=sum(calls.values()),
            goal=Goal(bound=pages + nodes + 10, unit="calls"),
            notes=notes,
        ),
        compared(
            f"recovery/{count}/wall",
            f"recovery of {count:,} ops in flight",
            sample,
            Sample(name="bare script: rows, pages, one commit", values=bare),
            WALL,
            notes,
        ),
        Figure(
            key=f"recovery/{count}/status",
            what=f"recovery of {count:,} ops: times faster than one status call per op",
            value=Sample(name="", values=single).median / sample.median,
            goal=AGAINST_STATUS_CALLS,
            ours=sample,
            peer=Sample(name="the same by a status call per op", values=single),
        ),
    ]


class _Turn:
    """One measurement of each side, each on a fresh copy of the journal."""

    def __init__(self, source: Path, stand_in: stage.StandIn, count: int) -> None:
        self._source, self._stand_in, self._count = source, stand_in, count
        self.calls: dict[str, int] = {}
        self.pages = 0
        self.opened: list[float] = []
        self.cpu_s: list[float] = []
        self.stand_in_cpu_s: list[float] = []

    async def ours(self) -> float:
        """From the open journal to the last verdict on disk; opening, which verifies the chain, is told apart."""
        path = stage.copy_of(self._source)
        await self._stand_in.set()
        async with stage.client(self._stand_in) as pve:
            with Stopwatch() as opening:
                journal = sqlite.open_journal(path)
            agent = await stage.begun(journal, pve)
            with Stopwatch() as watch:
                report = await agent.recover()
            await journal.close()
        if (report.examined, report.resumed) != (self._count, self._count):
            raise RuntimeError(f"{report.examined} examined, {report.resumed} resumed of {self._count}")
        stats = await self._stand_in.stats()
        self.calls = {name: times for name, times in stats["counts"].items() if times}
        self.opened.append(opening.wall_s)
        self.cpu_s.append(watch.cpu_s)
        self.stand_in_cpu_s.append(stats["cpu_s"])
        return watch.wall_s

    async def bare(self) -> float:
        """What a script would do that has nothing to lose."""
        path = stage.copy_of(self._source)
        self.pages = 0
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        async with self._stand_in.bare() as session:
            with Stopwatch() as watch:
                rows = connection.execute("SELECT op_id, view FROM ops WHERE state IN ('started', 'task_running')")
                views = {op_id: stage.decode(view) for op_id, view in rows}
                pages = await asyncio.gather(*(self._pages(session, node) for node in fleet.NODES))
                ended = {row["upid"]: row["status"] for page in pages for row in page}
                lines = [
                    (f"{op_id}-end", op_id, (_ENDED % (f"{op_id}-end", op_id, ended[view["upid"]])).encode())
                    for op_id, view in views.items()
                ]
                ours = [(view["intent"]["vmid"], view["intent"]["marker"]["uid"]) for view in views.values()]
                lines += [(f"{uid}-ours", "", (_OURS % (f"{uid}-ours", uid, vmid)).encode()) for vmid, uid in ours]
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO records (record_id, op_id, line) VALUES (?, ?, ?)", lines)
                connection.executemany(
                    "UPDATE ops SET state = 'succeeded' WHERE op_id = ?", [(op_id,) for op_id in views]
                )
                connection.executemany("INSERT INTO adopted (vmid, uid, labels) VALUES (?, ?, '{}')", ours)
                connection.execute("COMMIT")
        connection.close()
        if len(lines) != 2 * self._count:
            raise RuntimeError(f"{len(lines)} of {self._count}")
        return watch.wall_s

    async def _pages(self, session: aiohttp.ClientSession, node: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for number in range(100):
            params = {"source": "all", "limit": str(TASK_PAGE), "start": str(number * TASK_PAGE)}
            async with session.get(f"{self._stand_in.url}/api2/json/nodes/{node}/tasks", params=params) as answer:
                page = stage.decode(await answer.read())["data"]
            rows += page
            self.pages += 1
            if len(page) < TASK_PAGE:
                break
        return rows

    async def one_by_one(self) -> float:
        """The same recovery by a status call for each operation, through the same client."""
        path = stage.copy_of(self._source)
        async with stage.client(self._stand_in) as pve:
            journal = sqlite.open_journal(path)
            agent = await stage.begun(journal, pve)

            async def nothing(node: NodeName, *, proven: bool = True) -> TaskList:
                return TaskList(node=node, rows=(), sees_all=proven, index_bytes=0)

            pve.tasks = nothing  # type: ignore[method-assign]
            with Stopwatch() as watch:
                report = await agent.recover()
            await journal.close()
        if report.resumed != self._count:
            raise RuntimeError(f"{report.resumed} resumed of {self._count}")
        return watch.wall_s


_HEAD = '{"v":1,"seq":30000,"epoch":2,"record_id":"%s","at_ms":1795000000000,"op_id":"'
_HASH = "0" * 64
_ENDED = (
    _HEAD + '%s","prev_hash":"' + _HASH + '","event":{"evidence":{},"exit_status":"%s","reason":"task_ok","row":"R3",'
    '"type":"succeeded"},"hash":"' + _HASH + '"}'
)
_OURS = (
    _HEAD + '","prev_hash":"' + _HASH + '","event":{"labels":{"tier":"web"},"type":"adopted","uid":"%s","vmid":%d},'
    '"hash":"' + _HASH + '"}'
)
