"""`make simulate SECONDS=600 SEED=1`: random stories for as long as one likes, and a report of what they covered.

A story that breaks a promise is told in words, as short as it can be made, with the command that repeats it.

With `JOURNAL=postgres` the journal of all of them is in a PostgreSQL that is started for it, and stories of several
agents come in besides. With `KINDS=1`, what is told is every kind with a death at every point that makes a difference,
to the end, however long it takes.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.postgres.server import Server
from tests.simulation import invariants, kinds, stores
from tests.simulation.database import Host
from tests.simulation.gate_harness import GateRun
from tests.simulation.gate_swarm import Sweep, Tale, sweep, tale
from tests.simulation.kinds import Fatal
from tests.simulation.report import Report
from tests.simulation.rivals import Contest, contest
from tests.simulation.swarm import Story, story

Told = Story | Tale | Sweep | Contest | Fatal
"""Random stories of the loop, of the gate and of rivals; the gate's ordinary one, and each kind, with a death at one
point after the other."""


def main() -> int:
    """Run stories from a seed on; 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stories", type=int, default=0, help="stop after so many of each sort (0 = when the time is over)"
    )
    parser.add_argument("--journal", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--kinds", action="store_true", help="every kind with a death at every point, to the end")
    asked = parser.parse_args()
    with ExitStack() as stack:
        host: Host | None = None
        if asked.journal == "postgres":
            host = Host(stack.enter_context(Server()).database("simulation"))
            stack.callback(host.close)
            stack.enter_context(stores.kept_in(stores.database(host)))
        end = time.monotonic() + asked.seconds
        told = kinds.fatal() if asked.kinds else _told(asked.seed, asked.stories, end, host)
        report = Report()
        for one in told:
            _count(one, report)
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


def _told(seed: int, stories: int, end: float, host: Host | None) -> Iterator[Told]:
    number = seed
    while time.monotonic() < end and not (stories and number - seed >= stories):
        yield from (story(number), tale(number), sweep(number))
        if host is not None:
            yield contest(number, host)
        number += 1


def _count(one: Told, report: Report) -> None:
    found = broken(one)
    if isinstance(found, invariants.Violation):
        report.broken(found)
        tell(one, found)
    elif isinstance(found, GateRun):
        report.add(found.run)
        report.gate.add(found)
    else:
        report.add(found)


def broken(one: Told) -> "invariants.Violation | invariants.Run | GateRun":
    """Run a story; the promise that it breaks, or the run."""
    try:
        run = one.run()
        if isinstance(run, GateRun):
            assert isinstance(one, Tale | Sweep)
            one.check(run)
        elif isinstance(one, Story):
            invariants.check(run, believe_tasks=not one.tasks_lie)
        else:
            assert isinstance(one, Contest | Fatal)
            one.check(run)
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
    where = " JOURNAL=postgres" if stores.chosen() is not stores.file else ""
    how = "KINDS=1" if isinstance(one, Fatal) else f"SEED={one.number} STORIES=1"
    print(f"again: make simulate {how}{where}\n")


if __name__ == "__main__":
    sys.exit(main())
