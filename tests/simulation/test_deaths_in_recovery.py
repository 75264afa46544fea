"""Deaths while the agent recovers from a death: every pair of them around what is written, and three in a row.

Two kinds stand for the others: one that a fence in PVE protects, and one that only its goal does. The points are those
around a write or an append; between two of them nothing changes that a new life could find otherwise.
"""

import random

import pytest

from tests.sampling import EVERYTHING
from tests.simulation import invariants
from tests.simulation.deaths import AtWrite, same_moment
from tests.simulation.examples import EXAMPLES
from tests.simulation.harness import Life, Scenario, simulate
from trueup.model.ids import GuestType
from trueup.model.ops import Kind

CASES = [(GuestType.QEMU, Kind.CONFIGURE), (GuestType.LXC, Kind.START)]
IDS = [f"{guest.value}-{kind.value}" for guest, kind in CASES]
CRASHES = 25
"""So many rows of three deaths are tried for each kind in each run of the tests."""


def writes(life: Life, begin: int = 0) -> list[AtWrite]:
    """The deaths around writes of a life that differ, from its point `begin` on."""
    passed = life.mortality.passed
    points = [number for number, name in enumerate(passed) if AtWrite.counts(name)]
    return [
        AtWrite(nth)
        for nth, point in enumerate(points)
        if point == begin or (point > begin and (EVERYTHING or not same_moment(passed, point)))
    ]


def first_deaths(story: Scenario) -> list[AtWrite]:
    """The deaths around writes of what the example is about."""
    life = simulate(story).lives[0]
    return writes(life, life.stage_at)


@pytest.mark.parametrize(("guest", "kind"), CASES, ids=IDS)
def test_every_pair_of_deaths_around_writes(guest: GuestType, kind: Kind) -> None:
    story = EXAMPLES[guest][kind]
    pairs = 0
    for first in first_deaths(story):
        once = simulate(story, first)
        for second in writes(once.lives[1]):
            run = simulate(story, first, second)
            invariants.converged(run)
            assert [life.mortality.dead.is_set() for life in run.lives] == [True, True, False]
            pairs += 1
    assert pairs > 25


@pytest.mark.parametrize(("guest", "kind"), CASES, ids=IDS)
def test_three_deaths_in_a_row(guest: GuestType, kind: Kind) -> None:
    """The second and the third life die early, where they recover."""
    story = EXAMPLES[guest][kind]
    chance = random.Random(f"three {guest} {kind}")
    firsts = first_deaths(story)
    in_recovery = 0
    for _ in range(CRASHES):
        deaths = [chance.choice(firsts), chance.randrange(30), chance.randrange(30)]
        run = simulate(story, *deaths)
        invariants.converged(run)
        in_recovery += sum(life.report is None for life in run.lives[1:3])
    assert in_recovery > CRASHES
