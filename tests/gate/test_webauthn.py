"""Signatures of security keys, made in a browser: which count, and every way in which one does not."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES384
from securesystemslib.signer import CryptoSigner  # pyright: ignore[reportPrivateImportUsage]

from tests.gate.security_key import (
    ALICES,
    AT,
    BE,
    BOBS,
    BS,
    ED,
    EVES,
    ORIGIN,
    PARTY,
    SITE,
    UP,
    UV,
    Browser,
    SecurityKey,
    b64url,
    render_signature,
    with_lines,
)
from tests.gate.world import (
    NOW_MS,
    Scene,
    envelope_of,
    instant,
    keyring_text,
    payload_of,
    play,
    request,
    signed,
    ssh_line,
)
from trueup.adapters.keyring_edit import with_key
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.signing import DsseVerifier, sign
from trueup.adapters.signing_keys import library_keys, public_line, public_of, read_public, ssh_blob
from trueup.adapters.webauthn import parse_line
from trueup.adapters.webauthn_enrol import Enrolment, enrolled, parse_enrolment
from trueup.core import gate_webauthn
from trueup.core.gate_envelope import parse_envelope, render_envelope
from trueup.core.gate_webauthn import parse_signature
from trueup.model.errors import BadInput
from trueup.model.gate import Denied, Form, Refusal, RequestState
from trueup.model.gate_answers import OPERATION_TYPE, VETO_TYPE, Envelope, GateRefused, Go, Outcome, Signature, Stop
from trueup.model.keyring import Keyring, RelyingParty

BARE = Envelope(payload=b'{"the": "exact bytes"}\n', payload_type=OPERATION_TYPE, signatures=())
OTHER = Envelope(payload=b'{"the": "exact bytes"}', payload_type=OPERATION_TYPE, signatures=())


def ring(*lines: str) -> Keyring:
    text = "people:\n" + "".join(f'  p{n}: {{roles: [r], keys: ["{line}"]}}\n' for n, line in enumerate(lines))
    return parse_keyring(text, "keyring.yaml", Path())


MINE = ring(ALICES.line, BOBS.line)


def verify(envelope: Envelope, keyring: Keyring = MINE, party: RelyingParty = PARTY):
    return DsseVerifier(party).verify(parse_envelope(render_envelope(envelope)), keyring)


def the_problem(envelope: Envelope, keyring: Keyring = MINE, party: RelyingParty = PARTY) -> tuple[Refusal, str]:
    checked = verify(envelope, keyring, party)
    assert checked.valid == ()
    ((refusal, text),) = checked.problems
    return refusal, text


@pytest.mark.parametrize("key", [ALICES, BOBS], ids=["ES256", "EdDSA"])
def test_a_touched_key_signs_the_very_bytes(key):
    (one,) = verify(key.sign(BARE)).valid
    assert (one.person, one.form) == ("p0" if key is ALICES else "p1", Form.WEBAUTHN)
    assert one.key_id == read_public(key.line).key_id
    assert verify(key.sign(BARE)).problems == ()
    assert verify(key.sign(BARE, Browser(origin="https://b.trueup.example"))).valid  # another agent's page
    assert verify(key.sign(BARE, Browser(silent=("crossOrigin",)))).valid  # as older browsers do
    assert verify(key.sign(BARE, Browser(said={"new_field": {"of": ["a", 1]}}))).valid


LIES: dict[str, tuple[Browser, str]] = {
    "challenge of nothing": (Browser(challenge=b"x" * 32), "another statement"),
    "challenge is the plain hash": (Browser(challenge=hashlib.sha256(BARE.payload).digest()), "another statement"),
    "empty challenge": (Browser(challenge=b""), "another statement"),
    "challenge with padding": (
        Browser(said={"challenge": b64url(gate_webauthn.challenge(BARE.payload_type, BARE.payload)) + "="}),
        "another statement",
    ),
    "made to enrol": (Browser(type="webauthn.create"), "enrol a key"),
    "made to pay": (Browser(type="payment.get"), "not to sign"),
    "other page": (Browser(origin="https://evil.example"), "another address"),
    "other port": (Browser(origin="https://trueup.example"), "another address"),
    "no TLS": (Browser(origin="http://trueup.example:8640"), "another address"),
    "page below ours": (Browser(origin=ORIGIN + ".evil.example"), "another address"),
    "upper case": (Browser(origin=ORIGIN.upper()), "another address"),
    "other page of the same site": (Browser(origin="https://wiki.trueup.example"), "another address"),
    "other site": (Browser(site="example"), "another site"),
    "no site": (Browser(site=""), "another site"),
    "untouched": (Browser(flags=UV), "nobody touched"),
    "no PIN": (Browser(flags=UP), "did not check who"),
    "neither": (Browser(flags=0), "nobody touched"),
    "synced passkey": (Browser(flags=UP | UV | BE), "copied to other devices"),
    "backed up": (Browser(flags=UP | UV | BS), "copied to other devices"),
    "in a frame of another page": (Browser(said={"crossOrigin": True}), "inside of another one"),
    "in a frame, said oddly": (Browser(said={"crossOrigin": []}), "inside of another one"),
    "in a frame, 0": (Browser(said={"crossOrigin": 0}), "inside of another one"),
    "top origin": (Browser(said={"topOrigin": ORIGIN}), "inside of another one"),
    "no origin": (Browser(said={"origin": 1}), "origin must be a text"),
    "bytes behind the flags": (Browser(behind=b"\0"), "damaged"),
    "extensions that are none": (Browser(flags=UP | UV | ED), "damaged"),
    "a key inside that is none": (Browser(flags=UP | UV | AT, behind=b"\xff" * 40), "damaged"),
}


@pytest.mark.parametrize(("browser", "why"), LIES.values(), ids=LIES)
@pytest.mark.parametrize("key", [ALICES, BOBS], ids=["ES256", "EdDSA"])
def test_what_the_browser_or_the_key_says_has_to_be_so(key, browser, why):
    """Each of these is a good signature by the right key; only what it says is not what it has to be."""
    refusal, text = the_problem(key.sign(BARE, browser))
    assert refusal is Refusal.SIGNATURE
    assert why in text


def test_extensions_that_a_key_adds_hurt_nobody():
    assert verify(ALICES.sign(BARE, Browser(flags=UP | UV | ED, behind=cbor.encode({"uvm": [[1, 2, 3]]})))).valid


@pytest.mark.parametrize("counter", [0, 1, 7, 2**32 - 1])
def test_the_counter_is_kept_and_judged_by_nobody(counter):
    """Signatures are checked again after newer ones were seen, and many keys count nothing: see the record 35."""
    first, second = ALICES.signature(BARE), ALICES.signature(BARE, Browser(counter=counter))
    for order in ((first, second), (second, first)):
        checked = verify(Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=order))
        assert (len(checked.valid), checked.problems) == (1, ())
    assert parse_signature(second.raw).authenticator_data[33:37] == counter.to_bytes(4)


def test_nothing_counts_where_no_page_is_configured():
    for party in (RelyingParty(), RelyingParty(rp_id=SITE), RelyingParty(origins=(ORIGIN,))):
        assert "count nowhere" in the_problem(ALICES.sign(BARE), party=party)[1]
    assert DsseVerifier().verify(ALICES.sign(BARE), MINE).valid == ()


def test_a_signature_over_another_statement():
    """The same signature beside other bytes, another type of statement, another request."""
    made = ALICES.signature(BARE)
    for other in (OTHER, Envelope(payload=BARE.payload, payload_type=VETO_TYPE, signatures=())):
        moved = Envelope(payload=other.payload, payload_type=other.payload_type, signatures=(made,))
        assert "another statement" in the_problem(moved)[1]


def test_a_strangers_key():
    assert the_problem(EVES.sign(BARE))[0] is Refusal.UNKNOWN_KEY
    # She says that it is alice's: her key signs, alice's credential is named.
    refusal, text = the_problem(EVES.sign(BARE, Browser(credential=ALICES.credential)))
    assert (refusal, "not a signature of this key" in text) == (Refusal.SIGNATURE, True)
    # One of the keyring, under another's name.
    assert the_problem(BOBS.sign(BARE, Browser(credential=ALICES.credential)))[0] is Refusal.SIGNATURE


def test_a_hint_gives_nobody_a_key():
    """The key id beside the signature says bob; the signature is alice's, and counts for her."""
    made = ALICES.signature(BARE)
    hinted = Signature(key_id=read_public(BOBS.line).key_id, form=made.form, raw=made.raw)
    (one,) = verify(Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=(hinted,))).valid
    assert one.person == "p0"


@pytest.mark.parametrize("part", ["authenticator_data", "client_data", "signature"])
def test_every_changed_bit_breaks_it(part):
    made = ALICES.assertion(gate_webauthn.challenge(BARE.payload_type, BARE.payload))
    content = getattr(made, part)
    for at in range(len(content)):
        flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        fields = {name: getattr(made, name) for name in made.__struct_fields__} | {part: flipped}
        raw = render_signature(type(made)(**fields))
        one = Signature(key_id="", form=Form.WEBAUTHN, raw=raw)
        assert verify(Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=(one,))).valid == ()


def test_client_data_that_reads_in_two_ways():
    """A second origin behind the first: parsers differ in which they take, so it is none."""
    wanted = gate_webauthn.challenge(BARE.payload_type, BARE.payload)
    client = (
        f'{{"type":"webauthn.get","challenge":"{b64url(wanted)}","origin":"https://evil.example","origin":"{ORIGIN}"}}'
    )
    told = ALICES.assertion(wanted).authenticator_data
    made = type(ALICES.assertion(wanted))(
        credential=ALICES.credential,
        authenticator_data=told,
        client_data=client.encode(),
        signature=ALICES.raw_sign(told + hashlib.sha256(client.encode()).digest()),
    )
    one = Signature(key_id="", form=Form.WEBAUTHN, raw=render_signature(made))
    envelope = Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=(one,))
    assert "a key twice" in the_problem(envelope)[1]


def test_forms_are_not_taken_for_one_another():
    """A key counts by its own form alone: no browser's key signs plainly, no plain key signs for a browser."""
    made = ALICES.signature(BARE)
    for form in (Form.DSSE, Form.SSHSIG):
        relabelled = Signature(key_id=read_public(ALICES.line).key_id, form=form, raw=made.raw)
        assert (
            verify(Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=(relabelled,))).valid == ()
        )
    # The private half in somebody's hands, signing as a key file would.
    plain = sign(BARE, CryptoSigner(ALICES.private))
    assert plain.signatures[0].key_id == read_public(ALICES.line).key_id
    assert the_problem(plain)[0] is Refusal.SIGNATURE
    # A plain key of the keyring, signing as a browser would.
    same = public_of(ALICES.private.public_key()).public.replace("\n", "\\n")
    assert the_problem(ALICES.sign(BARE), ring(same))[0] is Refusal.UNKNOWN_KEY


def test_other_content_than_a_browsers_is_malformed():
    good = json.loads(ALICES.signature(BARE).raw)
    bad = (
        b"", b"{}", b"[]", b"\xff", json.dumps(good | {"more": "x"}).encode(), json.dumps(good | {"id": 1}).encode(),
        json.dumps(good | {"id": ""}).encode(), json.dumps(good | {"signature": good["signature"] + "="}).encode(),
        json.dumps(good | {"signature": "é"}).encode(), json.dumps(good | {"clientDataJSON": "AB"}).encode(),
    )  # fmt: skip
    for raw in bad:
        with pytest.raises(GateRefused):
            parse_signature(raw)
        one = Signature(key_id="", form=Form.WEBAUTHN, raw=raw)
        envelope = Envelope(payload=BARE.payload, payload_type=BARE.payload_type, signatures=(one,))
        assert the_problem(envelope)[0] is Refusal.SIGNATURE
    assert json.loads(render_signature(parse_signature(json.dumps(good).encode()))) == good


# -- the keyring -------------------------------------------------------------------------------------------------------


def test_a_line_is_read_and_written_back(tmp_path):
    key = read_public(f"{ALICES.line} alice's key")
    assert (key.public, key.comment, key.algorithm) == (ALICES.line, "alice's key", "webauthn-ecdsa-p256")
    assert read_public(BOBS.line).algorithm == "webauthn-ed25519"
    assert public_line(key) == ALICES.line
    assert (ssh_blob(key), library_keys(key)) == (None, ())
    text = with_key(keyring_text(), "keyring.yaml", "alice", key)
    alice = parse_keyring(text, "keyring.yaml", tmp_path).person("alice")
    assert alice is not None
    assert alice.key(key.key_id) == key


def test_lines_that_are_none():
    head = f"webauthn {SITE} {b64url(ALICES.credential)}"
    more = dict(cbor.decode(ALICES.cose)) | {-4: 1}  # pyright: ignore[reportArgumentType, reportCallIssue]
    p384 = ES384.from_cryptography_key(ec.derive_private_key(9, ec.SECP384R1()).public_key())
    bad = {
        "webauthn": "not the line",
        f"webauthn {SITE}": "not the line",
        f"webauthn {SITE.upper()} {ALICES.line.split()[2]} {ALICES.line.split()[3]}": "names no site",
        f"webauthn {SITE} ? {b64url(ALICES.cose)}": "the id of the security key",
        f"{head} AAAA": "damaged",
        f"{head} {b64url(ALICES.cose)}=": "damaged",
        f"{head} {b64url(ALICES.cose + b'x')}": "damaged",
        f"{head} {b64url(cbor.encode(more))}": "damaged",
        f"{head} {b64url(ALICES.cose[:-1] + bytes([ALICES.cose[-1] ^ 1]))}": "damaged",  # no point of the curve
        f"{head} {b64url(cbor.encode(p384))}": "does not count",
    }  # fmt: skip
    for line, why in bad.items():
        with pytest.raises(BadInput, match=why):
            read_public(line)


def test_one_key_in_two_forms_is_one_key():
    """The id is the plain key's: two people with one key are one hand, in whatever form each has it."""
    plain = public_of(ALICES.private.public_key()).public.replace("\n", "\\n")
    keyring = ring(ALICES.line, plain)
    assert keyring.hand("p0") == keyring.hand("p1")
    again = SecurityKey(1, site="other.example")
    assert ring(ALICES.line, again.line).hand("p1") == "p0"
    assert ring(ALICES.line, BOBS.line).hand("p1") == "p1"


def test_a_key_for_another_site_than_the_pages_is_told():
    far = replace(ALICES, site="old.example")
    assert "for another site" in the_problem(far.sign(BARE), ring(far.line))[1]
    (text,) = gate_webauthn.unusable(ring(far.line, BOBS.line, ssh_line("alice")), PARTY)
    assert text.startswith("p0's security key")
    assert "old.example" in text
    assert len(gate_webauthn.unusable(MINE, RelyingParty())) == 2


# -- enrolling ---------------------------------------------------------------------------------------------------------


def client_data(wanted: bytes, **said: object) -> bytes:
    return json.dumps({"type": "webauthn.create", "challenge": b64url(wanted), "origin": ORIGIN} | said).encode()


WANTED = b"w" * 32


@pytest.mark.parametrize("key", [ALICES, BOBS], ids=["ES256", "EdDSA"])
def test_a_new_key_becomes_the_keyrings_line(key):
    made = parse_enrolment(
        {
            "id": b64url(key.credential),
            "clientDataJSON": b64url(client_data(WANTED)),
            "attestationObject": b64url(key.attestation()),
        }
    )
    found = enrolled(made, WANTED, PARTY)
    assert found.line == key.line
    assert parse_line(found.line) == (found, "")


ENROLMENTS: dict[str, tuple[Enrolment, str]] = {
    name: (Enrolment(credential=ALICES.credential, client_data=client, attestation=attestation), why)
    for name, (client, attestation, why) in {
        "old page": (client_data(b"x" * 32), ALICES.attestation(), "too old"),
        "other page": (client_data(WANTED, origin="https://evil.example"), ALICES.attestation(), "not one of"),
        "made to sign": (client_data(WANTED, type="webauthn.get"), ALICES.attestation(), "asked to sign"),
        "other site": (client_data(WANTED), ALICES.attestation(site="example"), "another site"),
        "untouched": (client_data(WANTED), ALICES.attestation(flags=UV | AT), "nobody touched"),
        "no PIN": (client_data(WANTED), ALICES.attestation(flags=UP | AT), "did not check who"),
        "synced": (client_data(WANTED), ALICES.attestation(flags=UP | UV | AT | BE), "copied to other devices"),
        "another key": (client_data(WANTED), EVES.attestation(), "names another key"),
        "no JSON": (b"\xff\xff", ALICES.attestation(), "damaged"),
        "no CBOR": (client_data(WANTED), b"\xff\xff", "damaged"),
        "nested CBOR": (client_data(WANTED), b"\x81" * 5_000, "damaged"),
    }.items()
}


@pytest.mark.parametrize(("made", "why"), ENROLMENTS.values(), ids=ENROLMENTS)
def test_what_may_not_be_enrolled(made, why):
    with pytest.raises(BadInput, match=why):
        enrolled(made, WANTED, PARTY)


def test_what_no_browser_says_of_a_new_key():
    for found in ({}, {"id": "AAAA"}, {"id": 1, "clientDataJSON": "AAAA", "attestationObject": "AAAA"}):
        with pytest.raises(BadInput, match="not what a browser says"):
            parse_enrolment(found)


# -- the whole gate ----------------------------------------------------------------------------------------------------


class Browsing(Scene):
    """The gate's world, in which alice and bob have security keys beside their files."""

    def __init__(self, folder: Path, *, inline: bool) -> None:
        super().__init__(folder, inline=inline)
        self.party = PARTY
        (folder / "keyring.yaml").write_text(keys())


def keys(**revoked: str) -> str:
    return with_lines(keyring_text(**revoked), alice=ALICES.line, bob=BOBS.line)


def run(folder: Path, story) -> None:
    play(folder, story, scene=Browsing)


def both(document: dict[str, object], *signers: SecurityKey) -> bytes:
    envelope = envelope_of(payload_of(document), "alice")
    for one in signers:
        envelope = one.sign(envelope)
    return render_envelope(envelope)


def test_a_browsers_approval_is_one_of_two(tmp_path):
    async def story(scene: Browsing) -> None:
        asked = request()
        first = await scene.gate.submit(signed(asked, "alice"), "http")
        assert first.outcome is Outcome.PENDING
        # One person counts once, however many keys and forms they sign with.
        envelope = ALICES.sign(envelope_of(payload_of(asked)))
        again = await scene.gate.approve(first.request, render_envelope(envelope), "http")
        assert (again.outcome, again.missing) == (Outcome.PENDING, "1 more with role operator: bob, carol")
        bobs = render_envelope(BOBS.sign(envelope_of(payload_of(asked))))
        done = await scene.gate.approve(first.request, bobs, "http")
        assert done.outcome is Outcome.ACCEPTED
        view = await scene.request(first.request)
        assert [(one.person, one.form) for one in view.approvals] == [
            ("alice", Form.DSSE),
            ("alice", Form.WEBAUTHN),
            ("bob", Form.WEBAUTHN),
        ]
        # After a restart, and on another agent with the same pages, the same signatures hold; elsewhere they do not.
        scene.gate = scene.new_gate()
        assert isinstance(await scene.gate.may_run(first.request, scene.world.observed()), Go)
        scene.party = RelyingParty(rp_id="other.example", origins=("https://other.example",))
        stopped = await scene.new_gate().may_run(first.request, scene.world.observed())
        assert isinstance(stopped, Stop)

    run(tmp_path, story)


def test_an_approval_for_another_request_or_by_a_stranger(tmp_path):
    async def story(scene: Browsing) -> None:
        one, other = request(), request(idempotency_key="another")
        first = await scene.gate.submit(signed(one, "alice"), "http")
        for envelope, refusal in (
            (BOBS.sign(envelope_of(payload_of(other))), Refusal.REPLAY),  # it holds another request
            (
                replace_signature(envelope_of(payload_of(one)), BOBS.signature(envelope_of(payload_of(other)))),
                Refusal.SIGNATURE,
            ),
            (EVES.sign(envelope_of(payload_of(one))), Refusal.UNKNOWN_KEY),
            (BOBS.sign(envelope_of(payload_of(one)), Browser(flags=UP)), Refusal.SIGNATURE),
            (BOBS.sign(envelope_of(payload_of(one)), Browser(origin="https://evil.example")), Refusal.SIGNATURE),
        ):
            answer = await scene.gate.approve(first.request, render_envelope(envelope), "http")
            assert (answer.outcome, answer.refusal) == (Outcome.REFUSED, refusal), answer
        view = await scene.request(first.request)
        assert (view.state, len(view.approvals)) == (RequestState.PENDING, 1)
        assert len(await scene.events(Denied)) == 5

    run(tmp_path, story)


def replace_signature(envelope: Envelope, signature: Signature) -> Envelope:
    return Envelope(payload=envelope.payload, payload_type=envelope.payload_type, signatures=(signature,))


def test_a_revoked_key_and_a_person_without_role(tmp_path):
    async def story(scene: Browsing) -> None:
        asked = request()
        first = await scene.gate.submit(both(asked, BOBS), "http")
        assert first.outcome is Outcome.ACCEPTED
        gone = read_public(BOBS.line).key_id
        text = keys().replace("\n  carol", f', revoked: {{"{gone}": 2026-12-01T00:00:00Z}}}}\n  carol', 1)
        text = text.replace("]}, revoked", "], revoked", 1)
        (scene.folder / "keyring.yaml").write_text(text)
        assert isinstance(await scene.gate.may_run(first.request, scene.world.observed()), Stop)
        scene.clock.ms = NOW_MS
        denied = await scene.gate.submit(
            render_envelope(BOBS.sign(envelope_of(payload_of(request(requested_by="bob"))))), "http"
        )
        assert denied.refusal is Refusal.REVOKED_KEY
        (scene.folder / "keyring.yaml").write_text(with_lines(keyring_text(), dave=BOBS.line))
        pending = await scene.gate.submit(both(request(idempotency_key="k2"), BOBS), "http")
        assert pending.refusal is None
        assert pending.missing

    run(tmp_path, story)


def test_a_veto_by_security_key(tmp_path):
    """The form is the same for every statement that can be signed."""

    async def story(scene: Browsing) -> None:
        first = await scene.gate.submit(signed(request(), "alice"), "http")
        document = {
            "cluster": "lab",
            "request_id": first.request,
            "reason": "not today",
            "requested_by": "bob",
            "nonce": base64.b32encode(b"n" * 16).decode().rstrip("="),
            "not_before": instant(0),
            "execute_by": instant(1),
        }
        vetoed = await scene.gate.submit(
            render_envelope(BOBS.sign(envelope_of(payload_of(document), kind=VETO_TYPE))), "http"
        )
        assert vetoed.state == "vetoed"

    run(tmp_path, story)


def test_two_keys_may_have_one_name():
    """A credential's id is its maker's choice: what counts is who verifies."""
    same = BOBS.line.replace(b64url(BOBS.credential), b64url(ALICES.credential))
    keyring = ring(same, ALICES.line)
    assert [one.person for one in verify(ALICES.sign(BARE), keyring).valid] == ["p1"]
    assert [one.person for one in verify(BOBS.sign(BARE, Browser(credential=ALICES.credential)), keyring).valid] == [
        "p0"
    ]
