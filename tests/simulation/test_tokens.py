"""Incarnation tokens: each life has its own, and the tokens of the dead are deleted before anything is judged."""

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.harness import simulate
from tests.simulation.scenarios import CLONED_VM, EMPTY_VM
from tests.simulation.stories import die, ending, ops
from trueup.model.ops import Kind


def test_a_request_stuck_before_the_check_dies_with_its_token() -> None:
    late = ({"fault": "late", "path": "start", "delay_s": 60.0},)
    run = die(replace(EMPTY_VM, keeper=True, faults=late, later_s=3600.0), "start sent")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(first) == ("failed", "presumed_not_started", "R12")
    assert not first.contradicted, "PVE answered 401"
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert (first.intent.token, second.intent.token) == ("agent@pve!sim-1", "agent@pve!sim-2")


@pytest.mark.parametrize("shard", range(2))
def test_converges_after_a_death_at_every_point(shard: int) -> None:
    story = replace(CLONED_VM, keeper=True)
    for point in range(shard, len(simulate(story).lives[0].mortality.passed), 2):
        run = simulate(story, point)
        invariants.converged(run)
        assert len([token for token in run.cluster.world.state()["tokens"] if "sim-" in str(token)]) <= 1  # type: ignore[union-attr]


def test_a_keeper_without_rights_leaves_recovery_open() -> None:
    def gone(cluster: invariants.SimCluster) -> None:
        cluster.world.control({"action": "delete_token", "id": "root@pam!keeper"})

    run = die(replace(EMPTY_VM, keeper=True, before_restart=gone), "start sent")
    assert "could not be made" in str(run.lives[-1].error)
    assert [ending(op)[0] for op in ops(run, Kind.START)] == ["started"]
