"""Every one-shot that people sign for, with every accident to its request, two deaths, and a request that comes late.

No line here knows a kind. Where nothing but time and its task speaks for one, it may honestly stay open.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from urllib.parse import unquote

import pytest
from _pytest.mark import ParameterSet

from tests.sampling import crossed, times
from tests.simulation import invariants
from tests.simulation.examples import SIGNED
from tests.simulation.harness import Run, Scenario, simulate
from tests.simulation.stories import ops, points
from tests.simulation.test_every_kind import EVERY, unresolved
from tests.simulation.test_faults import MENDED, STUCK
from trueup.model.ids import GuestType
from trueup.model.ops import Intent, Kind, OpState

HOUR_S = 3600.0
PAIRS = times(1, 3)
ONE_SHOTS = [param for param in EVERY if str(param.id).endswith("-signed")]
TERMINAL = {OpState.SUCCEEDED, OpState.FAILED}


def each_with(columns: Sequence[object], every: int) -> list[ParameterSet]:
    """Each one-shot with some of these, all of them in a thorough run."""
    return [
        pytest.param(*one.values, column, id=f"{one.id}-{column}") for one, column in crossed(ONE_SHOTS, columns, every)
    ]


def once(story: Scenario) -> Scenario:
    """People sign for it one single time."""
    assert story.asked is not None
    return replace(story, asked=replace(story.asked, tries=1))


@cache
def sent(kind: Kind, guest: GuestType) -> tuple[Intent, int]:
    """The request as it is sent when nothing happens to it, and how many like it went before."""
    run = simulate(SIGNED[guest][kind])
    intent = ops(run, kind)[-1].intent
    return intent, sum(1 for row in run.mutations if (row["method"], row["path"]) == call(intent)) - 1


def call(intent: Intent) -> tuple[str, str]:
    return intent.method, unquote(intent.path)


def accident_to(kind: Kind, guest: GuestType, fault: str, **more: object) -> dict[str, object]:
    intent, before = sent(kind, guest)
    path = f"^{re.escape(unquote(intent.path))}$"
    return {"fault": fault, "method": intent.method, "path": path, "nth": before + 1, **more}


def guest_of(story: Scenario) -> GuestType:
    return story.desired[0].type


def ended_or_honest(run: Run, kind: Kind) -> None:
    op = ops(run, kind)[0]
    assert op.state in TERMINAL or op.unresolved, invariants.story(run)


@pytest.mark.parametrize(("kind", "story", "fault"), each_with([*MENDED, *STUCK], 3))
def test_an_accident_to_its_request(kind: Kind, story: Scenario, fault: str) -> None:
    guest = guest_of(story)
    more = {"delay_s": 20.0} if fault == "late" else {}
    accident = accident_to(kind, guest, fault, **more)
    run = simulate(replace(once(story), faults=(accident,), later_s=900.0))
    invariants.check(run, believe_tasks=fault != "task_ok_without_effect")
    ended_or_honest(run, kind)


@pytest.mark.parametrize(("kind", "story", "delay_s"), each_with([0.4, 8.0, HOUR_S], 2))
def test_its_request_comes_late_and_the_agent_is_dead(kind: Kind, story: Scenario, delay_s: float) -> None:
    intent, before = sent(kind, guest_of(story))
    late = accident_to(kind, guest_of(story), "late", delay_s=delay_s)
    story = replace(once(story), faults=(late,), later_s=2 * HOUR_S)
    point = points(story, f"^{intent.method} {re.escape(intent.path)} sent")[before]
    run = simulate(story, point)
    invariants.check(run)
    ended_or_honest(run, kind)


@pytest.mark.parametrize(("kind", "story"), ONE_SHOTS)
def test_two_deaths(kind: Kind, story: Scenario) -> None:
    chance = random.Random(kind.value)
    life = simulate(story).lives[0]
    for _ in range(PAIRS):
        first = chance.randrange(life.stage_at, len(life.mortality.passed))
        run = simulate(story, first, chance.randrange(70))
        if unresolved(run, kind):
            invariants.check(run)
        else:
            invariants.converged(run)
