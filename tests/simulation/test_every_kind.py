"""Every kind that is carried out, for both types of guest: done without a death, and after a death at every point.

What people sign for is done as a one-shot; what the loop may do as well, in both ways. No line here knows a kind: a
new one is covered by its example alone.
"""

from dataclasses import replace

import pytest

from tests.sampling import times
from tests.simulation import invariants, kinds
from tests.simulation.deaths import AtWrite, same_moment
from tests.simulation.examples import EXAMPLES
from tests.simulation.harness import Scenario, simulate
from tests.simulation.kinds import Example, deaths_in, unresolved
from tests.simulation.stories import ops
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, OpState

EVERY = [pytest.param(one.kind, one.scenario, id=one.name) for one in kinds.every()]
SAMPLE = times(10, 1)
"""Of the deaths with lost answers, every tenth is died in each commit; random stories take the rest."""
LOST: tuple[dict[str, object], ...] = (
    {"fault": "reply_lost", "times": 2, "method": "POST"},
    {"fault": "reply_lost", "times": 1, "method": "PUT"},
    {"fault": "reply_lost", "times": 1, "method": "DELETE"},
)


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_is_carried_out(kind: Kind, story: Scenario) -> None:
    run = simulate(story)
    invariants.converged(run)
    assert [op.state for op in ops(run, kind)][-1:] == [OpState.SUCCEEDED], invariants.story(run)
    assert ops(run, kind)[-1].intent.one_shot == bool(story.asked), invariants.story(run)


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_ends_rightly_after_a_death_at_every_point(kind: Kind, story: Scenario) -> None:
    example = Example("", kind, story)
    # What people sign for dies at the same points in `test_gate_deaths` and `test_signed_accidents` as well.
    for point in example.deaths()[:: times(2, 1) if story.asked else 1]:
        example.check(simulate(story, point))


def test_a_death_between_two_writes_is_one_death() -> None:
    """Why one of the two points is enough: after the one call has returned, and before the next has done anything."""
    story = EXAMPLES[GuestType.LXC][Kind.START]
    passed = simulate(story).lives[0].mortality.passed
    pairs = [n for n in range(1, len(passed)) if AtWrite.counts(passed[n]) and same_moment(passed, n)]
    for point in pairs[-4:]:
        first, second = simulate(story, point - 1), simulate(story, point)
        assert second.lives[0].mortality.passed.pop() == passed[point]
        assert [life.mortality.passed for life in first.lives] == [life.mortality.passed for life in second.lives]
        assert first.mutations == second.mutations
        assert first.records == second.records
    assert len(pairs) >= 4


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_ends_rightly_after_a_death_and_lost_answers(kind: Kind, story: Scenario) -> None:
    story = replace(story, faults=LOST)
    for point in deaths_in(story)[::SAMPLE]:
        run = simulate(story, point)
        if unresolved(run, kind):
            # Nothing but time speaks for such a kind: after two accidents it may honestly stay open.
            invariants.check(run)
        else:
            invariants.converged(run)
