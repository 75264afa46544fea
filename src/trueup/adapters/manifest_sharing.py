"""What many manifests say alike is kept once, and where their keys stand takes a few bytes each.

Ten thousand guests have a handful of layouts, labels and networks between them. Only frozen values, and maps that
nobody changes after they were made, may be shared.
"""

from array import array
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from trueup.model.guests import Desired

_ONE: Final = 2
"""Numbers of one place: line and column."""

T = TypeVar("T")


class Places(msgspec.Struct, frozen=True, gc=False):
    """Where each of the keys stands. `at` are lines and columns in turn, as an array's unsigned ints."""

    keys: tuple[str, ...]
    at: bytes

    @classmethod
    def of(cls, places: Mapping[str, tuple[int, int]]) -> "Places":
        """From line and column (both from 1) by key."""
        numbers = array("I", [number for place in places.values() for number in place])
        return cls(tuple(places), numbers.tobytes())

    def get(self, key: str) -> tuple[int, int] | None:
        """Line and column of a key; None if it is not there."""
        if key not in self.keys:
            return None
        numbers = array("I", self.at)
        first = _ONE * self.keys.index(key)
        return numbers[first], numbers[first + 1]


class Sharing:
    """Hands out, for a value, the equal one that it has seen before, if any. Lives as long as one load."""

    def __init__(self) -> None:
        """Know nothing."""
        self._values: dict[Any, Any] = {}
        self._maps: dict[int, Mapping[str, Any]] = {}

    def value(self, value: T) -> T:
        """The same for every equal value; `value` is hashable."""
        return self._values.setdefault(value, value)

    def mapping(self, given: Mapping[str, T]) -> Mapping[str, T]:
        """The same for every map with equal items in the same order; values are hashable, or maps of such ones."""
        own = {key: self._inner(value) for key, value in given.items()}
        mark = hash(tuple((key, _mark(value)) for key, value in own.items()))
        known = self._maps.setdefault(mark, own)
        return known if known is own or (known == own and list(known) == list(own)) else own

    def _inner(self, value: T) -> T:
        if not isinstance(value, dict):
            return value
        return cast("T", self.mapping(cast("dict[str, object]", value)))

    def places(self, places: Places) -> Places:
        """With keys and places that are shared."""
        return self.value(Places(self.value(places.keys), self.value(places.at)))

    def desired(self, want: Desired) -> Desired:
        """With all that other guests may have as well shared."""
        return replace(
            want,
            source=self.value(want.source),
            config=self.mapping(want.config),
            labels=self.mapping(want.labels),
            snapshots=self.value(want.snapshots),
            backups=self.value(want.backups),
            ignore=self.value(want.ignore),
            after=self.value(want.after),
        )


def _mark(value: object) -> object:
    """What tells it from others. Of an inner map its address; should another one get that, the maps are compared."""
    return id(cast("object", value)) if isinstance(value, dict) else value
