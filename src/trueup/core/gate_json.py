"""JSON as it may be signed: no two readings of the same bytes.

Duplicate keys, floats, NaN, a byte order mark, half surrogates, deep nesting and giant input are refused before any
meaning is looked for. Depth is counted on the bytes, since JSON parsers recurse.
"""

import json
import re
from collections.abc import Mapping
from typing import NoReturn, cast

from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.gate import Refusal
from trueup.model.gate_answers import GateRefused

_TYPE_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
_INT_DIGITS_MAX = 18
# A whole string, up to its end or that of the input, or one bracket. It can match in one way only, so it never tries
# again.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_OPENING, _CLOSING = frozenset({b"{", b"["}), frozenset({b"}", b"]"})
_LONE = re.compile("[\ud800-\udfff]")


class NotStrict(BadInput):
    """The bytes are no strict JSON object."""


def read_object(content: bytes, what: str) -> dict[str, object]:
    """Read one JSON object; `what` is what messages call it.

    Raises:
        GateRefused: TOO_LARGE or MALFORMED.
    """
    if len(content) > limits.REQUEST_MAX_BYTES:
        kib = limits.REQUEST_MAX_BYTES // 1024
        raise GateRefused(Refusal.TOO_LARGE, f"{what} is larger than {kib} KiB")
    try:
        return _read(content)
    except NotStrict as error:
        raise GateRefused(Refusal.MALFORMED, f"{what} is malformed: {error.what}") from None
    except (ValueError, RecursionError):
        raise GateRefused(Refusal.MALFORMED, f"{what} is no JSON") from None


def _read(content: bytes) -> dict[str, object]:
    if content.count(b"{") + content.count(b"[") > limits.REQUEST_DEPTH_MAX:  # else it cannot be that deep
        _check_depth(content)
    found: object = _decoder.decode(content.decode("utf-8", errors="strict"))
    if not isinstance(found, dict):
        raise NotStrict(what="it is no object")
    if b"\\u" in content:  # UTF-8 has no half surrogates: only an escape can make one
        _check_texts(cast("object", found))
    return cast("dict[str, object]", found)


def _check_depth(content: bytes) -> None:
    """Brackets inside strings do not count; a broken string only makes the parser complain. One look at each byte."""
    depth = 0
    for token in _STRING_OR_BRACKET.findall(content):
        if token in _OPENING:
            depth += 1
            if depth > limits.REQUEST_DEPTH_MAX:
                raise NotStrict(what=f"it is nested deeper than {limits.REQUEST_DEPTH_MAX} levels")
        elif token in _CLOSING:
            depth -= 1


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrict(what="an object has a key twice")
    return found


def _no_float(_text: str) -> NoReturn:
    raise NotStrict(what="it has a number with a fraction or an exponent")


def _no_constant(_text: str) -> NoReturn:
    raise NotStrict(what="it has NaN or Infinity")


def _whole(text: str) -> int:
    if len(text) > _INT_DIGITS_MAX or text.startswith("-"):
        raise NotStrict(what="it has a number that is negative or too large")
    return int(text)


_decoder = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_no_float, parse_int=_whole, parse_constant=_no_constant
)


def _check_texts(root: object) -> None:
    todo = [root]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            if _LONE.search(value):
                raise NotStrict(what="it has half of a surrogate pair")
        elif isinstance(value, dict):
            found = cast("dict[str, object]", value)
            todo += [*found, *found.values()]
        elif isinstance(value, list):
            todo += cast("list[object]", value)


class Fields:
    """The fields of one object, each taken once; what is left over at the end is unknown.

    Raises (all methods):
        GateRefused: MALFORMED, naming the field but never quoting the input.
    """

    def __init__(self, found: Mapping[str, object], what: str) -> None:
        """Take an object; `what` names it in messages."""
        self._left = dict(found)
        self._what = what

    def take(self, name: str, kind: type, *, default: object = None) -> object:
        """A field of exactly this type; a boolean is no number. `default` makes it optional."""
        if name not in self._left:
            if default is not None:
                return default
            raise self.wrong(f"{name} is missing")
        value = self._left.pop(name)
        if type(value) is not kind:
            raise self.wrong(f"{name} must be {_TYPE_NAMES[kind]}")
        return value

    def text(
        self, name: str, pattern: re.Pattern[str], *, longest: int, default: str | None = None, hint: str = ""
    ) -> str:
        """A text of this form."""
        value = cast("str", self.take(name, str, default=default))
        if len(value) > longest:
            raise self.wrong(f"{name} is longer than {longest} characters")
        if value != default and pattern.fullmatch(value) is None:
            raise self.wrong(f"{name} is not of the form that it must have{f' ({hint})' if hint else ''}")
        return value

    def any_of(self, name: str) -> object:
        """A field of whatever type, None if it is not there."""
        return self._left.pop(name, None)

    def done(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise self.wrong(f"it has {len(self._left)} unknown field{'s' if len(self._left) > 1 else ''}")

    def wrong(self, text: str) -> GateRefused:
        """A complaint about this object."""
        return GateRefused(Refusal.MALFORMED, f"{self._what}: {text}")
