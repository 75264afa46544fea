"""`keyring.yaml`: from its text to a `Keyring`, or to complaints with their lines.

A key is an SSH line, PEM text, or the name of a file with either, relative to the keyring. Its id is computed here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.file_names import shown as shown_name
from trueup.adapters.gate_yaml import Reading
from trueup.adapters.yaml_positions import Node, Scalar, is_null
from trueup.core.gate_form import NAME, parse_instant
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.keyring import Keyring, Person, PublicKey, shared_hands

_PERSON: Final = ("roles", "keys", "revoked")
_SHORT: Final = 12


def parse_keyring(text: str, shown: str, folder: Path, digest: str = "") -> Keyring:
    """Read a keyring; files that it names are looked for in `folder`.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are.
    """
    reading = Reading(shown)
    root = reading.root(text)
    people_node = reading.map(root, "the keyring", ("people",)).get("people")
    if isinstance(people_node, Scalar) and is_null(people_node):
        people_node = None  # `people:` alone, as when the last one was taken out
    found = reading.map(people_node, "people")
    if people_node is not None and len(found) > limits.PEOPLE_MAX:
        reading.tell(people_node, f"more than {limits.PEOPLE_MAX} people")
    people = tuple(_person(reading, name, node, folder) for name, node in found.items())
    reading.done()
    hands = shared_hands(people)
    return Keyring(people=people, digest=digest, one_hand=hands, warnings=tuple(_warnings(people, hands)))


def _person(reading: Reading, name: str, node: Node, folder: Path) -> Person:
    if NAME.fullmatch(name) is None or len(name) > limits.REQUEST_NAME_MAX:
        reading.tell(node, f"{name[:60]!r} is no name for a person", "use letters, digits and . _ @ + -")
    fields = reading.map(node, f"person {name[:60]!r}", _PERSON)
    roles = [reading.text(item, "a role") for item in reading.list(fields.get("roles"), "roles")]
    items = reading.list(fields.get("keys"), "keys")
    if len(items) > limits.KEYS_MAX:
        reading.tell(node, f"more than {limits.KEYS_MAX} keys of one person")
    keys: dict[str, PublicKey] = {}
    for item in items[: limits.KEYS_MAX]:
        key = _key(reading, item, folder)
        if key is not None:
            keys.setdefault(key.key_id, key)
    revoked: dict[str, int] = {}
    revoked_node = fields.get("revoked")
    for key_id, value in reading.map(revoked_node, "revoked").items():
        at_ms = reading.parsed(value, parse_instant, f"the instant of {key_id[:_SHORT]!r}")
        key = next((one for one in keys.values() if key_id in {one.key_id, *one.aliases}), None)
        if key is None:
            # Not `trueup keys list`: it reads this very file, which is broken.
            remedy = f"write one of {', '.join(keys)}" if keys else "write the key under keys too, revoked or not"
            reading.tell(value, f"no key of {name[:60]!r} has the id {key_id[:_SHORT]!r}", remedy)
        elif at_ms is not None:
            revoked[key.key_id] = at_ms
    return Person(name=name, roles=frozenset(roles), keys=tuple(keys.values()), revoked=revoked)


def _key(reading: Reading, node: Node, folder: Path) -> PublicKey | None:
    text = reading.text(node, "a key")
    if not text:
        return None
    # It brings the libraries of signatures, a third of a command's start: where there is no key, they are not loaded.
    from trueup.adapters.signing_keys import read_public  # noqa: PLC0415

    try:
        if "-----BEGIN" in text or " " in text.strip():
            return read_public(text)
        return msgspec.structs.replace(read_public(_key_file(folder / text)), comment=text)
    except BadInput as error:
        reading.tell(node, error.what, error.remedy)
        return None


def _key_file(path: Path) -> str:
    name = shown_name(path)
    try:
        with path.open("rb") as source:
            content = source.read(limits.REQUEST_MAX_BYTES + 1)
    except OSError as error:
        remedy = "write the key itself, or the name of its file relative to the keyring"
        raise BadInput(what=f"cannot read the key's file {name}: {error.strerror}", remedy=remedy) from None
    try:
        return content[: limits.REQUEST_MAX_BYTES].decode("ascii").strip()
    except UnicodeDecodeError:
        raise BadInput(what=f"{name} holds no public key") from None


def _warnings(people: tuple[Person, ...], hands: dict[str, str]) -> Iterator[str]:
    for group in dict.fromkeys(hands.values()):
        names = [name for name in hands if hands[name] == group]
        yield f"{' and '.join(names)} share a key: nobody can tell them apart, so together they count as one"
    for person in people:
        if not person.keys:
            yield f"{person.name} has no key and cannot sign"
