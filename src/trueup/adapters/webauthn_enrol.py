"""A security key is enrolled: what the browser asks it for, and the keyring's line that comes out.

Rule kept here: nothing is stored, and nobody is let in by it. The line counts once the keyring's owner put it there.
Attestation is not asked for: which maker's device it is, nobody can say afterwards (docs/adr/0035).
"""

from collections.abc import Callable, Mapping
from typing import Final, cast

import msgspec
from fido2 import cbor
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestationConveyancePreference,
    AuthenticatorData,
    PublicKeyCredentialRpEntity,
    UserVerificationRequirement,
)

from trueup.adapters.webauthn import SecurityKey, security_key
from trueup.core import gate_webauthn
from trueup.model.errors import BadInput
from trueup.model.keyring import RelyingParty


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser hands over when a key was made, as bytes."""

    credential: bytes
    client_data: bytes
    attestation: bytes


def parse_enrolment(found: Mapping[str, object]) -> Enrolment:
    """Read the page's answer. Raises BadInput: a part is missing or not in base64url."""
    parts = {name: found.get(name) for name in ("id", "clientDataJSON", "attestationObject")}
    given = {name: gate_webauthn.unpack(part) if isinstance(part, str) else b"" for name, part in parts.items()}
    if not all(given.values()) or found.keys() != given.keys():
        raise BadInput(what="that is not what a browser says of a new security key")
    return Enrolment(
        credential=given["id"], client_data=given["clientDataJSON"], attestation=given["attestationObject"]
    )


def enrolled(made: Enrolment, challenge: bytes, party: RelyingParty) -> SecurityKey:
    """The key that was made for `challenge` on one of our pages. Raises BadInput: it may not be enrolled, and why."""
    server = Fido2Server(
        PublicKeyCredentialRpEntity(name="trueup", id=party.rp_id),
        attestation=AttestationConveyancePreference.NONE,
        verify_origin=lambda origin: origin in party.origins,
    )
    state = {
        "challenge": gate_webauthn.pack(challenge),
        "user_verification": UserVerificationRequirement.REQUIRED,
    }
    name = gate_webauthn.pack(made.credential)
    response = {
        "id": name,
        "rawId": name,
        "type": "public-key",
        "response": {
            "clientDataJSON": gate_webauthn.pack(made.client_data),
            "attestationObject": gate_webauthn.pack(made.attestation),
        },
        "clientExtensionResults": {},
    }
    complete = cast("Callable[[object, object], AuthenticatorData]", server.register_complete)
    try:
        data = complete(state, response)
    except ValueError as error:
        why = _WHY.get(str(error), "its answer is damaged")
        raise BadInput(what=f"the security key cannot be enrolled: {why}") from None
    except Exception:  # noqa: BLE001 - the library parses a stranger's CBOR; whatever it trips over, the answer is no
        raise BadInput(what="the security key cannot be enrolled: its answer is damaged") from None
    credential = data.credential_data
    if credential is None or credential.credential_id != made.credential:
        raise BadInput(what="the security key cannot be enrolled: its answer names another key")
    if data.is_backup_eligible() or data.is_backed_up():
        what = "this key can be copied to other devices (a synced passkey)"
        raise BadInput(what=what, remedy="use a key that stays in one device")
    return security_key(party.rp_id, made.credential, cbor.encode(credential.public_key))


_WHY: Final = {
    "Incorrect type in CollectedClientData.": "it was asked to sign, not to enrol",
    "Invalid origin in CollectedClientData.": "the page's address is not one of [http] origins",
    "Wrong challenge in response.": "the page was too old; reload it and try again",
    "Wrong RP ID hash in response.": "it was made for another site",
    "User Present flag not set.": "nobody touched it",
    "User verification required, but User Verified flag not set.": "it did not check who touched it (PIN, fingerprint)",
}
"""The library's words, which are all that tells its refusals apart, in ours."""
