"""Snapshots: taken, changed, deleted, rolled back to.

Rule kept here: the config lock is held for the whole work and the lock file only while the config is written, in
PVE's order, so that whatever stops the work in between leaves lock and `snapstate` as PVE would.
"""

from __future__ import annotations

from collections.abc import Callable

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest, keep_unused
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_power import fork_start
from pvesim.properties import UNUSED, file_of, is_cdrom, new_uuid
from pvesim.texts import Config, typed
from pvesim.wire import ApiError, Json, died
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release, reloaded

SNAPSHOT_S = 2.0
NOT_COPIED = frozenset({"snapstate", "snaptime", "vmstate", "lock", "description"})
NOT_RESTORED = ("runningmachine", "runningcpu", "running-nets-host-mtu")
VMSTATE_MIB = 500
MIB = 1024**2


def volumes(guest_type: str, values: dict[str, str]) -> list[tuple[str, str]]:
    """The disks of a config that take part in a snapshot: key and volume."""
    return [
        (key, file_of(raw))
        for key, raw in sorted(values.items())
        if is_volume_key(guest_type, key) and not is_cdrom(raw) and not file_of(raw).startswith("/")
    ]


def copy_config(source: dict[str, str]) -> dict[str, str]:
    """What a snapshot keeps of a config, and what a rollback takes from it."""
    return {key: raw for key, raw in source.items() if key not in NOT_COPIED and not UNUSED.match(key)}


def index(m: Machine, call: Call) -> Json:
    """GET snapshot: the list, with `current` at its end."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    rows: list[Json] = []
    for name, values in guest.config.snapshots.items():
        row: dict[str, Json] = {
            "name": name, "snaptime": int(values.get("snaptime", "0")), "description": values.get("description", ""),
        }  # fmt: skip
        if guest.type == "qemu":
            row["vmstate"] = int("vmstate" in values)
        row |= {key: values[key] for key in ("parent", "snapstate") if key in values}
        rows.append(row)
    current: dict[str, Json] = {
        "name": "current", "digest": guest.digest, "running": int(guest.running), "description": "You are here!",
    }  # fmt: skip
    if "parent" in guest.values:
        current["parent"] = guest.values["parent"]
    return [*rows, current]


def commands(m: Machine, call: Call) -> Json:
    """GET snapshot/S: answers for snapshots that do not exist, too."""
    del m, call
    return [{"cmd": "rollback"}, {"cmd": "config"}]


def get_config(m: Machine, call: Call) -> Json:
    """GET snapshot/S/config."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    return typed(guest.type, need(guest, call.names["snapname"]))


def put_config(m: Machine, call: Call) -> Steps[Json]:
    """PUT snapshot/S/config: only its description can be changed."""
    if "description" not in call.params:
        return None
    key = yield from daemon_flock(m, call, call.guest_type, call.vmid)
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    guest.need_unlocked()
    need(guest, call.names["snapname"])
    config = guest.config.copy()
    config.snapshots[call.names["snapname"]]["description"] = call.params["description"]
    m.guests.write(guest, config, call.hand())
    release(m, call, key)
    return None


def need(guest: Guest, name: str) -> dict[str, str]:
    """A snapshot that must be there."""
    found = guest.config.snapshots.get(name)
    if found is None:
        raise died(f"snapshot '{name}' does not exist")
    return found


def feature(m: Machine, call: Call) -> Json:
    """GET feature."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    if "snapname" in call.params:
        need(guest, call.params["snapname"])
    has = True
    if call.params["feature"] == "snapshot":
        has = can_snapshot(m, guest)
    elif call.params["feature"] == "clone":
        has = all("base-" in volid for _, volid in volumes(guest.type, guest.values))
    return {"hasFeature": int(has), "nodes": list(m.cluster.nodes) if guest.type == "qemu" else [call.node]}


def can_snapshot(m: Machine, guest: Guest) -> bool:
    """Whether all its disks can be snapshotted."""
    return all(m.storages.can_snapshot(volid, guest.node) for _, volid in volumes(guest.type, guest.values))


def take(m: Machine, call: Call) -> Steps[Json]:
    """POST snapshot."""
    kind, name = call.guest_type, call.params["snapname"]
    if name == "current" or name.lower() == ("pending" if kind == "qemu" else "vzdump"):
        raise died(f"unable to use snapshot name '{name}' (reserved name)")
    if kind == "qemu":
        m.guests.need(kind, call.node, call.vmid)
    work = Work(
        type="qmsnapshot" if kind == "qemu" else "vzsnapshot",
        id=str(call.vmid),
        seconds=SNAPSHOT_S,
        body=lambda job: _take(job, call, name),
    )
    upid = yield from fork(m, call, work)
    return upid


def _take(job: Job, call: Call, name: str) -> Steps[None]:
    kind, vmid, done = call.guest_type, call.vmid, list[str]()
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    _prepare(job, guest, call, name)
    job.unlock(kind, vmid)
    try:
        if guest.running and kind == "qemu" and "vmstate" not in guest.config.snapshots[name]:
            job.log("skipping guest filesystem freeze - disabled in VM options")
        yield from job.work(0.4)
        for key, volid in volumes(kind, guest.config.snapshots[name]):
            if kind == "qemu":
                job.log(f"snapshotting 'drive-{key}' ({volid})")
                if guest.running:
                    job.log("internal qemu snapshot")
            job.m.storages.snapshot(volid, job.node, name)
            job.hand.touched()
            done.append(volid)
        yield from job.work(1.0)
    except (TaskError, ApiError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            job.log("snapshot create failed: starting cleanup")
            for volid in done:
                job.m.storages.unsnapshot(volid, job.node, name)
            _remove(job, guest, name, [])
        raise TaskError(f"{error.text.rstrip()} ") from error
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    if guest.lock != "snapshot":
        raise TaskError("missing snapshot lock")
    config = guest.config.copy()
    del config.values["lock"], config.snapshots[name]["snapstate"]
    config.values["parent"] = name
    job.m.guests.write(guest, config, job.hand)


def _prepare(job: Job, guest: Guest, call: Call, name: str) -> None:
    """Checks, then lock and snapshot are written together."""
    m = job.m
    if guest.template:
        raise TaskError("you can't take a snapshot if it's a template")
    guest.need_unlocked()
    if name in guest.config.snapshots:
        raise TaskError(f"snapshot name '{name}' already used")
    if not can_snapshot(m, guest):
        raise TaskError("snapshot feature is not available")
    config = guest.config.copy()
    snap = copy_config(config.values)
    if call.flag("vmstate") and guest.running and guest.type == "qemu":
        snap["vmstate"] = _vmstate(m, guest, name)
        snap["runningmachine"] = "pc-i440fx-10.1+pve0"
        job.log(f"saving VM state and RAM using storage '{snap['vmstate'].partition(':')[0]}'")
    snap["snapstate"], snap["snaptime"] = "prepare", str(int(m.clock(job.node)))
    if call.params.get("description"):
        snap["description"] = call.params["description"]
    config.values["lock"] = "snapshot"
    config.snapshots[name] = snap
    m.guests.write(guest, config, job.hand)


def vmstate_storage(m: Machine, guest: Guest) -> str:
    """Where a VM's memory is saved: as configured, else a shared storage that it uses, else any."""
    if "vmstatestorage" in guest.values:
        return guest.values["vmstatestorage"]
    used = [volid.partition(":")[0] for _, volid in volumes(guest.type, guest.values)]
    shared = [name for name in used if m.storages.get(name).shared]
    return next(iter([*shared, *used]), "local")


def _vmstate(m: Machine, guest: Guest, name: str) -> str:
    return save_state(m, guest, name, vmstate_storage(m, guest))


def save_state(m: Machine, guest: Guest, name: str, storage: str) -> str:
    """Allocate a volume for the memory of a VM."""
    size = guest.maxmem() * 2 + VMSTATE_MIB * MIB
    m.storages.need_room(storage, guest.node, f"vm-{guest.vmid}-state-{name}", size)
    made = m.storages.add_named(storage, guest.node, f"vm-{guest.vmid}-state-{name}", guest.vmid, m.now)
    m.storages.resize(made.volid, guest.node, size)
    return made.volid


def _remove(job: Job, guest: Guest, name: str, unused: list[str]) -> None:
    """Take the snapshot out of the config, lock with it; its children get its parent."""
    config = guest.config.copy()
    gone = config.snapshots.pop(name)
    for values in (config.values, *config.snapshots.values()):
        if values.get("parent") == name:
            del values["parent"]
            if "parent" in gone:
                values["parent"] = gone["parent"]
    config.values.pop("lock", None)
    for volid in unused:
        keep_unused(config.values, volid)
    job.m.guests.write(guest, config, job.hand)


def migration_lock(vmid: int) -> str:
    """The lock file that keeps replication and migration away."""
    return f"/var/lock/pve-manager/pve-migrate-{vmid}"


def delete(m: Machine, call: Call) -> Steps[Json]:
    """DELETE snapshot/S."""
    kind = call.guest_type
    work = Work(
        type="qmdelsnapshot" if kind == "qemu" else "vzdelsnapshot",
        id=str(call.vmid),
        seconds=SNAPSHOT_S,
        body=lambda job: _delete(job, call),
    )
    upid = yield from fork(m, call, work)
    return upid


def _delete(job: Job, call: Call) -> Steps[None]:
    m, kind, vmid, name = job.m, call.guest_type, call.vmid, call.names["snapname"]
    if not call.flag("force"):
        got = yield from job.lock(migration_lock(vmid))
        if not got:
            raise TaskError("Failed to obtain guest migration lock - replication running?")
    need(reloaded(job, kind, vmid), name)
    yield from _under_flock(job, call, _lock_for_delete)
    yield from _under_flock(job, call, _mark_deleted)
    yield from job.work(0.3)
    guest = reloaded(job, kind, vmid)
    unused: list[str] = []
    state = guest.config.snapshots[name].get("vmstate")
    if state is not None:
        m.storages.free(state, job.node)
        yield from _drop_key(job, call, "vmstate")
    for key, volid in volumes(kind, guest.config.snapshots[name]):
        m.storages.unsnapshot(volid, job.node, name)
        job.hand.touched()
        unused.append(volid)
        yield from _drop_key(job, call, key)
    yield from job.work(1.0)
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    _expect_lock(guest)
    need(guest, name)
    _remove(job, guest, name, unused)


def _expect_lock(guest: Guest) -> None:
    if guest.lock != "snapshot-delete":
        raise TaskError("encountered invalid lock, expected 'snapshot-delete'")


def _under_flock(job: Job, call: Call, step: Callable[[Job, Guest, str], None]) -> Steps[None]:
    """One write of the config, with the lock file held for it alone."""
    yield from job.flock(call.guest_type, call.vmid)
    step(job, reloaded(job, call.guest_type, call.vmid), call.names["snapname"])
    job.unlock(call.guest_type, call.vmid)


def _lock_for_delete(job: Job, guest: Guest, name: str) -> None:
    del name
    guest.need_unlocked()
    job.m.guests.set_lock(guest, "snapshot-delete", job.hand)


def _mark_deleted(job: Job, guest: Guest, name: str) -> None:
    _expect_lock(guest)
    if guest.template:
        raise TaskError("you can't delete a snapshot if vm is a template")
    need(guest, name)
    config = guest.config.copy()
    config.snapshots[name]["snapstate"] = "delete"
    job.m.guests.write(guest, config, job.hand)


def _drop_key(job: Job, call: Call, key: str) -> Steps[None]:
    """Without `force` the snapshot's config shows how far the deletion has come."""
    if call.flag("force"):
        return

    def drop(job: Job, guest: Guest, name: str) -> None:
        config = guest.config.copy()
        raw = config.snapshots[name].pop(key, None)
        if raw is not None and key != "vmstate":
            keep_unused(config.snapshots[name], file_of(raw))
        job.m.guests.write(guest, config, job.hand)

    yield from _under_flock(job, call, drop)


def rollback(m: Machine, call: Call) -> Steps[Json]:
    """POST snapshot/S/rollback."""
    kind = call.guest_type
    if call.flag("start") and kind == "qemu":
        call.who.need(f"/vms/{call.vmid}", "VM.PowerMgmt")
    work = Work(
        type="qmrollback" if kind == "qemu" else "vzrollback",
        id=str(call.vmid),
        seconds=SNAPSHOT_S,
        body=lambda job: _rollback(job, call),
    )
    upid = yield from fork(m, call, work)
    return upid


def _rollback(job: Job, call: Call) -> Steps[None]:
    m, kind, vmid, name = job.m, call.guest_type, call.vmid, call.names["snapname"]
    path = migration_lock(vmid)
    got = yield from job.lock(path)
    if not got:
        raise TaskError(f"can't lock file '{path}' - got timeout")
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    snap = _need_complete(job, guest, name)
    guest.need_unlocked()
    if guest.running:
        m.guests.set_running(guest, None, job.hand)
    m.guests.set_lock(guest, "rollback", job.hand)
    job.unlock(kind, vmid)
    yield from job.work(0.5)
    for _, volid in volumes(kind, snap):
        m.storages.need(volid, job.node)
        job.hand.touched()
    yield from job.work(1.0)
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    snap = _need_complete(job, guest, name)
    if guest.running:
        raise TaskError(f"unable to rollback vm {vmid}: vm is running")
    if guest.lock != "rollback":
        raise TaskError("got wrong lock")
    m.guests.write(guest, _rolled_back(m, guest, name), job.hand)
    if "vmstate" in snap:
        m.guests.set_running(guest, m.cluster.nodes[job.node].fork_pid(m.rng), job.hand)
    job.unlock(kind, vmid)
    if call.flag("start") and not guest.running:
        fork_start(job, kind, vmid)


def _need_complete(job: Job, guest: Guest, name: str) -> dict[str, str]:
    if guest.template:
        raise TaskError("you can't rollback if vm is a template")
    snap = need(guest, name)
    for _, volid in volumes(guest.type, snap):
        job.m.storages.need_newest(volid, job.node, name)
    if "snapstate" in snap:
        raise TaskError(f"unable to rollback to incomplete snapshot (snapstate = {snap['snapstate']})")
    return snap


def _rolled_back(m: Machine, guest: Guest, name: str) -> Config:
    """The config after a rollback: description and unused disks stay, all else is the snapshot's."""
    snap = guest.config.snapshots[name]
    config = Config(snapshots=guest.config.copy().snapshots)
    kept = {key: raw for key, raw in guest.values.items() if UNUSED.match(key) or key == "description"}
    config.values = kept | copy_config(snap)
    for key in NOT_RESTORED:
        config.values.pop(key, None)
    used = {volid for _, volid in volumes(guest.type, snap)}
    for _, volid in volumes(guest.type, guest.values):
        if volid not in used:
            keep_unused(config.values, volid)
    config.values["parent"] = name
    if guest.type == "qemu" and "vmgenid" in config.values:
        config.values["vmgenid"] = new_uuid(m.rng)
    return config
