"""The life of requests: let in, approved one by one, vetoed, expired, repeated, checked once more, resolved."""

import dataclasses

from msgspec.structs import replace

from tests.gate.test_attacks import good, revoke
from tests.gate.world import (
    HOUR_MS,
    KEPT,
    NOW_MS,
    TOKEN,
    VM,
    Scene,
    instant,
    key_id,
    play,
    request,
    signed,
    veto,
)
from trueup.core.gate_checks import SLACK_MS
from trueup.core.one_shots import NotYet, Objection
from trueup.model import limits
from trueup.model.gate import Approved, Denied, Refusal, Requested, RequestState
from trueup.model.gate_answers import Go, Hold, Outcome, Stop
from trueup.model.ops import Accepted, Contradicted, Failed, OpState, Reason, Started, Succeeded


async def accept(scene: Scene, **more):
    answer = await scene.gate.submit(good(**more), "stdin")
    assert answer.outcome is Outcome.ACCEPTED, answer
    return answer


async def start(scene: Scene, op_id: str) -> None:
    view = await scene.op(op_id)
    await scene.deck.record(op_id, Started(intent=view.intent))


def test_two_people_and_it_is_accepted_in_one_append(tmp_path):
    async def story(scene: Scene) -> None:
        answer = await accept(scene, params={"purge": True})
        assert (answer.state, answer.op) == ("accepted", answer.request)
        records = await scene.journal.records(op_id=answer.request)
        assert [type(r.event) for r in records] == [Requested, Approved, Approved, Accepted]
        assert [r.seq for r in records] == list(range(records[0].seq, records[0].seq + 4))
        view = await scene.op(answer.op)
        assert view.state is OpState.ACCEPTED
        intent = view.intent
        assert (intent.kind, intent.vmid, intent.one_shot, intent.token) == ("destroy", VM, True, TOKEN)
        assert (dict(intent.params), dict(intent.labels)) == ({"purge": "1"}, {"tier": "web"})
        assert (intent.identity, intent.digest) == (scene.world.observed().identity, "a" * 40)
        asked = await scene.request(answer.request)
        assert {one.person for one in asked.approvals} == {"alice", "bob"}
        assert asked.ruling.rule == 1
        assert len(asked.ruling.policy_digest) == len(asked.ruling.keyring_digest) == 64

    play(tmp_path, story)


def test_approvals_come_one_by_one(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        assert (first.outcome, first.state) == (Outcome.PENDING, "pending")
        again = await scene.gate.submit(signed(document, "alice"), "http")
        assert (again.outcome, again.state, again.request) == (Outcome.REPETITION, "pending", first.request)
        second = await scene.gate.submit(signed(document, "bob"), "http")
        assert (second.outcome, second.request) == (Outcome.ACCEPTED, first.request)
        third = await scene.gate.submit(signed(document, "alice", "bob", "carol"), "http")
        assert (third.outcome, third.state) == (Outcome.REPETITION, "accepted")
        assert len(await scene.events(Accepted)) == 1

    play(tmp_path, story)


def test_approve_takes_only_the_very_request(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        wrong = await scene.gate.approve(first.request, signed(request(), "bob"), "http")
        assert wrong.refusal is Refusal.REPLAY
        nothing = await scene.gate.approve("nobody", signed(document, "bob"), "http")
        assert nothing.refusal is Refusal.STATE
        right = await scene.gate.approve(first.request, signed(document, "bob"), "http")
        assert right.outcome is Outcome.ACCEPTED

    play(tmp_path, story)


def test_a_requester_who_may_not_approve_needs_two_others(tmp_path):
    async def story(scene: Scene) -> None:
        document = request("rollback", params={"snapshot": "before"})
        answer = await scene.gate.submit(signed(document, "alice", "bob"), "http")
        assert (answer.state, answer.missing) == ("pending", "1 more with role operator: carol")
        assert (await scene.gate.submit(signed(document, "carol"), "http")).outcome is Outcome.ACCEPTED

    play(tmp_path, story)


def test_a_nonce_binds_the_payload_not_the_envelope(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice", "bob"), "http")
        reordered = await scene.gate.submit(signed(document, "bob", "alice"), "http")
        assert (reordered.outcome, reordered.request) == (Outcome.REPETITION, first.request)
        for other in (document | {"reason": "another"}, document | {"nonce": str(document["nonce"]).lower()}):
            answer = await scene.gate.submit(signed(other, "alice", "bob"), "http")
            assert (answer.outcome, answer.refusal) == (Outcome.REFUSED, Refusal.REPLAY)

    play(tmp_path, story)


def test_redelivery_is_answered_with_the_state_also_after_its_time(tmp_path):
    async def story(scene: Scene) -> None:
        content = good()
        first = await scene.gate.submit(content, "http")
        await start(scene, first.op)
        assert (await scene.gate.submit(content, "http")).state == "started"
        await scene.deck.record(first.op, Succeeded(reason=Reason.TASK_OK))
        scene.clock.ms += 3 * HOUR_MS
        late = await scene.new_gate().submit(content, "http")
        assert (late.outcome, late.state, late.op) == (Outcome.REPETITION, "succeeded", first.op)
        assert len(await scene.events(Started)) == 1

    play(tmp_path, story)


def test_an_idempotency_key_is_claimed_applied_and_free_again(tmp_path):
    async def story(scene: Scene) -> None:
        key = {"idempotency_key": "retire-4711"}
        first = await accept(scene, **key)
        busy = await scene.gate.submit(good(**key), "http")
        assert (busy.outcome, busy.op, busy.state) == (Outcome.REPETITION, first.op, "accepted")
        assert "in progress" in busy.reason
        differs = await scene.gate.submit(good(kind="shutdown", **key), "http")
        assert differs.refusal is Refusal.KEY_DIFFERS
        await start(scene, first.op)
        await scene.deck.record(first.op, Failed(reason=Reason.TASK_ERROR))
        second = await accept(scene, **key)
        assert second.op != first.op
        await start(scene, second.op)
        await scene.deck.record(second.op, Succeeded(reason=Reason.TASK_OK))
        done = await scene.gate.submit(good(**key), "http")
        assert (done.outcome, done.op, done.state) == (Outcome.REPETITION, second.op, "succeeded")

    play(tmp_path, story)


def test_a_contradicted_operation_takes_its_key_again(tmp_path):
    async def story(scene: Scene) -> None:
        key = {"idempotency_key": "retire-4711"}
        first = await accept(scene, **key)
        await start(scene, first.op)
        await scene.deck.record(first.op, Failed(reason=Reason.PRESUMED_NOT_STARTED))
        await scene.deck.record(first.op, Contradicted(what="its task turned up"))
        answer = await scene.gate.submit(good(**key), "http")
        assert (answer.outcome, answer.op, answer.state) == (Outcome.REPETITION, first.op, "started")

    play(tmp_path, story)


def test_a_veto_ends_what_is_pending_and_what_is_accepted(tmp_path):
    async def story(scene: Scene) -> None:
        pending = await scene.gate.submit(signed(request(), "alice"), "http")
        accepted = await accept(scene)
        for first in (pending, accepted):
            answer = await scene.gate.submit(veto(first.request), "http")
            assert (answer.outcome, answer.state) == (Outcome.ACCEPTED, "vetoed"), answer
            view = await scene.request(first.request)
            assert (view.state, view.vetoed and view.vetoed.approval.person) == (RequestState.VETOED, "bob")
            again = await scene.gate.submit(veto(first.request, "carol"), "http")
            assert again.outcome is Outcome.REPETITION
        op = await scene.op(accepted.op)
        assert (op.state, op.reason) == (OpState.FAILED, Reason.VETOED)

    play(tmp_path, story)


def test_a_veto_needs_the_role_and_comes_before_the_start(tmp_path):
    async def story(scene: Scene) -> None:
        first = await accept(scene)
        assert (await scene.gate.submit(veto(first.request, "dave"), "http")).refusal is Refusal.NO_RULE
        assert (await scene.gate.submit(veto("nobody"), "http")).refusal is Refusal.STATE
        assert (await scene.gate.submit(veto(first.request, cluster="prod"), "http")).refusal is Refusal.AUDIENCE
        old = veto(first.request, not_before=instant(-3), execute_by=instant(-1))
        assert (await scene.gate.submit(old, "http")).refusal is Refusal.EXPIRED
        await start(scene, first.op)
        late = await scene.gate.submit(veto(first.request), "http")
        assert (late.refusal, (await scene.op(first.op)).state) == (Refusal.STATE, OpState.STARTED)

    play(tmp_path, story)


def test_pending_requests_expire(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        assert await scene.gate.lapse() == 0
        scene.clock.ms += HOUR_MS
        assert await scene.gate.lapse() == 1
        view = await scene.request(first.request)
        assert (view.state, view.lapsed and view.lapsed.why) == (RequestState.EXPIRED, Refusal.EXPIRED)
        late = await scene.gate.submit(signed(document, "bob"), "http")
        assert (late.outcome, late.state) == (Outcome.REPETITION, "expired")
        assert await scene.events(Accepted) == []

    play(tmp_path, story)


def test_a_late_approval_ends_the_request_by_itself(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        scene.clock.ms += HOUR_MS
        late = await scene.gate.submit(signed(document, "bob"), "http")
        assert late.refusal is Refusal.EXPIRED
        assert (await scene.request(first.request)).state is RequestState.EXPIRED

    play(tmp_path, story)


def test_a_guest_that_changed_while_people_signed_ends_the_request(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        scene.world.digests[VM] = "c" * 40
        answer = await scene.gate.submit(signed(document, "bob"), "http")
        assert (answer.refusal, answer.request) == (Refusal.DIGEST, first.request)
        view = await scene.request(first.request)
        assert (view.state, view.lapsed and view.lapsed.why) == (RequestState.REFUSED, Refusal.DIGEST)

    play(tmp_path, story)


def test_a_guest_that_is_gone_ends_the_request(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        del scene.world.configs[VM]
        assert (await scene.gate.submit(signed(document, "alice"), "http")).refusal is Refusal.TARGET_GONE
        assert (await scene.request(first.request)).state is RequestState.REFUSED

    play(tmp_path, story)


def test_a_guest_that_cannot_be_read_only_delays(tmp_path):
    async def story(scene: Scene) -> None:
        document = request("rollback", params={"snapshot": "s1"})
        await scene.gate.submit(signed(document, "alice", "bob"), "http")
        scene.world.broken = True
        assert (await scene.gate.submit(signed(document, "carol"), "http")).refusal is Refusal.UNREADABLE
        scene.world.broken = False
        assert (await scene.gate.submit(signed(document, "carol"), "http")).outcome is Outcome.ACCEPTED

    play(tmp_path, story)


def test_a_key_revoked_while_people_sign_no_longer_counts(tmp_path):
    async def story(scene: Scene) -> None:
        document = request("rollback", params={"snapshot": "s1"})
        await scene.gate.submit(signed(document, "alice", "bob"), "http")
        revoke(scene, "bob")
        answer = await scene.gate.submit(signed(document, "carol"), "http")
        assert (answer.outcome, answer.missing) == (Outcome.PENDING, "1 more with role operator: bob")

    play(tmp_path, story)


def test_the_clock_going_back_opens_nothing(tmp_path):
    """Within the allowed difference the journal's newest instant is the time."""

    async def story(scene: Scene) -> None:
        document = request()
        scene.clock.ms = NOW_MS + HOUR_MS - 1
        await scene.gate.submit(signed(document, "alice"), "http")
        scene.clock.ms = NOW_MS + HOUR_MS + 1
        await scene.gate.submit(b"{}", "http")
        scene.clock.ms = NOW_MS + HOUR_MS - 1000
        assert (await scene.gate.submit(signed(document, "bob"), "http")).refusal is Refusal.EXPIRED

    play(tmp_path, story)


def test_grace_and_windows_set_the_earliest_start(tmp_path):
    async def story(scene: Scene) -> None:
        answer = await scene.gate.submit(signed(request("snapshot-delete", params={"snapshot": "s1"}), "alice"), "x")
        assert (await scene.op(answer.op)).not_before_ms == NOW_MS + HOUR_MS
        scene.clock.ms = NOW_MS + 17 * HOUR_MS  # Saturday, 01:00
        times = {"not_before": instant(17), "approve_by": instant(18), "execute_by": instant(20)}
        stop = await scene.gate.submit(signed(request("stop") | times, "alice"), "x")
        assert (await scene.op(stop.op)).not_before_ms == NOW_MS + 18 * HOUR_MS
        early = await scene.gate.may_run(stop.op, scene.world.observed())
        assert isinstance(early, Hold)
        assert early.why is Refusal.WINDOW
        scene.clock.ms = NOW_MS + 18 * HOUR_MS
        assert isinstance(await scene.gate.may_run(stop.op, scene.world.observed()), Go)

    play(tmp_path, story)


def test_a_budget_counts_what_waits_and_what_was_started(tmp_path):
    async def story(scene: Scene) -> None:
        first = await scene.gate.submit(signed(request("template"), "alice"), "x")
        assert first.outcome is Outcome.ACCEPTED
        refused = await scene.gate.submit(signed(request("template", vmid=KEPT), "alice"), "x")
        assert refused.refusal is Refusal.BUDGET
        await start(scene, first.op)
        refused = await scene.gate.submit(signed(request("template", vmid=KEPT), "alice"), "x")
        assert refused.refusal is Refusal.BUDGET
        scene.clock.ms += HOUR_MS + 1
        times = {"not_before": instant(1), "approve_by": instant(2), "execute_by": instant(3)}
        later = await scene.gate.submit(signed(request("template", vmid=KEPT) | times, "alice"), "x")
        assert later.outcome is Outcome.ACCEPTED

    play(tmp_path, story)


def test_two_that_are_let_go_in_one_moment_do_not_both_fit_into_a_budget_of_one(tmp_path):
    async def story(scene: Scene) -> None:
        policy = (scene.folder / "policy.yaml").read_text()
        (scene.folder / "policy.yaml").write_text(policy.replace("most: 1", "most: 5"))
        ids = [
            (await scene.gate.submit(signed(request("template", vmid=vmid), "alice"), "x")).op for vmid in (VM, KEPT)
        ]
        (scene.folder / "policy.yaml").write_text(policy)
        assert isinstance(await scene.gate.may_run(ids[0], scene.world.observed(VM)), Go)
        held = await scene.gate.may_run(ids[1], scene.world.observed(KEPT))
        assert isinstance(held, Hold)
        assert held.why is Refusal.BUDGET
        assert isinstance(await scene.gate.may_run(ids[0], scene.world.observed(VM)), Go)

    play(tmp_path, story)


def test_right_before_the_execution_everything_is_asked_again(tmp_path):
    async def story(scene: Scene) -> None:
        keyring, policy = scene.folder / "keyring.yaml", scene.folder / "policy.yaml"
        ring, rules = keyring.read_text(), policy.read_text()
        op = (await accept(scene)).op

        async def verdict(**seen):
            return await scene.gate.may_run(op, replace(scene.world.observed(), **seen))

        assert isinstance(await verdict(), Go)
        revoke(scene, "bob")
        assert isinstance(stopped := await verdict(), Stop)
        assert stopped.why is Refusal.REVOKED_KEY
        keyring.write_text(ring.replace("bob: {roles: [operator]", "bob: {roles: [guest]"))
        assert isinstance(await verdict(), Stop)
        keyring.write_text(ring.replace("  bob:", "  robert:"))
        assert isinstance(await verdict(), Go)  # the key counts, whatever its owner is called by now
        keyring.unlink()
        assert isinstance(await verdict(), Hold)
        keyring.write_text(ring)
        policy.write_text(rules.replace("people: 2, roles: [operator], longest: 24h", "people: 3, roles: [operator]"))
        assert isinstance(await verdict(), Stop)
        policy.write_text(rules.replace("vmids: [9000]", "vmids: [101]"))
        assert isinstance(stopped := await verdict(), Stop)
        assert stopped.why is Refusal.NEVER
        policy.write_text(rules)
        assert isinstance(stopped := await verdict(digest="d" * 40), Stop)
        assert stopped.why is Refusal.DIGEST
        other = replace(scene.world.observed().identity, ctime="1")
        assert isinstance(stopped := await verdict(identity=other), Stop)
        assert stopped.why is Refusal.IDENTITY
        assert isinstance(await verdict(), Go)
        seen = scene.world.observed()
        view = await scene.op(op)
        assert await scene.gate.check_again(view, seen) is None
        no = await scene.gate.check_again(view, replace(seen, digest="d" * 40))
        assert isinstance(no, Objection)
        assert no.reason is Reason.NOT_AS_SIGNED
        scene.clock.ms = NOW_MS + 2 * HOUR_MS
        assert isinstance(stopped := await verdict(), Stop)
        assert stopped.why is Refusal.EXPIRED
        scene.clock.ms = NOW_MS - 2 * SLACK_MS
        assert isinstance(await scene.gate.check_again(view, seen), NotYet)

    play(tmp_path, story)


class Tampered:
    """A journal in whose requests somebody has changed something."""

    def __init__(self, journal, **changes) -> None:
        self._journal = journal
        self._changes = changes
        self.changed = 0

    def __getattr__(self, name):
        return getattr(self._journal, name)

    async def moment(self, lookup):
        found = await self._journal.moment(lookup)
        return replace(found, requests=self._changed(found.requests), of_nonce=self._changed(found.of_nonce))

    def _changed(self, views):
        self.changed += len(views)
        return {name: replace(view, **self._changes) for name, view in views.items()}


def test_what_was_tampered_with_in_the_journal_does_not_count(tmp_path):
    async def story(scene: Scene) -> None:
        op = (await accept(scene)).op
        payload = (await scene.request(op)).payload
        journal = Tampered(scene.journal, payload=payload[:-8] + "AAAAAAA=")
        scene.deck = replace_deck(scene, journal)
        assert isinstance(await scene.new_gate().may_run(op, scene.world.observed()), Stop)
        assert journal.changed

    play(tmp_path, story)


def test_an_approval_that_somebody_wrote_into_the_journal_does_not_count(tmp_path):
    async def story(scene: Scene) -> None:
        document = request()
        first = await scene.gate.submit(signed(document, "alice"), "http")
        (mine,) = (await scene.request(first.request)).approvals
        forged = replace(mine, person="carol", key_id=key_id("carol"))
        journal = Tampered(scene.journal, approvals=(mine, forged))
        scene.deck = replace_deck(scene, journal)
        answer = await scene.new_gate().submit(signed(document, "alice"), "http")
        assert (answer.outcome, answer.state) == (Outcome.REPETITION, "pending")
        assert await scene.events(Accepted) == []
        assert journal.changed

    play(tmp_path, story)


def replace_deck(scene: Scene, journal):
    return dataclasses.replace(scene.deck, journal=journal)


def test_when_nonces_are_full_nothing_is_forgotten(tmp_path, monkeypatch):
    async def story(scene: Scene) -> None:
        first = good()
        await scene.gate.submit(first, "x")
        monkeypatch.setattr(limits, "NONCES_MAX", 1)
        assert (await scene.gate.submit(good(), "x")).refusal is Refusal.NONCES_FULL
        assert (await scene.gate.submit(first, "x")).outcome is Outcome.REPETITION

    play(tmp_path, story)


def test_two_deliveries_at_once_are_one_request(tmp_path):
    import asyncio

    async def story(scene: Scene) -> None:
        content = good()
        answers = await asyncio.gather(*(scene.gate.submit(content, "x") for _ in range(8)))
        assert sorted(one.outcome for one in answers) == ["accepted"] + ["repetition"] * 7
        assert len({one.request for one in answers}) == 1
        assert len(await scene.events(Accepted)) == 1
        assert await scene.events(Denied) == []

    play(tmp_path, story, inline=False)
