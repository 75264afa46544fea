"""Security keys that sign in a browser (WebAuthn): their lines in a keyring, and their signatures, through `fido2`.

A line is `webauthn SITE CREDENTIAL KEY`: the domain that the key was enrolled for, the credential's id and its public
key in COSE, both in base64url. Only ES256 and EdDSA on Ed25519 count, each in the one spelling that `fido2` gives it.
"""

from collections.abc import Callable, Mapping
from typing import Final, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fido2 import cbor
from fido2.cose import ES256, CoseKey, EdDSA
from fido2.webauthn import AuthenticatorData

from trueup.core import gate_webauthn
from trueup.core.gate_webauthn import BrowserSignature, KeyData
from trueup.model.errors import BadInput
from trueup.model.gate_answers import GateRefused
from trueup.model.keyring import RelyingParty

COUNTING: Final[tuple[type[CoseKey], ...]] = (ES256, EdDSA)
"""Algorithms that count, the better known first."""

ALGORITHMS: Final = tuple(one.ALGORITHM for one in COUNTING)
"""Their numbers in COSE, for browsers."""

_PARTS: Final = 4
_SITE_MAX: Final = 253
_CREDENTIAL_MAX: Final = 1023
"""Bytes of a credential's id, as the specification bounds it."""

_COPY: Final = "copy the whole line that the page shows"

Plain = ec.EllipticCurvePublicKey | Ed25519PublicKey


class SecurityKey(msgspec.Struct, frozen=True, kw_only=True):
    """One credential: the site it is for, its id, and its public key in COSE and as `cryptography` has it."""

    rp_id: str
    credential: bytes
    cose: bytes
    key: Plain

    @property
    def line(self) -> str:
        """How it stands in a keyring, without a comment."""
        parts = (gate_webauthn.LINE, self.rp_id, gate_webauthn.pack(self.credential), gate_webauthn.pack(self.cose))
        return " ".join(parts)


def is_line(text: str) -> bool:
    """Whether this wants to be a security key's line."""
    return text.split(maxsplit=1)[:1] == [gate_webauthn.LINE]


def parse_line(text: str) -> tuple[SecurityKey, str]:
    """A security key and its comment, from a keyring's line.

    Raises:
        BadInput: it is no such line, or a key that does not count.
    """
    words = text.split(maxsplit=_PARTS)
    if len(words) < _PARTS or words[0] != gate_webauthn.LINE:
        raise BadInput(what="not the line of a security key", remedy=_COPY)
    _, site, credential, cose = words[:_PARTS]
    key = security_key(site, gate_webauthn.unpack(credential), gate_webauthn.unpack(cose))
    return key, words[_PARTS].strip() if len(words) > _PARTS else ""


def security_key(rp_id: str, credential: bytes, cose: bytes) -> SecurityKey:
    """A security key of its parts. Raises BadInput: damaged, or of a type that does not count."""
    if not (rp_id.isascii() and rp_id.isprintable() and 0 < len(rp_id) <= _SITE_MAX and rp_id == rp_id.lower()):
        raise BadInput(what="the line of a security key names no site", remedy=_COPY)
    if not 0 < len(credential) <= _CREDENTIAL_MAX:
        raise BadInput(what="the id of the security key is damaged", remedy=_COPY)
    return SecurityKey(rp_id=rp_id, credential=credential, cose=cose, key=_public(cose))


def check(key: SecurityKey, signature: BrowserSignature, payload_type: str, payload: bytes, party: RelyingParty) -> str:
    """Why this signature by this key over this statement does not count; '' = it does. Never raises."""
    wanted = gate_webauthn.challenge(payload_type, payload)
    try:
        said = gate_webauthn.parse_client_data(signature.client_data)
    except GateRefused as error:
        return error.what
    told = _key_data(signature.authenticator_data)
    if told is None:
        return "what the security key says is damaged"
    objection = gate_webauthn.why_not(said, told, party, wanted)
    if objection:
        return objection
    if key.rp_id != party.rp_id:
        return "the keyring has this key for another site"
    return "" if key.credential == signature.credential and _verifies(key, signature) else _BAD


_BAD: Final = "it is not a signature of this key over this statement"


def _verifies(key: SecurityKey, signature: BrowserSignature) -> bool:
    signed = signature.authenticator_data + gate_webauthn.digest(signature.client_data)
    try:
        _cose(key.cose).verify(signed, signature.signature)
    except (InvalidSignature, ValueError, BadInput):
        return False
    return True


def _key_data(content: bytes) -> KeyData | None:
    """What the key says; None: it cannot be read."""
    try:
        data = AuthenticatorData(content)
    except Exception:  # noqa: BLE001 - the library parses a stranger's CBOR; whatever it trips over, the answer is no
        return None
    return KeyData(
        rp_id_hash=data.rp_id_hash,
        present=data.is_user_present(),
        verified=data.is_user_verified(),
        synced=data.is_backup_eligible() or data.is_backed_up(),
    )


def _public(cose: bytes) -> Plain:
    found = _cose(cose)
    parts = cast("Mapping[int, bytes]", found)
    try:
        if isinstance(found, ES256):
            point = b"\x04" + parts[-2] + parts[-3]
            key: Plain = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        else:
            key = Ed25519PublicKey.from_public_bytes(parts[-2])
        again = cbor.encode(type(found).from_cryptography_key(key))
    except (ValueError, TypeError, KeyError):
        raise _damaged() from None
    if again != cose:
        raise _damaged()
    return key


def _cose(content: bytes) -> CoseKey:
    """Raises BadInput: it is no COSE key, or of another algorithm."""
    try:
        found = CoseKey.parse(cast("Mapping[int, object]", _decode(content)))
    except Exception:  # noqa: BLE001 - the library parses a stranger's CBOR; whatever it trips over, it is no key
        raise _damaged() from None
    if type(found) not in COUNTING:
        raise BadInput(what="a type of security key that does not count", remedy="use one for ES256 or Ed25519")
    return found


_decode = cast("Callable[[bytes], object]", cbor.decode)  # the library's annotation knows no bytes


def _damaged() -> BadInput:
    return BadInput(what="the public key of the security key is damaged", remedy=_COPY)
