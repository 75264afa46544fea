"""Every kind that is carried out, for both types of guest: done without a death, and after a death at every point.

No line here knows a kind: a new one is covered by its example alone.
"""

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.examples import EXAMPLES
from tests.simulation.harness import Scenario, simulate
from tests.simulation.stories import ops
from trueup.core.kinds import KINDS, Fence
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, OpState

EVERY = [
    pytest.param(guest, kind, id=f"{guest.value}-{kind.value}")
    for guest in GuestType
    for kind, spec in KINDS.items()
    if spec.carried_out
]
SAMPLE = 3
"""Of the deaths with lost answers, every third is died in each commit; random stories take the rest."""
LOST = ({"fault": "reply_lost", "times": 2, "method": "POST"}, {"fault": "reply_lost", "times": 1, "method": "PUT"})


def late(scenario: Scenario) -> int:
    """The number of points that lie before what the example is about: those are the creation of its guest."""
    return simulate(scenario).lives[0].stage_at if scenario.then is not None else 0


@pytest.mark.parametrize(("guest", "kind"), EVERY)
def test_it_is_carried_out(guest: GuestType, kind: Kind) -> None:
    run = simulate(EXAMPLES[guest][kind])
    invariants.converged(run)
    assert [op.state for op in ops(run, kind)][-1:] == [OpState.SUCCEEDED], invariants.story(run)


@pytest.mark.parametrize(("guest", "kind"), EVERY)
def test_it_ends_rightly_after_a_death_at_every_point(guest: GuestType, kind: Kind) -> None:
    story = EXAMPLES[guest][kind]
    for point in range(late(story), len(simulate(story).lives[0].mortality.passed)):
        invariants.converged(simulate(story, point))


@pytest.mark.parametrize(("guest", "kind"), EVERY)
def test_it_ends_rightly_after_a_death_and_lost_answers(guest: GuestType, kind: Kind) -> None:
    story = replace(EXAMPLES[guest][kind], faults=LOST)
    for point in range(late(story), len(simulate(story).lives[0].mortality.passed), SAMPLE):
        run = simulate(story, point)
        if KINDS[kind].fence is Fence.TOKEN and any(op.unresolved for op in run.ops):
            # Nothing but time speaks for such a kind: after two accidents it may honestly stay open.
            invariants.check(run)
        else:
            invariants.converged(run)
