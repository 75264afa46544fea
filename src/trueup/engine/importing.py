"""From a guest as PVE shows it to the manifest that a person would have written for it.

Rule kept here: only what a person decides is taken over. What PVE fills in (MAC addresses, volumes' names, uuids,
digests) and what holds anyway is left out, so that the manifest reads well and still describes the guest when that has
been made anew. Pure: whether the manifest really means the guest is asked of the planner afterwards.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from trueup.core import disks, properties
from trueup.core.property_formats import Shape, default_of, format_of, is_disk
from trueup.core.property_strings import same_value
from trueup.model.guests import Clone, Desired, Empty, Observed, Power, Source
from trueup.model.ids import GuestType, Vmid

_PVE_FILLS: Final[Mapping[GuestType, frozenset[str]]] = {
    GuestType.QEMU: frozenset({"smbios1", "vmgenid", "meta", "digest", "name", "description", "template", "lock"}),
    # `ostype` and `arch` are read from the template when a container is made of it.
    GuestType.LXC: frozenset({"digest", "hostname", "description", "template", "lock", "ostype", "arch", "lxc"}),
}
_PVE_KEEPS: Final = re.compile(r"unused[0-9]+|parent|snaptime|snapstate|snapshots|vmstate|pending|running.*")
_SAID_ANYWAY: Final = frozenset({"cores", "memory", "swap"})
"""People look for these, whatever their default is."""

_ALWAYS_NAMED: Final = frozenset({"startup"})
"""A bare number there would read as something else."""

_MACS: Final = frozenset({"macaddr", "hwaddr"})
_BASE: Final = re.compile(r"(?:[0-9]+/)?base(?:vol)?-([0-9]+)-disk-[0-9]+(?:\.[a-z0-9]+)?/")
"""The volume of a linked clone is named behind that of its template."""

_BOOT_DISKS: Final = ("ide", "scsi", "virtio", "sata")
"""In this order PVE looks for the first disk to boot from (qemu-server, valid_drive_names_for_boot)."""

Value = str | Mapping[str, str]


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's manifest to be. `notes` say what could not be taken over, for the file and for the person."""

    desired: Desired
    notes: tuple[str, ...] = ()


def portrait(seen: Observed, known: Collection[Vmid] = ()) -> Portrait:
    """Describe one guest. `known` are the guests there are: a linked clone's template is only named if it still is."""
    config: dict[str, Value] = {}
    notes: list[str] = []
    for key, have in seen.config.items():
        if key in _PVE_FILLS[seen.type] or _PVE_KEEPS.fullmatch(key):
            if key == "lxc":
                notes.append("its raw `lxc.*` lines cannot be set over PVE's API, so they stay as they are")
            continue
        if properties.is_secret(key):
            notes.append(f"{key} is set in PVE, which does not show it; it stays as it is")
            continue
        value = _value(seen, key, have)
        if value:
            config[key] = value
    desired = Desired(
        type=seen.type,
        name=seen.name,
        vmid=seen.vmid,
        node=seen.node,
        power=_power(seen),
        source=_source(seen, known),
        config=config,
        description=seen.description or None,
        template=seen.template,
        pool=seen.pool,
        ignore=(),
        origin=f"guest {seen.vmid}",
    )
    return Portrait(desired=desired, notes=tuple(notes))


def without(whole: Portrait, key: str, why: str) -> Portrait:
    """The portrait without one key, which is told instead."""
    config = {name: value for name, value in whole.desired.config.items() if name != key}
    description = None if key == "description" else whole.desired.description
    return Portrait(
        desired=msgspec.structs.replace(whole.desired, config=config, description=description),
        notes=(*whole.notes, f"{key} is left out: {why}"),
    )


def _power(seen: Observed) -> Power:
    if seen.template:
        return Power.STOPPED
    return Power.IGNORE if seen.status is Power.UNKNOWN else seen.status


def _source(seen: Observed, known: Collection[Vmid]) -> Source:
    """The template of a linked clone; of any other guest PVE does not tell where it came from."""
    for key, have in seen.config.items():
        if not is_disk(seen.type, key):
            continue
        found = _BASE.match(disks.seen(seen.type, key, have).volume.partition(":")[2])
        if found and Vmid(int(found[1])) in known:
            return Clone(source=Vmid(int(found[1])), full=False)
    return Empty()


def _value(seen: Observed, key: str, have: str) -> Value:
    """One key as a person would write it; '' to leave it out."""
    if is_disk(seen.type, key):
        return _disk(seen.type, key, have)
    default = None if key in _SAID_ANYWAY else default_of(seen.type, key)
    if default is not None and properties.satisfied(seen.type, key, default, have):
        return ""
    fmt = format_of(seen.type, key)
    if fmt.shape is Shape.SSH_KEYS:
        return _ssh_keys(have)
    if fmt.shape is not Shape.PROPERTIES:
        return have.strip()
    parts = properties.parse(seen.type, key, have)
    if parts is None:
        return have.strip()
    left = {
        name: value
        for name, value in parts.items()
        if value and name not in _MACS and not _is_default(fmt.defaults.get(name), name, value)
    }
    if key == "boot" and left.get("order") == _default_boot(seen):
        return ""
    if set(left) == {fmt.default_key} and key not in _ALWAYS_NAMED:
        return left[fmt.default_key]
    return left or have.strip()


def _is_default(default: str | None, name: str, value: str) -> bool:
    return default is not None and same_value(name, default, value)


def _disk(guest: GuestType, key: str, have: str) -> Value:
    """A storage and a size; a drive without a volume of its own is named as it is."""
    disk = disks.seen(guest, key, have)
    defaults = format_of(guest, key).defaults
    options = {name: value for name, value in disk.options.items() if not _is_default(defaults.get(name), name, value)}
    if disk.cloudinit:
        return f"{disk.storage}:cloudinit"
    if disk.cdrom:
        return {"file": disk.volume, "media": "cdrom"}
    if not disk.storage:
        return {format_of(guest, key).default_key: disk.volume, **options}
    size = {"size": disks.format_size(disk.size)} if disk.size else {}
    if not size and not key.startswith(("efidisk", "tpmstate")):
        return {format_of(guest, key).default_key: disk.volume, **options}  # a size that PVE does not tell
    return {"storage": disk.storage, **size, **options}


def _ssh_keys(have: str) -> str:
    """One key is readable in one line; several stay as PVE encodes them."""
    keys = [line.strip() for line in unquote(have).splitlines() if line.strip()]
    return keys[0] if len(keys) == 1 else have.strip()


def _default_boot(seen: Observed) -> str:
    """The order that PVE writes by itself: the first disk, the first CD-ROM drive, the first network interface."""
    drives = [f"{bus}{number}" for bus in _BOOT_DISKS for number in range(31) if f"{bus}{number}" in seen.config]
    shown = {drive: disks.seen(seen.type, drive, seen.config[drive]) for drive in drives}
    cdrom = {drive: disk.cdrom for drive, disk in shown.items() if not disk.cloudinit}
    nets = [f"net{number}" for number in range(32) if f"net{number}" in seen.config]
    first = [next((drive for drive, is_cdrom in cdrom.items() if is_cdrom is wanted), "") for wanted in (False, True)]
    return ";".join(name for name in (*first, *nets[:1]) if name)
