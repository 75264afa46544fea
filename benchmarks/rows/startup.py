"""What every command costs before it does anything, and what `trueup plan` of 100 guests takes in all."""

import asyncio
import subprocess
import sys
from pathlib import Path

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn

HELP = Goal(bound=5)
PLAN = Goal(bound=2, unit="s")


async def measure(size: Size) -> list[Figure]:
    """The help against a bare interpreter; a plan of unchanged guests."""
    bare = (sys.executable, "-c", "pass")
    full = (str(Path(sys.executable).with_name("trueup")), "--help")
    times = size.of(1, 10, 20)
    await asyncio.to_thread(_run, full)
    helped, started = await in_turn(times, lambda: asyncio.to_thread(_run, full), lambda: asyncio.to_thread(_run, bare))
    figure = compared(
        "startup/help",
        "start-up of `trueup --help`",
        Sample(name="trueup --help", values=helped),
        Sample(name="python -c pass", values=started),
        HELP,
    )
    return [figure, await _plan(size)]


def _run(command: tuple[str, ...]) -> float:
    with Stopwatch() as watch:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return watch.wall_s


async def _plan(size: Size) -> Figure:
    guests = size.of(4, 100, 100)
    with stage.scratch() as folder, stage.StandIn(folder, guests=guests) as stand_in:
        lab = folder / "lab"
        stage.write_lab(lab, stand_in)
        fleet.write_manifests(lab / "manifests", range(guests))
        (lab / "state").mkdir()
        await stage.new_journal(lab / "state" / "journal.db", ours=guests)

        async def plan() -> float:
            with Stopwatch() as watch:
                done = await asyncio.to_thread(stage.trueup, lab, "plan")
            if done.returncode:
                raise RuntimeError(f"plan ended with {done.returncode}: {done.stdout[-800:]} {done.stderr[-800:]}")
            return watch.wall_s

        (walls,) = await in_turn(size.of(1, 3, 9), plan)
    sample = Sample(name="trueup plan", values=walls)
    return Figure(
        key="startup/plan",
        what=f"`trueup plan` of {guests} unchanged guests",
        value=sample.median,
        goal=PLAN,
        ours=sample,
    )
