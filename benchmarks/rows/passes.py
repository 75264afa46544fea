"""A pass over a cluster on which nothing has changed: lists and no more, and little work beside decoding them.

The clock that the engine sees jumps 30 s between two passes, as if it had waited: that is what its rolling re-read of
configs goes by. CPU time is this process's alone; the stand-in is another one.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn
from trueup.adapters import sqlite, system
from trueup.engine.reconciler import Reconciler
from trueup.model import limits
from trueup.model.guests import Desired
from trueup.model.ids import Vmid
from trueup.model.plan import Bucket

INTERVAL_S = 30.0
CPU = Goal(bound=4)
_LISTS = (
    "/cluster/status",
    "/cluster/resources?type=vm",
    *(f"/nodes/{n}/{k}" for n in fleet.NODES for k in ("qemu", "lxc")),
)


class _Row(msgspec.Struct):
    """The fields of a list's row that the product uses."""

    vmid: int = 0
    type: str = ""
    node: str = ""
    name: str = ""
    status: str = ""
    template: int = 0
    lock: str = ""
    hastate: str = ""
    pool: str = ""
    tags: str = ""
    maxmem: float = 0
    maxdisk: float = 0
    maxcpu: float = 0
    uptime: float = 0


class _Rows(msgspec.Struct):
    data: list[_Row]


class Standing:
    """An engine that has seen every guest once, and what it reads from then on."""

    def __init__(self, reconciler: Reconciler, desired: list[Desired], clock: stage.Jumping, reads: list[Vmid]) -> None:
        self.reconciler, self.desired, self._clock, self.reads = reconciler, desired, clock, reads
        self.first = Stopwatch()

    async def one(self) -> Stopwatch:
        """One pass, `INTERVAL_S` later. Raises RuntimeError if it found anything to do."""
        self._clock.jump(INTERVAL_S)
        with Stopwatch() as watch:
            plan = await self.reconciler.step(self.desired)
        if plan.count(Bucket.UNCHANGED) != len(self.desired):
            raise RuntimeError({bucket: plan.count(bucket) for bucket in Bucket})
        return watch


@asynccontextmanager
async def standing(folder: Path, stand_in: stage.StandIn, guests: int) -> AsyncGenerator[Standing]:
    """Recover, and look at everything once."""
    path = folder / f"{guests}.db"
    await stage.new_journal(path, ours=guests)
    await stand_in.set(guests=guests, ops=0)
    clock, reads, journal = stage.Jumping(), list[Vmid](), sqlite.open_journal(path)
    try:
        async with stage.client(stand_in) as pve:
            read = pve.config

            async def noted(node: Any, kind: Any, vmid: Vmid) -> Any:
                reads.append(vmid)
                return await read(node, kind, vmid)

            pve.config = noted  # type: ignore[method-assign]
            agent = await stage.begun(journal, pve, clock)
            await agent.recover()
            async with agent.reconciler() as reconciler:
                engine = Standing(reconciler, stage.desired(guests), clock, reads)
                engine.first = await engine.one()
                yield engine
    finally:
        await journal.close()


async def measure(size: Size) -> list[Figure]:
    """Passes over 10,000 guests, without and with the rolling re-read."""
    guests = size.of(64, 10_000, 10_000)
    with stage.scratch() as folder, stage.StandIn(folder) as stand_in:
        async with standing(folder, stand_in, guests) as engine:
            rolling = await _rolling(size, guests, engine)
            lists = await _lists(size, guests, engine, stand_in)
            return [*lists, rolling, await _growth(size, guests, engine)]


async def _lists(size: Size, guests: int, engine: Standing, stand_in: stage.StandIn) -> list[Figure]:
    """Without the re-read: its bound is moved far away."""
    bodies = await _bodies(stand_in)
    walls: list[float] = []
    typed: list[float] = []

    async def ours() -> float:
        watch = await engine.one()
        walls.append(watch.wall_s)
        return watch.cpu_s

    async def bare() -> float:
        with Stopwatch() as watch:
            rows = [stage.decode(body) for body in bodies]
        with Stopwatch() as other:
            rows = [_decoder.decode(body) for body in bodies]
        del rows
        typed.append(other.cpu_s)
        return watch.cpu_s

    with stage.without_rolling_reads():
        await engine.one()
        await stand_in.set()
        engine.reads.clear()
        passes = size.of(2, 15, 50)
        cpu, decoded = await in_turn(passes, ours, bare)
        counts = (await stand_in.stats())["counts"]
    re_reads = counts.pop("pending", 0)
    counts.pop("/cluster/resources storage", 0)  # once in `REREAD_BOUND_S`
    calls = sum(counts.values()) / passes
    notes = {
        "calls_a_pass": {name: times / passes for name, times in counts.items()}, "wall_s": walls,
        "decode_of_used_fields_s": typed, "re_reads": re_reads, "bytes": sum(map(len, bodies)),
    }  # fmt: skip
    goal = Goal(bound=2 * len(fleet.NODES) + 2, unit="calls")
    return [
        Figure(
            key=f"pass/{guests}/calls", what=f"pass over {guests:,} unchanged guests: HTTP calls",
            value=calls, goal=goal, notes=notes,
        ),
        compared(
            f"pass/{guests}/cpu", f"pass over {guests:,} unchanged guests: CPU time",
            Sample(name="trueup", values=cpu),
            Sample(name="bare msgspec decode of the same bytes", values=decoded), CPU, notes,
        ),
    ]  # fmt: skip


_decoder = msgspec.json.Decoder(_Rows)


async def _bodies(stand_in: stage.StandIn) -> list[bytes]:
    async with stand_in.bare() as session:

        async def body(path: str) -> bytes:
            async with session.get(f"{stand_in.url}/api2/json{path}") as answer:
                return await answer.read()

        return list(await asyncio.gather(*map(body, _LISTS)))


async def _rolling(size: Size, guests: int, engine: Standing) -> Figure:
    """Every config is read again within the bound, by as many reads a pass as its budget says, and no more."""
    passes = int(limits.REREAD_BOUND_S // INTERVAL_S) + 1
    passes = size.of(2, passes, 2 * passes)
    seen: dict[Vmid, int] = dict.fromkeys((want.vmid for want in engine.desired), 0)
    each: list[int] = []
    oldest = 0
    cpu: list[float] = []
    for number in range(1, passes + 1):
        engine.reads.clear()
        cpu.append((await engine.one()).cpu_s)
        each.append(len(engine.reads))
        oldest = max([oldest, *(number - seen[vmid] for vmid in engine.reads)])
        seen.update(dict.fromkeys(engine.reads, number))
    oldest = max([oldest, *(passes - at for at in seen.values())]) if passes > 2 else oldest
    budget = max(limits.REREAD_LEAST, int(2 * guests * INTERVAL_S / limits.REREAD_BOUND_S) + 1)
    notes: Mapping[str, Any] = {
        "reads_a_pass_most": max(each[1:]), "budget_a_pass": budget, "bound_s": limits.REREAD_BOUND_S, "cpu_s": cpu,
        "reads_a_pass": each,
    }  # fmt: skip
    return Figure(
        key=f"pass/{guests}/re-read",
        what=f"rolling re-read of {guests:,} configs: oldest config, of {max(each[1:])} reads a pass (budget {budget})",
        value=oldest * INTERVAL_S,
        goal=Goal(bound=limits.REREAD_BOUND_S, unit="s"),
        ours=Sample(name="CPU of a pass with it", values=cpu),
        notes=dict(notes),
    )


async def _growth(size: Size, guests: int, engine: Standing) -> Figure:
    """The memory of the process after many passes, against its memory when they began."""
    passes = size.of(3, 30, 200)
    for _ in range(size.of(1, 5, 10)):
        await engine.one()
    sizes, blocks = [_rss_mb()], [sys.getallocatedblocks()]
    for _ in range(passes):
        await engine.one()
        engine.reads.clear()  # what the benchmark notes is no growth of ours
        sizes.append(_rss_mb())
        blocks.append(sys.getallocatedblocks())
    half = len(sizes) // 2
    early, late = Sample(name="", values=sizes[:half]), Sample(name="", values=sizes[half:])
    return Figure(
        key=f"pass/{guests}/memory",
        what=f"growth of memory over {passes} passes",
        value=late.median - early.median,
        goal=Goal(bound=1.0, unit="MB"),
        ours=Sample(name="resident", values=sizes, unit="MB"),
        notes={
            "how": "median of the second half of the passes less that of the first",
            "blocks_in_use": blocks[:: max(1, passes // 10)],
        },
    )


def _rss_mb() -> float:
    gc.collect()
    system.give_back_memory()  # as the agent does after each pass
    return stage.rss_mb("self")
