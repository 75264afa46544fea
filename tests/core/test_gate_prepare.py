"""What is handed out to be signed: for the guest as it is now, in whole seconds, good for an hour."""

import pytest

from tests.core.asking import NOW, seen
from trueup.core.gate_prepare import No, Wish, Word, prepare_request, prepare_resolution, prepare_veto
from trueup.model.gate import Refusal
from trueup.model.gate_answers import GateRefused, ResolvedAs
from trueup.model.guests import Identity
from trueup.model.ids import Digest

CHANCE = bytes(range(16))
HOUR_MS = 3_600_000
GUEST = seen(
    digest=Digest("a" * 40), identity=Identity(smbios1_uuid="396eae16-9369-4f04-8d2c-3a163a48b0d1", marker_uid="u-1")
)


def wish(**more: str) -> Wish:
    return Wish(**{"cluster": "lab", "kind": "stop", "requested_by": "alice", **more})  # type: ignore[arg-type]


def test_a_request_is_for_this_very_guest_and_has_a_key_of_its_own() -> None:
    made = prepare_request(wish(reason="why"), GUEST, now_ms=NOW + 999, chance=CHANCE)
    assert (made.cluster, made.kind, made.requested_by, made.reason) == ("lab", "stop", "alice", "why")
    assert (made.target.vmid, made.target.identity, made.target.digest) == (101, GUEST.identity, GUEST.digest)
    assert made.idempotency_key == f"stop-101-{made.nonce[:8].lower()}"
    assert (made.not_before_ms, made.approve_by_ms, made.execute_by_ms) == (NOW, NOW + HOUR_MS, NOW + HOUR_MS)


def test_the_key_is_the_askers_and_the_time_is_the_rules_if_that_is_shorter() -> None:
    made = prepare_request(wish(idempotency_key="retire-1"), GUEST, now_ms=NOW, chance=CHANCE, longest_s=60)
    assert (made.idempotency_key, made.execute_by_ms) == ("retire-1", NOW + 60_000)


def test_what_nobody_can_ask_for_is_not_prepared() -> None:
    with pytest.raises(GateRefused) as no:
        prepare_request(wish(kind="configure"), GUEST, now_ms=NOW, chance=CHANCE)
    assert no.value.refusal is Refusal.KIND


def test_a_veto_and_a_resolution_are_good_for_an_hour_from_this_second_on() -> None:
    veto = prepare_veto(No(cluster="lab", request_id="r-1", reason="no", by="bob"), now_ms=NOW + 999, chance=CHANCE)
    assert (veto.cluster, veto.request_id, veto.reason, veto.requested_by) == ("lab", "r-1", "no", "bob")
    assert (veto.not_before_ms, veto.execute_by_ms) == (NOW, NOW + HOUR_MS)
    word = Word(cluster="lab", op_id="o-1", resolved_as=ResolvedAs.FAILED, reason="looked", by="bob")
    said = prepare_resolution(word, now_ms=NOW + 999, chance=CHANCE)
    assert (said.cluster, said.op_id, said.resolved_as, said.reason) == ("lab", "o-1", ResolvedAs.FAILED, "looked")
    assert (said.requested_by, said.not_before_ms, said.execute_by_ms) == ("bob", NOW, NOW + HOUR_MS)
