"""The form of what people sign, at its edges: one character more, or another type, is refused."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from trueup.core import gate_form
from trueup.core.gate_envelope import parse_envelope, render_envelope, statement_type, with_signatures
from trueup.model import limits
from trueup.model.gate import Form, Refusal
from trueup.model.gate_answers import OPERATION_TYPE, RESOLUTION_TYPE, VETO_TYPE, Envelope, GateRefused, Signature

UUID = "396eae16-9369-4f04-8d2c-3a163a48b0d1"
MAC = "BC:24:11:00:00:0A"
NAME_MAX, TEXT_MAX = limits.REQUEST_NAME_MAX, limits.REQUEST_TEXT_MAX


def request(target: dict[str, Any] | None = None, **more: Any) -> bytes:
    seen = {"type": "qemu", "vmid": 101, "identity": {"smbios1_uuid": UUID}, "digest": "a" * 40}
    fields = {
        "cluster": "lab",
        "kind": "stop",
        "target": {**seen, **(target or {})},
        "reason": "why",
        "requested_by": "alice",
        "nonce": gate_form.render_nonce(bytes(16)),
        "idempotency_key": "k",
        "not_before": "2027-01-15T08:00:00Z",
        "approve_by": "2027-01-15T09:00:00Z",
        "execute_by": "2027-01-15T09:00:00Z",
    }
    return json.dumps({**fields, **more}).encode()


def identity(guest: str = "qemu", **parts: Any) -> bytes:
    return request({"type": guest, "identity": {"smbios1_uuid": UUID, **parts} if guest == "qemu" else parts})


GOOD = [
    request(),
    request({"vmid": 100}),
    request({"vmid": 999_999_999}),
    request({"digest": "a" * 64}),
    request({"identity": {"marker": "u-1"}}),
    identity("lxc", marker="u-1"),
    identity("lxc", rootfs="a:b", macs=[MAC]),
    identity("lxc", rootfs="a:" + "b" * 251, macs=[MAC]),
    identity(ctime=17),
    identity(ctime="1" * 12),
    identity(ctime=""),
    identity(ctime=None),
    identity(macs=[MAC, MAC.lower()]),
    identity(macs=[]),
    request(params={f"p{number}": 1 for number in range(limits.REQUEST_PARAMS_MAX)}),
    request(params={"p" * NAME_MAX: "x" * TEXT_MAX, "t": True, "n": 7, "e": ""}),
    request(reason="x" * TEXT_MAX),
]
BAD = [
    identity("lxc", rootfs="a:" + "b" * 252, macs=[MAC]),
    request({"vmid": 99}),
    request({"vmid": 1_000_000_000}),
    request({"type": "qemu-lxc"}),
    request({"digest": "a" * 65}),
    request({"identity": {"ctime": 17}}),
    identity("lxc", rootfs="a:b"),
    identity("lxc", macs=[MAC]),
    identity("lxc", smbios1_uuid=UUID),
    identity(ctime=True),
    identity(ctime=[]),
    identity(ctime="1" * 13),
    identity(ctime="x"),
    identity(ctime="٣"),  # a digit, and no ASCII
    identity(macs="BC"),
    identity(macs={"a": 1}),
    identity(macs={MAC: 1}),
    identity(macs=[MAC, "x"]),
    identity(macs=[1]),
    identity(smbios1_uuid=UUID + "0"),
    identity(vmgenid=UUID + "0"),
    request(params={f"p{number}": 1 for number in range(limits.REQUEST_PARAMS_MAX + 1)}),
    request(params={"p" * (NAME_MAX + 1): 1}),
    request(params={"P": 1}),
    request(params={"p": "x" * (TEXT_MAX + 1)}),
    request(params={"p": "ü"}),
    request(params={"p": ["x"]}),
    request(params={"p": None}),
    request(reason="x" * (TEXT_MAX + 1)),
    request(reason="a\nb"),
    request(not_before="2027-01-15T09:00:00Z"),
    request(execute_by="2027-01-15T08:59:59Z"),
]


@pytest.mark.parametrize("payload", GOOD, ids=range(len(GOOD)))
def test_what_may_be_asked(payload: bytes) -> None:
    made = gate_form.parse_request(payload)
    assert gate_form.parse_request(gate_form.render_request(made)) == made


@pytest.mark.parametrize("payload", BAD, ids=range(len(BAD)))
def test_what_has_not_the_form_of_a_request(payload: bytes) -> None:
    with pytest.raises(GateRefused) as no:
        gate_form.parse_request(payload)
    assert no.value.refusal is Refusal.MALFORMED


def test_values_are_read_as_pve_writes_them() -> None:
    assert gate_form.parse_request(request(params={"t": True, "f": False, "n": 7, "e": ""})).params == {
        "t": "1", "f": "0", "n": "7", "e": "",
    }  # fmt: skip
    assert gate_form.parse_request(identity(ctime=17)).target.identity.ctime == "17"


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_000, "1970-01-01T00:00:01Z"),
        (1_001, "1970-01-01T00:00:01.001Z"),
        (1_001_000, "1970-01-01T00:16:41Z"),
    ],
)
def test_instants_show_milliseconds_where_there_are_any(at_ms: int, text: str) -> None:
    assert gate_form.render_instant(at_ms) == text
    assert gate_form.parse_instant(text) == at_ms


def test_of_a_fraction_three_digits_count() -> None:
    assert gate_form.parse_instant("1970-01-01T00:00:00.1239Z") == 123
    assert gate_form.parse_instant("1970-01-01T00:00:00.1Z") == 100


def test_what_is_signed_is_written_for_people() -> None:
    text = gate_form.render_request(gate_form.parse_request(request(reason="schön"))).decode()
    assert '\n  "reason": "schön",\n' in text


def test_what_would_be_too_large_to_be_read_is_not_written() -> None:
    asked = gate_form.parse_request(request(reason=""))
    room = limits.REQUEST_MAX_BYTES - len(gate_form.render_request(asked))
    assert len(gate_form.render_request(replace(asked, reason="x" * room))) == limits.REQUEST_MAX_BYTES
    with pytest.raises(GateRefused) as no:
        gate_form.render_request(replace(asked, reason="x" * (room + 1)))
    assert no.value.refusal is Refusal.TOO_LARGE


def test_a_nonce_may_be_padded_as_base32_is_and_no_further() -> None:
    nonce = gate_form.render_nonce(bytes(16))
    assert gate_form.parse_request(request(nonce=nonce + "======")).nonce == nonce
    with pytest.raises(GateRefused, match="nonce is longer than 32"):
        gate_form.parse_request(request(nonce=nonce + "======="))


# -- envelopes --------------------------------------------------------------------------------------------------------


def envelope(*signatures: dict[str, str], payload: str = "e30=", kind: str = OPERATION_TYPE) -> bytes:
    return json.dumps({"payload": payload, "payloadType": kind, "signatures": list(signatures)}).encode()


def wrong(content: bytes) -> Refusal:
    with pytest.raises(GateRefused) as no:
        parse_envelope(content)
    return no.value.refusal


def test_an_envelope_takes_so_many_signatures_of_such_a_length_and_no_more() -> None:
    one = {"keyid": "k" * 1_000, "sig": "AAAA" * 4_096}
    assert len(parse_envelope(envelope(one)).signatures[0].raw) == 3 * 4_096
    assert wrong(envelope({**one, "keyid": "k" * 1_001})) is Refusal.MALFORMED
    assert wrong(envelope({**one, "sig": "AAAA" * 4_097})) is Refusal.MALFORMED
    small = {"sig": "AAAA"}
    assert len(parse_envelope(envelope(*[small] * limits.SIGNATURES_MAX)).signatures) == limits.SIGNATURES_MAX
    assert wrong(envelope(*[small] * (limits.SIGNATURES_MAX + 1))) is Refusal.MALFORMED


def test_an_envelope_of_another_kind_or_with_no_signature_where_one_should_be() -> None:
    assert wrong(envelope(kind="application/other")) is Refusal.PAYLOAD_TYPE
    assert wrong(json.dumps({"payload": "e30=", "payloadType": OPERATION_TYPE, "signatures": [1]}).encode()) is (
        Refusal.MALFORMED
    )


def test_a_signature_that_is_there_is_not_added_again() -> None:
    one, other = (Signature(key_id="k", form=Form.DSSE, raw=raw) for raw in (b"1", b"2"))
    ssh = Signature(key_id="k", form=Form.SSHSIG, raw=b"1")
    bare = Envelope(payload=b"{}", payload_type=OPERATION_TYPE, signatures=(one, other))
    assert with_signatures(bare, [other, ssh, one]).signatures == (one, other, ssh)


def test_an_armored_signature_is_taken_for_sshsig_only() -> None:
    armor = "-----BEGIN SSH SIGNATURE-----\nAA\nAA\n-----END SSH SIGNATURE-----\n"
    found = parse_envelope(envelope({"sig": armor, "form": "sshsig"})).signatures[0]
    assert (found.form, found.raw) == (Form.SSHSIG, b"\0\0\0")
    assert wrong(envelope({"sig": armor})) is Refusal.MALFORMED
    assert wrong(envelope({"sig": armor, "form": "webauthn"})) is Refusal.MALFORMED
    assert wrong(envelope({"sig": armor.replace("AA\nAA", "A"), "form": "sshsig"})) is Refusal.MALFORMED
    assert wrong(envelope({"sig": armor.replace("AA\nAA", "AA==AAAA"), "form": "sshsig"})) is Refusal.MALFORMED
    assert parse_envelope(envelope({"sig": "AAAA", "form": "sshsig"})).signatures[0].raw == b"\0\0\0"


@pytest.mark.parametrize(
    ("text", "raw"), [("--__", b"\xfb\xef\xff"), ("++//", b"\xfb\xef\xff"), ("----", b"\xfb\xef\xbe")]
)
def test_base64_is_of_one_of_two_alphabets(text: str, raw: bytes) -> None:
    assert parse_envelope(envelope({"sig": text})).signatures[0].raw == raw


@pytest.mark.parametrize("text", ["+-__", "/_--", "AA", "AAA", "AAB=", "AA AA", "AAAA\n", "A!AAA", "ü"])
def test_what_is_no_single_spelling_is_refused(text: str) -> None:
    assert wrong(envelope({"sig": text})) is Refusal.MALFORMED


def test_complaints_name_the_field() -> None:
    with pytest.raises(GateRefused, match="payload is not in base64"):
        parse_envelope(envelope(payload="!"))
    with pytest.raises(GateRefused, match="sig is not in base64"):
        parse_envelope(envelope({"sig": "!"}))


def test_the_form_is_written_where_it_is_not_dsse() -> None:
    signatures = tuple(Signature(key_id="k", form=form, raw=b"x") for form in Form)
    content = render_envelope(Envelope(payload=b"{}", payload_type=VETO_TYPE, signatures=signatures))
    assert [one.get("form") for one in json.loads(content)["signatures"]] == [None, "sshsig", "webauthn"]
    assert content.startswith(b'{\n  "payload"')
    assert parse_envelope(content).signatures == signatures


def test_an_envelope_that_nobody_would_take_is_not_written() -> None:
    empty = Envelope(payload=b"", payload_type=VETO_TYPE, signatures=())
    room = (limits.REQUEST_MAX_BYTES - len(render_envelope(empty))) // 4 * 3
    assert len(render_envelope(Envelope(payload=b"x" * room, payload_type=VETO_TYPE, signatures=()))) <= (
        limits.REQUEST_MAX_BYTES
    )
    with pytest.raises(GateRefused) as no:
        render_envelope(Envelope(payload=b"x" * (room + 3), payload_type=VETO_TYPE, signatures=()))
    assert no.value.refusal is Refusal.TOO_LARGE


@pytest.mark.parametrize(
    ("field", "kind"), [("target", OPERATION_TYPE), ("request_id", VETO_TYPE), ("op_id", RESOLUTION_TYPE)]
)
def test_a_statement_is_told_by_the_field_that_only_it_has(field: str, kind: str) -> None:
    assert statement_type(json.dumps({field: 1}).encode()) == kind
    with pytest.raises(GateRefused) as no:
        statement_type(b'{"other": 1}')
    assert no.value.refusal is Refusal.PAYLOAD_TYPE
