"""What holds for all guests of a folder and of those below it: a `kind: Defaults` document, one for each folder.

Nothing is worked out but this: maps are merged key by key, the nearest folder wins, and what a guest says itself goes
before all. A value under `config` is one value, whether it is written as a text or as a map. What tells one guest from
another (its name, vmid, node and source) has no default.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from trueup.adapters.config_values import Config
from trueup.model import limits
from trueup.model.ids import VMID_MAX, VMID_MIN, Vmid

KIND: Final = "Defaults"
_MERGED: Final = frozenset({"labels", "disruption", "snapshots", "backups"})
"""Maps that are merged; everything else is replaced. `config` has values of its own, merged in the same way."""

_NOT_HANDED_DOWN: Final = frozenset({"kind", "config", "vmids"})
_RANGE: Final = re.compile(r"([1-9][0-9]{2,8})(?:-([1-9][0-9]{2,8}))?", re.ASCII)


class SecretPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A secret's file, relative to the folder of the manifest that names it, and where it is named."""

    folder: Path
    name: str
    where: str


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """All that guests of a folder inherit, those of the folders above worked in.

    `plain` has the values but `config`'s, as YAML gives them; `places` where each key stands; `digest` names the whole.
    `vmids` are ranges, none = any.
    """

    plain: Mapping[str, Any] = {}
    config: Config = Config(values={}, description=None)
    secrets: Mapping[str, SecretPlace] = {}
    places: Mapping[str, str] = {}
    vmids: tuple[tuple[int, int], ...] = ()
    digest: bytes = b""


NONE: Final = Defaults()


def merged(above: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The own values over those from above."""
    found = {**above, **own}
    for key in _MERGED & above.keys() & own.keys():
        upper, lower = above[key], own[key]
        if isinstance(upper, dict) and isinstance(lower, dict):
            found[key] = {**cast("dict[str, Any]", upper), **cast("dict[str, Any]", lower)}
    return found


def merged_config(above: Config, own: Config) -> Config:
    """The own config over that from above; a key has a value or a secret's file, never both."""
    values = {key: value for key, value in above.values.items() if key not in own.secrets}
    return Config(
        values={**values, **own.values},
        description=above.description if own.description is None else own.description,
        secrets=own.secrets,
    )


def merged_secrets(
    above: Mapping[str, SecretPlace], own: Mapping[str, SecretPlace], config: Config
) -> dict[str, SecretPlace]:
    """The files of secrets, but for keys that got a value instead."""
    kept = {key: place for key, place in above.items() if key not in config.values}
    return {**kept, **own}


def handed_down(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a guest does not inherit as it stands."""
    return {key: value for key, value in plain.items() if key not in _NOT_HANDED_DOWN}


def for_guest(defaults: Defaults, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a guest says, over what it inherits. A template inherits neither a run state nor snapshots."""
    above = dict(defaults.plain)
    if own.get("template") is True:
        above.pop("power", None)
        above.pop("snapshots", None)
    return merged(above, own)


def parse_ranges(value: object) -> tuple[tuple[int, int], ...] | None:
    """Read "200-299", "200-299,400" or a list of these; None if it is none."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
    elif isinstance(value, list):
        parts = [str(part).strip() for part in cast("list[object]", value)]
    else:
        return None
    found: list[tuple[int, int]] = []
    for part in parts:
        read = _RANGE.fullmatch(part)
        if read is None:
            return None
        first, last = int(read[1]), int(read[2] or read[1])
        if not VMID_MIN <= first <= last <= VMID_MAX:
            return None
        found.append((first, last))
    return tuple(found) if len(found) <= limits.VMID_RANGES_MAX else None


def outside(defaults: Defaults, vmid: Vmid) -> str:
    """The ranges that this vmid is not in, as one would write them; '' if it may be had."""
    if not defaults.vmids or any(first <= vmid <= last for first, last in defaults.vmids):
        return ""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in defaults.vmids)
