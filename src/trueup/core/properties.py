"""PVE's property strings, compared by meaning: only what the manifest gives counts, whatever PVE filled in is no drift.

Spellings differ between what one writes and what PVE keeps (`virtio,bridge=vmbr0` comes back with a MAC address,
`local-lvm:32` as `local-lvm:vm-101-disk-0,size=32G`, tags sorted and in lower case). A comparison of texts would find
drift for ever. What cannot be parsed is compared as text; nothing here raises on what PVE or a person wrote, except
`render_create` for a new disk without a size.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from trueup.core import disks
from trueup.core import marker as markers
from trueup.core.disks import Wanted, parse_size
from trueup.core.property_formats import HOTPLUG_DEFAULT, Shape, default_of, format_of, is_disk
from trueup.core.property_strings import (
    canonical,
    is_false,
    is_net,
    is_true,
    overlaid,
    parse,
    render_map,
    same_value,
)
from trueup.model.ids import GuestType

__all__ = [
    "Wanted",
    "disk_size",
    "format_size",
    "is_disk",
    "is_net",
    "is_secret",
    "parse",
    "parse_size",
    "render_create",
    "render_update",
    "satisfied",
    "show",
    "wanted_size",
]

MASK = "**********"
"""What PVE shows instead of a secret, and what we show."""

format_size = disks.format_size

_MACHINES = {"q35": "pc-q35-", "pc": "pc-i440fx-"}


def is_secret(key: str) -> bool:
    """Whether a value must never be shown or journaled. Public SSH keys are no secret."""
    return key.endswith("password")


def is_gone(want: Wanted) -> bool:
    """Whether the manifest says that the key must not be there."""
    return not (want.strip() if isinstance(want, str) else want)


def satisfied(guest_type: GuestType, key: str, want: Wanted, have: str | None) -> bool:
    """Whether what PVE has (None = the key is not there) means what the manifest wants.

    For disks that includes the size; `core.disks` takes the two apart. A secret is satisfied by any secret, since PVE
    does not show it.
    """
    if is_gone(want):
        return have is None or not have.strip()
    effective = default_of(guest_type, key) if have is None else have
    if effective is None:
        return False
    if isinstance(want, str) and want.strip() == effective.strip():
        return True
    fmt = format_of(guest_type, key)
    if fmt.shape is Shape.DISK:
        return disks.same_volume(guest_type, key, want, effective) and disks.same_size(guest_type, key, want, effective)
    if fmt.shape is Shape.PROPERTIES or isinstance(want, Mapping):
        return _same_properties(guest_type, key, want, effective)
    return _same_text(fmt.shape, want, effective)


def render_create(guest_type: GuestType, key: str, want: Wanted) -> str:
    """PVE's spelling of a value that is not there yet; '' for a key that must not be there.

    Raises:
        BadInput: a new disk without a storage or a size.
    """
    if is_gone(want):
        return ""
    fmt = format_of(guest_type, key)
    if fmt.shape is Shape.DISK:
        return disks.render_new(guest_type, key, want)
    if isinstance(want, str):
        return _render_text(fmt.shape, want)
    return render_map(guest_type, key, canonical(guest_type, key, fmt, want))


def render_update(guest_type: GuestType, key: str, want: Wanted, have: str | None) -> str:
    """PVE's spelling of a changed value; what PVE filled in and what the manifest does not name is kept.

    For a disk that is its volume and its size: another volume or size is no matter of the config (see `core.disks`).

    Raises:
        BadInput: a new disk without a storage or a size.
    """
    fmt = format_of(guest_type, key)
    if have is None or is_gone(want):
        return render_create(guest_type, key, want)
    if fmt.shape is Shape.DISK:
        return disks.render_changed(guest_type, key, want, have)
    if fmt.shape is not Shape.PROPERTIES:
        return render_create(guest_type, key, want)
    new, old = _wanted_map(guest_type, key, want), parse(guest_type, key, have)
    if new is None or old is None:
        return render_create(guest_type, key, want)
    return render_map(guest_type, key, overlaid(fmt, new, old))


def disk_size(have: str | None) -> int | None:
    """The size of a disk as PVE shows it, in bytes; None where it shows none."""
    return disks.shown_size(have)


def wanted_size(guest_type: GuestType, key: str, want: Wanted) -> int | None:
    """The size that a manifest asks for, in bytes; None if it asks for none."""
    return disks.wanted(guest_type, key, want).size


def show(key: str, want: Wanted) -> str:
    """A wanted value on one line for people, secrets hidden, whether or not PVE could take it."""
    if is_secret(key):
        return MASK if not is_gone(want) else ""
    if isinstance(want, str):
        return want.strip()
    return ",".join(f"{name}={value}" for name, value in want.items())


def _wanted_map(guest_type: GuestType, key: str, want: Wanted) -> Mapping[str, str] | None:
    if isinstance(want, str):
        return parse(guest_type, key, want)
    return canonical(guest_type, key, format_of(guest_type, key), want)


def _same_properties(guest_type: GuestType, key: str, want: Wanted, have: str) -> bool:
    new, old = _wanted_map(guest_type, key, want), parse(guest_type, key, have)
    if new is None or old is None:
        return show(key, want) == have.strip()
    defaults = format_of(guest_type, key).defaults
    return all(_same_subkey(key, name, value, old.get(name), defaults) for name, value in new.items())


def _same_subkey(key: str, name: str, want: str, have: str | None, defaults: Mapping[str, str]) -> bool:
    if not want.strip():
        return not (have or "").strip()
    effective = defaults.get(name) if have is None else have
    if effective is None:
        return False
    if key == "machine" and name == "type" and want in _MACHINES:
        return effective == want or effective.startswith(_MACHINES[want])  # PVE pins the version for Windows guests
    return same_value(name, want, effective)


def _same_text(shape: Shape, want: str, have: str) -> bool:
    if shape is Shape.SECRET:
        return bool(have.strip())
    if shape is Shape.TAGS:
        return set(_tags(want.lower())) == set(_tags(have.lower()))
    if shape is Shape.WORDS:
        return _words(want.lower()) == _words(have.lower())
    if shape is Shape.FLAGS:
        return _flags(want) == _flags(have)
    if shape is Shape.SSH_KEYS:
        return _ssh_keys(want) == _ssh_keys(have)
    if shape is Shape.DESCRIPTION:
        return markers.clean(want) == markers.clean(have)
    return same_value("", want, have)


def _render_text(shape: Shape, want: str) -> str:
    if shape is Shape.TAGS:
        return ";".join(dict.fromkeys(_tags(want)))
    if shape is Shape.SSH_KEYS:
        return quote("\n".join(_ssh_keys(want)), safe="", errors="replace")
    return want if shape in {Shape.SECRET, Shape.DESCRIPTION} else want.strip()


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;]+", text) if word]


_tags = _words


def _flags(text: str) -> frozenset[str]:
    items = frozenset(item.strip() for item in text.split(","))
    if is_true(text):
        return frozenset(HOTPLUG_DEFAULT.split(","))
    return frozenset({"0"}) if is_false(text) else items


def _ssh_keys(text: str) -> list[str]:
    """One key a line; PVE keeps them percent-encoded, people write them plainly."""
    plain = text if " " in text.strip() else unquote(text)
    return [line.strip() for line in plain.splitlines() if line.strip()]
