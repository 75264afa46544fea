"""How long `trueup --help` takes next to a bare interpreter: the price of every command before it does anything.

The two are run in turn, so that whatever else the machine does falls on both. Medians of ten runs after one warm-up;
the ratio is what can be compared between machines.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 10
GOAL_MS = 150
BARE = (sys.executable, "-c", "pass")
HELP = (str(Path(sys.executable).with_name("trueup")), "--help")


def run_ms(command: tuple[str, ...]) -> float:
    """Return the wall-clock milliseconds of one run; a command that fails ends the benchmark."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Measure, print a table for people, then one line of JSON for programs."""
    turns = [(run_ms(BARE), run_ms(HELP)) for _ in range(RUNS + 1)][1:]
    samples = {"python -c pass": [bare for bare, _ in turns], "trueup --help": [full for _, full in turns]}
    medians = {name: statistics.median(kept) for name, kept in samples.items()}
    bare_ms, help_ms = medians.values()

    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"start-up, median of {RUNS} runs ({machine})")
    print(f"  {'command':<16} {'median ms':>10} {'min':>8} {'max':>8} {'ratio':>7}")
    for name, kept in samples.items():
        print(
            f"  {name:<16} {medians[name]:>10.1f} {min(kept):>8.1f} {max(kept):>8.1f} {medians[name] / bare_ms:>7.2f}"
        )
    print(
        json.dumps(
            {
                "benchmark": "startup",
                "runs": RUNS,
                "bare_ms": round(bare_ms, 1),
                "help_ms": round(help_ms, 1),
                "ratio": round(help_ms / bare_ms, 2),
                "goal_ms": GOAL_MS,
                "within_goal": help_ms <= GOAL_MS,
            }
        )
    )


if __name__ == "__main__":
    main()
