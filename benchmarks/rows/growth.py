"""How the hot paths grow from 100 over 1,000 to 10,000: nothing may grow faster than what it works through.

The figure is the exponent between the last two sizes: 1 is in proportion, 2 is a bug. A little more than 1 is the
memory's caches.
"""

import math
from pathlib import Path

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch
from benchmarks.rows import passes
from trueup.adapters import manifests, sqlite
from trueup.core import planner
from trueup.core.plan_context import Context
from trueup.model.ops import Reason, Succeeded, TaskRunning

GOAL = Goal(bound=1.2, unit="")


async def measure(size: Size) -> list[Figure]:
    """The exponents, and the seconds that they come from (the best of a few runs at each size)."""
    sizes = {Size.TINY: (16, 64), Size.QUICK: (100, 1_000, 10_000), Size.FULL: (100, 1_000, 10_000)}[size]
    curves: dict[str, list[float]] = {}
    with stage.scratch() as folder, stage.StandIn(folder) as stand_in:
        for count in sizes:
            for name, seconds in (await _at(count, folder, stand_in, size)).items():
                curves.setdefault(name, []).append(seconds)
    return [
        Figure(
            key=f"growth/{name}",
            what=f"growth of {name}: exponent from {sizes[-2]:,} to {sizes[-1]:,}",
            value=math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2]),
            goal=GOAL,
            ours=Sample(name=f"at {sizes[-1]:,}", values=[values[-1]]),
            notes={"sizes": list(sizes), "seconds": values},
        )
        for name, values in curves.items()
    ]


async def _at(count: int, folder: Path, stand_in: stage.StandIn, size: Size) -> dict[str, float]:
    times = size.of(1, 1 if count > 1_000 else 3, 5)
    found: dict[str, float] = {}
    for name, upids in (("recovery, UPIDs known", True), ("recovery, UPIDs lost", False)):
        source = folder / f"{count}-{upids}.db"
        await stage.new_journal(source, in_flight=range(count), upids=upids)
        found[name] = min([await _recovery(source, stand_in, count) for _ in range(times)])
    found["journal appends"] = min([await _appends(folder, count) for _ in range(times)])
    async with passes.standing(folder, stand_in, count) as engine:
        with stage.without_rolling_reads():
            found["quiet passes"] = min([(await engine.one()).cpu_s for _ in range(2 * times)])
        found["first pass"] = engine.first.cpu_s
    place = folder / f"manifests-{count}"
    fleet.write_manifests(place, range(count))
    with Stopwatch() as watch:
        manifests.load(place)
    found["manifests, first load"] = watch.cpu_s
    with Stopwatch() as watch:
        planner.plan(stage.desired(count), {}, Context(installation="x"))
    found["plan of guests to be made"] = watch.cpu_s
    return found


async def _recovery(source: Path, stand_in: stage.StandIn, count: int) -> float:
    await stand_in.set(guests=0, ops=count)
    journal = sqlite.open_journal(stage.copy_of(source))
    async with stage.client(stand_in) as pve:
        agent = await stage.begun(journal, pve)
        with Stopwatch() as watch:
            report = await agent.recover()
    await journal.close()
    if report.resumed != count:
        raise RuntimeError(f"{report.resumed} of {count}")
    return watch.cpu_s


async def _appends(folder: Path, count: int) -> float:
    path = folder / "appends.db"
    for old in folder.glob("appends.db*"):
        old.unlink()
    journal = sqlite.open_journal(path)
    epoch = await journal.take_epoch(holder="b", token=stage.TOKEN, record_id=fleet.INSTALLATION, at_ms=fleet.BEGAN_S)
    make = stage.Drafts()
    with Stopwatch() as watch:
        for begin in range(0, count, 64):
            ops = [stage.intent_of(number) for number in range(begin, min(begin + 64, count))]
            await journal.append(epoch, [make.of(op_id, started) for op_id, started in ops])
            await journal.append(
                epoch, [make.of(op_id, TaskRunning(upid=fleet.upid(begin + n))) for n, (op_id, _) in enumerate(ops)]
            )
            await journal.append(epoch, [make.of(op_id, Succeeded(reason=Reason.TASK_OK)) for op_id, _ in ops])
    await journal.close()
    return watch.cpu_s
