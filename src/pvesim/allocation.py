"""Disks and network devices in the values of a request: what is allocated, checked and filled in.

Rule kept here: a value as the config keeps it names an existing volume; `storage:size` exists only in requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pvesim.machine import Machine
from pvesim.properties import (
    ALLOCATE,
    LXC_VOLUME,
    NET,
    QEMU_DISK,
    VOLID,
    file_of,
    fill_lxc_net,
    fill_qemu_net,
    format_size,
    join,
    lookup,
    options_of,
)
from pvesim.storage import FILES
from pvesim.wire import ApiError, not_implemented

SMALL_DISK = 4 * 1024**2


@dataclass(slots=True, kw_only=True)
class Filling:
    """Where values are being filled in; `made` lists the volumes allocated on the way."""

    m: Machine
    guest_type: str
    node: str
    vmid: int
    log: Callable[[str], None]
    made: list[str] = field(default_factory=list[str])

    @property
    def content(self) -> str:
        """The content type its disks need."""
        return "images" if self.guest_type == "qemu" else "rootdir"


def unlogged(line: str) -> None:
    """Where there is no task log."""
    del line


def is_volume_key(guest_type: str, key: str) -> bool:
    """Whether the key names a disk or a mount point."""
    return bool((QEMU_DISK if guest_type == "qemu" else LXC_VOLUME).match(key))


def check_storages(filling: Filling, values: dict[str, str]) -> None:
    """The checks PVE makes before it forks: storages exist and take such volumes."""
    for key, raw in values.items():
        if not is_volume_key(filling.guest_type, key):
            continue
        if lookup(raw, "import-from") is not None:
            raise not_implemented("PUT", f"{key} with import-from")
        parsed = VOLID.match(file_of(raw))
        if parsed is not None and ALLOCATE.match(file_of(raw)):
            filling.m.storages.need_content(parsed[1], filling.content)
        elif parsed is not None:
            filling.m.storages.get(parsed[1])


def fill(filling: Filling, key: str, raw: str) -> str:
    """One value as the config will have it."""
    if NET.match(key):
        rng = filling.m.rng
        return fill_qemu_net(raw, rng) if filling.guest_type == "qemu" else fill_lxc_net(raw, rng)
    if is_volume_key(filling.guest_type, key):
        return _fill_disk(filling, key, raw)
    return raw


def _fill_disk(filling: Filling, key: str, raw: str) -> str:
    volid = file_of(raw)
    storages, node = filling.m.storages, filling.node
    allocate = ALLOCATE.match(volid)
    if volid in {"none", "cdrom"} or volid.startswith("/"):
        return raw
    if volid.endswith(":cloudinit"):
        name = volid.partition(":")[0]
        storages.need_content(name, "images")
        drive = storages.add_named(name, node, f"vm-{filling.vmid}-cloudinit", filling.vmid, filling.m.now)
        filling.made.append(drive.volid)
        return join(drive.volid, options_of(raw) | {"media": "cdrom"})
    if allocate is None:
        found = storages.need(volid, node)
        return join(volid, options_of(raw) | {"size": format_size(found.size)})
    size = math.ceil(float(allocate[2]) * 1024**2) * 1024
    if key.startswith(("efidisk", "tpmstate")):
        size = SMALL_DISK
    storages.need_content(allocate[1], filling.content)
    form = lookup(raw, "format") or "raw"
    if filling.guest_type == "lxc" and size == 0 and storages.get(allocate[1]).kind in FILES:
        form = "subvol"
    disk = storages.allocate(allocate[1], node, filling.vmid, size, filling.m.now, form)
    filling.made.append(disk.volid)
    value = join(disk.volid, options_of(raw, without=("format", "size")) | {"size": format_size(size)})
    if filling.guest_type == "qemu":
        filling.log(f"{key}: successfully created disk '{value}'")
    return value


def take_back(filling: Filling) -> None:
    """Free what a failed task has allocated."""
    for volid in reversed(filling.made):
        try:
            filling.m.storages.free(volid, filling.node)
        except ApiError as error:
            filling.log(error.text.rstrip())
    filling.made.clear()
