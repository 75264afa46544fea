"""All rows, one table: `python -m benchmarks.run [--full] [NAME ...]`.

Each row is measured in a process of its own, one after the other. Figures go to `results/latest.json`; where only some
rows are named, the others' figures stay as they were.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from benchmarks import plots, report, stage
from benchmarks.measure import Figure, Size
from benchmarks.rows import NAMES

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run, where and when it was made. `load` is the machine's own load average before each row."""

    machine: str
    when: str
    size: Size
    load: dict[str, float]
    figures: list[Figure]


def machine() -> str:
    """What the figures belong to."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )


def measured(name: str, size: Size) -> list[Figure]:
    """One row's figures; a row that fails is a figure that is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.one", name, size.value], cwd=stage.ROOT, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return [Figure(key=name, what=f"the row {name}", missing=f"failed: {said[-1][:300]}")]
    return msgspec.json.decode(done.stdout, type=list[Figure])


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all without")
    parser.add_argument("--full", action="store_true", help="more and longer; this is what is claimed")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    names, size = given.names or list(NAMES), Size.FULL if given.full else Size.QUICK
    before = msgspec.json.decode(LATEST.read_bytes(), type=Run) if given.names and LATEST.exists() else None
    load: dict[str, float] = dict(before.load) if before else {}
    figures: dict[str, list[Figure]] = {}
    for name in names:
        load[name] = os.getloadavg()[0]
        began = time.perf_counter()
        figures[name] = measured(name, size)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    new = {figure.key: figure for found in figures.values() for figure in found}
    kept = [figure for figure in (before.figures if before else []) if figure.key not in new]
    run = Run(
        machine=machine(), when=time.strftime("%Y-%m-%d"), size=size, load=load, figures=[*kept, *new.values()]
    )  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    plots.draw(run.figures, RESULTS)
    print(report.table(run.figures))
    report.into_readme(run.figures, f"{run.machine}; {run.when}, {run.size.value} form")


if __name__ == "__main__":
    main()
