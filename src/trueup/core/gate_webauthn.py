"""Signatures that a browser asks a security key for (WebAuthn): their form in an envelope, and whether they may count.

What the key signs is its own data (for which site, was it touched, did it check who touched it) and the hash of what
the browser says (for which page, and the challenge). The challenge is the SHA-256 of DSSE's pre-authentication
encoding, so that the key signs the very statement that other signatures cover. All of it is kept, and everything here
is asked again wherever signatures are checked; nothing rests on the web session in which it was made.

Whether the signature itself is good is computed by `adapters.webauthn`.

https://www.w3.org/TR/webauthn-3/#sctn-verifying-assertion
"""

import base64
import hashlib
from typing import Final

import msgspec

from trueup.core.gate_envelope import pae
from trueup.core.gate_json import Fields, read_object
from trueup.model.keyring import Keyring, RelyingParty

ALGORITHM: Final = "webauthn-"
"""How the algorithm of every security key that signs in a browser begins."""

LINE: Final = "webauthn"
"""The first word of a security key's line in the keyring: `webauthn SITE CREDENTIAL KEY`."""

_GET: Final = "webauthn.get"
_WHAT: Final = "the signature of a browser"
_NAMES: Final = ("id", "authenticatorData", "clientDataJSON", "signature")


class BrowserSignature(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser hands over, as bytes; nothing of it is believed yet. `credential` names the security key."""

    credential: bytes
    authenticator_data: bytes
    client_data: bytes
    signature: bytes


class ClientData(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser says it was asked for, and by which page. `embedded`: by one inside of somebody else's."""

    type: str
    challenge: str
    origin: str
    embedded: bool


class KeyData(msgspec.Struct, frozen=True, kw_only=True):
    """What the security key says.

    `synced`: the key may be copied to other devices (backup eligible). The counter is kept in the signature and judged
    by nobody: signatures are checked again in any order, and most keys count nothing (docs/adr/0035).
    """

    rp_id_hash: bytes
    present: bool
    verified: bool
    synced: bool


def challenge(payload_type: str, payload: bytes) -> bytes:
    """What a security key is asked to sign for this statement: 32 bytes."""
    return hashlib.sha256(pae(payload_type, payload)).digest()


def parse_signature(raw: bytes) -> BrowserSignature:
    """Take apart what stands in an envelope: one JSON object of four texts in base64url.

    Raises:
        GateRefused: MALFORMED.
    """
    fields = Fields(read_object(raw, _WHAT), _WHAT)
    parts = {name: unpack(str(fields.take(name, str))) for name in _NAMES}
    fields.done()
    if any(not part for part in parts.values()):
        raise fields.wrong("a part is empty, or not in base64url")
    return BrowserSignature(
        credential=parts["id"],
        authenticator_data=parts["authenticatorData"],
        client_data=parts["clientDataJSON"],
        signature=parts["signature"],
    )


def parse_client_data(content: bytes) -> ClientData:
    """Read what the browser said; fields that are not known yet are allowed, as its specification asks.

    Raises:
        GateRefused: MALFORMED.
    """
    fields = Fields(read_object(content, "what the browser says"), "what the browser says")
    said = {name: str(fields.take(name, str)) for name in ("type", "challenge", "origin")}
    inside, above = fields.any_of("crossOrigin"), fields.any_of("topOrigin")
    return ClientData(**said, embedded=(inside is not None and inside is not False) or above is not None)


def why_not(said: ClientData, key: KeyData, party: RelyingParty, wanted: bytes) -> str:
    """Why a security key's signature does not count, whatever its arithmetic says; '' = it may.

    `wanted` is the challenge of the statement that it is said to be over.
    """
    checks: tuple[tuple[bool, str], ...] = (
        (not party.rp_id or not party.origins, "signatures made in a browser count nowhere here: see [http] origins"),
        (said.type != _GET, "it was made to enrol a key, or for something else, and not to sign"),
        (said.challenge != pack(wanted), "it was made over another statement"),
        (said.origin not in party.origins, "it was made on a page at another address than [http] origins names"),
        (said.embedded, "it was made on a page inside of another one"),
        (key.rp_id_hash != hashlib.sha256(party.rp_id.encode()).digest(), "it was made for another site"),
        (not key.present, "nobody touched the security key"),
        (not key.verified, "the security key did not check who touched it (PIN or fingerprint)"),
        (key.synced, "the key can be copied to other devices; only keys that stay in one device count"),
    )
    return next((text for wrong, text in checks if wrong), "")


def unusable(keyring: Keyring, party: RelyingParty) -> tuple[str, ...]:
    """Security keys of the keyring that can sign on no page of ours, one line each."""
    found: list[str] = []
    for person in keyring.people:
        for key in person.keys:
            site = site_of(key.public)
            if site and site != party.rp_id:
                where = f"a page of {party.rp_id}" if party.rp_id else "no page: [http] origins names none"
                found.append(
                    f"{person.name}'s security key {key.key_id[:12]} is for {site}, and browsers sign on {where}"
                )
    return tuple(found)


def site_of(public: str) -> str:
    """For which site a security key signs ('' = the key is none): the second word of its line."""
    return _word(public, 1)


def credential_of(public: str) -> bytes:
    """The id by which browsers name a security key (b"" = the key is none): the third word of its line."""
    return unpack(_word(public, 2))


def _word(public: str, at: int) -> str:
    words = public.split(" ")
    return words[at] if words[0] == LINE else ""


def digest(client_data: bytes) -> bytes:
    """The hash of what the browser said, which the security key signs behind its own data."""
    return hashlib.sha256(client_data).digest()


def pack(content: bytes) -> str:
    """Base64url without padding, as WebAuthn writes bytes."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unpack(text: str) -> bytes:
    """The bytes in such a text, b"" where it is none: there is one spelling for each."""
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return content if pack(content) == text else b""
