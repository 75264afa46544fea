"""One more key in `keyring.yaml`, while comments and all other lines stay as people wrote them.

The new text is read again before it replaces the file, and must say exactly one thing more than the old one.
"""

import os
from pathlib import Path

from trueup.adapters.file_names import shown as shown_name
from trueup.adapters.gate_yaml import Reading
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.signing_keys import public_line
from trueup.adapters.yaml_positions import ListNode, MapNode, Node, Scalar, is_null
from trueup.core.gate_form import NAME
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.keyring import Keyring, PublicKey


def with_key(text: str, shown: str, person: str, key: PublicKey, roles: tuple[str, ...] = ()) -> str:
    """The keyring's text with one more key for somebody; all other lines stay as they are.

    A person who is not there is added with these roles; for one who is, roles must be there already.

    Raises:
        BadInput: the name is none, the file is broken, the key is there, or the file's form leaves no line to add.
    """
    if NAME.fullmatch(person) is None or len(person) > limits.REQUEST_NAME_MAX:
        raise BadInput(what=f"{person[:60]!r} is no name for a person", remedy="use letters, digits and . _ @ + -")
    reading = Reading(shown)
    root = reading.root(text)
    people = None if root is None else root.get("people")
    line = _quoted(f"{public_line(key)} {_plain(key.comment) or person}")
    if people is None or (isinstance(people, Scalar) and is_null(people)) or _is_empty(people):
        return _begin(text, people, _new_person("  ", person, line, roles))
    if not isinstance(people, MapNode):
        reading.tell(people, "people must be a map", "write a line for each person")
        reading.done()
        raise BadInput(what="people must be a map", where=shown)
    entry = people.get(person)
    lines = text.splitlines(keepends=True)
    if entry is None:
        return _insert_person(lines, people, _person_line(people, person, line, roles))
    return _insert_key(lines, entry, line, where=f"{shown}:{entry.line}:{entry.column}")


def write_key(file: Path, person: str, key: PublicKey, roles: tuple[str, ...] = ()) -> None:
    """Add a key to the keyring's file in one step: a reader sees the old file or the new one.

    Raises:
        BadInput: see `with_key`; or the result would not be a keyring; or the file cannot be read or written.
    """
    name = shown_name(file)
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        old = parse_keyring(text, name, file.parent) if text.strip() else Keyring(people=())
        owner = old.owner(key.key_id)
        if owner is not None:
            raise BadInput(what=f"this key is in the keyring already, as {owner.name}'s", where=name)
        before = old.person(person)
        if before is not None and not set(roles) <= before.roles:
            raise BadInput(
                what=f"{person} is there already, with other roles", where=name, remedy="change them by hand"
            )
        new = with_key(text, name, person, key, roles)
        _check_added(old, parse_keyring(new, name, file.parent), person, key)
        beside = file.with_name(f".{file.name}.new")
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        with beside.open("w", encoding="utf-8") as target:
            target.write(new)
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        beside.replace(file)  # the commit point
    except OSError as error:
        raise BadInput(what=f"cannot write the keyring: {error.strerror}", where=name) from None
    except UnicodeDecodeError:
        raise BadInput(what="the keyring is not in UTF-8", where=name, remedy="save it as UTF-8") from None


def _check_added(old: Keyring, new: Keyring, person: str, key: PublicKey) -> None:
    """What was written says exactly one thing more than before."""
    others = tuple(one for one in new.people if one.name != person)
    mine = new.person(person)
    before = old.person(person)
    same = others == tuple(one for one in old.people if one.name != person)
    had = before.keys if before is not None else ()
    if not same or mine is None or tuple(k for k in mine.keys if k.key_id != key.key_id) != had:
        raise BadInput(
            what="the keyring's form leaves no room for one more key",
            remedy="write each person out, without & and *, then add the key again",
        )


def _begin(text: str, people: Node | None, person: str) -> str:
    """The first person of a file that has none: behind the empty `people`, or behind everything."""
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    if people is None:
        return f"{ended}people:\n{person}"
    lines = ended.splitlines(keepends=True)
    at = people.line
    if isinstance(people, MapNode):
        head = lines[at - 1]
        rest = head[people.column - 1 :]
        if not rest.startswith("{}"):
            raise BadInput(what="people is written as {…}", remedy="write `people:` alone, then add the key again")
        lines[at - 1] = f"{head[: people.column - 1].rstrip()}{rest[2:]}"
    return "".join([*lines[:at], person, *lines[at:]])


def _new_person(indent: str, person: str, key: str, roles: tuple[str, ...]) -> str:
    return f"{indent}{person}: {{roles: [{', '.join(roles)}], keys: [{key}]}}\n"


def _person_line(people: MapNode, person: str, key: str, roles: tuple[str, ...]) -> tuple[str, int]:
    """A line like those of the others, and the indentation that they have."""
    column = people.entries[0][0].column if people.entries else people.column + 2
    return _new_person(" " * (column - 1), person, key, roles), column


def _insert_person(lines: list[str], people: MapNode, new: tuple[str, int]) -> str:
    line, column = new
    if not people.entries or column == 1 or _is_flow(lines, people):
        raise BadInput(
            what="people is written in one line", remedy="write a line for each person, then add the key again"
        )
    at = _last_line(people)
    # A block text at the end (PEM) goes on behind the line where it begins; so do lists.
    while at < len(lines) and lines[at].strip() and _indent(lines[at]) >= column:
        at += 1
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join([*lines[:at], line, *lines[at:]])


def _insert_key(lines: list[str], entry: Node, key: str, where: str) -> str:
    keys = entry.get("keys") if isinstance(entry, MapNode) else None
    if not isinstance(keys, ListNode):
        raise BadInput(what="this person has no list of keys", where=where, remedy="write keys: [] there, then again")
    if _char(lines, keys) == "[":
        head = lines[keys.line - 1]
        inside = f"{key}, " if keys.items else key
        lines[keys.line - 1] = f"{head[: keys.column]}{inside}{head[keys.column :]}"
        return "".join(lines)
    indent = " " * (keys.column - 1)
    lines.insert(keys.line - 1, f"{indent}- {key}\n")
    return "".join(lines)


def _is_flow(lines: list[str], node: Node) -> bool:
    return _char(lines, node) == "{"


def _char(lines: list[str], node: Node) -> str:
    return lines[node.line - 1][node.column - 1 : node.column]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _last_line(node: Node) -> int:
    below: list[Node] = []
    if isinstance(node, MapNode):
        below = [value for _, value in node.entries]
    elif isinstance(node, ListNode):
        below = list(node.items)
    return max([node.line, *(_last_line(one) for one in below)])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _is_empty(node: Node) -> bool:
    return isinstance(node, MapNode) and not node.entries


def _plain(comment: str) -> str:
    return "".join(character for character in comment if character.isprintable())
