"""Security keys in software, and a browser around them: what real ones would have made (WebAuthn 5.8.1, 6.1)."""

import base64
import hashlib
import json
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fido2 import cbor
from fido2.cose import ES256, EdDSA

from trueup.core.gate_envelope import with_signatures
from trueup.core.gate_webauthn import BrowserSignature, challenge
from trueup.model.gate import Form
from trueup.model.gate_answers import Envelope, Signature
from trueup.model.keyring import RelyingParty

SITE = "trueup.example"
ORIGIN = "https://trueup.example:8640"
PARTY = RelyingParty(rp_id=SITE, origins=(ORIGIN, "https://b.trueup.example"))

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


def b64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def render_signature(signature: BrowserSignature) -> bytes:
    """As the page's script writes it."""
    parts = {
        "id": signature.credential,
        "authenticatorData": signature.authenticator_data,
        "clientDataJSON": signature.client_data,
        "signature": signature.signature,
    }
    return json.dumps({name: b64url(part) for name, part in parts.items()}).encode()


@dataclass(frozen=True)
class Browser:
    """What browser and key say of one signature; a lie of either is another value here."""

    type: str = "webauthn.get"
    origin: str = ORIGIN
    site: str = SITE
    flags: int = UP | UV
    counter: int = 7
    challenge: bytes | None = None
    credential: bytes | None = None
    said: dict[str, object] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    behind: bytes = b""


@dataclass(frozen=True)
class SecurityKey:
    seed: int
    kind: str = "es256"
    site: str = SITE

    @property
    def private(self):
        if self.kind == "es256":
            return ec.derive_private_key(self.seed + 1000, ec.SECP256R1())
        return Ed25519PrivateKey.from_private_bytes(bytes([self.seed + 100]) * 32)

    @property
    def cose(self) -> bytes:
        made = ES256 if self.kind == "es256" else EdDSA
        return cbor.encode(made.from_cryptography_key(self.private.public_key()))

    @property
    def credential(self) -> bytes:
        return hashlib.sha256(b"credential %d" % self.seed).digest()

    @property
    def line(self) -> str:
        return f"webauthn {self.site} {b64url(self.credential)} {b64url(self.cose)}"

    def raw_sign(self, message: bytes) -> bytes:
        private = self.private
        if isinstance(private, Ed25519PrivateKey):
            return private.sign(message)
        return private.sign(message, ec.ECDSA(hashes.SHA256()))

    def assertion(self, wanted: bytes, browser: Browser = Browser()) -> BrowserSignature:
        client = {
            "type": browser.type,
            "challenge": b64url(wanted if browser.challenge is None else browser.challenge),
            "origin": browser.origin,
            "crossOrigin": False,
            **browser.said,
        }
        client_data = json.dumps({name: told for name, told in client.items() if name not in browser.silent}).encode()
        told = hashlib.sha256(browser.site.encode()).digest()
        told += bytes([browser.flags]) + browser.counter.to_bytes(4) + browser.behind
        return BrowserSignature(
            credential=browser.credential or self.credential,
            authenticator_data=told,
            client_data=client_data,
            signature=self.raw_sign(told + hashlib.sha256(client_data).digest()),
        )

    def signature(self, envelope: Envelope, browser: Browser = Browser()) -> Signature:
        made = self.assertion(challenge(envelope.payload_type, envelope.payload), browser)
        return Signature(key_id="", form=Form.WEBAUTHN, raw=render_signature(made))

    def sign(self, envelope: Envelope, browser: Browser = Browser()) -> Envelope:
        return with_signatures(envelope, [self.signature(envelope, browser)])

    def attestation(self, flags: int = UP | UV | AT, site: str = SITE) -> bytes:
        told = hashlib.sha256(site.encode()).digest() + bytes([flags]) + (0).to_bytes(4)
        told += bytes(16) + len(self.credential).to_bytes(2) + self.credential + self.cose
        return cbor.encode({"fmt": "none", "attStmt": {}, "authData": told})


ALICES, BOBS, EVES = SecurityKey(1), SecurityKey(2, "eddsa"), SecurityKey(3)


def with_lines(keyring: str, **lines: str) -> str:
    """The keyring's text, with one more key for each of these people."""
    for name, line in lines.items():
        head, tail = keyring.split(f"  {name}: ", 1)
        keyring = f'{head}  {name}: {tail.replace("keys: [", f"""keys: ["{line}", """, 1)}'
    return keyring
