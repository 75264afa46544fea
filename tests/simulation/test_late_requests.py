"""A request of a dead agent arrives late: while recovery looks, or an hour after it. Nothing happens twice.

Fenced kinds are refused by PVE; for the others the presumption is taken back, and the record is right in the end.
"""

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.scenarios import CLONED_CT, CLONED_VM, EMPTY_VM, STOPPED_VM
from tests.simulation.stories import die, ending, ops
from trueup.model.notes import What
from trueup.model.ops import Kind

HOUR_S = 3600.0


def late(path: str, delay_s: float, *, nth: int = 1) -> tuple[dict[str, object], ...]:
    return ({"fault": "late", "path": path, "delay_s": delay_s, "nth": nth},)


@pytest.mark.parametrize("delay_s", [1.0, 4.0])
def test_a_creation_that_arrives_during_recovery_is_found_and_adopted(delay_s: float) -> None:
    run = die(replace(CLONED_VM, faults=late("clone", delay_s), later_s=2 * HOUR_S), "clone sent")
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.CLONE)] == [("succeeded", "task_ok", "R3")]
    assert ops(run, Kind.CLONE)[0].adopted


@pytest.mark.parametrize("delay_s", [6.0, HOUR_S])
def test_a_creation_that_arrives_after_its_successor_is_refused_by_pve(delay_s: float) -> None:
    run = die(replace(EMPTY_VM, faults=late("/qemu$", delay_s), later_s=2 * HOUR_S), "POST /nodes/pve1/qemu sent")
    invariants.converged(run)
    first, second = ops(run, Kind.CREATE)
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert first.state == "failed"
    assert len([row for row in run.effects() if row["path"] == "/nodes/pve1/qemu"]) == 1


@pytest.mark.parametrize("scenario", [CLONED_VM, CLONED_CT])
@pytest.mark.parametrize("kind", [Kind.CONFIGURE, Kind.GROW])
@pytest.mark.parametrize("delay_s", [0.3, 2.0, HOUR_S])
def test_a_guarded_write_that_arrives_behind_the_fence_changes_nothing(
    scenario: invariants.Scenario, kind: Kind, delay_s: float
) -> None:
    path = "config" if kind is Kind.CONFIGURE else "resize"
    run = die(replace(scenario, faults=late(path, delay_s), later_s=2 * HOUR_S), f"{path} sent")
    invariants.converged(run)
    endings = [ending(op) for op in ops(run, kind)]
    assert endings[-1][0] == "succeeded"
    assert all(end in {("failed", "not_started", "R11"), ("failed", "task_error", "R5")} for end in endings[:-1])
    assert not [note for life in run.lives for note in life.notes if note.what is What.ALARM]


@pytest.mark.parametrize("delay_s", [8.0, HOUR_S])
def test_a_start_that_arrives_later_takes_the_presumption_back(delay_s: float) -> None:
    run = die(replace(EMPTY_VM, faults=late("start", delay_s), later_s=2 * HOUR_S), "start sent")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(second) == ("succeeded", "task_ok", "R3")
    # PVE refused it, since the guest ran already: the presumption was wrong, and the record says what came of it.
    assert ending(first) == ("failed", "task_error", "R5")
    assert first.contradicted
    assert "already running" in first.exit_status
    assert [note.text for life in run.lives for note in life.notes if note.what is What.ALARM]


def test_a_shutdown_that_arrives_later_is_recorded_as_what_it_was() -> None:
    run = die(replace(STOPPED_VM, faults=late("shutdown", HOUR_S), later_s=2 * HOUR_S), "shutdown sent")
    invariants.converged(run)
    first, second = ops(run, Kind.SHUTDOWN)
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert first.contradicted
    assert ending(first)[2] in {"R3", "R5"}
