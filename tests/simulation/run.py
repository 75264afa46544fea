"""`make simulate SECONDS=600 SEED=1`: random stories for as long as one likes, and a report of what they covered.

A story that breaks a promise is told in words, as short as it can be made, with the command that repeats it.
"""

import argparse
import sys
import time

from tests.simulation import invariants
from tests.simulation.gate_harness import GateRun
from tests.simulation.gate_swarm import Sweep, Tale, sweep, tale
from tests.simulation.report import Report
from tests.simulation.swarm import Story, story

Told = Story | Tale | Sweep
"""Random stories of the loop and of the gate, and the gate's ordinary one with a death at one point after the other."""


def main() -> int:
    """Run stories from a seed on; 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stories", type=int, default=0, help="stop after so many of each sort (0 = when the time is over)"
    )
    asked = parser.parse_args()
    report = Report()
    end = time.monotonic() + asked.seconds
    number = asked.seed
    while time.monotonic() < end and not (asked.stories and number - asked.seed >= asked.stories):
        for one in (story(number), tale(number), sweep(number)):
            found = broken(one)
            if isinstance(found, invariants.Violation):
                report.broken(found)
                tell(one, found)
            elif isinstance(found, GateRun):
                report.add(found.run)
                report.gate.add(found)
            else:
                report.add(found)
        number += 1
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


def broken(one: Told) -> "invariants.Violation | invariants.Run | GateRun":
    """Run a story; the promise that it breaks, or the run."""
    try:
        run = one.run()
        if isinstance(run, GateRun):
            assert not isinstance(one, Story)
            one.check(run)
        else:
            assert isinstance(one, Story)
            invariants.check(run, believe_tasks=not one.tasks_lie)
    except invariants.Violation as violation:
        return violation
    return run


def tell(one: Told, violation: invariants.Violation) -> None:
    """Make the story as short as it can be and still break the same promise; tell it."""
    kind = type(violation)
    shorter = True
    while shorter:
        shorter = False
        for fewer in one.shorter():
            if isinstance(fewer, Story) and not fewer.first:
                continue
            found = broken(fewer)
            if isinstance(found, kind):
                one, violation, shorter = fewer, found, True
                break
    print(f"story {one.number} breaks a promise ({kind.__name__}), made as short as it gets:")
    print(one.tell())
    print(violation)
    print(f"again: make simulate SEED={one.number} STORIES=1\n")


if __name__ == "__main__":
    sys.exit(main())
