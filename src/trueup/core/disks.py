"""A disk is a storage, a size and options; the volume's name is PVE's own affair.

A change of an option is a config write, a larger size is a grow, and a smaller size or another storage cannot be had
without losing or moving the disk. So these are told apart here. Sizes are exact integers of bytes.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

import msgspec

from trueup.core.property_formats import ONLY_AT_CREATION, format_of, sizeless
from trueup.core.property_strings import parse, same_value
from trueup.model.errors import BadInput
from trueup.model.ids import GuestType

Wanted = str | Mapping[str, str]
"""What a manifest says about one key: PVE's text, or a map of its subkeys. '' or an empty map: the key must go."""

GIB = 1024**3
KIB = 1024
SIZE_SLACK = 4 * 1024**2
"""Storages round a size up to their own unit, at most LVM's extent of 4 MiB: that much more is no difference."""

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": GIB, "T": 1024**4}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,20})?)([KMGT]?)")
_NEW_VOLUME = re.compile(r"([A-Za-z][A-Za-z0-9._-]*):([0-9]{1,18}(?:\.[0-9]{1,20})?)")
_CLOUDINIT = re.compile(r"(?:[0-9]+/)?vm-[0-9]+-cloudinit(?:\.[a-z0-9]+)?")


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as wanted or seen.

    `storage` and `volume` are '' where nothing is said; `volume` is the whole volume id, path or `none`. `size` is in
    bytes, None where nothing is said.
    """

    storage: str = ""
    volume: str = ""
    size: int | None = None
    options: Mapping[str, str] = {}

    @property
    def cdrom(self) -> bool:
        """Whether this is a CD-ROM drive: its medium may be changed without losing anything."""
        return self.options.get("media") == "cdrom" or self.volume in {"none", "cdrom"} or self.cloudinit

    @property
    def cloudinit(self) -> bool:
        """Whether this is the drive that PVE generates for cloud-init."""
        name = self.volume.partition(":")[2]
        return name == "cloudinit" or _CLOUDINIT.fullmatch(name) is not None


@lru_cache(maxsize=1024)  # the same few sizes come back for thousands of disks
def parse_size(text: str) -> int | None:
    """A size in PVE's spelling (`32G`, `512M`, plain bytes) as bytes; None if it is none (pve-common, parse_size)."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(Fraction(found[1]) * _UNITS[found[2]])


def format_size(size: int) -> str:
    """Bytes in PVE's spelling, with the largest unit that is exact (pve-common, format_size)."""
    value, unit = size, ""
    for larger in "KMGT":
        if value % 1024:
            break
        value, unit = value // 1024, larger
    return f"{value}{unit}"


def shown_size(have: str | None) -> int | None:
    """The size in a disk's property string, in bytes."""
    for part in (have or "").split(","):
        name, _, value = part.partition("=")
        if name.strip() == "size":
            return parse_size(value)
    return None


def wanted(guest_type: GuestType, key: str, want: Wanted) -> Disk:
    """A disk as a manifest gives it; what cannot be parsed is a volume."""
    if isinstance(want, str):
        return _from_text(guest_type, key, want)
    aliases = format_of(guest_type, key).aliases
    values = {aliases.get(name, name): value.strip() for name, value in want.items()}
    disk = _from_map(guest_type, key, values)
    storage = values.pop("storage", "") or disk.storage
    size = values.get("size", "")
    if size and not size[-1:].isalpha():
        size += "G"  # a plain number is in GiB, as in `local-lvm:32`
    options = {name: value for name, value in disk.options.items() if name != "storage"}
    return Disk(
        storage=storage,
        volume=disk.volume,
        size=parse_size(size) if size and not sizeless(key) else disk.size,
        options=options,
    )


def seen(guest_type: GuestType, key: str, have: str) -> Disk:
    """A disk as PVE shows it."""
    return _from_text(guest_type, key, have)


def same_place(guest_type: GuestType, key: str, want: Wanted, have: str) -> bool:
    """Whether the disk is on the wanted storage, and is the wanted volume where the manifest names one."""
    new, old = wanted(guest_type, key, want), seen(guest_type, key, have)
    if new.storage and new.storage != old.storage:
        return False
    if new.cloudinit and old.cloudinit:
        return True  # PVE names the drive itself
    return not new.volume or new.volume == old.volume


def same_volume(guest_type: GuestType, key: str, want: Wanted, have: str) -> bool:
    """Whether place and options are as wanted, whatever the size."""
    if not same_place(guest_type, key, want, have):
        return False
    new, old = wanted(guest_type, key, want), seen(guest_type, key, have)
    defaults = format_of(guest_type, key).defaults
    for name, value in new.options.items():
        if name in ONLY_AT_CREATION or (name == "media" and new.cloudinit):
            continue
        effective = old.options.get(name, defaults.get(name))
        if not value:
            if old.options.get(name):
                return False
        elif effective is None or not same_value(name, _option(name, value), effective):
            return False
    return True


def same_size(guest_type: GuestType, key: str, want: Wanted, have: str) -> bool:
    """Whether the size is the wanted one, or none is wanted, or PVE shows none."""
    return size_change(guest_type, key, want, have) == 0


def size_change(guest_type: GuestType, key: str, want: Wanted, have: str) -> int:
    """By how many bytes the disk would have to grow; negative where it would have to shrink, which PVE cannot do."""
    new, old = wanted(guest_type, key, want), seen(guest_type, key, have)
    if not new.size or not old.size or new.cdrom:  # 0 is a subvolume without a limit
        return 0
    if new.size <= old.size < new.size + SIZE_SLACK:
        return 0
    return new.size - old.size


def render_new(guest_type: GuestType, key: str, want: Wanted) -> str:
    """PVE's spelling for a disk that it has to make: `storage:GiB` and options.

    Raises:
        BadInput: the manifest names neither a volume nor a storage and a size.
    """
    if isinstance(want, str):
        return want.strip()
    disk = wanted(guest_type, key, want)
    return _join(disk.volume or _new_volume(key, disk), disk.options)


def render_changed(guest_type: GuestType, key: str, want: Wanted, have: str) -> str:
    """PVE's spelling for changed options; volume and size stay as they are, but a CD-ROM's medium is changed."""
    new, old = wanted(guest_type, key, want), seen(guest_type, key, have)
    lost = {name for name, value in new.options.items() if not value} | ONLY_AT_CREATION
    options = {name: value for name, value in {**old.options, **new.options}.items() if name not in lost}
    if new.cdrom and new.volume and not same_place(guest_type, key, want, have):
        return _join(new.volume, options)
    size = {} if old.size is None else {"size": format_size(old.size)}
    return _join(old.volume, {**options, **size})


def _from_text(guest_type: GuestType, key: str, text: str) -> Disk:
    values = parse(guest_type, key, text)
    return Disk(volume=text.strip()) if values is None else _from_map(guest_type, key, values)


def _from_map(guest_type: GuestType, key: str, values: Mapping[str, str]) -> Disk:
    volume_key = format_of(guest_type, key).default_key
    volume, size = values.get(volume_key, ""), parse_size(values.get("size", ""))
    options = {name: value for name, value in values.items() if name not in {volume_key, "size"}}
    new = _NEW_VOLUME.fullmatch(volume)
    if new is not None:
        imported = bool(options.get("import-from"))
        size = None if imported or sizeless(key) else parse_size(f"{new[2]}G")
        return Disk(storage=new[1], size=size, options=options)
    storage, colon, _ = volume.partition(":")
    plain = colon and not volume.startswith("/")
    return Disk(
        storage=storage if plain else "",
        volume=volume,
        size=None if sizeless(key) else size,
        options=options,
    )


def _new_volume(key: str, disk: Disk) -> str:
    if not disk.storage:
        raise BadInput(what=f"{key}: a new disk needs a storage", remedy=f"write {key}: {{storage: NAME, size: 32G}}")
    if sizeless(key):
        return f"{disk.storage}:1"  # PVE ignores the number
    if disk.options.get("import-from"):
        return f"{disk.storage}:0"
    if disk.size is None:
        raise BadInput(what=f"{key}: a new disk needs a size", remedy=f"write {key}: {{storage: NAME, size: 32G}}")
    return f"{disk.storage}:{_gib(disk.size)}"


def _gib(size: int) -> str:
    """A size in GiB as an exact decimal, in whole KiB, which is PVE's own unit here (rounded up)."""
    kib = -(-size // KIB)
    whole, rest = divmod(kib, GIB // KIB)
    if not rest:
        return str(whole)
    digits = rest * 10**20 // (GIB // KIB)  # 2**-20 has 20 decimals: exact
    return f"{whole}.{digits:020d}".rstrip("0")


def _join(volume: str, options: Mapping[str, str]) -> str:
    return ",".join([volume, *(f"{name}={_option(name, value)}" for name, value in options.items() if value)])


def _option(name: str, value: str) -> str:
    """YAML turns a bare `on` into truth; PVE's `discard` knows `on` and `ignore` only."""
    if name == "discard":
        return {"1": "on", "true": "on", "yes": "on", "0": "ignore", "false": "ignore", "no": "ignore"}.get(
            value.lower(), value
        )
    return value
