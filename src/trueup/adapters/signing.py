"""Signatures over envelopes: made, and verified one by one.

securesystemslib makes and verifies single signatures (a browser's: `adapters.webauthn`); its own loop over an envelope
is not used, since it stops at a threshold of key ids, refuses an envelope with a repeated id, and changes what it is
given.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature as LibrarySignature  # pyright: ignore[reportPrivateImportUsage]
from securesystemslib.signer import Signer  # pyright: ignore[reportPrivateImportUsage]

from trueup.adapters import webauthn
from trueup.adapters.signing_keys import library_keys, ssh_key_id
from trueup.adapters.signing_ssh import parse_public_blob, parse_sshsig, verifies
from trueup.core import gate_webauthn
from trueup.core.gate_envelope import dearmor, pae, with_signatures
from trueup.model.errors import BadInput
from trueup.model.gate import Approval, Form, Refusal
from trueup.model.gate_answers import Checked, Envelope, GateRefused, Signature
from trueup.model.keyring import Keyring, Person, PublicKey, RelyingParty

_SHOWN_ID: Final = 12


class DsseVerifier:
    """See `trueup.engine.gate_ports.Verifier`."""

    def __init__(self, party: RelyingParty | None = None) -> None:
        """`party` says on which pages people sign in a browser; without it such signatures count nowhere."""
        self._party = party or RelyingParty()
        self._index = _Index(Keyring(people=()))

    def verify(self, envelope: Envelope, keyring: Keyring) -> Checked:
        """Check every signature against the keyring; junk beside good ones is reported and hurts nobody."""
        index = self._index
        if index.keyring is not keyring:  # which never changes in place
            index = self._index = _Index(keyring)
        encoded = pae(envelope.payload_type, envelope.payload)
        valid: dict[str, Approval] = {}
        problems: list[tuple[Refusal, str]] = []
        for number, signature in enumerate(envelope.signatures, start=1):
            match signature.form:
                case Form.DSSE:
                    found = _dsse(signature, encoded, index.known)
                case Form.SSHSIG:
                    found = _sshsig(signature, envelope.payload, index.known)
                case Form.WEBAUTHN:
                    found = _webauthn(signature, envelope, index.browsers, self._party)
            if isinstance(found, tuple):
                person, key = found
                valid.setdefault(key.key_id, _approval(person, key, signature))
            else:
                refusal, text = found.refusal, found.text
                problems.append((refusal, f"signature {number}: {text}"))
        return Checked(valid=tuple(valid.values()), problems=tuple(problems))


class _Problem:
    __slots__ = ("refusal", "text")

    def __init__(self, refusal: Refusal, text: str) -> None:
        self.refusal = refusal
        self.text = text


_Known = Mapping[str, tuple[Person, PublicKey]]
_ByCredential = Mapping[bytes, Sequence[tuple[Person, PublicKey]]]


class _Index:
    """The keys of one keyring, by the names that signatures give them."""

    __slots__ = ("browsers", "keyring", "known")

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.known: _Known = _by_id(keyring)
        self.browsers: _ByCredential = _by_credential(keyring)


_BAD: Final = "it is not a signature of this key over this statement"


def sign(envelope: Envelope, signer: Signer) -> Envelope:
    """Add a DSSE signature.

    Raises:
        BadInput: the signer (a hardware key, a cloud) did not sign, or nobody can be asked for its PIN.
    """
    try:
        made = signer.sign(pae(envelope.payload_type, envelope.payload))
    except BadInput:
        raise  # nobody could be asked for its PIN
    except Exception as error:  # each signer has errors of its own library; an unsigned envelope is all that follows
        raise BadInput(
            what=f"the signer did not sign: {type(error).__name__}", remedy="check that its key or service is there"
        ) from error
    mine = Signature(key_id=made.keyid, form=Form.DSSE, raw=bytes.fromhex(made.signature))
    return with_signatures(envelope, [mine])


def add_sshsig(envelope: Envelope, content: bytes) -> Envelope:
    """Add what `ssh-keygen -Y sign -n trueup FILE` wrote into FILE.sig, armored or binary.

    Raises:
        BadInput: it is no such signature, or not one of this statement.
    """
    try:
        raw = dearmor(content.decode("ascii"))
    except ValueError:
        raw = None
    binary = content if raw is None else raw
    parsed = parse_sshsig(binary)
    if not verifies(parse_public_blob(parsed.public), parsed, envelope.payload):
        raise BadInput(what="the SSH signature is not one of this statement", remedy="sign the very same file")
    return with_signatures(envelope, [Signature(key_id=ssh_key_id(parsed.public), form=Form.SSHSIG, raw=binary)])


def payload_sha256(payload: bytes) -> str:
    """The hash by which journal and messages name a statement, in hex."""
    return hashlib.sha256(payload).hexdigest()


def _dsse(signature: Signature, encoded: bytes, known: _Known) -> tuple[Person, PublicKey] | _Problem:
    """By the key that the hint names; without a hint every key is tried."""
    candidates = [known[signature.key_id]] if signature.key_id in known else []
    if not signature.key_id:
        candidates = list({key.key_id: (person, key) for person, key in known.values()}.values())
    if not candidates:
        return _Problem(Refusal.UNKNOWN_KEY, f"nobody of the keyring has the key {_short(signature.key_id)}")
    for person, key in candidates:
        for one in library_keys(key):
            try:
                one.verify_signature(LibrarySignature(one.keyid, signature.raw.hex()), encoded)
            except (UnverifiedSignatureError, ValueError):
                continue
            return person, key
    return _Problem(Refusal.SIGNATURE, _BAD)


def _sshsig(signature: Signature, payload: bytes, known: _Known) -> tuple[Person, PublicKey] | _Problem:
    """By the key that stands in the signature itself, if somebody of the keyring has it."""
    try:
        parsed = parse_sshsig(signature.raw)
        key_id, public = ssh_key_id(parsed.public), parse_public_blob(parsed.public)
    except BadInput as error:
        return _Problem(Refusal.SIGNATURE, error.what)
    if key_id not in known:
        return _Problem(Refusal.UNKNOWN_KEY, f"nobody of the keyring has the key {_short(key_id)}")
    if not verifies(public, parsed, payload):
        return _Problem(Refusal.SIGNATURE, _BAD)
    return known[key_id]


def _webauthn(
    signature: Signature, envelope: Envelope, known: _ByCredential, party: RelyingParty
) -> tuple[Person, PublicKey] | _Problem:
    """By the security key that the signature names, if somebody of the keyring has it."""
    try:
        made = gate_webauthn.parse_signature(signature.raw)
    except GateRefused as error:
        return _Problem(Refusal.SIGNATURE, error.what)
    text = ""
    for person, key in known.get(made.credential, ()):
        found, _ = webauthn.parse_line(key.public)
        text = webauthn.check(found, made, envelope.payload_type, envelope.payload, party)
        if not text:
            return person, key
    if not text:
        return _Problem(Refusal.UNKNOWN_KEY, "nobody of the keyring has this security key")
    return _Problem(Refusal.SIGNATURE, text)


def _by_credential(keyring: Keyring) -> _ByCredential:
    """Security keys by the id that browsers give them; ids are a maker's choice, and two keys may have one."""
    known: dict[bytes, list[tuple[Person, PublicKey]]] = {}
    for person in keyring.people:
        for key in person.keys:
            if key.algorithm.startswith(gate_webauthn.ALGORITHM):
                known.setdefault(gate_webauthn.credential_of(key.public), []).append((person, key))
    return known


def _by_id(keyring: Keyring) -> dict[str, tuple[Person, PublicKey]]:
    """Every id and alias to its key and the first person who has it."""
    known: dict[str, tuple[Person, PublicKey]] = {}
    for person in keyring.people:
        for key in person.keys:
            for name in (key.key_id, *key.aliases):
                known.setdefault(name, (person, key))
    return known


def _approval(person: Person, key: PublicKey, signature: Signature) -> Approval:
    return Approval(
        person=person.name,
        key_id=key.key_id,
        form=signature.form,
        signature=base64.b64encode(signature.raw).decode(),
    )


def _short(key_id: str) -> str:
    """Hints come from strangers: only what an id looks like is repeated."""
    plain = key_id if key_id.isascii() and key_id.isalnum() else "?"
    return f"{plain[:_SHOWN_ID]}…" if len(plain) > _SHOWN_ID else plain
