"""The envelope (DSSE v1) and what is signed of it. Its JSON is one object with nothing else in it.

    {"payload": base64, "payloadType": text, "signatures": [{"keyid": text, "sig": base64, "form": "sshsig"}]}

A signature without `form` (or with "dsse") is DSSE's: over the pre-authentication encoding of type and payload. With
"sshsig" it is what `ssh-keygen -Y sign -n trueup FILE` makes of the payload's exact bytes; `sig` is its binary form in
base64, or the armored text. With "webauthn" it is what a browser got from a security key, see `core.gate_webauthn`.
`keyid` may be missing: it is a hint, never a proof.

https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from trueup.core.gate_json import Fields, read_object
from trueup.model import limits
from trueup.model.gate import Form, Refusal
from trueup.model.gate_answers import PAYLOAD_TYPES, Envelope, GateRefused, Signature

_ARMOR: Final = re.compile(r"\s*-----BEGIN SSH SIGNATURE-----([A-Za-z0-9+/=\s]*)-----END SSH SIGNATURE-----\s*")
_SIGNATURE_MAX: Final = 16 * 1024  # ML-DSA's largest has 4,627 bytes
_KEYID_MAX: Final = 1_000
_FORMS: Final = frozenset(Form)


def parse_envelope(content: bytes) -> Envelope:
    """Read an envelope; nothing of it is believed yet.

    Raises:
        GateRefused: TOO_LARGE, MALFORMED or PAYLOAD_TYPE.
    """
    fields = Fields(read_object(content, "the envelope"), "the envelope")
    payload_type = cast("str", fields.take("payloadType", str))
    payload = _bytes(fields, "payload", cast("str", fields.take("payload", str)))
    found = cast("list[object]", fields.take("signatures", list))
    fields.done()
    if len(found) > limits.SIGNATURES_MAX:
        raise fields.wrong(f"more than {limits.SIGNATURES_MAX} signatures")
    signatures = tuple(_signature(one) for one in found)
    if payload_type not in PAYLOAD_TYPES:
        raise GateRefused(Refusal.PAYLOAD_TYPE, "the envelope holds another kind of statement than trueup's")
    return Envelope(payload=payload, payload_type=payload_type, signatures=signatures)


def render_envelope(envelope: Envelope) -> bytes:
    """The envelope's JSON. Raises GateRefused (TOO_LARGE) where nobody would take it."""
    signatures = [
        {"keyid": one.key_id, "sig": base64.b64encode(one.raw).decode()}
        | ({"form": one.form.value} if one.form is not Form.DSSE else {})
        for one in envelope.signatures
    ]
    document = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": signatures,
    }
    content = json.dumps(document, indent=2).encode() + b"\n"
    if len(content) > limits.REQUEST_MAX_BYTES:
        raise GateRefused(Refusal.TOO_LARGE, "the envelope is too large")
    return content


def is_envelope(content: bytes) -> bool:
    """Whether a file is an envelope already, as against an unsigned statement. Raises GateRefused for no JSON."""
    return "payloadType" in read_object(content, "the file")


def statement_type(payload: bytes) -> str:
    """Which statement an unsigned file is, told by the field that only this one has.

    Raises:
        GateRefused: it is none of the three.
    """
    found = read_object(payload, "the file")
    for field, payload_type in zip(("target", "request_id", "op_id"), PAYLOAD_TYPES, strict=True):
        if field in found:
            return payload_type
    raise GateRefused(Refusal.PAYLOAD_TYPE, "the file is no request, no veto and no resolution")


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding; lengths are of bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def with_signatures(envelope: Envelope, more: Sequence[Signature]) -> Envelope:
    """Add signatures; one that is there already, byte for byte, is not repeated."""
    have = list(envelope.signatures)
    have += [one for one in more if all((one.form, one.raw) != (old.form, old.raw) for old in have)]
    return Envelope(payload=envelope.payload, payload_type=envelope.payload_type, signatures=tuple(have))


def dearmor(text: str) -> bytes | None:
    """The binary SSHSIG in an armored one; None if the text is none.

    Raises:
        ValueError: it is one, but damaged.
    """
    found = _ARMOR.fullmatch(text)
    return None if found is None else base64.b64decode("".join(found[1].split()), validate=True)


def _signature(found: object) -> Signature:
    if not isinstance(found, dict):
        raise GateRefused(Refusal.MALFORMED, "the envelope: a signature must be an object")
    fields = Fields(cast("Mapping[str, object]", found), "a signature")
    key_id = cast("str", fields.take("keyid", str, default=""))
    form = cast("str", fields.take("form", str, default=Form.DSSE.value))
    sig = cast("str", fields.take("sig", str))
    fields.done()
    if form not in _FORMS:
        raise fields.wrong('form must be "dsse", "sshsig" or "webauthn"')
    if len(key_id) > _KEYID_MAX or len(sig) > _SIGNATURE_MAX:
        raise fields.wrong("it is too long")
    try:
        raw = dearmor(sig) if form == Form.SSHSIG else None
    except ValueError:
        raise fields.wrong("its armor is damaged") from None
    return Signature(key_id=key_id, form=Form(form), raw=_bytes(fields, "sig", sig) if raw is None else raw)


def _bytes(fields: Fields, name: str, text: str) -> bytes:
    """Base64 in one of DSSE's two alphabets, padded, and nothing but that."""
    plain = text.replace("-", "+").replace("_", "/") if "+" not in text and "/" not in text else text
    try:
        content = base64.b64decode(plain, validate=True)
    except (ValueError, binascii.Error):
        raise fields.wrong(f"{name} is not in base64") from None
    if base64.b64encode(content).decode() != plain:
        raise fields.wrong(f"{name} is not in base64")
    return content
