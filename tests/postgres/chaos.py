"""`make chaos`: three agents on one PostgreSQL and one simulator; whoever leads is killed or paused, over and over.

Prints a table: what was done to the agents, how long it took until another one led, what PVE was asked for, and
whether anything happened twice. Exit 0 only if nothing did, the chain is sound, and the guests are as declared.
"""

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.postgres.agents import Group, Member, wait
from tests.postgres.server import Server
from tests.real_death import evidence
from tests.real_death.stage import Simulator, vm

CONVERGES_S = 600.0


@dataclass
class Outcome:
    """What a run came to."""

    seconds: float = 0.0
    kills: int = 0
    pauses: int = 0
    take_overs_s: list[float] = field(default_factory=list)
    guests: int = 0
    mutations: int = 0
    doubled: str = "0"
    epochs: int = 0
    one_writer: bool = False
    """Epochs only grow along the chain: whoever lost its lead wrote nothing after its successor's first record."""
    records: int = 0
    chain: str = ""
    converged: bool = False

    @property
    def good(self) -> bool:
        return (
            self.doubled == "0"
            and self.chain == "ok"
            and self.one_writer
            and self.converged
            and bool(self.take_overs_s)
        )

    def table(self) -> str:
        times = sorted(self.take_overs_s) or [0.0]
        rows = [
            ("seconds", f"{self.seconds:.0f}"),
            ("guests", str(self.guests)),
            ("leaders killed", str(self.kills)),
            ("leaders paused and woken", str(self.pauses)),
            ("take-over min", f"{times[0]:.1f} s"),
            ("take-over median", f"{statistics.median(times):.1f} s"),
            ("take-over max", f"{times[-1]:.1f} s"),
            ("mutations", str(self.mutations)),
            ("doubled", self.doubled),
            ("epochs", str(self.epochs)),
            ("one epoch writes at a time", "yes" if self.one_writer else "NO"),
            ("records", str(self.records)),
            ("chain", self.chain),
            ("converged", "yes" if self.converged else "NO"),
        ]
        return "\n".join(f"{name:<26} {value}" for name, value in rows)


def run(
    folder: Path, store: str, *, seconds: float, guests: int, seed: int, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Let it happen, and count."""
    chance = random.Random(seed)
    outcome = Outcome(guests=guests)
    with Simulator(folder, time_scale=0.2) as sim, Group(folder / "group", sim, store) as group:
        group.manifest([_guest(number) for number in range(guests)])
        for member in group.members:
            member.start()
        wait(group.leader)
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            time.sleep(chance.uniform(2.0, 6.0))
            leader = group.leader()
            if leader is None:
                continue
            _strike(group, leader, outcome, kill=outcome.kills <= outcome.pauses, say=say)
        outcome.seconds = time.monotonic() - began
        say("waiting until the guests are as declared")
        outcome.converged = _converges(group, guests)
        _count(group, outcome)
    return outcome


def _guest(number: int) -> str:
    if number % 4 == 0:
        return vm(1000 + number, "source: {clone: 9000}", "config: {cores: 2}", node=f"pve{number % 3 + 1}")
    return vm(1000 + number, node=f"pve{number % 3 + 1}")


def _strike(group: Group, leader: Member, outcome: Outcome, *, kill: bool, say: Callable[[str], None]) -> None:
    """Take the leader out, wait for another one to lead, bring it back."""
    at = time.monotonic()
    leader.signal(signal.SIGKILL if kill else signal.SIGSTOP)
    before = leader.pid
    wait(lambda: group.leading_pid() not in {0, before}, 120, 0.05)
    took = time.monotonic() - at
    outcome.take_overs_s.append(took)
    say(f"{leader.name} {'killed' if kill else 'paused'}; another one led after {took:.1f} s")
    if kill:
        outcome.kills += 1
        leader.end()
        leader.start()
    else:
        outcome.pauses += 1
        leader.signal(signal.SIGCONT)


def _converges(group: Group, guests: int) -> bool:
    def there() -> bool:
        leader = group.leader()
        said: list[dict[str, Any]] = leader.log() if leader else []
        passes = [line["text"] for line in said if line["event"] == "pass_ended"]
        return bool(passes) and passes[-1] == f"{guests} unchanged"

    try:
        wait(there, CONVERGES_S, 1.0)
    except AssertionError:
        return False
    return True


def _count(group: Group, outcome: Outcome) -> None:
    found = group.verification()
    outcome.chain = "ok" if found.ok else found.what
    outcome.records = found.records
    _, records, outcome.epochs = group.read()
    written = [record.epoch for record in records]
    outcome.one_writer = written == sorted(written) and len(set(written)) == outcome.epochs
    outcome.mutations = len(group.sim.mutations())
    try:
        evidence.account(group.sim, group)  # type: ignore[arg-type]
    except AssertionError as error:
        outcome.doubled = str(error).partition("\n")[0] or "something is not accounted for"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--guests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    seed = asked.seed or int(time.time())
    print(f"chaos for {asked.seconds:.0f} s with {asked.guests} guests, seed {seed}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trueup-chaos-")))
        server = stack.enter_context(Server())
        outcome = run(
            folder,
            server.database("chaos"),
            seconds=asked.seconds,
            guests=asked.guests,
            seed=seed,
            say=lambda text: print(f"  {text}", flush=True),
        )
    print(outcome.table())
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
