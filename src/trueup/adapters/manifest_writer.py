"""Manifests as text: what `import` writes, in the form that people write and that `adapters.manifests` reads.

Rule kept here: nothing is ever overwritten, and what is written reads back as what was meant. A value stands without
quotes only where no reader of YAML, 1.1 or 1.2, could take it for something else.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.config_values import TRUTHS
from trueup.adapters.file_names import shown
from trueup.adapters.manifest_document import parse_file
from trueup.adapters.manifest_form import ManifestForm
from trueup.core.property_formats import Shape, format_of
from trueup.model.errors import BadInput
from trueup.model.guests import Clone, Desired, Power
from trueup.model.ids import GuestType

GUESTS_PER_FILE: Final = 500
"""More than anybody reads; the next ones get a file of their own."""

_KINDS: Final = {GuestType.QEMU: "VirtualMachine", GuestType.LXC: "Container"}
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+=@-]*(?::[A-Za-z0-9_./+=@-]+)?", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)
_AMOUNT: Final = re.compile(r"[1-9][0-9]*(?:\.[0-9]+)?[KMGTkmgt]", re.ASCII)
_NULLS: Final = frozenset({"null", "Null", "NULL", "y", "Y", "n", "N"})
_WORDS: Final = frozenset({"keyboard", "discard", "videostreaming"})
_SWITCHES: Final = frozenset(
    {
        *("acpi", "autostart", "ciupgrade", "console", "debug", "freeze", "kvm", "localtime", "numa", "onboot"),
        *("protection", "reboot", "tablet", "tdf", "unprivileged"),
        *("acl", "backup", "enabled", "firewall", "fstrim_cloned_disks", "fuse", "iothread", "keyctl", "link_down"),
        *("nesting", "pcie", "pre-enrolled-keys", "quota", "replicate", "ro", "rombar", "shared", "ssd", "usb3"),
        *("x-vga",),
    }
)
"""Keys and subkeys that are on or off in PVE's schema: people write true and false."""

_LISTS: Final = frozenset({"order", "flags", "mountoptions", "trunks", "mount"})
_SEPARATORS: Final = re.compile(r"[\s,;]+")
_ITEM: Final = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.=@/-]*", re.ASCII)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_CONFIG_KEY: Final = re.compile(r"  ([a-z][a-z0-9_-]*):")
_WIDTH: Final = 110
_ORDER: Final = ("description", "cores", "sockets", "cpu", "memory", "balloon", "swap", "ostype", "machine", "bios")
"""Config keys that come first; the others follow by name, numbered ones by their number."""

HEAD: Final = "# Written by `trueup import`. Guests are adopted by `trueup adopt`; until then they are only compared.\n"


def render(desired: Desired, notes: Sequence[str] = ()) -> str:
    """One document, without the line of dashes before it."""
    lines = [f"# {_comment(note)}" for note in notes]
    lines += [
        f"kind: {_KINDS[desired.type]}",
        f"name: {_scalar(desired.name)}",
        f"vmid: {desired.vmid}",
        f"node: {_scalar(desired.node)}",
    ]
    known = ManifestForm.model_fields
    if desired.template and "template" in known:
        lines.append("template: true")
    elif desired.power is not Power.RUNNING:
        lines.append(f"power: {desired.power.value}{'  # a template' if desired.template else ''}")
    if desired.pool and "pool" in known:
        lines.append(f"pool: {_scalar(desired.pool)}")
    if isinstance(desired.source, Clone):
        full = "" if desired.source.full else ", full: false"
        lines.append(f"source: {{clone: {desired.source.source}{full}}}")
    values = {**({} if desired.description is None else {"description": desired.description}), **desired.config}
    if values:
        lines.append("config:")
        for key in sorted(values, key=_rank):
            lines += [f"  {line}" if line else "" for line in _entry(desired.type, key, values[key])]
    return "\n".join(lines) + "\n"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says when it is read back; `refused` maps config keys that cannot stand there to the reason."""

    desired: Desired | None
    refused: Mapping[str, str] = {}
    problem: str = ""


def read_back(text: str) -> Reading:
    """Read one document as `adapters.manifests` would."""
    parsed = parse_file(text, "it")
    lines = text.split("\n")
    refused: dict[str, str] = {}
    for problem in parsed.problems:
        line = int(problem.where.split(":")[1])
        above = [found[1] for found in map(_CONFIG_KEY.match, lines[:line]) if found]
        if not above:
            return Reading(desired=None, problem=str(problem))
        refused.setdefault(above[-1], problem.what)
    return Reading(desired=parsed.guests[0].desired if parsed.guests else None, refused=refused)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of one file to be, and the name that it is given if that is free."""

    name: str
    documents: tuple[str, ...]


def write(folder: Path, groups: Iterable[Group]) -> tuple[Path, ...]:
    """Write files that were not there before, each whole or not at all; the answer is what was written.

    Raises:
        BadInput: the folder cannot be written. Files of this call that were complete are still there.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for group in groups:
            for start in range(0, len(group.documents), GUESTS_PER_FILE):
                text = HEAD + "---\n" + "---\n".join(group.documents[start : start + GUESTS_PER_FILE])
                written.append(_write_new(folder, group.name, text))
    except OSError as error:
        remedy = "choose a folder that you may write, as in --to DIR"
        raise BadInput(what=f"cannot write manifests: {error.strerror}", where=shown(folder), remedy=remedy) from error
    return tuple(written)


def _write_new(folder: Path, name: str, text: str) -> Path:
    """Under the first name that is free. A reader sees all of the file or none: it is linked to its name at last."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".") or "guests"
    hidden = folder / f".{stem}.{os.getpid()}.tmp"
    hidden.write_text(text, encoding="utf-8")
    try:
        number = 1
        while True:
            target = folder / (f"{stem}.yaml" if number == 1 else f"{stem}-{number}.yaml")
            try:
                os.link(hidden, target)
            except FileExistsError:
                number += 1
            else:
                return target
    finally:
        hidden.unlink()


def _entry(guest: GuestType, key: str, value: str | Mapping[str, str]) -> list[str]:
    if isinstance(value, Mapping):
        flow = f"{key}: {{{', '.join(f'{name}: {_part(name, text)}' for name, text in value.items())}}}"
        if len(flow) <= _WIDTH:
            return [flow]
        return [f"{key}:", *(f"  {name}: {_part(name, text)}" for name, text in value.items())]
    if key == "description":
        return _text(value)
    shape = format_of(guest, key).shape
    if shape in {Shape.TAGS, Shape.WORDS}:
        return [f"{key}: [{', '.join(_scalar(item) for item in _SEPARATORS.split(value) if item)}]"]
    return [f"{key}: {_part(key, value)}"]


def _part(name: str, value: str) -> str:
    if name in _SWITCHES and value in {"0", "1"}:
        return "true" if value == "1" else "false"
    if name in _WORDS and value in TRUTHS and value.islower():
        return value
    items = value.split(";")
    if (
        name in _LISTS
        and not _NUMBER.fullmatch(value)
        and all(_ITEM.fullmatch(item) and item not in TRUTHS for item in items)
    ):
        return f"[{', '.join(_scalar(item) for item in items)}]"
    return _scalar(value)


def _scalar(value: str) -> str:
    """A text on one line: without quotes where that cannot be misread."""
    if _NUMBER.fullmatch(value) or _AMOUNT.fullmatch(value):
        return value
    if _PLAIN.fullmatch(value) and value not in TRUTHS and value not in _NULLS and not value.endswith(":"):
        return value
    return _quoted(value)


def _quoted(value: str) -> str:
    """A JSON string is a double-quoted YAML scalar, once what YAML calls unprintable is escaped as well."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _text(value: str) -> list[str]:
    """A description: a block where it has several lines that YAML leaves as they are."""
    lines = value.split("\n")
    plain = len(lines) > 1 and lines[0] and not any(_UNPRINTABLE.search(line) for line in lines)
    if plain and not lines[0].startswith(" ") and all(line.strip() or not line for line in lines):
        return ["description: |", *(f"  {line}" if line else "" for line in lines)]
    return [f"description: {_quoted(value)}"]


def _comment(note: str) -> str:
    return _UNPRINTABLE.sub(" ", note)


def _rank(key: str) -> tuple[int, str, int]:
    if key in _ORDER:
        return (_ORDER.index(key), "", 0)
    stem = key.rstrip("0123456789")
    return (len(_ORDER), stem, int(key[len(stem) :] or 0))
