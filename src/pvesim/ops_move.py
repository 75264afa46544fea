"""Disks that move to another storage.

Rule kept here: the copy is made first and the config written when it is complete, so both exist for a while and a
killed move leaves the copy behind; a VM's move holds the lock file, a container's the config lock `disk`, which is
set before the fork.
"""

from __future__ import annotations

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest, keep_unused
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_config import LXC_STALE
from pvesim.ops_snapshot import volumes
from pvesim.properties import file_of, is_cdrom, join, options_of
from pvesim.storage import FILES, Volume
from pvesim.wire import ApiError, Json, bad_parameters, died, not_implemented
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release, reloaded

MOVE_S = 4.0


def move(m: Machine, call: Call) -> Steps[Json]:
    """POST move_disk of a VM, move_volume of a container."""
    if "target-vmid" in call.params:
        raise not_implemented("POST", f"{call.path} with target-vmid")
    if "storage" not in call.params:
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise bad_parameters({"target-vmid": text, "storage": text})
    call.who.need(f"/storage/{call.params['storage']}", "Datastore.AllocateSpace")
    if call.guest_type == "qemu":
        _checked(m, m.guests.need("qemu", call.node, call.vmid), call)
        work = Work(type="qmmove", id=str(call.vmid), seconds=MOVE_S, body=lambda job: _disk(job, call))
        upid = yield from fork(m, call, work)
        return upid
    key = yield from daemon_flock(m, call, "lxc", call.vmid)
    guest = m.guests.need("lxc", call.node, call.vmid)
    guest.need_unlocked()
    if guest.running:
        raise died("cannot move volumes of a running container")
    _checked(m, guest, call)
    m.guests.set_lock(guest, "disk", call.hand())
    release(m, call, key)
    work = Work(
        type="move_volume", id=str(call.vmid), seconds=MOVE_S, body=lambda job: _volume(job, call),
        undo=lambda job: _unlock(job, call),
    )  # fmt: skip
    upid = yield from fork(m, call, work)
    return upid


def _checked(m: Machine, guest: Guest, call: Call) -> Volume:
    """The volume that is to move, or why it cannot."""
    storage, key = call.params["storage"], call.params.get("disk", call.params.get("volume", ""))
    guest.need_unlocked()
    if call.params.get("digest") and call.params["digest"] != guest.digest:
        raise died(LXC_STALE)
    raw = guest.values.get(key)
    if not is_volume_key(guest.type, key):
        raise died(f"cannot move volume '{key}', only configured volumes can be moved to another storage")
    if raw is None:
        raise died(f"disk '{key}' does not exist" if guest.type == "qemu" else f"volume '{key}' does not exist")
    if is_cdrom(raw):
        raise died("you can't move a cdrom")
    volume = m.storages.need(file_of(raw), guest.node)
    wanted = call.params.get("format")
    if guest.type == "qemu" and volume.volid.partition(":")[0] == storage and wanted in {None, volume.format}:
        raise died("you can't move to the same storage with same format")
    content = "images" if guest.type == "qemu" else "rootdir"
    if content not in m.storages.get(storage).content:
        text = "vm images" if guest.type == "qemu" else "container directories"
        raise bad_parameters({"storage": f"storage '{storage}' does not support {text}"})
    held = any(volume.volid == v for snap in guest.config.snapshots.values() for _, v in volumes(guest.type, snap))
    if held and call.flag("delete"):
        what = "disk" if guest.type == "qemu" else "volume"
        raise died(f"you can't move a {what} with snapshots and delete the source")
    return volume


def _copy(job: Job, guest: Guest, call: Call, old: Volume) -> Steps[Volume]:
    storage = call.params["storage"]
    form = old.format if job.m.storages.get(storage).kind in FILES and old.format in {"qcow2", "subvol"} else "raw"
    form = call.params.get("format", form)
    fresh = job.m.storages.allocate(storage, job.node, guest.vmid, old.size, job.m.now, form)
    job.hand.touched()
    try:
        yield from job.work(0.9)
    except TaskError as error:
        if not error.partial:
            job.m.storages.free(fresh.volid, job.node)
        raise
    return fresh


def _switch(job: Job, guest: Guest, call: Call, old: Volume, fresh: Volume) -> str | None:
    """Write the config with the new volume; returns the key under which the old one is kept."""
    key = call.params.get("disk", call.params.get("volume", ""))
    config = guest.config.copy()
    config.values[key] = join(fresh.volid, options_of(guest.values[key], without=("format",)))
    kept = None if call.flag("delete") else keep_unused(config.values, old.volid)
    job.m.guests.write(guest, config, job.hand)
    return kept


def _disk(job: Job, call: Call) -> Steps[None]:
    m, key, storage = job.m, call.params["disk"], call.params["storage"]
    yield from job.flock("qemu", call.vmid)
    guest = reloaded(job, "qemu", call.vmid)
    old = _checked(m, guest, call)
    name = old.volid.partition(":")[0]
    job.log(f"copying volume '{old.volid}' from current storage '{name}' to target storage '{storage}'")
    job.log(f"create full clone of drive {key} ({old.volid})")
    try:
        fresh = yield from _copy(job, guest, call, old)
    except (ApiError, TaskError) as error:
        interrupted = isinstance(error, TaskError) and error.interrupt
        text = "interrupted by signal" if interrupted else error.text.rstrip("\n")
        raise TaskError(f"storage migration failed: {text}") from error
    job.log(f"allocated target volume '{fresh.volid}'")
    kept = _switch(job, guest, call, old, fresh)
    if kept is not None:
        job.log(f"adding source volume '{old.volid}' as '{kept}' to config")
    yield from job.work(1.0)
    if call.flag("delete"):
        job.log(f"removing source volume '{old.volid}' after successful copy")
        m.storages.free(old.volid, job.node)


def _unlock(job: Job, call: Call) -> None:
    guest = job.m.guests.find("lxc", job.node, call.vmid)
    if guest is not None and guest.lock == "disk" and job.m.cluster.nodes[job.node].quorate:
        job.m.guests.set_lock(guest, None, job.hand)


def _volume(job: Job, call: Call) -> Steps[None]:
    m = job.m
    guest = reloaded(job, "lxc", call.vmid)
    old = m.storages.need(file_of(guest.values[call.params["volume"]]), job.node)
    try:
        fresh = yield from _copy(job, guest, call, old)
        yield from job.flock("lxc", call.vmid)
        _switch(job, reloaded(job, "lxc", call.vmid), call, old, fresh)
        job.unlock("lxc", call.vmid)
        yield from job.work(1.0)
    except (ApiError, TaskError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            _unlock(job, call)
        raise
    if call.flag("delete"):
        m.storages.free(old.volid, job.node)
    _unlock(job, call)
