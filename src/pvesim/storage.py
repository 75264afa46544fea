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
_FORMATS = {".tar.gz": "tgz", ".tar.xz": "txz", ".tar.zst": "tzst", ".iso": "iso"}


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


@dataclass(slots=True)
class Storages:
    """All storages of the cluster with their volumes."""

    defined: dict[str, Storage] = field(default_factory=dict[str, Storage])
    volumes: dict[tuple[str, str], Volume] = field(default_factory=dict[tuple[str, str], Volume])
    by_vmid: dict[int, dict[tuple[str, str], None]] = field(default_factory=dict[int, dict[tuple[str, str], None]])

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

    def allocate(self, name: str, node: str, vmid: int, size: int, now: float) -> Volume:
        """A new empty disk with the first free number."""
        taken = {volume.volid for volume in self.owned(vmid) if volume.volid.startswith(f"{name}:")}
        numbers = {int(m[1]) for volid in taken if (m := re.search(r"-disk-(\d+)", volid))}
        number = next(n for n in range(len(numbers) + 1) if n not in numbers)
        return self.add(self._name(name, f"vm-{vmid}-disk-{number}", vmid), node, size, now)

    def _name(self, name: str, volume: str, vmid: int) -> str:
        if self.get(name).kind == "dir":
            return f"{name}:{vmid}/{volume}.raw"
        return f"{name}:{volume}"

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
        owners = _OWNER.findall(rest)
        vmid = int(owners[-1]) if owners else None
        directory = rest.partition("/")[0]
        content = directory if directory in {"vztmpl", "iso", "backup"} else "images"
        suffix = next((_FORMATS[s] for s in _FORMATS if rest.endswith(s)), "raw")
        key = (self.place(name, node), volid)
        self.volumes[key] = Volume(
            volid=volid, place=key[0], size=size, content=content, format=suffix, vmid=vmid, ctime=int(now)
        )
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
        if found.vmid is not None:
            self.by_vmid[found.vmid].pop(key, None)
        return True

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

    def owned(self, vmid: int) -> list[Volume]:
        """All volumes with this guest number in their name."""
        return [self.volumes[key] for key in self.by_vmid.get(vmid, {})]

    def visible(self, node: str, name: str) -> Iterator[Volume]:
        """The volumes of one storage as seen from `node`."""
        place = self.place(name, node)
        return (v for v in self.volumes.values() if v.place == place and v.volid.startswith(f"{name}:"))

    def rows(self, node: str) -> list[dict[str, Json]]:
        """GET /nodes/N/storage."""
        return [
            {
                "storage": s.name, "type": s.kind, "content": ",".join(s.content), "shared": int(s.shared),
                "active": 1, "enabled": 1, "total": 2**40, "used": 2**30, "avail": 2**40 - 2**30,
                "used_fraction": 2.0**-10,
            }
            for s in self.defined.values()
            if s.nodes is None or node in s.nodes
        ]  # fmt: skip


def content_row(volume: Volume, *, guest_types: Mapping[int, str]) -> dict[str, Json]:
    """One row of GET storage content."""
    row: dict[str, Json] = {
        "volid": volume.volid, "size": volume.size, "format": volume.format, "content": volume.content,
        "ctime": volume.ctime,
    }  # fmt: skip
    if volume.vmid is not None:
        row["vmid"] = volume.vmid
        row["used"] = volume.size
        row["parent"] = None
        if guest_types.get(volume.vmid) == "lxc":
            row["content"] = "rootdir"
    return row
