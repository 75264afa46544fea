"""What happens at the gate at any moment: a veto, a revocation, a second request, a clock that steps, a changed guest.

The moment moves through the whole story in small steps; what people heard and what is in the journal must agree.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.simulation import gate_invariants, invariants
from tests.simulation.cluster import SimCluster
from tests.simulation.deaths import AfterSeconds
from tests.simulation.gate_harness import FOREIGN, OURS, GateRun, GateStory, Paper, Post, play, spec_of
from tests.simulation.gate_people import OWNER
from tests.simulation.gate_stories import CASES, SIGNED_AT_S, again_with_its_key, story_of
from tests.simulation.gate_swarm import edited, made_anew
from tests.simulation.test_gate_deaths import LATE, ends, points
from trueup.model.gate import Refusal
from trueup.model.gate_answers import Answer, Outcome, ResolvedAs
from trueup.model.ids import GuestType
from trueup.model.ops import OpState, Reason, Started

QEMU = GuestType.QEMU
DESTROY = CASES["destroy-qemu"]
HOUR_S = 3600.0
STEPS = [0.05 * number for number in range(12)]
"""Seconds after the second signature; the DELETE is sent some 0.13 s after it."""


def told_by(people: Callable[[Post], Awaitable[None]], *deaths: object, **more: object) -> GateRun:
    return play(story_of(DESTROY, people=people, **more), *deaths)  # type: ignore[arg-type]


def started(told: GateRun) -> int:
    return sum(1 for record in told.run.records if isinstance(record.event, Started))


def there(told: GateRun, vmid: int = OURS) -> dict[str, object] | None:
    guests = told.run.cluster.world.state()["guests"]
    return next((guest for guest in guests if guest["vmid"] == vmid), None)  # type: ignore[union-attr, index, call-overload, return-value]


async def agreed(post: Post, key: str = "the-key", valid_s: float = HOUR_S) -> tuple[Paper, Answer]:
    """Signed by two people and accepted."""
    await post.at(SIGNED_AT_S)
    paper = await post.prepare("destroy", key=key, valid_s=valid_s)
    await post.hand_in(paper.by("alice", "alice2"), "spool")
    return paper, await post.hand_in(paper.by("bob"), "http")


def test_two_keys_of_one_person_are_one_person() -> None:
    async def people(post: Post) -> None:
        paper, accepted = await agreed(post)
        assert accepted.outcome is Outcome.ACCEPTED, "by bob, and not before"
        await post.until_ended(paper.by("bob"), "spool", every_s=1.0)

    told = told_by(people)
    gate_invariants.check(told)
    assert told.post.deliveries[0].answer is not None
    assert told.post.deliveries[0].answer.outcome is Outcome.PENDING


@pytest.mark.parametrize("death", [None, AfterSeconds(SIGNED_AT_S + 0.4)])
@pytest.mark.parametrize("step", STEPS)
def test_a_veto_counts_or_is_said_to_be_too_late(step: float, death: object) -> None:
    heard: list[Answer] = []

    async def people(post: Post) -> None:
        paper, accepted = await agreed(post)
        await post.at(post.now_s + step)
        heard.append(await post.hand_in(post.veto(accepted.request), "socket"))
        last = await post.until_ended(paper.by("alice", "bob"), "spool", every_s=1.0)
        await again_with_its_key(post, DESTROY, paper, last)

    told = told_by(people, death)
    gate_invariants.check(told)
    counted = heard[0].state == "vetoed"
    vetoed = [op for op in told.run.ops if op.reason is Reason.VETOED]
    if counted:
        assert len(vetoed) == 1
        assert started(told) == 1, "only the one that was signed anew"
    elif vetoed:
        assert heard[0].outcome is Outcome.REPETITION, "its first answer was lost"
    else:
        assert heard[0].outcome is Outcome.REPETITION or "too late" in heard[0].reason


@pytest.mark.parametrize("what", ["bob", "alice", "policy"])
@pytest.mark.parametrize("step", STEPS[:6])
def test_a_revocation_or_a_new_policy_counts_until_it_is_sent(step: float, what: str) -> None:
    async def people(post: Post) -> None:
        paper, _ = await agreed(post)
        await post.at(post.now_s + step)
        if what == "policy":
            post.people.forbid(post.now_ms)
        else:
            for key in [key for key, owner in OWNER.items() if owner == what]:
                post.people.revoke(key, post.now_ms)
        await post.until_ended(paper.by("carol"), "spool", every_s=1.0)

    told = told_by(people)
    gate_invariants.check(told)
    assert ends(told) in ([("failed", "refused")], [("succeeded", "task_ok")])
    assert step or ends(told) == [("failed", "refused")]


def test_a_revocation_while_nobody_is_there_counts() -> None:
    async def people(post: Post) -> None:
        paper, _ = await agreed(post)
        post.people.revoke("bob", post.now_ms)
        await post.until_ended(paper.by("carol"), "spool", every_s=1.0)

    accepted = AfterSeconds(SIGNED_AT_S + 0.08)
    told = told_by(people, accepted)
    gate_invariants.check(told)
    assert ends(told) == [("failed", "refused")]
    assert there(told)


def test_a_second_request_with_its_key_waits_for_the_first_and_is_let_in_when_that_has_failed() -> None:
    heard: list[Answer] = []

    async def people(post: Post) -> None:
        paper, _ = await agreed(post)
        other = await post.prepare("destroy", key="the-key")
        different = await post.prepare("destroy", key="the-key", params={"purge": "1"})
        both = other.by("alice", "bob")
        heard.append(await post.hand_in(both, "http"))
        refused = await post.hand_in(different.by("alice", "bob"), "http")
        assert refused.refusal is Refusal.KEY_DIFFERS
        last = await post.until_ended(paper.by("bob"), "spool", every_s=1.0)
        await again_with_its_key(post, DESTROY, paper, last)

    told = told_by(people, faults=({"fault": "task_fails", "method": "DELETE", "path": "/301$"},))
    gate_invariants.check(told)
    assert heard[0].outcome is Outcome.REPETITION
    assert "in progress" in heard[0].reason
    assert ends(told) == [("failed", "task_error"), ("succeeded", "task_ok")]


def test_two_requests_for_one_guest_destroy_it_once() -> None:
    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        papers = [await post.prepare("destroy", key=f"key-{number}") for number in range(2)]
        await asyncio.gather(*(post.hand_in(paper.by("alice", "bob"), "spool") for paper in papers))
        for paper in papers:
            await post.until_ended(paper.by("bob"), "http", every_s=1.0)

    told = told_by(people)
    gate_invariants.check(told)
    assert ends(told) == [("succeeded", "task_ok"), ("failed", "not_as_signed")]


@pytest.mark.parametrize("happens", [edited, made_anew])
@pytest.mark.parametrize("name", ["destroy-qemu", "destroy-lxc", "rollback", "disk-remove", "stop"])
def test_a_guest_that_is_another_one_by_then_is_left_alone(name: str, happens: Callable[[SimCluster], None]) -> None:
    """It is accepted, and in that moment somebody changes the guest, or takes the vmid."""
    case = CASES[name]

    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        paper = await post.prepare(case.kind, params=case.params, key="the-key")
        assert post.cluster is not None
        await post.hand_in(paper.by("alice", "bob"), "spool")
        happens(post.cluster)
        await post.until_ended(paper.by("bob"), "http", every_s=5.0)

    told = play(story_of(case, people=people))
    gate_invariants.check(told, same_guests=happens is edited)
    assert ends(told) == [("failed", "not_as_signed")]
    assert started(told) == 0
    assert there(told)


def test_what_waits_past_its_execute_by_is_never_sent_also_by_the_next_agent() -> None:
    async def people(post: Post) -> None:
        assert post.cluster is not None
        await post.at(SIGNED_AT_S)
        paper = await post.prepare("destroy", key="the-key", valid_s=300.0)
        post.cluster.act({"action": "quorum", "quorate": False})
        accepted = await post.hand_in(paper.by("alice", "bob"), "spool")
        assert accepted.outcome is Outcome.ACCEPTED
        await post.at(400.0)
        post.cluster.act({"action": "quorum", "quorate": True})
        last = await post.until_ended(paper.by("bob"), "http", every_s=5.0)
        assert last.state == "failed"
        await again_with_its_key(post, DESTROY, paper, last)

    for death in (None, AfterSeconds(200.0)):
        told = told_by(people, death)
        gate_invariants.check(told)
        assert ends(told) == [("failed", "expired"), ("succeeded", "task_ok")]


@pytest.mark.parametrize("offset_s", [-30.0, -90_000.0])
def test_a_clock_that_is_set_back_opens_no_window(offset_s: float) -> None:
    """It waits until it is too late; then the clock goes back to when it was good: the journal knows better."""
    later: list[Answer] = []

    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        expired = await post.prepare("destroy", key="old", valid_s=60.0)
        await post.at(SIGNED_AT_S + 100.0)
        paper = await post.prepare("destroy", key="new")
        await post.hand_in(paper.by("mallory"), "http")  # a refusal is a record, and so an instant that has been
        post.offset_ms = int(offset_s * 1000) - 60_000
        later.append(await post.hand_in(expired.by("alice", "bob"), "http"))
        later.append(await post.hand_in(paper.by("alice", "bob"), "http"))
        post.offset_ms = 0
        later.append(await post.hand_in(paper.by("alice", "bob"), "http"))
        await post.until_ended(paper.by("bob"), "http", every_s=5.0)

    told = told_by(people, clock_steps=((1e6, 0.0),))
    gate_invariants.check(told)
    assert later[0].refusal in {Refusal.EXPIRED, Refusal.CLOCK}
    assert later[2].outcome in {Outcome.ACCEPTED, Outcome.REPETITION}
    assert ends(told) == [("succeeded", "task_ok")]


def test_signatures_outlive_the_agent_that_took_them() -> None:
    """One person signs; the agent dies at every point from then on; the other one signs with the next agent."""

    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        paper = await post.prepare("destroy", key="the-key")
        first = await post.hand_in(paper.by("alice"), "spool")
        assert first.state == "pending"
        await post.at(SIGNED_AT_S + 2)
        second = await post.hand_in(paper.by("bob"), "http")
        assert second.outcome in {Outcome.ACCEPTED, Outcome.REPETITION}
        assert second.request == first.request
        await post.until_ended(paper.by("bob"), "http", every_s=5.0)

    first_life = told_by(people)
    passed = first_life.run.lives[0].mortality.passed
    appended = next(
        n for n, name in enumerate(passed) if n > first_life.post.first_at and name == "journal.append after"
    )
    for point in range(first_life.post.first_at, appended + 12, 2):
        told = told_by(people, point)
        gate_invariants.check(told)
        assert ends(told) == [("succeeded", "task_ok")]


def test_a_pending_request_without_its_second_person_expires_and_frees_its_key() -> None:
    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        paper = await post.prepare("destroy", key="the-key", valid_s=300.0)
        await post.hand_in(paper.by("alice"), "spool")
        last = await post.until_ended(paper.by("alice"), "http", every_s=20.0)
        assert last.state == "expired"
        await again_with_its_key(post, DESTROY, paper, last)

    for death in (None, AfterSeconds(100.0), AfterSeconds(301.0)):
        told = told_by(people, death)
        gate_invariants.check(told)
        assert ends(told) == [("succeeded", "task_ok")]


def test_what_is_signed_waits_while_its_guest_has_an_open_operation() -> None:
    """Nobody can tell who stopped the guest: until somebody says so, its lane is closed, for the next agent too."""
    log_gone = {"fault": "task_log_gone", "method": "POST", "path": "status/stop"}
    config = {"scsi1": "local-lvm:vm-301-disk-1,size=1G"}

    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        stop = await post.prepare("stop", key="a")
        remove = await post.prepare("disk-remove", key="b", params={"disk": "scsi1"})
        first = await post.hand_in(stop.by("alice"), "spool")
        second = await post.hand_in(remove.by("alice", "bob"), "spool")
        assert second.outcome is Outcome.ACCEPTED
        await post.at(900.0)
        assert (await post.hand_in(remove.by("bob"), "spool")).state == "accepted"
        word = post.resolution(first.op, ResolvedAs.SUCCEEDED)
        said = await post.hand_in(word, "http")
        assert (said.outcome, said.state) == (Outcome.ACCEPTED, "succeeded")
        assert (await post.hand_in(word, "http")).refusal is Refusal.REPLAY
        await post.until_ended(remove.by("bob"), "spool", every_s=5.0)

    for death in (None, AfterSeconds(100.0)):
        story = GateStory(spec=spec_of(QEMU, config, "running"), people=people, faults=(log_gone,))
        told = play(story, death)
        gate_invariants.check(told)
        assert ends(told) == [("succeeded", "resolved_by_operator"), ("succeeded", "task_ok")]


def test_a_guest_of_somebody_else_is_touched_only_as_signed() -> None:
    async def people(post: Post) -> None:
        await post.at(SIGNED_AT_S)
        paper = await post.prepare("destroy", FOREIGN, key="the-key")
        await post.hand_in(paper.by("alice", "bob"), "spool")
        await post.until_ended(paper.by("bob"), "http", every_s=5.0)

    told = told_by(people)
    gate_invariants.check(told)
    assert ends(told) == [("succeeded", "task_ok")]
    assert there(told)
    assert not there(told, FOREIGN)


def test_whoever_lifts_the_fence_of_a_dead_request_is_answered_by_a_new_one() -> None:
    def lifted(cluster: SimCluster) -> None:
        cluster.put({"vmid": OURS, "config": {"protection": None}})

    async def people(post: Post) -> None:
        paper, _ = await agreed(post)
        await post.until_ended(paper.by("bob"), "http", every_s=5.0)
        await post.at(3 * HOUR_S)

    late = {**LATE, "delay_s": 1.5 * HOUR_S}
    base = told_by(people)
    sent = next(
        n for n, name in enumerate(base.run.lives[0].mortality.passed) if name == "DELETE /nodes/pve1/qemu/301 sent"
    )
    told = told_by(people, sent, faults=(late,), events=((HOUR_S, lifted),))
    gate_invariants.check(told)
    assert ends(told) == [("failed", "not_started")]
    guest = there(told)
    assert guest is not None
    assert str(guest["config"]["protection"]) == "1", invariants.story(told.run)  # type: ignore[index, call-overload]


def test_a_node_that_reboots_in_the_middle_makes_it_wait_not_twice() -> None:
    boot = [
        (SIGNED_AT_S + 0.3, lambda cluster: cluster.act({"action": "node_down", "node": "pve1"})),
        (SIGNED_AT_S + 60.0, lambda cluster: cluster.act({"action": "node_up", "node": "pve1"})),
    ]
    for name, step in (("destroy-qemu", 20), ("rollback", 60)):
        for point in points(name)[5::step]:
            told = play(story_of(CASES[name], events=boot), point)
            gate_invariants.check(told, open_for=frozenset({Reason.UNKNOWABLE, Reason.LATE_REQUEST_POSSIBLE}))
            assert told.run.ops[-1].state in {OpState.SUCCEEDED, OpState.FAILED, OpState.STARTED, OpState.TASK_RUNNING}
