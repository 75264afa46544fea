"""Statements that people sign, as files: read, signed, written back.

Rule kept here: what is signed is what the gate will parse, byte for byte; a file that it would refuse for its form is
not signed at all.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, cast

import msgspec

from trueup.adapters.file_names import shown
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.policy_file import parse_policy
from trueup.adapters.signing_keys import signs_elsewhere
from trueup.core import gate_form
from trueup.core.gate_envelope import is_envelope, parse_envelope, render_envelope, statement_type
from trueup.core.gate_json import read_object
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.gate import Request
from trueup.model.gate_answers import OPERATION_TYPE, RESOLUTION_TYPE, VETO_TYPE, Envelope, Resolution, Veto
from trueup.model.keyring import Keyring, Person, PublicKey
from trueup.model.policy import Policy

Statement = Request | Veto | Resolution

ASKER: Final = "requested_by"
_PARSERS: Final[Mapping[str, Callable[[bytes], Statement]]] = {
    OPERATION_TYPE: gate_form.parse_request,
    VETO_TYPE: gate_form.parse_veto,
    RESOLUTION_TYPE: gate_form.parse_resolution,
}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is: an envelope, perhaps with signatures, or an unsigned statement.

    `asker` is whom the statement names as the one who asks; '' = it names nobody yet.
    """

    envelope: Envelope
    asker: str

    def statement(self) -> Statement:
        """What it says. Raises GateRefused: nobody would take it."""
        return parse(self.envelope)


def parse(envelope: Envelope) -> Statement:
    """What an envelope holds. Raises GateRefused."""
    return _PARSERS[envelope.payload_type](envelope.payload)


def read(path: Path) -> bytes:
    """A file, cut just behind what any statement can be long. Raises BadInput."""
    try:
        with path.open("rb") as source:
            return source.read(limits.REQUEST_MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(what=f"cannot be read: {error.strerror}", where=shown(path), remedy="check the name") from None


def draft(content: bytes) -> Draft:
    """Read an envelope or an unsigned statement. Raises GateRefused: it is neither."""
    if is_envelope(content):
        envelope = parse_envelope(content)
    else:
        envelope = Envelope(payload=content, payload_type=statement_type(content), signatures=())
    asker = read_object(envelope.payload, "the statement").get(ASKER)
    return Draft(envelope=envelope, asker=asker if isinstance(asker, str) else "")


def asked_by(found: Draft, person: str) -> Draft:
    """The same, asked by this person; only for one that is not signed yet. Raises GateRefused."""
    fields = dict(read_object(found.envelope.payload, "the statement"))
    fields[ASKER] = person
    payload = json.dumps(fields, indent=2, ensure_ascii=False).encode() + b"\n"
    return Draft(envelope=msgspec.structs.replace(found.envelope, payload=payload), asker=person)


def unasked(payload: bytes) -> bytes:
    """A prepared request that names nobody yet: the first who signs it will be the one who asks."""
    fields = cast("dict[str, object]", json.loads(payload))
    fields[ASKER] = ""
    return json.dumps(fields, indent=2, ensure_ascii=False).encode() + b"\n"


def write(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one. Raises BadInput."""
    beside = path.with_name(f".{path.name}.new")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with beside.open("wb") as target:
            target.write(content)
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        beside.replace(path)
    except OSError as error:
        remedy = "name another file"
        raise BadInput(what=f"cannot be written: {error.strerror}", where=shown(path), remedy=remedy) from None


def write_envelope(path: Path, envelope: Envelope) -> None:
    """Write an envelope in one step. Raises BadInput, or GateRefused where it is too large."""
    write(path, render_envelope(envelope))


# -- keyring and policy ------------------------------------------------------------------------------------------------


def keyring_of(path: Path) -> Keyring | None:
    """The keyring, None if there is none. Raises BadInput: it is broken."""
    content = _content(path)
    if content is None:
        return None
    return parse_keyring(_text(path, content), shown(path), path.parent, hashlib.sha256(content).hexdigest())


def policy_of(path: Path) -> Policy | None:
    """The policy, None if there is none. Raises BadInput: it is broken."""
    content = _content(path)
    return (
        None
        if content is None
        else parse_policy(_text(path, content), shown(path), hashlib.sha256(content).hexdigest())
    )


def holder(keyring: Keyring | None, key_id: str) -> Person | None:
    """Whose key this is; signers name an RSA key by one of several ids."""
    for person in keyring.people if keyring else ():
        if any(key_id in {key.key_id, *key.aliases} for key in person.keys):
            return person
    return None


def only_key(person: Person) -> PublicKey:
    """The key of somebody who has just one that a signer can be. Raises BadInput."""
    keys = [key for key in person.keys if not signs_elsewhere(key)]
    if len(keys) != 1:
        what = f"{person.name} has {len(keys) or 'no'} keys that this signer may be"
        raise BadInput(what=what, remedy="give the public half with --public FILE")
    return keys[0]


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as source:
            content = source.read(limits.GATE_FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(what=f"cannot be read: {error.strerror}", where=shown(path)) from None
    if len(content) > limits.GATE_FILE_MAX_BYTES:
        raise BadInput(what="the file is too large", where=shown(path))
    return content


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadInput(what="it is not in UTF-8", where=shown(path), remedy="save it as UTF-8") from None
