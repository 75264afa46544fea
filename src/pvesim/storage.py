"""Storages and the volumes on them.

Rule kept here: a volume exists exactly once, on one node's storage or on a shared one, until somebody frees it;
configs only name volumes, so a killed task leaves volumes behind that no config names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pvesim.properties import VOLID
from pvesim.wire import Json, died

SHARED = "*"
DEFAULT_TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
_OWNER = re.compile(r"(?:^|/)(?:vm|base|subvol|basevol)-(\d+)-")
_BACKUP_OWNER = re.compile(r"^backup/vzdump-(qemu|lxc)-(\d+)-")
_FORMATS = {
    ".tar.gz": "tgz", ".tar.xz": "txz", ".tar.zst": "tzst", ".iso": "iso", ".qcow2": "qcow2", ".vma.zst": "vma.zst",
    ".vma.gz": "vma.gz", ".vma.lzo": "vma.lzo", ".vma": "vma", ".tar.lzo": "tar.lzo", ".tar": "tar",
    ".subvol": "subvol",
}  # fmt: skip
_BACKUP_FORMATS = {"tgz": "tar.gz", "tzst": "tar.zst"}
_SNAPSHOTS = frozenset({"lvmthin", "rbd", "zfspool", "zfs", "btrfs"})
_IN_ORDER = frozenset({"zfspool", "zfs"})
FILES = frozenset({"dir", "nfs", "cifs", "cephfs", "btrfs", "glusterfs"})
TOTAL = 2**40
_FULL = {
    "lvmthin": "lvcreate '{volume}' error:   Cannot create new thin volume, free space in thin pool reached threshold.",
    "rbd": "rbd error: rbd: create error: (28) No space left on device",
    "zfspool": "zfs error: cannot create '{volume}': out of space",
}
_FULL_FILE = "unable to create image: qemu-img: {volume}: error while writing: No space left on device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """One storage definition; `kind` decides how its volumes are called."""

    name: str
    kind: str
    shared: bool
    content: tuple[str, ...]
    nodes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume; `place` is its node, or SHARED."""

    volid: str
    place: str
    size: int
    content: str
    format: str
    vmid: int | None
    ctime: int
    subtype: str | None = None
    notes: str | None = None
    protected: bool = False
    snaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What a backup holds: the guest's config, and the sizes of its disks by key."""

    guest_type: str
    vmid: int
    values: Mapping[str, str]
    sizes: Mapping[str, int]


@dataclass(slots=True)
class Storages:
    """All storages of the cluster with their volumes."""

    defined: dict[str, Storage] = field(default_factory=dict[str, Storage])
    volumes: dict[tuple[str, str], Volume] = field(default_factory=dict[tuple[str, str], Volume])
    by_vmid: dict[int, dict[tuple[str, str], None]] = field(default_factory=dict[int, dict[tuple[str, str], None]])
    quotas: dict[str, int] = field(default_factory=dict[str, int])
    archives: dict[tuple[str, str], Archive] = field(default_factory=dict[tuple[str, str], Archive])

    def get(self, name: str) -> Storage:
        """A definition, or the error PVE raises for an unknown name."""
        found = self.defined.get(name)
        if found is None:
            raise died(f"storage '{name}' does not exist")
        return found

    def need_content(self, name: str, content: str) -> Storage:
        """A storage that takes such volumes."""
        found = self.get(name)
        if content not in found.content:
            raise died(f"storage '{name}' does not support content-type '{content}'")
        return found

    def place(self, name: str, node: str) -> str:
        """Where a volume made on `node` lies."""
        return SHARED if self.get(name).shared else node

    def find(self, volid: str, node: str) -> Volume | None:
        """A volume as seen from `node`."""
        parsed = VOLID.match(volid)
        if parsed is None or parsed[1] not in self.defined:
            return None
        return self.volumes.get((self.place(parsed[1], node), volid))

    def need(self, volid: str, node: str) -> Volume:
        """A volume that must exist."""
        found = self.find(volid, node)
        if found is None:
            raise died(f"volume '{volid}' does not exist")
        return found

    def allocate(self, name: str, node: str, vmid: int, size: int, now: float, form: str = "raw") -> Volume:
        """A new empty disk with the first free number."""
        self.need_room(name, node, f"vm-{vmid}-disk", size)
        taken = {volume.volid for volume in self.owned(vmid) if volume.volid.startswith(f"{name}:")}
        numbers = {int(m[1]) for volid in taken if (m := re.search(r"-disk-(\d+)", volid))}
        number = next(n for n in range(len(numbers) + 1) if n not in numbers)
        return self.add(self._name(name, f"vm-{vmid}-disk-{number}", vmid, form), node, size, now)

    def _name(self, name: str, volume: str, vmid: int, form: str = "raw") -> str:
        if form == "subvol":
            volume = volume.replace("vm-", "subvol-", 1)
        if self.get(name).kind in FILES:
            return f"{name}:{vmid}/{volume}.{form}"
        return f"{name}:{volume}"

    def used(self, name: str, node: str) -> int:
        """What lies on a storage, in bytes, as seen from `node`."""
        return sum(volume.size for volume in self.visible(node, name))

    def total(self, name: str) -> int:
        """Its size: a terabyte, or what was set as its quota."""
        return self.quotas.get(name, TOTAL)

    def need_room(self, name: str, node: str, volume: str, size: int) -> None:
        """The error of a full storage, in the words of its kind."""
        if name in self.quotas and self.used(name, node) + size > self.quotas[name]:
            raise died(_FULL.get(self.get(name).kind, _FULL_FILE).format(volume=volume))

    def can_snapshot(self, volid: str, node: str) -> bool:
        """Whether the storage of a volume makes snapshots of it."""
        found = self.find(volid, node)
        return found is not None and (self.get(volid.partition(":")[0]).kind in _SNAPSHOTS or found.format == "qcow2")

    def snapshot(self, volid: str, node: str, name: str) -> None:
        """Take a snapshot of a volume."""
        found = self.need(volid, node)
        self.volumes[found.place, volid] = replace(found, snaps=(*found.snaps, name))

    def unsnapshot(self, volid: str, node: str, name: str) -> None:
        """Delete a snapshot of a volume; one that is not there is no error."""
        found = self.find(volid, node)
        if found is not None:
            kept = tuple(snap for snap in found.snaps if snap != name)
            self.volumes[found.place, volid] = replace(found, snaps=kept)

    def need_newest(self, volid: str, node: str, name: str) -> None:
        """On ZFS only the newest snapshot can be rolled back to."""
        found = self.need(volid, node)
        if name not in found.snaps:
            raise died(f"volume '{volid}' has no snapshot '{name}'")
        if self.get(volid.partition(":")[0]).kind in _IN_ORDER and found.snaps[-1] != name:
            raise died(f"can't rollback, '{name}' is not most recent snapshot on '{volid}'")

    def add_named(self, name: str, node: str, volume: str, vmid: int, now: float) -> Volume:
        """A volume with a fixed name, such as a cloud-init image."""
        return self.add(self._name(name, volume, vmid), node, 4 * 1024**2, now)

    def linked(self, base: Volume, node: str, vmid: int, now: float) -> Volume:
        """A clone that goes on using `base`."""
        name, _, rest = base.volid.partition(":")
        fresh = self.allocate(name, node, vmid, base.size, now)
        if self.get(name).kind == "lvmthin":
            return fresh
        self.free(fresh.volid, node)
        return self.add(f"{name}:{rest}/{fresh.volid.partition(':')[2]}", node, base.size, now)

    def add(self, volid: str, node: str, size: int, now: float) -> Volume:
        """Note a volume under its full name."""
        name, _, rest = volid.partition(":")
        owners, archive = _OWNER.findall(rest), _BACKUP_OWNER.match(rest)
        vmid = int(owners[-1]) if owners else None
        directory = rest.partition("/")[0]
        content = directory if directory in {"vztmpl", "iso", "backup"} else "images"
        suffix = next((_FORMATS[s] for s in _FORMATS if rest.endswith(s)), "raw")
        if archive is not None:
            suffix = _BACKUP_FORMATS.get(suffix, suffix)
        key = (self.place(name, node), volid)
        self.volumes[key] = Volume(
            volid=volid, place=key[0], size=size, content=content, format=suffix, ctime=int(now),
            vmid=int(archive[2]) if archive is not None else vmid, subtype=archive[1] if archive is not None else None,
        )  # fmt: skip
        if vmid is not None:
            self.by_vmid.setdefault(vmid, {})[key] = None
        return self.volumes[key]

    def free(self, volid: str, node: str) -> bool:
        """Delete a volume; False when it was not there. A base image in use is refused."""
        found = self.find(volid, node)
        if found is None:
            return False
        if self.children(found):
            raise died(f"base volume '{volid}' is still in use by linked cloned")
        key = (found.place, volid)
        del self.volumes[key]
        self.archives.pop(key, None)
        if found.vmid is not None and found.vmid in self.by_vmid:
            self.by_vmid[found.vmid].pop(key, None)
        return True

    def put(self, volume: Volume) -> None:
        """Note a changed volume."""
        self.volumes[volume.place, volume.volid] = volume

    def archive(self, volid: str, node: str) -> tuple[Volume, Archive]:
        """A backup with what it holds."""
        found = self.find(volid, node)
        held = self.archives.get((found.place, volid)) if found is not None else None
        if found is None or held is None:
            raise died(f"can't find file '{volid}'")
        return found, held

    def children(self, base: Volume) -> list[Volume]:
        """Linked clones of a volume."""
        if "base-" not in base.volid and "basevol-" not in base.volid:
            return []
        return [volume for volume in self.volumes.values() if volume.volid.startswith(f"{base.volid}/")]

    def resize(self, volid: str, node: str, size: int) -> None:
        """Give a volume a new size."""
        found = self.need(volid, node)
        self.volumes[found.place, volid] = replace(found, size=size)

    def move(self, vmid: int, node: str) -> None:
        """Bring a guest's local volumes to another node, as a migration does."""
        for volume in self.owned(vmid):
            if volume.place not in {SHARED, node}:
                del self.volumes[volume.place, volume.volid]
                del self.by_vmid[vmid][volume.place, volume.volid]
                self.volumes[node, volume.volid] = replace(volume, place=node)
                self.by_vmid[vmid][node, volume.volid] = None

    def relocate(self, volid: str, source: str, target: str, storage: str | None, now: float) -> str:
        """Bring one local volume to another node, perhaps to another storage there; returns its name."""
        found = self.need(volid, source)
        name = storage or volid.partition(":")[0]
        fresh = volid
        if name != volid.partition(":")[0] or self.find(volid, target) is not None:
            form = found.format if self.get(name).kind in FILES else "raw"
            fresh = self.allocate(name, target, found.vmid or 0, found.size, now, form).volid
        else:
            self.need_room(name, target, volid.partition(":")[2], found.size)
            self.add(volid, target, found.size, now)
        moved = self.need(fresh, target)
        self.put(replace(moved, snaps=found.snaps, ctime=found.ctime))
        if fresh != volid or target != source:
            self._drop(found)
        return fresh

    def _drop(self, volume: Volume) -> None:
        """One copy of a volume goes."""
        del self.volumes[volume.place, volume.volid]
        if volume.vmid in self.by_vmid:
            self.by_vmid[volume.vmid].pop((volume.place, volume.volid), None)

    def make_base(self, volid: str, node: str) -> str:
        """Make a base image of a disk: it gets another name."""
        found = self.need(volid, node)
        fresh = volid.replace(f"vm-{found.vmid}-disk-", f"base-{found.vmid}-disk-")
        if fresh != volid:
            self._drop(found)
            self.add(fresh, node, found.size, found.ctime)
        return fresh

    def owned(self, vmid: int) -> list[Volume]:
        """All volumes with this guest number in their name."""
        return [self.volumes[key] for key in self.by_vmid.get(vmid, {})]

    def visible(self, node: str, name: str) -> Iterator[Volume]:
        """The volumes of one storage as seen from `node`."""
        place = self.place(name, node)
        return (v for v in self.volumes.values() if v.place == place and v.volid.startswith(f"{name}:"))

    def rows(self, node: str) -> list[dict[str, Json]]:
        """GET /nodes/N/storage."""
        found: list[dict[str, Json]] = []
        for s in self.defined.values():
            if s.nodes is not None and node not in s.nodes:
                continue
            total, used = self.total(s.name), min(self.total(s.name), 2**30 + self.used(s.name, node))
            found.append({
                "storage": s.name, "type": s.kind, "content": ",".join(s.content), "shared": int(s.shared),
                "active": 1, "enabled": 1, "total": total, "used": used, "avail": total - used,
                "used_fraction": used / total if total else 0,
            })  # fmt: skip
        return found


def content_row(volume: Volume, *, guest_types: Mapping[int, str]) -> dict[str, Json]:
    """One row of GET storage content."""
    row: dict[str, Json] = {
        "volid": volume.volid, "size": volume.size, "format": volume.format, "content": volume.content,
        "ctime": volume.ctime,
    }  # fmt: skip
    if volume.vmid is not None:
        row["vmid"] = volume.vmid
    if volume.subtype is not None:
        row["subtype"] = volume.subtype
        if volume.notes:
            row["notes"] = volume.notes
        if volume.protected:
            row["protected"] = 1
    elif volume.vmid is not None:
        row["used"] = volume.size
        row["parent"] = None
        if guest_types.get(volume.vmid) == "lxc":
            row["content"] = "rootdir"
    return row
