"""The wall clock of the agent's machine jumps by hours: while it works, while it is dead, and back again."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_death.evidence import settled
from tests.real_death.stage import Simulator, Stage, ct, until, vm

STEPPING = (sys.executable, str(Path(__file__).with_name("stepping.py")))
HOURS = pytest.mark.parametrize("hours", [6, -6])
CLONE = vm(110, "source: {clone: 9000}", "config: {cores: 2}")


class Clock:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.file = stage.folder / "offset"
        self.set(0)

    def set(self, hours: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(hours * 3600))
        new.replace(self.file)  # never half a number

    def start(self, *arguments: str, doom: str = "") -> "subprocess.Popen[bytes]":
        trace = self._stage.folder / f"life-{self._stage.lives + 1}.trace"
        environment = {"OFFSET": str(self.file), "TRACE": str(trace), "DOOM": doom}
        return self._stage.start(*arguments, program=STEPPING, environment=environment)

    def dies(self, doom: str, *arguments: str) -> None:
        done = self._stage.end(self.start(*arguments, doom=doom))
        assert done.code == -signal.SIGKILL, done


@pytest.fixture
def clock(stage: Stage) -> Clock:
    return Clock(stage)


def news(stage: Stage, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in stage.err().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def clones(sim: Simulator) -> int:
    return sum(row["path"].endswith("/clone") for row in sim.mutations())


@HOURS
def test_it_jumps_while_an_operation_is_under_way(sim: Simulator, stage: Stage, clock: Clock, hours: int) -> None:
    sim.control("duration", type="qmclone", seconds=20)  # 1 s
    stage.manifest("guests", CLONE, ct(201))
    agent = clock.start("agent")
    until(lambda: clones(sim))
    clock.set(hours)
    until(lambda: [line for line in news(stage, "pass_ended") if line["text"] == "2 unchanged"])
    agent.send_signal(signal.SIGTERM)
    assert stage.end(agent).code == 0
    assert not news(stage, "alarm")
    assert clones(sim) == 1
    settled(sim, stage)


@pytest.mark.parametrize("hours", [6, -6, 24 * 400])
def test_it_jumps_while_nobody_lives(sim: Simulator, stage: Stage, clock: Clock, hours: int) -> None:
    stage.manifest("guests", CLONE)
    clock.dies("^written request POST .*/clone", "apply", "--yes")
    clock.set(hours)
    done = stage.end(clock.start("apply", "--yes"))
    assert done.code == 0, done
    assert clones(sim) == 1
    (op,) = stage.journal().of(110, "clone")
    assert (op.state, op.adopted) == ("succeeded", True)
    settled(sim, stage)


@HOURS
def test_it_was_wrong_in_the_life_that_ended(sim: Simulator, stage: Stage, clock: Clock, hours: int) -> None:
    """What was recorded with a wrong time is found by a life whose clock is right."""
    stage.manifest("guests", CLONE)
    clock.set(hours)
    clock.dies("^written request POST .*/clone", "apply", "--yes")
    clock.set(0)
    done = stage.end(clock.start("apply", "--yes"))
    assert done.code == 0, done
    assert clones(sim) == 1
    settled(sim, stage)


@pytest.mark.parametrize("hours", [6, -6])
def test_a_start_whose_answer_was_lost_is_not_sent_again(
    sim: Simulator, stage: Stage, clock: Clock, hours: int
) -> None:
    """A start leaves no mark in the guest: only its task tells, and the task's time is the node's."""
    stage.manifest("guests", vm(101))
    clock.set(hours)
    clock.dies(r"^written request POST .*/101/status/start", "apply", "--yes")
    clock.set(0)
    done = stage.end(clock.start("apply", "--yes"))
    assert done.code == 0, done
    assert sum(row["path"].endswith("/start") and row["effect"] for row in sim.mutations()) == 1
    settled(sim, stage)


def test_it_goes_back_between_two_lives_that_both_write(sim: Simulator, stage: Stage, clock: Clock) -> None:
    """Ids are made of the time, so later ones may be smaller: order is the journal's, not the clock's."""
    stage.manifest("guests", vm(101, "source: {empty: true}", "power: stopped"))
    clock.set(6)
    assert stage.end(clock.start("apply", "--yes")).code == 0
    clock.set(-6)
    stage.manifest("guests", vm(101), vm(102))
    assert stage.end(clock.start("apply", "--yes")).code == 0
    journal = stage.journal()
    assert journal.verification.ok
    times = [record.at_ms for record in journal.records]
    assert times != sorted(times)
    assert [record.seq for record in journal.records] == sorted(record.seq for record in journal.records)
    settled(sim, stage)
