"""What a guest is, what manifests want of it, and what tells one incarnation of a vmid from the next.

`Observed` is what PVE said at one moment, `Desired` what a manifest says. Config values are PVE's own property
strings; they are compared by meaning only, in `core.properties`.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.ids import Digest, GuestType, NodeName, OpId, Vmid


class Marker(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Our claim on a guest, an HTML comment in its description (`core.marker` writes and reads it).

    `uid` names the incarnation (made at create or adoption), `installation` the trueup that owns it, `vmid` the guest
    it was written for (another vmid = a copy made by clone or restore), `op_id` the operation that wrote it and
    `counter` rises with each write, so that a config text, and with it PVE's digest, never comes back.
    """

    uid: str
    installation: str
    vmid: Vmid
    op_id: OpId
    counter: int


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What tells one incarnation of a vmid from the next; empty strings where PVE gives nothing.

    QEMU has the first three; LXC has none of them, so its root volume and MAC addresses stand in (pve-container has
    no uuid). `marker_uid` is ours.
    """

    smbios1_uuid: str = ""
    ctime: str = ""
    vmgenid: str = ""
    marker_uid: str = ""
    rootfs: str = ""
    macs: tuple[str, ...] = ()


class Power(StrEnum):
    """A guest's run state, wanted or seen. IGNORE is only wanted, UNKNOWN only seen."""

    RUNNING = "running"
    STOPPED = "stopped"
    IGNORE = "ignore"
    UNKNOWN = "unknown"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A snapshot of a guest; `taken_s` in epoch seconds of its node (0 = being taken)."""

    name: str
    description: str = ""
    taken_s: int = 0


class Backup(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An archive on a backup storage; `made_s` in epoch seconds, `notes` as PVE keeps them beside it."""

    volume: str
    vmid: Vmid
    made_s: int = 0
    notes: str = ""
    protected: bool = False


class Observed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One guest as PVE showed it.

    `config` holds the values with pending changes applied, without `digest`; numbers are turned into text. `lock` is
    the config lock ('' = none). `pending` names the keys that wait for a restart. `marker` is ours or None;
    `description` is the user's own text without it, `description_raw` the whole as PVE gave it. `ha` is the HA state
    ('' = not managed). `snapshots` (by name) and `backups` are None where nobody asked for them or they could not be
    read, which is not the same as there being none.
    """

    type: GuestType
    vmid: Vmid
    node: NodeName
    name: str
    status: Power
    template: bool = False
    lock: str = ""
    digest: Digest = Digest("")
    config: Mapping[str, str] = {}
    pending: tuple[str, ...] = ()
    description: str = ""
    description_raw: str = ""
    marker: Marker | None = None
    ha: str = ""
    pool: str = ""
    snapshots: Mapping[str, Snapshot] | None = None
    backups: tuple[Backup, ...] | None = None
    identity: Identity = Identity()


class ResourceRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of /cluster/resources?type=vm: existence, node, lock and tags are live, the rest is up to 10 s old.

    `max_memory` and `max_disk` are bytes, `max_cpu` is a count: with the tags, what a list tells of a config.
    """

    type: GuestType
    vmid: Vmid
    node: NodeName
    name: str = ""
    status: Power = Power.UNKNOWN
    template: bool = False
    lock: str = ""
    ha: str = ""
    pool: str = ""
    tags: str = ""
    max_memory: int = 0
    max_disk: int = 0
    max_cpu: float = 0.0
    uptime_s: int = 0


class Empty(msgspec.Struct, frozen=True, kw_only=True, tag="empty"):
    """Create the guest with nothing but its config."""


class Clone(msgspec.Struct, frozen=True, kw_only=True, tag="clone"):
    """Clone another guest; `full` copies the disks, otherwise they are linked to the template's."""

    source: Vmid
    full: bool = True


class ContainerTemplate(msgspec.Struct, frozen=True, kw_only=True, tag="template"):
    """Unpack a container template, e.g. `local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst`."""

    volume: str


class Archive(msgspec.Struct, frozen=True, kw_only=True, tag="archive"):
    """Restore a backup, e.g. `backup:backup/vzdump-qemu-101-....vma.zst`."""

    volume: str


Source = Empty | Clone | ContainerTemplate | Archive


class Restart(StrEnum):
    """Whether the loop may interrupt a running guest."""

    NEVER = "never"
    ALLOWED = "allowed"


class SnapshotPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Snapshots to be taken.

    One for each time of `schedule` ('hourly', 'daily 02:00', 'Sat 03:00 Europe/Berlin'); the `keep` newest ones stay,
    older ones of ours are offered for approval. `prefix` begins their names.
    """

    schedule: str
    keep: int
    prefix: str = "auto"


class BackupPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Backups to be made to `storage`, one for each time of `schedule`; `keep` as for snapshots."""

    storage: str
    schedule: str
    keep: int
    mode: str = "snapshot"


class Desired(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One guest as its manifest declares it.

    `config` has only the keys that the manifest gives; a value is PVE's property string or a map of it. `restart` is
    ALLOWED, NEVER, or the text of a window. `ignore` names config keys (with `*`) whose difference is never mended.
    `pool` is '' where the manifest says nothing about it. `origin` is file:line, for messages.
    """

    type: GuestType
    name: str
    vmid: Vmid
    node: NodeName
    power: Power = Power.RUNNING
    source: Source = Empty()
    config: Mapping[str, str | Mapping[str, str]] = {}
    description: str | None = None
    labels: Mapping[str, str] = {}
    restart: str = Restart.NEVER
    after: tuple[str, ...] = ()
    template: bool = False
    pool: str = ""
    snapshots: SnapshotPolicy | None = None
    backups: BackupPolicy | None = None
    ignore: tuple[str, ...] = ()
    origin: str = ""
