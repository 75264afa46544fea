"""Signed words about operations that stay open, and what is prepared for signing."""

import pytest
from msgspec.structs import replace

from tests.gate.test_attacks import good
from tests.gate.test_gate import accept, start
from tests.gate.world import (
    HOUR_MS,
    NOW_MS,
    Scene,
    envelope_of,
    play,
    resolution,
)
from trueup.core.gate_envelope import render_envelope
from trueup.core.gate_form import render_request, render_resolution, render_veto
from trueup.core.gate_prepare import No, Wish, Word, prepare_request, prepare_resolution, prepare_veto
from trueup.model.gate import Refusal
from trueup.model.gate_answers import RESOLUTION_TYPE, VETO_TYPE, GateRefused, Outcome, ResolvedAs
from trueup.model.ops import Contradicted, Failed, OpState, Reason, Row, Unresolved


def test_an_unresolved_guest_is_left_alone_and_resolved_by_a_signed_word(tmp_path):
    async def story(scene: Scene) -> None:
        first = await accept(scene)
        await start(scene, first.op)
        working = await scene.gate.submit(resolution(first.op), "x")
        assert working.refusal is Refusal.STATE
        await scene.deck.record(first.op, Unresolved(reason=Reason.PARTIAL, row=Row.R13, settles_by="a look"))
        assert (await scene.gate.submit(good(), "x")).refusal is Refusal.BLOCKED
        assert (await scene.gate.submit(resolution(first.op, "bob"), "x")).refusal is Refusal.STATE  # no owner
        assert (await scene.gate.submit(resolution(first.op, cluster="prod"), "x")).refusal is Refusal.AUDIENCE
        word = resolution(first.op, **{"as": "failed"})
        done = await scene.gate.submit(word, "x")
        assert (done.outcome, done.state, done.op) == (Outcome.ACCEPTED, "failed", first.op)
        op = await scene.op(first.op)
        assert (op.state, op.reason) == (OpState.FAILED, Reason.RESOLVED_BY_OPERATOR)
        (event,) = await scene.events(Failed)
        assert event.evidence["by"] == "carol"
        assert event.evidence["reason"].startswith("looked at it")
        assert (await scene.gate.submit(word, "x")).refusal is Refusal.REPLAY
        assert (await scene.gate.submit(resolution(first.op), "x")).refusal is Refusal.STATE

    play(tmp_path, story)


def test_an_old_resolution_does_not_close_an_operation_that_is_open_again(tmp_path):
    async def story(scene: Scene) -> None:
        first = await accept(scene)
        await start(scene, first.op)
        unresolved = Unresolved(reason=Reason.PARTIAL, row=Row.R13, settles_by="a look")
        await scene.deck.record(first.op, unresolved)
        word = resolution(first.op, **{"as": "failed"})
        await scene.gate.submit(word, "x")
        await scene.deck.record(first.op, Contradicted(what="its task turned up"))
        await scene.deck.record(first.op, unresolved)
        assert (await scene.gate.submit(word, "x")).refusal is Refusal.REPLAY
        assert (await scene.gate.submit(resolution(first.op), "x")).state == "succeeded"

    play(tmp_path, story)


def test_what_is_prepared_passes_the_gate(tmp_path):
    async def story(scene: Scene) -> None:
        wish = Wish(cluster="lab", kind="destroy", params={"purge": "true"}, reason="ticket 4711", requested_by="alice")
        asked = prepare_request(wish, scene.world.observed(), now_ms=NOW_MS + 7, chance=b"n" * 16)
        assert (asked.not_before_ms, asked.execute_by_ms) == (NOW_MS, NOW_MS + HOUR_MS)
        assert asked.target.identity == scene.world.observed().identity
        first = await scene.gate.submit(render_envelope(envelope_of(render_request(asked), "alice")), "x")
        assert first.state == "pending"
        no = prepare_veto(
            No(cluster="lab", request_id=first.request, reason="", by="bob"), now_ms=NOW_MS, chance=b"v" * 16
        )
        signed_no = render_envelope(envelope_of(render_veto(no), "bob", kind=VETO_TYPE))
        assert (await scene.gate.submit(signed_no, "x")).state == "vetoed"
        again = prepare_request(wish, scene.world.observed(), now_ms=NOW_MS, chance=b"m" * 16, longest_s=60.0)
        assert again.execute_by_ms == NOW_MS + 60_000
        both = render_envelope(envelope_of(render_request(again), "alice", "bob"))
        second = await scene.gate.submit(both, "x")
        await start(scene, second.op)
        await scene.deck.record(second.op, Unresolved(reason=Reason.PARTIAL, row=Row.R13, settles_by="a look"))
        word = Word(cluster="lab", op_id=second.op, resolved_as=ResolvedAs.FAILED, reason="it is there", by="carol")
        said = prepare_resolution(word, now_ms=NOW_MS, chance=b"r" * 16)
        content = render_envelope(envelope_of(render_resolution(said), "carol", kind=RESOLUTION_TYPE))
        assert (await scene.gate.submit(content, "x")).state == "failed"
        with pytest.raises(GateRefused):
            prepare_request(replace(wish, kind="create"), scene.world.observed(), now_ms=NOW_MS, chance=b"n" * 16)

    play(tmp_path, story)
