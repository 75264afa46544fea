"""The agent dies at every single point, for every kind of operation, with and without lost answers."""

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.harness import Scenario, simulate
from tests.simulation.scenarios import ALL

FAULTS = {
    "no fault": (),
    "every reply lost": (
        {"fault": "reply_lost", "method": "POST", "times": 99},
        {"fault": "reply_lost", "method": "PUT", "path": "resize", "times": 99},
        {"fault": "reply_lost", "method": "PUT", "path": "config", "times": 2},
    ),
    "each request lost once": ({"fault": "request_lost", "times": 1}, {"fault": "request_lost", "nth": 3, "times": 1}),
    "500 and the worker runs": ({"fault": "error_500_worker_runs", "times": 99},),
    "596 and the work goes on": ({"fault": "error_596_work_continues", "times": 99},),
}
SHARDS = 4


def scenario(name: str, fault: str) -> Scenario:
    return replace(ALL[name], faults=FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ALL)
def test_converges_without_a_death(name: str, fault: str) -> None:
    invariants.converged(simulate(scenario(name, fault)))


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("fault", ["no fault", "every reply lost"])
@pytest.mark.parametrize("name", ALL)
def test_converges_after_a_death_at_every_point(name: str, fault: str, shard: int) -> None:
    story = scenario(name, fault)
    points = len(simulate(story).lives[0].mortality.passed)
    for point in range(shard, points, SHARDS):
        run = simulate(story, point)
        assert run.lives[0].mortality.dead.is_set() or point >= points - 1
        invariants.converged(run)
