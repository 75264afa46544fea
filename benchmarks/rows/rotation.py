"""Recovery where PVE's rotation has left only the newest 650 or 1,300 finished tasks of a node in its list.

A task that is not listed any more is asked for by itself: one call each. The curve is about how many these are.
"""

from pathlib import Path

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch
from trueup.adapters import sqlite

LISTED = (650, 1_300)


async def measure(size: Size) -> list[Figure]:
    """Calls and seconds, by how many operations of a node were in flight."""
    figures: list[Figure] = []
    counts = {Size.TINY: (64,), Size.QUICK: (10_000, 20_000), Size.FULL: (10_000, 20_000, 40_000)}[size]
    with stage.scratch() as folder, stage.StandIn(folder) as stand_in:
        for count in counts:
            source = folder / f"{count}.db"
            await stage.new_journal(source, in_flight=range(count))
            for listed in (2,) if size is Size.TINY else LISTED[: size.of(1, 1, 2)]:
                figures.append(await _of(source, stand_in, count, listed))  # noqa: PERF401 - one after the other
    return figures


async def _of(source: Path, stand_in: stage.StandIn, count: int, listed: int) -> Figure:
    path = stage.copy_of(source)
    await stand_in.set(guests=0, ops=count, listed=listed)
    nodes = len(fleet.NODES)
    gone = max(0, count - listed * nodes)
    journal = sqlite.open_journal(path)
    async with stage.client(stand_in) as pve:
        agent = await stage.begun(journal, pve)
        with Stopwatch() as watch:
            report = await agent.recover()
    await journal.close()
    if report.resumed != count:
        raise RuntimeError(f"{report.resumed} of {count}")
    counts = (await stand_in.stats())["counts"]
    pages = counts["node tasks"]
    return Figure(
        key=f"rotation/{count}/{listed}",
        what=f"{count:,} ops in flight, {listed:,} tasks a node still listed: HTTP calls",
        value=sum(counts.values()),
        goal=Goal(bound=pages + nodes + 10 + gone, unit="calls"),
        ours=Sample(name="recovery", values=[watch.wall_s]),
        notes={"pages": pages, "not_listed": gone, "calls": counts},
    )
