"""Two deaths in a row: the second one in the middle of recovery, or right after it."""

import random

import pytest

from tests.sampling import times
from tests.simulation import invariants
from tests.simulation.deaths import AtWrite
from tests.simulation.harness import simulate
from tests.simulation.scenarios import ALL
from tests.simulation.test_lost_answers import scenario

PAIRS = times(8, 20)
"""So many for each story; the first death is around a write, since nothing changes between two reads."""


@pytest.mark.parametrize("fault", ["no fault", "every reply lost"])
@pytest.mark.parametrize("name", ALL)
def test_converges_after_two_deaths(name: str, fault: str) -> None:
    story = scenario(name, fault)
    chance = random.Random(f"{name} {fault}")
    first_points = sum(AtWrite.counts(name) for name in simulate(story).lives[0].mortality.passed)
    for _ in range(PAIRS):
        first = AtWrite(chance.randrange(first_points))
        # Most of the second lives are recovery; look there above all.
        second = chance.randrange(60)
        invariants.converged(simulate(story, first, second))
