"""The small clusters come to their end with answers lost in every way, and without a death.

Deaths are the matter of `test_every_kind` and `test_pairs_of_deaths`.
"""

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


def scenario(name: str, fault: str) -> Scenario:
    return replace(ALL[name], faults=FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ALL)
def test_converges_without_a_death(name: str, fault: str) -> None:
    invariants.converged(simulate(scenario(name, fault)))
