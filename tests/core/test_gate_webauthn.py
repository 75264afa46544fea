"""What can be told of a browser's signature without any arithmetic."""

import base64
import hashlib
import json

import pytest

from tests.core.asking import refused
from trueup.core import gate_webauthn as webauthn
from trueup.core.gate_webauthn import ClientData, KeyData
from trueup.model.gate import Refusal
from trueup.model.keyring import Keyring, Person, PublicKey, RelyingParty

SITE, PAGE = "trueup.example", "https://trueup.example"
PARTY = RelyingParty(rp_id=SITE, origins=(PAGE,))
WANTED = b"w" * 32
SAID = {"type": "webauthn.get", "challenge": webauthn.pack(WANTED), "origin": PAGE, "embedded": False}
KEY = {"rp_id_hash": hashlib.sha256(SITE.encode()).digest(), "present": True, "verified": True, "synced": False}
PARTS = {"id": "aWQ", "authenticatorData": "YXV0aA", "clientDataJSON": "e30", "signature": "c2ln"}


@pytest.mark.parametrize(
    ("said", "key", "party", "why"),
    [
        ({}, {}, PARTY, ""),
        ({}, {}, RelyingParty(), "count nowhere here"),
        ({}, {}, RelyingParty(rp_id=SITE), "count nowhere here"),
        ({}, {}, RelyingParty(origins=(PAGE,)), "count nowhere here"),
        ({"type": "webauthn.create"}, {}, PARTY, "enrol a key"),
        ({"challenge": "eA"}, {}, PARTY, "another statement"),
        ({"origin": "https://evil.example"}, {}, PARTY, "another address"),
        ({"embedded": True}, {}, PARTY, "inside of another one"),
        ({}, {"rp_id_hash": b"x" * 32}, PARTY, "another site"),
        ({}, {"present": False}, PARTY, "nobody touched"),
        ({}, {"verified": False}, PARTY, "did not check who"),
        ({}, {"synced": True}, PARTY, "copied to other devices"),
    ],
)
def test_why_a_signature_may_not_count(said, key, party, why):
    found = webauthn.why_not(ClientData(**{**SAID, **said}), KeyData(**{**KEY, **key}), party, WANTED)
    assert (found == "") if not why else (why in found)


def test_a_signature_has_its_four_parts_and_none_is_empty():
    found = webauthn.parse_signature(json.dumps(PARTS).encode())
    parts = (found.credential, found.authenticator_data, found.client_data, found.signature)
    assert parts == (b"id", b"auth", b"{}", b"sig")
    for name in PARTS:
        for wrong in ("", "?", "aWQ=", "aWR"):
            raw = json.dumps({**PARTS, name: wrong}).encode()
            assert refused(webauthn.parse_signature, raw) is Refusal.MALFORMED
    assert refused(webauthn.parse_signature, json.dumps({**PARTS, "more": ""}).encode()) is Refusal.MALFORMED


@pytest.mark.parametrize(
    ("more", "embedded"),
    [
        ({}, False),
        ({"crossOrigin": False}, False),
        ({"crossOrigin": None}, False),
        ({"crossOrigin": True}, True),
        ({"crossOrigin": 0}, True),
        ({"topOrigin": PAGE}, True),
        ({"crossOrigin": False, "topOrigin": ""}, True),
        ({"newer": [1]}, False),
    ],
)
def test_a_page_inside_of_another_one_is_told(more, embedded):
    told = {"type": "t", "challenge": "c", "origin": "o"}
    found = webauthn.parse_client_data(json.dumps({**told, **more}).encode())
    assert found == ClientData(**told, embedded=embedded)


@pytest.mark.parametrize("length", range(6))
def test_bytes_have_one_spelling(length):
    content = bytes(range(250, 250 + length))
    text = webauthn.pack(content)
    assert text == base64.urlsafe_b64encode(content).decode().rstrip("=")
    assert webauthn.unpack(text) == content
    assert webauthn.unpack(text + "=") == b""


def test_the_line_of_a_security_key_and_those_that_can_sign_on_no_page():
    line, plain = f"webauthn {SITE} aWQ eA", f"ssh-ed25519 {SITE} aWQ"
    assert (webauthn.site_of(line), webauthn.credential_of(line)) == (SITE, b"id")
    assert (webauthn.site_of(plain), webauthn.credential_of(plain)) == ("", b"")
    keys = tuple(PublicKey(key_id="0123456789abcdef", algorithm="a", public=public) for public in (line, plain))
    ring = Keyring(people=(Person(name="ann", keys=keys),))
    assert webauthn.unusable(ring, PARTY) == ()
    begin = f"ann's security key 0123456789ab is for {SITE}, and browsers sign on "
    assert webauthn.unusable(ring, RelyingParty(rp_id="b.example")) == (begin + "a page of b.example",)
    assert webauthn.unusable(ring, RelyingParty()) == (begin + "no page: [http] origins names none",)
    assert (webauthn.ALGORITHM, webauthn.LINE) == ("webauthn-", "webauthn")
    assert webauthn.digest(b"x") == hashlib.sha256(b"x").digest()
