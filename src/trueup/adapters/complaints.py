"""What pydantic says about people's files, turned into our own words: one line each, with a remedy, and no type names.

A complaint has the path of keys to the place it is about; whoever read the file knows the line.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]
OWN: Final = "trueup"
UNION_TAGS: Final = frozenset({"Word", "Window"})
"""Steps that pydantic adds to a path for the member of a union; no file has them."""


class Wanted(StrEnum):
    """What should have stood there, for the one who knows how the value was written."""

    TEXT = "a text"
    NUMBER = "a whole number"
    TRUTH = "true or false"
    MAP = "a map"
    LIST = "a list"
    OTHER = ""


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `at_key`: the key itself is, not its value."""

    path: Path
    what: str
    remedy: str = ""
    at_key: bool = False
    wanted: Wanted = Wanted.OTHER


_WANTED: Final = {
    "int_type": Wanted.NUMBER,
    "int_from_float": Wanted.NUMBER,
    "string_type": Wanted.TEXT,
    "bool_type": Wanted.TRUTH,
    "dict_type": Wanted.MAP,
    "model_type": Wanted.MAP,
    "model_attributes_type": Wanted.MAP,
    "list_type": Wanted.LIST,
    "tuple_type": Wanted.LIST,
}


def wrong(what: str, remedy: str = "", *, at: str = "") -> PydanticCustomError:
    """Make an error for a validator to raise, whose words are used as they are; `at` is the key that it is about."""
    return PydanticCustomError(OWN, "{what}", {"what": what, "remedy": remedy, "at": at})


def complaints(error: ValidationError, known: Mapping[Path, Sequence[str]]) -> tuple[Complaint, ...]:
    """Translate all errors; `known` has the allowed keys of each map, by the path of the map."""
    return tuple(_complaint(detail, known) for detail in error.errors(include_url=False))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Name the nearest of the known words, or all of them."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return f"did you mean {lower[near[0]]!r}?" if near else f"known here: {', '.join(known)}"


def _complaint(detail: ErrorDetails, known: Mapping[Path, Sequence[str]]) -> Complaint:
    kind, path = detail["type"], detail["loc"]
    context = detail.get("ctx", {})
    name = str(path[-1]) if path else "this"
    if kind == OWN:
        at = (*path, str(context["at"])) if context["at"] else path
        return Complaint(path=at, what=str(context["what"]), remedy=str(context["remedy"]))
    if kind == "extra_forbidden":
        remedy = did_you_mean(name, known.get(path[:-1], ()))
        return Complaint(path=path, what=f"unknown key {_cut(name)!r}", remedy=remedy, at_key=True)
    if kind == "missing":
        return Complaint(path=path[:-1], what=f"{name!r} is missing", remedy=f"add `{name}`")
    if kind in _WANTED:
        wanted = _WANTED[kind]
        return Complaint(path=path, what=f"{_named(path)} must be {wanted.value}", wanted=wanted)
    if kind in {"literal_error", "enum"}:
        return _choice(path, detail["input"], str(context["expected"]))
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return Complaint(path=path, what=f"{_named(path)} is {_cut(str(detail['input']))}; it must be {bound}")
    return Complaint(path=path, what=f"{_named(path)}: {detail['msg']}")


def _choice(path: Path, given: object, expected: str) -> Complaint:
    """Pydantic writes the choices as "'a', 'b' or 'c'"."""
    choices = [part.strip(" '") for part in expected.replace(" or ", ",").split(",") if part.strip()]
    if not isinstance(given, str):
        return Complaint(path=path, what=f"{_named(path)} must be {expected}", remedy="write one of these")
    near = get_close_matches(given.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.6)
    remedy = next((f"did you mean {choice!r}?" for choice in choices if near and choice.lower() == near[0]), "")
    return Complaint(path=path, what=f"{_named(path)} is {_cut(given)!r}; it must be {expected}", remedy=remedy)


def _named(path: Path) -> str:
    """The last key of the path, with its list if it is an item of one."""
    *above, last = [step for step in path if step not in UNION_TAGS] or ["this"]
    if isinstance(last, int):
        return f"item {last + 1} of {above[-1]!r}" if above else f"item {last + 1}"
    return repr(last)


def _cut(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[:longest] + "…"
