"""What people signed, with a death at every point from the arrival of its first byte on, and a redelivery after each.

The story is `gate_stories.ordinary`: one signature after the other, the second by two ways at once, redelivered until
it ended and afterwards, then the same nonce with other bytes, then the same key once more.
"""

import random
from dataclasses import replace
from functools import cache

import pytest

from tests.sampling import EVERYTHING
from tests.simulation import gate_invariants, invariants
from tests.simulation.deaths import same_moment
from tests.simulation.gate_harness import GateRun, play
from tests.simulation.gate_stories import CASES, story_of
from trueup.model.ops import OpState, Reason

STRIDE = {"destroy-qemu": 6, "destroy-lxc": 12, "rollback": 12, "disk-remove": 12, "stop": 12}
"""Each commit dies at every point around a write, and at every n-th of those that only read: dying there is dying
before what comes next. `make simulate` dies at all of them in turn."""
PAIRS = 3
ACCIDENTS = ["reply_lost", "error_596_work_continues", "error_500_worker_runs", "request_lost", "task_fails"]
LATE = {"fault": "late", "method": "DELETE", "path": "/301$", "delay_s": 900.0}


@cache
def points(name: str) -> list[int]:
    """The points of a life that is not cut short, from the arrival of the first paper on."""
    told = play(story_of(CASES[name]))
    passed = told.run.lives[0].mortality.passed
    found = [n for n in range(told.post.first_at, len(passed)) if EVERYTHING or not same_moment(passed, n)]
    writes = ("append", "PUT", "POST", "DELETE")
    return [n for n in found if n % STRIDE[name] == 0 or any(word in passed[n] for word in writes)]


def ends(told: GateRun) -> list[tuple[str, str]]:
    return [(op.state.value, op.reason.value if op.reason else "") for op in reversed(told.run.ops)]


@pytest.mark.parametrize("name", CASES)
def test_nobody_dies(name: str) -> None:
    told = play(story_of(CASES[name]))
    gate_invariants.check(told)
    assert ends(told) == [("succeeded", "task_ok")]


@pytest.mark.parametrize("name", CASES)
def test_a_death_at_every_point(name: str) -> None:
    for point in points(name):
        told = play(story_of(CASES[name]), point)
        gate_invariants.check(told)
        assert told.run.ops[0].state is OpState.SUCCEEDED, invariants.story(told.run)
        assert sum(one.answer is None for one in told.post.deliveries) <= 2


@pytest.mark.parametrize("name", CASES)
def test_two_deaths(name: str) -> None:
    chance = random.Random(name)
    found = points(name)
    for _ in range(PAIRS):
        gate_invariants.check(play(story_of(CASES[name]), chance.choice(found), chance.randrange(90)))


@pytest.mark.parametrize("name", ["destroy-qemu", "destroy-lxc"])
def test_its_delete_arrives_long_after_recovery(name: str) -> None:
    """Whoever signs anew lifts `protection` again, and is destroyed once; the late DELETE destroys nobody else."""
    story = story_of(CASES[name], faults=(LATE,))
    passed = play(story_of(CASES[name])).run.lives[0].mortality.passed
    sent = next(n for n, point in enumerate(passed) if point.startswith("DELETE") and point.endswith("sent"))
    told = play(story, sent)
    gate_invariants.check(told)
    assert ends(told) == [("failed", "not_started"), ("succeeded", "task_ok")]


@pytest.mark.parametrize("fault", ACCIDENTS)
@pytest.mark.parametrize("name", ["destroy-qemu", "destroy-lxc", "disk-remove"])
def test_a_death_and_an_accident_to_each_write(name: str, fault: str) -> None:
    """The guard's answer, the one of the request itself; kinds with a fence are told apart without anybody's word."""
    writes = [n for n in points(name) if n % 5 == 0]
    for number in (1, 2):
        accident = {"fault": fault, "method": "DELETE" if number == 2 else None, "path": "/301", "times": 1}
        accident = {key: value for key, value in accident.items() if value is not None}
        for point in writes[number::6]:
            told = play(story_of(CASES[name], faults=(accident,)), point)
            gate_invariants.check(told, open_for=frozenset({Reason.LATE_REQUEST_POSSIBLE, Reason.UNKNOWABLE}))


@pytest.mark.parametrize("name", ["rollback", "stop"])
def test_a_request_that_may_be_late_is_waited_for_and_never_sent_again(name: str) -> None:
    passed = play(story_of(CASES[name])).run.lives[0].mortality.passed
    sent = next(n for n, point in enumerate(passed) if point.startswith("POST") and point.endswith("sent"))
    lost = {"fault": "request_lost", "method": "POST", "path": "rollback|stop"}
    told = play(story_of(CASES[name], faults=(lost,)), sent)
    gate_invariants.check(told, open_for=frozenset({Reason.UNKNOWABLE}))
    first = ends(told)[0]
    assert first in {("failed", "presumed_not_started"), ("started", "unknowable")}, invariants.story(told.run)


def test_the_same_deaths_tell_the_same_story() -> None:
    story = replace(story_of(CASES["destroy-lxc"]), seed=5)
    first, second = play(story, 80, 30), play(story, 80, 30)
    assert first.run.verification.head == second.run.verification.head
    assert first.post.deliveries == second.post.deliveries
