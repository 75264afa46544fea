"""One example for each kind that is carried out, and each type of guest: all that the crash tests need of a new kind.

An example is what is wanted first, and what is wanted then; reaching the second state takes an operation of its kind.
"""

from collections.abc import Mapping
from dataclasses import replace

from tests.simulation.cluster import SimCluster
from tests.simulation.harness import Scenario
from tests.simulation.scenarios import CLONED_CT, CLONED_VM, CONTAINER, EMPTY_VM, SPEC, ct, vm
from tests.simulation.signing import Ask
from trueup.model.guests import Archive, BackupPolicy, Desired, Power, SnapshotPolicy
from trueup.model.ids import GuestType, NodeName
from trueup.model.ops import Kind

QEMU, LXC = GuestType.QEMU, GuestType.LXC
MAKE = {QEMU: vm, LXC: ct}
DISK = {QEMU: "scsi1", LXC: "mp0"}
SIZED = {
    QEMU: ({"scsi0": "local-lvm:1"}, {"scsi0": "local-lvm:2"}),
    LXC: ({"rootfs": "local-lvm:4"}, {"rootfs": "local-lvm:6"}),
}
# Values that a running guest takes over at its next start only.
WAITS = {QEMU: {"cores": "3"}, LXC: {"tty": "3"}}
EXTRA = {QEMU: {"scsi1": "local-lvm:1"}, LXC: {"mp0": "local-lvm:1,mp=/srv"}}


def _changed(guest: GuestType, first: Mapping[str, object], then: Mapping[str, object]) -> Scenario:
    """A guest in one state that is wanted in another one. Fields other than `config` replace; configs are merged."""

    def wanted(fields: Mapping[str, object]) -> Desired:
        plain = MAKE[guest](301)
        config = {**plain.config, **dict(fields.get("config", {}))}  # type: ignore[call-overload]
        return MAKE[guest](301, restart="allowed", **{**fields, "config": config})

    return Scenario(spec=SPEC, desired=[wanted(first)], then=[wanted({**first, **then})])


def _deaf(scenario: Scenario) -> Scenario:
    """The guest ignores a shutdown, so it has to be stopped."""

    def between(cluster: SimCluster) -> None:
        cluster.put({"vmid": 301, "acpi": False})

    return Scenario(spec=scenario.spec, desired=scenario.desired, then=scenario.then, between=between)


def _restored(guest: GuestType) -> Scenario:
    name = f"backup:backup/vzdump-{guest.value}-777-2026_01_01-02_00_00." + ("vma.zst" if guest is QEMU else "tar.zst")
    archive = {"storage": "backup", "volid": name, "vmid": 777, "type": guest.value}
    spec = {**SPEC, "backups": [archive]}
    return Scenario(spec=spec, desired=[MAKE[guest](301, source=Archive(volume=name), config={})])


def _of(guest: GuestType) -> dict[Kind, Scenario]:
    stopped, running = {"power": Power.STOPPED}, {"power": Power.RUNNING}
    return {
        Kind.CREATE: EMPTY_VM if guest is QEMU else CONTAINER,
        Kind.CLONE: CLONED_VM if guest is QEMU else CLONED_CT,
        Kind.RESTORE_NEW: _restored(guest),
        Kind.CONFIGURE: _changed(guest, {}, {"config": {"onboot": "1"}}),
        Kind.TAG: _changed(guest, {}, {"config": {"tags": "a;b"}}),
        Kind.POOL: _changed(guest, {}, {"pool": "prod"}),
        Kind.DETACH: _changed(guest, {**stopped, "config": EXTRA[guest]}, {"config": {DISK[guest]: ""}}),
        Kind.GROW: _changed(guest, {"config": SIZED[guest][0]}, {"config": SIZED[guest][1]}),
        Kind.START: _changed(guest, stopped, running),
        Kind.SHUTDOWN: _changed(guest, running, stopped),
        Kind.STOP: _deaf(_changed(guest, running, stopped)),
        Kind.REBOOT: _changed(guest, running, {"config": WAITS[guest]}),
        Kind.SNAPSHOT: _changed(guest, {}, {"snapshots": SnapshotPolicy(schedule="daily 02:00", keep=3)}),
        Kind.BACKUP: _changed(guest, {}, {"backups": BackupPolicy(storage="backup", schedule="daily 02:00", keep=3)}),
        Kind.MIGRATE: _changed(guest, running, {"node": NodeName("pve2")}),
        Kind.TEMPLATE: _changed(guest, stopped, {"template": True}),
    }


EXAMPLES: Mapping[GuestType, Mapping[Kind, Scenario]] = {guest: _of(guest) for guest in GuestType}


def _signed(
    guest: GuestType, ask: Ask, first: Mapping[str, object], then: Mapping[str, object], **put: object
) -> Scenario:
    """A guest for which people sign something; `put` is done to it by hand before, `then` is wanted afterwards."""

    def between(cluster: SimCluster) -> None:
        cluster.put({"vmid": 301, **put})

    return replace(_changed(guest, first, then), asked=ask, between=between if put else None)


def _signed_of(guest: GuestType) -> dict[Kind, Scenario]:
    """One-shots: those of destructive kinds, and signed forms of what the loop does within its rules too."""
    idle, stopped, running = {"power": Power.IGNORE}, {"power": Power.STOPPED}, {"power": Power.RUNNING}
    kept = {"snapshots": SnapshotPolicy(schedule="daily 02:00", keep=3)}
    archived = {"backups": BackupPolicy(storage="backup", schedule="daily 02:00", keep=3)}
    suffix = "vma.zst" if guest is QEMU else "tar.zst"
    archive = f"backup:backup/vzdump-{guest.value}-301-2026_01_01-02_00_00.{suffix}"
    volume = {"scsi0" if guest is QEMU else "rootfs": "local-lvm:vm-301-disk-0,size=4G"}
    spec = {"storage": "backup", "volid": archive, "vmid": 301, "type": guest.value, "config": volume}
    protected = {**stopped, "config": {"protection": "1"}}
    restore = _signed(guest, Ask(kind=Kind.RESTORE, params={"archive": archive}), stopped, {})
    unused = {"unused0": "local-lvm:vm-301-disk-7"}
    disk = "scsi1" if guest is QEMU else "unused0"
    with_disk = {**stopped, "config": EXTRA[QEMU]} if guest is QEMU else stopped
    more = {} if guest is QEMU else {"config": unused}
    return {
        Kind.DESTROY: replace(_signed(guest, Ask(kind=Kind.DESTROY), protected, {}), then=[]),
        Kind.ROLLBACK: _signed(
            guest, Ask(kind=Kind.ROLLBACK, params=lambda cluster: {"snapshot": cluster.snapshots(301)[0]}), kept, {}
        ),
        Kind.SNAPSHOT_DELETE: _signed(
            guest,
            Ask(kind=Kind.SNAPSHOT_DELETE, params=lambda cluster: {"snapshot": cluster.snapshots(301)[0]}),
            kept,
            {"snapshots": None},
        ),
        Kind.RESTORE: replace(restore, spec={**SPEC, "backups": [spec]}),
        Kind.DISK_REMOVE: _signed(
            guest, Ask(kind=Kind.DISK_REMOVE, params={"disk": disk}), with_disk, {"config": {}}, **more
        ),
        Kind.BACKUP_DELETE: _signed(
            guest,
            Ask(kind=Kind.BACKUP_DELETE, params=lambda cluster: {"volume": cluster.archives(301)[0]}),
            archived,
            {"backups": None},
        ),
        Kind.START: _signed(guest, Ask(kind=Kind.START), idle, {}),
        Kind.STOP: _signed(guest, Ask(kind=Kind.STOP), idle, {}, status="running"),
        Kind.SHUTDOWN: _signed(guest, Ask(kind=Kind.SHUTDOWN), idle, {}, status="running"),
        Kind.REBOOT: _signed(guest, Ask(kind=Kind.REBOOT), running, {}),
        Kind.MIGRATE: _signed(
            guest, Ask(kind=Kind.MIGRATE, params={"target": "pve2"}), stopped, {"node": NodeName("pve2")}
        ),
        Kind.TEMPLATE: _signed(guest, Ask(kind=Kind.TEMPLATE), stopped, {"template": True}),
    }


SIGNED: Mapping[GuestType, Mapping[Kind, Scenario]] = {guest: _signed_of(guest) for guest in GuestType}
"""The same for what people sign; here it is the request that takes an operation of its kind."""
