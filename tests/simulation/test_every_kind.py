"""Every kind that is carried out, for both types of guest: done without a death, and after a death at every point.

What people sign for is done as a one-shot; what the loop may do as well, in both ways. No line here knows a kind: a
new one is covered by its example alone.
"""

from dataclasses import replace

import pytest

from tests.simulation import invariants
from tests.simulation.deaths import turning_points
from tests.simulation.examples import EXAMPLES, SIGNED
from tests.simulation.harness import Run, Scenario, simulate
from tests.simulation.stories import ops
from trueup.core.gate_params import PARAMS
from trueup.core.kinds import KINDS, Fence, Tier
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, OpState, Reason

CARRIED_OUT = {kind: spec for kind, spec in KINDS.items() if spec.carried_out}
WAYS = {
    "loop": (EXAMPLES, [kind for kind, spec in CARRIED_OUT.items() if spec.tier is not Tier.DESTRUCTIVE]),
    "signed": (SIGNED, [kind for kind in CARRIED_OUT if kind in PARAMS]),
}
EVERY = [
    pytest.param(kind, table[guest][kind], id=f"{guest.value}-{kind.value}-{way}")
    for guest in GuestType
    for way, (table, kinds) in WAYS.items()
    for kind in kinds
]
SAMPLE = 5
"""Of the deaths with lost answers, every fifth is died in each commit; random stories take the rest."""
LOST: tuple[dict[str, object], ...] = (
    {"fault": "reply_lost", "times": 2, "method": "POST"},
    {"fault": "reply_lost", "times": 1, "method": "PUT"},
    {"fault": "reply_lost", "times": 1, "method": "DELETE"},
)


def late(scenario: Scenario) -> int:
    """The number of points that lie before what the example is about: those are the creation of its guest."""
    return simulate(scenario).lives[0].stage_at if scenario.then is not None else 0


def unresolved(run: Run, kind: Kind) -> set[Reason | None]:
    """Why operations of this kind stay open, if nothing but time and their task could ever speak for them."""
    return {op.reason for op in ops(run, kind) if op.unresolved and KINDS[kind].fence_for(op.intent) is Fence.TOKEN}


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_is_carried_out(kind: Kind, story: Scenario) -> None:
    run = simulate(story)
    invariants.converged(run)
    assert [op.state for op in ops(run, kind)][-1:] == [OpState.SUCCEEDED], invariants.story(run)
    assert ops(run, kind)[-1].intent.one_shot == bool(story.asked), invariants.story(run)


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_ends_rightly_after_a_death_at_every_point(kind: Kind, story: Scenario) -> None:
    for point in turning_points(simulate(story).lives[0].mortality.passed, late(story)):
        run = simulate(story, point)
        if unresolved(run, kind) == {Reason.UNKNOWABLE}:
            invariants.check(run)  # it was signed, has no task and never leaves another trace: people have to look
        else:
            invariants.converged(run)


@pytest.mark.parametrize(("kind", "story"), EVERY)
def test_it_ends_rightly_after_a_death_and_lost_answers(kind: Kind, story: Scenario) -> None:
    story = replace(story, faults=LOST)
    for point in turning_points(simulate(story).lives[0].mortality.passed, late(story))[::SAMPLE]:
        run = simulate(story, point)
        if unresolved(run, kind):
            # Nothing but time speaks for such a kind: after two accidents it may honestly stay open.
            invariants.check(run)
        else:
            invariants.converged(run)
