"""The gate's checks, each by itself at its edges; `tests/gate` tries the whole of it, with real signatures."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.asking import CT, DIGEST, ID, NOW, ROLE, VM, approval, keyring, op, person, refused, request, seen, view
from trueup.core import gate_checks
from trueup.core.gate_checks import SLACK_MS, Ask, answer_for, check_signers, check_target, matches
from trueup.core.gate_rules import Facts, Files
from trueup.model import limits
from trueup.model.gate import (
    Lapsed,
    Refusal,
    Request,
    RequestState,
    RequestView,
    Target,
    Vetoed,
)
from trueup.model.gate_answers import Checked, GateRefused, Go, Hold, Sighting, Stop
from trueup.model.guests import Identity
from trueup.model.ids import Digest, GuestType, Vmid
from trueup.model.keyring import Keyring
from trueup.model.ops import OpState, OpView, Reason
from trueup.model.policy import Policy, Rule

# -- signers ----------------------------------------------------------------------------------------------------------

BAD, STRANGER = (Refusal.SIGNATURE, "damaged"), (Refusal.UNKNOWN_KEY, "a stranger's")


@pytest.mark.parametrize(
    ("problems", "refusal", "text"),
    [
        ((), Refusal.SIGNATURE, "nobody has signed it"),
        ((BAD,), *BAD),
        ((STRANGER, BAD), *BAD),
        ((BAD, STRANGER), *BAD),
        (((Refusal.MALFORMED, "odd"), STRANGER), *STRANGER),
        (((Refusal.MALFORMED, "odd"), (Refusal.TOO_LARGE, "large")), Refusal.MALFORMED, "odd"),
    ],
)
def test_without_a_valid_signature_the_gravest_of_its_problems_is_named(problems: Any, refusal: Refusal, text: str):
    with pytest.raises(GateRefused, match=text) as no:
        check_signers(keyring(), Checked(problems=problems), NOW)
    assert no.value.refusal is refusal


def test_a_revoked_key_signs_nothing_from_its_instant_on():
    revoked = keyring(person("alice", revoked={"k-alice": NOW}), person("bob"))
    alice, bob = approval("alice"), approval("bob")
    assert check_signers(revoked, Checked(valid=(alice, bob)), NOW) == (bob,)
    assert check_signers(revoked, Checked(valid=(alice,)), NOW - 1) == (alice,)
    assert refused(check_signers, revoked, Checked(valid=(alice,), problems=(BAD,)), NOW) is Refusal.REVOKED_KEY


def test_who_asks_is_somebody_and_has_signed():
    signed = (approval("alice"),)
    assert refused(gate_checks.check_requester, keyring(), "alice", signed) is None
    assert refused(gate_checks.check_requester, keyring(), "bob", signed) is Refusal.REQUESTER
    assert refused(gate_checks.check_requester, keyring(), "mallory", (approval("mallory"),)) is Refusal.REQUESTER


# -- times ------------------------------------------------------------------------------------------------------------


def test_a_clock_may_be_behind_the_journal_as_much_as_clocks_may_differ():
    assert SLACK_MS == limits.CLOCK_DIFFERENCE_S * 1000
    assert gate_checks.trusted_now(NOW, NOW + SLACK_MS) == NOW + SLACK_MS
    assert gate_checks.trusted_now(NOW, NOW - 5) == NOW
    with pytest.raises(GateRefused, match=f"{SLACK_MS // 1000} s behind") as no:
        gate_checks.trusted_now(NOW, NOW + SLACK_MS + 1)
    assert no.value.refusal is Refusal.CLOCK


@pytest.mark.parametrize(
    ("not_before_ms", "execute_by_ms", "refusal"),
    [
        (NOW + SLACK_MS, NOW + 1, None),
        (NOW + SLACK_MS + 1, NOW + 1, Refusal.NOT_YET),
        (NOW, NOW, Refusal.EXPIRED),
        (NOW - 2, NOW - 1, Refusal.EXPIRED),
    ],
)
def test_it_is_good_from_its_first_instant_to_before_its_last(
    not_before_ms: int, execute_by_ms: int, refusal: Refusal | None
):
    assert refused(gate_checks.check_times, not_before_ms, execute_by_ms, NOW) is refusal


def test_signatures_come_in_before_approve_by():
    assert refused(gate_checks.check_collecting, NOW + 1, NOW) is None
    assert refused(gate_checks.check_collecting, NOW, NOW) is Refusal.EXPIRED


# -- what is known already --------------------------------------------------------------------------------------------

VETO = Vetoed(approval=approval("bob"))
LAPSED = Lapsed(state=RequestState.EXPIRED, why=Refusal.EXPIRED, text="its approve_by is over")


@pytest.mark.parametrize(
    ("asked", "became", "said", "expected"),
    [
        (view(missing="1 more"), None, "", ("pending", "", "1 more", "it waits for signatures")),
        (view(missing="1 more"), None, "why", ("pending", "", "1 more", "why")),
        (view(), None, "", ("pending", "", "", "")),
        (view(RequestState.ACCEPTED, missing="1 more"), None, "", ("accepted", "", "", "")),
        (view(RequestState.EXPIRED, lapsed=LAPSED), None, "", ("expired", "", "", "its approve_by is over")),
        (view(RequestState.EXPIRED, lapsed=LAPSED), None, "why", ("expired", "", "", "why")),
        (view(RequestState.VETOED, vetoed=VETO), None, "", ("vetoed", "", "", "vetoed by bob")),
        (view(RequestState.VETOED, vetoed=VETO), None, "why", ("vetoed", "", "", "why")),
        (view(RequestState.ACCEPTED), op(OpState.STARTED), "", ("started", ID, "", "")),
        (view(RequestState.ACCEPTED), op(OpState.FAILED, Reason.KILLED), "", ("failed", ID, "", "killed")),
        (view(RequestState.ACCEPTED), op(OpState.FAILED, Reason.KILLED), "why", ("failed", ID, "", "why")),
    ],
)
def test_who_sends_something_known_hears_where_it_stands(
    asked: RequestView, became: OpView | None, said: str, expected: tuple[str, str, str, str]
):
    answer = answer_for(asked, became, said)
    assert (answer.state, answer.op, answer.missing, answer.reason) == expected
    assert answer.request == ID


def test_a_nonce_binds_the_bytes():
    assert refused(gate_checks.same_payload, view(), "h") is None
    assert refused(gate_checks.same_payload, view(), "other") is Refusal.REPLAY


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [
        ([], None),
        ([(view(RequestState.VETOED), None)], None),
        ([(view(RequestState.EXPIRED), None)], None),
        ([(view(RequestState.REFUSED), None)], None),
        ([(view(RequestState.ACCEPTED), op(OpState.FAILED))], None),
        ([(view(RequestState.PENDING), None)], "in progress"),
        ([(view(RequestState.ACCEPTED), op(OpState.STARTED))], "in progress"),
        ([(view(RequestState.ACCEPTED), op(OpState.SUCCEEDED))], "carried out already"),
        ([(view(RequestState.VETOED), None), (view(RequestState.PENDING), None)], "in progress"),
    ],
)
def test_a_key_is_taken_until_it_is_sure_that_nothing_happens(earlier: Any, reason: str | None):
    answer = gate_checks.check_key(request(), earlier)
    assert (answer is None) == (reason is None)
    assert answer is None or str(reason) in answer.reason


@pytest.mark.parametrize(
    "other",
    [
        {"cluster": "prod"},
        {"kind": "start"},
        {"params": {"purge": "1"}},
        {"target": Target(type=GuestType.LXC, vmid=Vmid(101), identity=VM, digest=DIGEST)},
        {"target": Target(type=GuestType.QEMU, vmid=Vmid(102), identity=VM, digest=DIGEST)},
        {"target": Target(type=GuestType.QEMU, vmid=Vmid(101), identity=Identity(ctime="18"), digest=DIGEST)},
    ],
)
def test_a_key_is_given_to_one_thing_only(other: dict[str, Any]):
    free = view(RequestState.VETOED, request=request(**other))
    assert refused(gate_checks.check_key, request(), [(free, None)]) is Refusal.KEY_DIFFERS


def test_times_people_and_the_digest_do_not_make_it_another_thing():
    later = request(requested_by="bob", nonce="m", execute_by_ms=NOW + 9, reason="x")
    later = replace(later, target=replace(later.target, digest=Digest("d2")))
    assert gate_checks.check_key(request(), [(view(RequestState.VETOED, request=later), None)]) is None


# -- the target -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed", "have", "same"),
    [
        (VM, VM, True),
        (VM, replace(VM, smbios1_uuid="ab-1", vmgenid="cd-2"), True),
        (Identity(smbios1_uuid="AB-1"), VM, True),
        (VM, replace(VM, smbios1_uuid="AB-2"), False),
        (VM, replace(VM, ctime="18"), False),
        (VM, replace(VM, vmgenid="CD-3"), False),
        (VM, replace(VM, marker_uid="UID-1"), False),
        (VM, Identity(), False),
        (CT, replace(CT, macs=("bc:24:11:00:00:0a",)), True),
        (replace(CT, macs=()), CT, True),
        (CT, replace(CT, macs=()), False),
        (CT, replace(CT, rootfs="local:101/b.raw"), False),
    ],
)
def test_all_that_was_signed_of_an_identity_has_to_be_there(signed: Identity, have: Identity, same: bool):
    assert matches(signed, have) is same


MARK = seen().marker


@pytest.mark.parametrize(
    ("asked", "sighting", "refusal"),
    [
        (request(), Sighting(guest=seen()), None),
        (request(), Sighting(gone=True), Refusal.TARGET_GONE),
        (request(), Sighting(unreadable="away"), Refusal.UNREADABLE),
        (request(), Sighting(), Refusal.UNREADABLE),
        (request(), Sighting(guest=seen(), gone=True), None),
        (request(), Sighting(guest=seen(GuestType.LXC)), Refusal.IDENTITY),
        (request(), Sighting(guest=seen(GuestType.LXC, identity=VM)), Refusal.IDENTITY),
        (request(), Sighting(guest=seen(vmid=Vmid(102))), Refusal.IDENTITY),
        (request(), Sighting(guest=seen(identity=Identity())), Refusal.IDENTITY),
        (request(), Sighting(guest=seen(digest=Digest("d2"))), Refusal.DIGEST),
        (request(kind="destroy"), Sighting(guest=seen(marker=None)), None),
        (request(GuestType.LXC), Sighting(guest=seen(GuestType.LXC, marker=None)), None),
        (request(GuestType.LXC, kind="destroy"), Sighting(guest=seen(GuestType.LXC)), None),
        (request(GuestType.LXC, kind="destroy"), Sighting(guest=seen(GuestType.LXC, marker=None)), Refusal.IDENTITY),
        (
            request(GuestType.LXC, kind="destroy"),
            Sighting(guest=seen(GuestType.LXC, marker=replace(MARK, vmid=Vmid(7)) if MARK else None)),
            Refusal.IDENTITY,
        ),
        (
            request(GuestType.LXC, kind="destroy"),
            Sighting(guest=seen(GuestType.LXC), unreadable="no list"),
            Refusal.UNREADABLE,
        ),
        (
            request(GuestType.LXC, kind="destroy"),
            Sighting(guest=seen(GuestType.LXC), remade="a vzrestore"),
            Refusal.IDENTITY,
        ),
        (request(GuestType.LXC), Sighting(guest=seen(GuestType.LXC), remade="a vzrestore"), None),
    ],
)
def test_the_guest_is_the_one_that_was_seen_and_as_it_was_seen(
    asked: Request, sighting: Sighting, refusal: Refusal | None
):
    assert refused(check_target, asked, sighting) is refusal


def test_a_destructive_request_for_a_container_has_to_name_its_marker():
    target = Target(type=GuestType.LXC, vmid=Vmid(101), identity=replace(CT, marker_uid=""), digest=DIGEST)
    asked = request(GuestType.LXC, kind="destroy", target=target)
    assert refused(check_target, asked, Sighting(guest=seen(GuestType.LXC))) is Refusal.IDENTITY


def test_why_a_guest_could_not_be_read_is_said():
    with pytest.raises(GateRefused, match="could not be read: away"):
        check_target(request(), Sighting(unreadable="away"))
    with pytest.raises(GateRefused, match="not known why"):
        check_target(request(), Sighting())


# -- policy, and all of it once more right before the execution -------------------------------------------------------

FACTS = Facts(vmid=101, seen=seen())
STOPS = Rule(kinds=frozenset({"stop"}), roles=ROLE)


def ask(rule: Rule = STOPS, *, now_ms: int = NOW, has_token: bool = False) -> Ask:
    files = Files(keyring=keyring(), policy=Policy(rules=(rule,)))
    return Ask(files=files, facts=FACTS, now_ms=now_ms, has_token=has_token)


@pytest.mark.parametrize(
    ("rule", "asked", "run_from_ms"),
    [
        (STOPS, request(), 0),
        (STOPS, request(not_before_ms=NOW - 9), 0),
        (STOPS, request(not_before_ms=NOW + 1, execute_by_ms=NOW + 9), NOW + 1),
        (replace(STOPS, grace_s=2.0), request(execute_by_ms=NOW + 9_000), NOW + 2_000),
    ],
)
def test_what_may_run_at_once_has_no_earliest_moment(rule: Rule, asked: Request, run_from_ms: int):
    allowed = gate_checks.check_policy(asked, (approval("alice"),), ask(rule))
    assert (allowed.run_from_ms, allowed.ruling.missing) == (run_from_ms, "")


def test_a_rule_may_ask_for_incarnation_tokens():
    strict = replace(STOPS, needs_token=True)
    signed = (approval("alice"),)
    assert refused(gate_checks.check_policy, request(), signed, ask(strict)) is Refusal.NEEDS_TOKEN
    assert gate_checks.check_policy(request(), signed, ask(strict, has_token=True)).ruling.needs_token


ACCEPTED = view(RequestState.ACCEPTED)
LATER = request(not_before_ms=NOW + SLACK_MS + 1, execute_by_ms=NOW + SLACK_MS + 9)


@pytest.mark.parametrize(
    ("of", "sighting", "verdict"),
    [
        (ACCEPTED, Sighting(guest=seen()), Go()),
        (ACCEPTED, Sighting(unreadable="away"), Hold(why=Refusal.UNREADABLE, text="guest 101 could not be read: away")),
        (ACCEPTED, Sighting(gone=True), Stop(why=Refusal.TARGET_GONE, text="there is no guest 101")),
        (
            view(RequestState.ACCEPTED, request=LATER),
            Sighting(guest=seen()),
            Hold(why=Refusal.NOT_YET, text="its not_before is in the future"),
        ),
        (
            view(RequestState.ACCEPTED, vetoed=VETO),
            Sighting(guest=seen()),
            Stop(why=Refusal.STATE, text="it was vetoed"),
        ),
        (view(RequestState.VETOED), Sighting(guest=seen()), Stop(why=Refusal.STATE, text="it was vetoed")),
        (view(RequestState.EXPIRED), Sighting(guest=seen()), Stop(why=Refusal.STATE, text="the request is expired")),
    ],
)
def test_what_an_acceptance_rested_on_is_asked_again(of: RequestView, sighting: Sighting, verdict: Go | Hold | Stop):
    assert gate_checks.check_again(of, (approval("alice"),), ask(), sighting) == verdict


# -- resolutions ------------------------------------------------------------------------------------------------------

RESOLVE = Rule(kinds=frozenset({"resolve"}), people=2, roles=ROLE, longest_s=60)


def resolve(people: Keyring, *names: str, span_ms: int = 60_000) -> Any:
    files = Files(keyring=people, policy=Policy(rules=(RESOLVE,), digest="pd"))
    return gate_checks.check_resolution(files, [approval(name) for name in names], FACTS, (NOW, NOW + span_ms))


def test_a_resolution_needs_as_many_people_with_the_role_as_its_rule_says():
    ruling = resolve(keyring(), "alice", "bob")
    assert (ruling.rule, ruling.people, ruling.counted) == (1, 2, ("alice", "bob"))
    assert (ruling.keyring_digest, ruling.policy_digest) == ("kd", "pd")
    for people, names in (
        (keyring(), ("alice",)),
        (keyring(), ("alice", "alice")),
        (keyring(), ("alice", "mallory")),
        (keyring(person("alice"), person("bob", roles=frozenset({"guest"}))), ("alice", "bob")),
        (replace(keyring(), one_hand={"bob": "alice", "alice": "alice"}), ("alice", "bob")),
    ):
        assert refused(resolve, people, *names) is Refusal.STATE


def test_a_resolution_is_good_for_no_longer_than_its_rule_allows():
    assert resolve(keyring(), "alice", "bob", span_ms=60_000 + SLACK_MS).rule == 1
    with pytest.raises(GateRefused) as no:
        resolve(keyring(), "alice", "bob", span_ms=60_001 + SLACK_MS)
    assert no.value.refusal is Refusal.TOO_LONG


def test_where_no_rule_decides_or_it_cannot_be_told_there_is_none():
    policy = Policy(rules=(RESOLVE,))
    assert gate_checks.deciding_rule_or_none(policy, "resolve", FACTS) is RESOLVE
    assert gate_checks.deciding_rule_or_none(policy, "destroy", FACTS) is None
