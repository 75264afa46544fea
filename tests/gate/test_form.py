"""Statements from bytes and back, selectors, and what only shows in single values."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gate.world import CT, VM, World, envelope_of, payload_of, request, veto
from trueup.core import gate_form
from trueup.core.gate_checks import matches
from trueup.core.gate_envelope import is_envelope, pae, parse_envelope, render_envelope, statement_type
from trueup.core.gate_json import read_object
from trueup.core.gate_rules import Facts, deciding_rule, is_kept, selects, start_of_run
from trueup.model import limits
from trueup.model.gate import Refusal, Request, Target
from trueup.model.gate_answers import (
    OPERATION_TYPE,
    RESOLUTION_TYPE,
    VETO_TYPE,
    GateRefused,
    Resolution,
    ResolvedAs,
    Veto,
)
from trueup.model.guests import Identity
from trueup.model.ids import Digest, GuestType, Vmid
from trueup.model.policy import Policy, Rule, Selector
from trueup.model.windows import Window

NONCES = st.binary(min_size=16, max_size=16).map(gate_form.render_nonce)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._@+-]{0,20}\Z")
WORDS = st.text(st.characters(categories=["L", "N", "P"], include_characters=" "), max_size=60).filter(str.isprintable)
INSTANTS = st.integers(min_value=1, max_value=4_000_000_000_000)
SPANS = st.tuples(INSTANTS, st.integers(1, 10**9), st.integers(0, 10**9)).map(
    lambda t: (t[0], t[0] + t[1], t[0] + sum(t[1:]))
)
UUIDS = st.uuids().map(str)
IDENTITIES = st.builds(
    Identity,
    smbios1_uuid=UUIDS,
    ctime=st.integers(0, 10**11).map(str) | st.just(""),
    vmgenid=UUIDS | st.just(""),
    marker_uid=UUIDS | st.just(""),
    rootfs=st.just("local:vm-1") | st.just(""),
    macs=st.lists(st.just("AA:BB:CC:00:00:01"), max_size=2).map(tuple),
)
TARGETS = st.builds(
    Target,
    type=st.just(GuestType.QEMU),
    vmid=st.integers(100, 999_999_999).map(Vmid),
    identity=IDENTITIES,
    digest=st.text("0123456789abcdef", min_size=40, max_size=40).map(Digest),
)


@given(
    TARGETS, NAMES, NONCES, WORDS, SPANS, st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9-]{0,8}\Z"), NAMES, max_size=3)
)
def test_what_is_rendered_is_read_back_the_same(target, name, nonce, reason, span, params):
    asked = Request(
        cluster="lab",
        kind="destroy",
        target=target,
        params=params,
        reason=reason,
        requested_by=name,
        nonce=nonce,
        idempotency_key=name,
        not_before_ms=span[0],
        approve_by_ms=span[1],
        execute_by_ms=span[2],
    )
    assert gate_form.parse_request(gate_form.render_request(asked)) == asked


@given(NAMES, NONCES, WORDS, INSTANTS)
def test_vetoes_and_resolutions_are_read_back_the_same(name, nonce, reason, at_ms):
    times = {"not_before_ms": at_ms, "execute_by_ms": at_ms + 1000}
    no = Veto(cluster="lab", request_id="r-1", reason=reason, requested_by=name, nonce=nonce, **times)
    assert gate_form.parse_veto(gate_form.render_veto(no)) == no
    said = Resolution(
        cluster="lab",
        op_id="o-1",
        resolved_as=ResolvedAs.FAILED,
        reason=f"x{reason}",
        requested_by=name,
        nonce=nonce,
        **times,
    )
    assert gate_form.parse_resolution(gate_form.render_resolution(said)) == said


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_do_anything_but_be_refused(content):
    for parse in (parse_envelope, gate_form.parse_request, gate_form.parse_veto, gate_form.parse_resolution):
        with pytest.raises(GateRefused):
            parse(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(st.data())
def test_no_value_in_any_field_does_anything_but_be_refused_or_read(data):
    document = request()
    field = data.draw(st.sampled_from(sorted(document)))
    value = data.draw(JSON)
    with contextlib.suppress(GateRefused):
        gate_form.parse_request(payload_of(document | {field: value}))


def test_statements_cannot_be_taken_for_each_other():
    """SSHSIG signs bytes without their type, so the bytes alone must say what they are."""
    parsers = {
        OPERATION_TYPE: gate_form.parse_request,
        VETO_TYPE: gate_form.parse_veto,
        RESOLUTION_TYPE: gate_form.parse_resolution,
    }
    said = Resolution(
        cluster="lab",
        op_id="o-1",
        resolved_as=ResolvedAs.FAILED,
        reason="x",
        requested_by="alice",
        nonce="A" * 26,
        not_before_ms=1000,
        execute_by_ms=2000,
    )
    payloads = {
        OPERATION_TYPE: payload_of(request()),
        VETO_TYPE: parse_envelope(veto("r-1")).payload,
        RESOLUTION_TYPE: gate_form.render_resolution(said),
    }
    for kind, payload in payloads.items():
        assert statement_type(payload) == kind
        for other, parse in parsers.items():
            if other == kind:
                parse(payload)
            else:
                with pytest.raises(GateRefused):
                    parse(payload)
    with pytest.raises(GateRefused):
        statement_type(b"{}")


def test_an_envelope_is_told_from_a_bare_statement():
    payload = payload_of(request())
    assert not is_envelope(payload)
    assert is_envelope(render_envelope(envelope_of(payload, "alice")))


def test_dsse_both_alphabets_and_the_encoding_of_the_specification():
    """The vector is of DSSE's protocol.md."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    envelope = envelope_of(payload_of(request(reason="?>?>?>?~~~")), "alice")
    document = json.loads(render_envelope(envelope))
    document["payload"] = document["payload"].replace("+", "-").replace("/", "_")
    assert parse_envelope(json.dumps(document).encode()).payload == envelope.payload


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-12-01T08:00:00.5Z", 1_796_112_000_500),
        ("2026-12-01T09:00:00+01:00", 1_796_112_000_000),
        ("2026-12-01t03:00:00-05:00", 1_796_112_000_000),
    ],
)
def test_instants(text, at_ms):
    assert gate_form.parse_instant(text) == at_ms
    assert gate_form.parse_instant(gate_form.render_instant(at_ms)) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-12-01",
        "2026-12-01T08:00:00",
        "2026-12-01 08:00:00Z",
        "2026-13-01T00:00:00Z",
        "1969-12-31T00:00:00Z",
        "٢026-12-01T08:00:00Z",
    ],
)
def test_no_instants(text):
    with pytest.raises(ValueError):
        gate_form.parse_instant(text)


def test_a_nonce_has_one_value_in_any_spelling():
    nonce = str(request()["nonce"])
    for spelled in (nonce, nonce.lower(), nonce + "======"):
        assert gate_form.parse_request(payload_of(request(nonce=spelled))).nonce == nonce


@given(st.binary(min_size=16, max_size=16), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_the_bits_of_a_nonce_that_are_left_over_are_zero(chance, last):
    """Else one nonce would have four spellings, and a request could be sent once more in another one."""
    nonce = gate_form.render_nonce(chance)[:-1] + last
    if gate_form.render_nonce(base64.b32decode(nonce + "======")) == nonce:
        assert gate_form.parse_request(payload_of(request(nonce=nonce))).nonce == nonce
    else:
        with pytest.raises(GateRefused, match="nonce must be 128 bits"):
            gate_form.parse_request(payload_of(request(nonce=nonce)))


@pytest.mark.parametrize(("opens", "closes"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_how_deep_json_may_be_nested(opens, closes):
    def nested(levels):
        return b'{"a":' + opens * (levels - 1) + b"1" + closes * (levels - 1) + b"}"

    read_object(nested(limits.REQUEST_DEPTH_MAX), "it")
    with pytest.raises(GateRefused, match="nested deeper"):
        read_object(nested(limits.REQUEST_DEPTH_MAX + 1), "it")
    many = b"[" + b'{"b":[]},' * limits.REQUEST_DEPTH_MAX + b'"' + b"[" * 99 + b'"]'
    read_object(b'{"a":' + many + b"}", "it")  # many, side by side


@pytest.mark.parametrize("text", [rb'{"a": ["\ud83d"]}', rb'{"\uDE00": 1}', rb'{"a": "\ude00\ud83d"}'])
def test_half_a_surrogate_pair_is_no_text(text):
    with pytest.raises(GateRefused, match="half of a surrogate pair"):
        read_object(text, "it")
    assert read_object(rb'{"a": "\ud83d\ude00"}', "it") == {"a": "😀"}


def test_strict_json_reads_what_is_plain():
    assert read_object(b'{"a": {"b": [1, true, null, "\\u00fc \\\\ ]]]"]}}', "it") == {
        "a": {"b": [1, True, None, "ü \\ ]]]"]}
    }


SEEN = World().observed(VM)


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (Selector(), True),
        (Selector(labels={"tier": "web"}), True),
        (Selector(labels={"tier": "db"}), False),
        (Selector(labels={"tier": "web", "zone": "a"}), False),
        (Selector(vmids=((100, 101),)), True),
        (Selector(vmids=((102, 200), (300, 300))), False),
        (Selector(tags=frozenset({"prod"})), True),
        (Selector(tags=frozenset({"prod", "x"})), False),
        (Selector(pool="p1"), True),
        (Selector(pool="p2"), False),
        (Selector(labels={"tier": "db"}, tags=frozenset({"prod"})), False),
    ],
)
def test_selectors(selector, fits):
    from msgspec.structs import replace

    seen = replace(SEEN, pool="p1", config={**SEEN.config, "tags": "Prod;web"})
    assert selects(selector, Facts(vmid=VM, labels={"tier": "web"}, seen=seen)) is fits
    unseen = selects(selector, Facts(vmid=VM, labels={"tier": "web"}))
    assert unseen is (None if (selector.tags or selector.pool) and not selector.labels else fits)


def test_a_rule_that_cannot_be_judged_stops_the_search():
    """Else a guest that cannot be read would fall to the next, weaker rule."""
    roles = frozenset({"operator"})
    policy = Policy(
        rules=(
            Rule(kinds=frozenset({"destroy"}), guests=Selector(tags=frozenset({"prod"})), people=3, roles=roles),
            Rule(kinds=frozenset({"*"}), people=1, roles=roles),
        )
    )
    assert deciding_rule(policy, "destroy", Facts(vmid=VM, seen=SEEN))[0] == 2
    assert deciding_rule(policy, "stop", Facts(vmid=VM))[0] == 2
    with pytest.raises(GateRefused) as no:
        deciding_rule(policy, "destroy", Facts(vmid=VM))
    assert no.value.refusal is Refusal.UNREADABLE


def test_any_part_of_never_holds():
    never = Selector(vmids=((9000, 9000),), tags=frozenset({"keep"}), labels={"tier": "db"})
    assert is_kept(never, Facts(vmid=9000)) is True
    assert is_kept(never, Facts(vmid=1, labels={"tier": "db"})) is True
    assert is_kept(never, Facts(vmid=1)) is None
    assert is_kept(never, Facts(vmid=1, seen=SEEN)) is False


def test_identities_match_by_what_was_signed():
    seen = SEEN.identity
    assert matches(Identity(smbios1_uuid=seen.smbios1_uuid.upper()), seen)
    assert matches(seen, seen)
    assert not matches(Identity(smbios1_uuid=seen.smbios1_uuid, ctime="1"), seen)
    assert not matches(Identity(marker_uid="x"), seen)
    container = World().observed(CT).identity
    assert matches(container, container)
    assert not matches(Identity(rootfs=container.rootfs, macs=("AA:BB:CC:00:00:02",)), container)


def test_a_run_starts_in_the_next_window():
    rule = Rule(kinds=frozenset({"*"}), roles=frozenset({"a"}), windows=(Window.parse("02:00-03:00 UTC"),))
    day = 86_400_000
    assert start_of_run(rule, 20_000 * day + 5, 20_001 * day) == 20_000 * day + 2 * 3_600_000
    assert start_of_run(rule, 20_000 * day + 2 * 3_600_000 + 77, 20_001 * day) == 20_000 * day + 2 * 3_600_000 + 77
    with pytest.raises(GateRefused) as no:
        start_of_run(rule, 20_000 * day + 3 * 3_600_000, 20_001 * day)
    assert no.value.refusal is Refusal.WINDOW
