"""What the cluster itself says about a guest's options, and whether a manifest's values fit.

PVE publishes the schema by which it checks requests. A value is refused here only on what that schema plainly says: a
key that it does not know, a wrong word, a number out of its range, a text against its pattern. What it leaves to code
(named formats), and what we cannot read (a pattern that is Perl only), passes: PVE has the last word anyway.

The rules are those of pve-common, PVE::JSONSchema.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

import msgspec

from trueup.core import properties
from trueup.core.properties import Wanted
from trueup.core.property_formats import format_of
from trueup.core.property_strings import canonical, is_false, is_true
from trueup.model.ids import GuestType

_NUMBERED: Final = re.compile(r"([a-z][a-z0-9_-]*?)([0-9]+)", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_PERL_GROUP: Final = re.compile(r"\(\?\^([a-z]*):")
_PLACE_OF_DISK: Final = frozenset({"storage", "volume", "file", "size"})
"""Parts of a disk that manifests write in a way of their own; `core.disks` understands them."""

_SHOWN_MAX: Final = 60
_TOLD_MAX: Final = 200
_CHOICES_MAX: Final = 12


class Option(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One option, or one part of a property string.

    `parts` are those of a property string (None = none are known). `alias` is another name of this part, `key_alias`
    the part that takes this part's name as its value (`virtio=MAC` is model=virtio and macaddr=MAC).
    """

    type: str = "string"
    description: str = ""
    enum: tuple[str, ...] = ()
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    parts: "Mapping[str, Option] | None" = None
    default_key: bool = False
    alias: str = ""
    key_alias: str = ""


class OptionSchema(msgspec.Struct, frozen=True, kw_only=True):
    """The options of both types of guest, as one version of PVE has them. `net[n]` stands for net0, net1 and so on."""

    version: str
    options: Mapping[GuestType, Mapping[str, Option]]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a key, and what PVE says about it."""

    what: str
    remedy: str


def fault_of(schema: OptionSchema, guest: GuestType, key: str, value: Wanted) -> Fault | None:
    """What the schema has against this key of a manifest; None if nothing."""
    known = schema.options.get(guest, {})
    option = _find(known, key)
    if option is None:
        return Fault(
            what=f"PVE {schema.version} knows no option {key!r} of {_kind(guest)}", remedy=_nearest(key, known)
        )
    if properties.is_gone(value) or properties.is_secret(key):
        return None
    if option.parts is not None:
        return _parts_fault(guest, key, value, option, option.parts)
    if isinstance(value, Mapping):
        return None if option.type == "string" else _said(key, "takes one value, not a map", option)
    wrong = value_fault(option, value)
    return _said(key, wrong, option) if wrong else None


def value_fault(option: Option, value: str) -> str:
    """Why this text is no value of the option; '' if it is one, or if that cannot be told."""
    text = value.strip()
    shown = repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")
    match option.type:
        case "boolean":
            return "" if is_true(text) or is_false(text) else f"is {shown}; it must be true or false"
        case "integer" | "number":
            pattern = _INTEGER if option.type == "integer" else _NUMBER
            if pattern.fullmatch(text) is None:
                return f"is {shown}; it must be a{'n' if option.type == 'integer' else ''} {option.type}"
            return _range_fault(option, float(text), shown)
        case "string":
            return _text_fault(option, text, shown)
        case _:
            return ""


def _range_fault(option: Option, number: float, shown: str) -> str:
    if option.minimum is not None and number < option.minimum:
        return f"is {shown.strip(chr(39))}; it must be at least {option.minimum:g}"
    if option.maximum is not None and number > option.maximum:
        return f"is {shown.strip(chr(39))}; it must be at most {option.maximum:g}"
    return ""


def _text_fault(option: Option, text: str, shown: str) -> str:
    if option.enum and text not in option.enum:
        return f"is {shown}; it must be {_choices(option.enum, text)}"
    if option.max_length is not None and len(text) > option.max_length:
        return f"is longer than {option.max_length} characters"
    if option.min_length is not None and len(text) < option.min_length:
        return f"is shorter than {option.min_length} characters"
    pattern = _compiled(option.pattern)
    if pattern is not None and pattern.search(text) is None:
        return f"is {shown}; it must match {option.pattern}"
    return ""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> "re.Pattern[str] | None":
    """PVE's own way: `m/^$pattern$/`. Perl's way to print a compiled pattern is undone; None if it is Perl only."""
    if not pattern:
        return None
    text = _PERL_GROUP.sub(lambda found: f"(?{found[1].replace('u', '')}:" if found[1] else "(?:", pattern)
    try:
        return re.compile(f"^{text}$")
    except (re.error, RecursionError, OverflowError):
        return None


def _parts_fault(
    guest: GuestType, key: str, value: Wanted, option: Option, parts: Mapping[str, Option]
) -> Fault | None:
    given = _given(guest, key, value, parts)
    if given is None:
        return None
    disk = properties.is_disk(guest, key)
    for name, text in given.items():
        part = _part(name, parts)
        if disk and name in _PLACE_OF_DISK:
            continue
        if part is None:
            what = f"{key!r} has no part {name!r} in PVE"
            return Fault(what=what, remedy=_nearest(name, {one: part for one, part in parts.items() if not part.alias}))
        written = _truth_of_discard(name, text)
        wrong = value_fault(part, written) if written else ""
        if wrong:
            return _said(f"{key}.{name}", wrong, part if part.description else option)
    return None


def _given(guest: GuestType, key: str, value: Wanted, parts: Mapping[str, Option]) -> Mapping[str, str] | None:
    """The parts that are given, under PVE's names; None if the text cannot be taken apart."""
    fmt = format_of(guest, key)
    default_key = next((name for name, part in parts.items() if part.default_key), fmt.default_key)
    if isinstance(value, Mapping):
        return canonical(guest, key, fmt, value)
    found: dict[str, str] = {}
    for piece in value.strip().split(","):
        name, equals, text = piece.partition("=")
        if not equals:
            name, text = default_key, name
        if not name.strip():
            return None
        found[name.strip()] = text.strip()
    return canonical(guest, key, fmt, found)


def _part(name: str, parts: Mapping[str, Option]) -> Option | None:
    part = parts.get(name)
    return parts.get(part.alias, part) if part is not None and part.alias else part


def _truth_of_discard(name: str, text: str) -> str:
    """The one part whose `on` YAML takes for truth, which `core.disks` puts right."""
    return "on" if name == "discard" and is_true(text) else "ignore" if name == "discard" and is_false(text) else text


def _find(known: Mapping[str, Option], key: str) -> Option | None:
    if key in known:
        return known[key]
    numbered = _NUMBERED.fullmatch(key)
    return known.get(f"{numbered[1]}[n]") if numbered is not None else None


def _said(key: str, wrong: str, option: Option) -> Fault:
    return Fault(what=f"{key!r} {wrong}", remedy=_told(option))


def _told(option: Option) -> str:
    """PVE's own description, on one line."""
    text = " ".join(option.description.split())
    if not text:
        return ""
    return f"PVE: {text if len(text) <= _TOLD_MAX else text[:_TOLD_MAX].rstrip() + '…'}"


def _choices(enum: tuple[str, ...], given: str) -> str:
    near = get_close_matches(given.lower(), enum, n=1, cutoff=0.6)
    if len(enum) > _CHOICES_MAX:
        return f"one of {', '.join(enum[:_CHOICES_MAX])}, …" + (f"; did you mean {near[0]}?" if near else "")
    return " or ".join(enum) if len(enum) <= 2 else f"one of {', '.join(enum)}"  # noqa: PLR2004 - a pair


def _nearest(key: str, known: Mapping[str, Option]) -> str:
    """The option that was likely meant, with PVE's description of it."""
    numbered = _NUMBERED.fullmatch(key)
    names = {name.replace("[n]", numbered[2] if numbered else "0"): option for name, option in known.items()}
    near = get_close_matches(key, list(names), n=1, cutoff=0.6)
    if not near:
        return "see its API viewer, /pve-docs/api-viewer/"
    told = _told(names[near[0]])
    return f"did you mean {near[0]!r}?{' ' + told if told else ''}"


def _kind(guest: GuestType) -> str:
    return "a VM" if guest is GuestType.QEMU else "a container"
