"""Killed in the middle, and told to stop: what was in flight is found out before anything else happens."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest, several

CLONES = several(*(guest(f"vm-{n}", 200 + n, "source: {clone: 9000}") for n in range(2)))


@pytest.fixture
def slow(tmp_path: Path, request: pytest.FixtureRequest):
    """Clones take two seconds here, or as long as the test asks for."""
    sim = Simulator(time_scale=getattr(request, "param", 0.2))
    stage = Stage(folder=tmp_path, sim=sim)
    stage.manifest(CLONES)
    yield stage
    sim.stop()


ten_seconds = pytest.mark.parametrize("slow", [1.0], indirect=True, ids=["clones of ten seconds"])


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def at_work(stage: Stage) -> "subprocess.Popen[str]":
    """An apply that has sent its first clone."""
    process = stage.start("apply", "--yes")
    until(lambda: process.poll() is not None or stage.sim.mutations())
    return process


def test_killed_in_a_clone_it_recovers_before_it_goes_on(slow: Stage) -> None:
    process = at_work(slow)
    process.kill()
    process.communicate()

    before = slow.json("status", code=2)
    assert [op["kind"] for op in before["in_flight"]] == ["clone"]
    assert before["unresolved"] == []
    assert before["leader"]["alive"] is False
    (op,) = before["in_flight"]
    assert "nobody is at work on it now" in slow.run("ops", "show", op["op_id"]).stdout
    blocked = next(row for row in before["guests"] if row["vmid"] == op["vmid"])
    assert op["op_id"] in blocked["blocked_by"]

    size = len(slow.json("journal", "tail", "-n", "1000")["records"])
    assert slow.run("recover", "--dry-run").stdout.rpartition("Recovery (dry run): ")[2].startswith("1 examined")
    assert len(slow.json("journal", "tail", "-n", "1000")["records"]) == size

    done = slow.json("apply", "--yes")
    assert done["recovery"]["examined"] == 1
    assert done["recovery"]["ops"][0]["op_id"] == op["op_id"]
    assert done["converged"] is True
    clones = [row for row in slow.sim.mutations() if row["path"].endswith("/clone")]
    assert len(clones) == 2  # none lost, none twice
    assert slow.json("recover") == {
        "examined": 0, "resumed": 0, "failed": 0, "rolled_back": 0, "presumed": 0,
        "still_running": 0, "unresolved": 0, "adopted": 0, "ops": [],
    }  # fmt: skip


@ten_seconds
def test_recover_alone_tells_what_is_still_at_work(slow: Stage) -> None:
    process = at_work(slow)
    process.kill()
    process.communicate()
    report = slow.json("recover", code=2)
    assert report["still_running"] == 1
    assert (report["ops"][0]["row"], report["ops"][0]["state"]) == ("R2", "task_running")
    assert slow.json("recover", code=2)["ops"] == report["ops"]  # as often as one likes


def test_the_first_signal_lets_the_work_end_and_begins_nothing_more(slow: Stage) -> None:
    process = at_work(slow)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "finishing what is at work" in err
    assert "Stopped as asked" in out
    assert slow.json("ops", "list")["ops"][0]["state"] == "succeeded"
    assert len(slow.sim.mutations()) == 1


@ten_seconds
def test_the_second_signal_leaves_it_to_the_next_recovery(slow: Stage) -> None:
    process = at_work(slow)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "stopping at once" in err
    assert [op["state"] for op in slow.json("status", code=2)["in_flight"]] == ["task_running"]


def test_a_wait_is_visible_while_a_request_may_still_arrive(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102))
    stage.sim.fault(fault="request_lost", method="POST", path=r".*/qemu$", times=1)
    stage.settings(("slots_per_node = 3", 'slots_per_node = 3\nsettle_time = "2s"'))
    done = stage.run("apply", "--yes", "--once")
    assert done.returncode == 2
    assert "no certain answer" in done.stderr
    assert "may still arrive" in done.stderr
    presumed = [op for op in stage.json("ops", "list")["ops"] if op["reason"] == "presumed_not_started"]
    assert [(op["kind"], op["row"]) for op in presumed] == [("create", "R12")]
    assert "watched for a day" in stage.run("ops", "show", presumed[0]["op_id"]).stdout
