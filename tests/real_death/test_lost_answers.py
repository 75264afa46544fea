"""The agent dies with a request on its way whose answer nobody will hear; `recover` finds out what became of it.

Each counts what it found, and the counts add up.
"""

import json
from typing import Any

import pytest

from tests.real_death.evidence import account, is_fence, settled
from tests.real_death.stage import Simulator, Stage, ct, until, vm

WRITTEN = r"^written request {} \S+{} {}"


def recovered(stage: Stage, code: int = 0) -> dict[str, Any]:
    done = stage.run("recover", "--json")
    assert done.code == code, done
    report = json.loads(done.out)
    parts = ("resumed", "failed", "rolled_back", "still_running", "unresolved")
    assert report["examined"] == sum(report[part] for part in parts), report
    assert len(report["ops"]) == report["examined"]
    return {key: value for key, value in report.items() if key != "ops" and value} | {
        "rows": [op["row"] for op in report["ops"]]
    }


def _writing(sim: Simulator, memory: str) -> list[dict[str, Any]]:
    return [row for row in sim.mutations() if row["params"].get("memory") == memory]


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        ({"fault": "reply_lost"}, ["R3"]),
        ({"fault": "error_500_worker_runs"}, ["R3"]),
        ({"fault": "error_596_work_continues", "delay_s": 0.5}, ["R3"]),
        ({"fault": "reply_lost_unlisted"}, ["R7"]),
    ],
    ids=["reply lost", "500 while the worker runs", "596 while the work goes on", "its task is forgotten"],
)
def test_what_took_effect_without_an_answer_is_found(
    sim: Simulator, stage: Stage, fault: dict[str, Any], rows: list[str]
) -> None:
    stage.manifest("guest", vm(101, "source: {empty: true}", "power: stopped"))
    forgotten = fault["fault"] == "reply_lost_unlisted"
    if not forgotten:
        sim.fault(**fault, method="POST", path="/qemu$", times=1)
    stage.dies(WRITTEN.format("POST", "/qemu", 101), "apply", "--yes")
    until(lambda: (guest := sim.guest(101)) and not guest["lock"])
    until(lambda: all(task["state"] != "running" for task in sim.ask("/_sim/state")["tasks"]))
    if forgotten:
        sim.control("forget_tasks", node="pve1")
    report = recovered(stage)
    adopted = {} if forgotten else {"adopted": 1}
    assert report == {"examined": 1, "resumed": 1, **adopted, "rows": rows}
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    assert len(sim.mutations()) == 1


def test_a_clone_that_goes_on_is_still_running(sim: Simulator, stage: Stage) -> None:
    sim.control("duration", type="qmclone", seconds=100)
    sim.fault(fault="reply_lost", method="POST", path="/clone$", times=1)
    stage.manifest("guest", vm(101, "source: {clone: 9000}", "power: stopped"))
    stage.dies(WRITTEN.format("POST", "/clone", 101), "apply", "--yes")
    until(lambda: sim.ask("/_sim/state")["tasks"])
    report = recovered(stage, code=2)
    assert report == {"examined": 1, "still_running": 1, "adopted": 1, "rows": ["R2"]}
    assert stage.run("apply", "--yes").code == 0  # it waits for the clone, and makes no second one
    settled(sim, stage)
    assert len(sim.mutations()) == 1


def test_a_task_that_failed_is_recorded_as_failed(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guest", ct(101))
    sim.fault(fault="task_fails", method="POST", path="/lxc$", times=1, error="no space left")
    stage.dies(WRITTEN.format("POST", "/lxc", 101), "apply", "--yes")
    until(lambda: [task for task in sim.ask("/_sim/state")["tasks"] if task["state"] != "running"])
    assert recovered(stage) == {"examined": 1, "failed": 1, "adopted": 1, "rows": ["R5"]}
    (op,) = stage.journal().ops
    assert op.exit_status == "unable to create CT 101 - no space left"
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)


def test_a_config_write_that_arrives_after_recovery_is_refused_by_pve(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guest", ct(101))
    assert stage.run("apply", "--yes").code == 0
    stage.manifest("guest", ct(101).replace("memory: 512", "memory: 768"))
    sim.fault(fault="late", method="PUT", path="/lxc/101/config$", times=1, delay_s=6)
    stage.dies(WRITTEN.format("PUT", "/config", 101), "apply", "--yes")
    assert recovered(stage) == {"examined": 1, "rolled_back": 1, "rows": ["R11"]}
    (late,) = until(lambda: _writing(sim, "768"))
    until(lambda: sim.ask("/_sim/state")["time"] > late["time"] + 0.5)
    assert late["effect"] is False
    fences = [row for row in sim.mutations() if is_fence(row)]
    assert [row["effect"] for row in fences] == [True]
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    assert str((sim.guest(101) or {})["config"]["memory"]) == "768"


def test_a_config_write_that_arrives_in_the_middle_of_recovery_happens_once(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guest", ct(101))
    assert stage.run("apply", "--yes").code == 0
    for memory, delay_s in ((600, 0.9), (700, 1.3)):
        stage.manifest("guest", ct(101).replace("memory: 512", f"memory: {memory}"))
        sim.fault(fault="late", method="PUT", path="/lxc/101/config$", times=1, delay_s=delay_s)
        stage.dies(WRITTEN.format("PUT", "/config", 101), "apply", "--yes")
        report = recovered(stage)
        (row,) = until(lambda wanted=str(memory): _writing(sim, wanted))
        landed = bool(row["effect"])
        assert report["rows"] == (["R7"] if landed else ["R11"]), "the record says what happened"
        account(sim, stage)
        assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)


def test_a_start_that_arrives_after_recovery_is_noticed(sim: Simulator, stage: Stage) -> None:
    """Nothing in PVE can refuse a late start; it is presumed, watched, and taken back when it shows up."""
    stage.manifest("guest", vm(101, "source: {empty: true}", "power: stopped"))
    assert stage.run("apply", "--yes").code == 0
    stage.manifest("guest", vm(101))
    sim.fault(fault="late", method="POST", path="/status/start$", times=1, delay_s=8)
    stage.dies(WRITTEN.format("POST", "/start", 101), "apply", "--yes")
    assert recovered(stage) == {"examined": 1, "rolled_back": 1, "presumed": 1, "rows": ["R12"]}
    until(lambda: (sim.guest(101) or {})["status"] == "running")
    done = stage.run("apply", "--yes")
    assert done.code == 0
    assert "was presumed not to have started, and did" in done.err
    settled(sim, stage)
    (start,) = stage.journal().of(101, "start")
    assert (start.state, start.contradicted) == ("succeeded", True)
    assert sum(row["path"].endswith("/start") for row in sim.mutations()) == 1


def test_a_create_that_arrives_after_it_was_done_again_changes_nothing(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guest", vm(101, "source: {empty: true}", "power: stopped"))
    sim.fault(fault="late", method="POST", path="/qemu$", times=1, delay_s=8)
    stage.dies(WRITTEN.format("POST", "/qemu", 101), "apply", "--yes")
    assert recovered(stage) == {"examined": 1, "rolled_back": 1, "presumed": 1, "rows": ["R12"]}
    assert stage.run("apply", "--yes").code == 0
    assert sim.guest(101) is not None
    until(lambda: len(sim.mutations()) == 2)
    until(lambda: all(task["state"] != "running" for task in sim.ask("/_sim/state")["tasks"]))
    assert [row["effect"] for row in sim.mutations()] == [True, False]
    settled(sim, stage)
