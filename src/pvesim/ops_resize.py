"""Growing a disk.

Rule kept here: the image is resized before the config is written, so a failure in between leaves them unequal;
QEMU looks at digest and lock inside the task, containers before the fork.
"""

from __future__ import annotations

from pvesim.guests import Guest
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_config import LXC_STALE, QEMU_STALE
from pvesim.properties import file_of, format_size, join, lookup, options_of, parse_size
from pvesim.wire import Json, died
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release, reloaded

RESIZE_S = 1.0


def resize(m: Machine, call: Call) -> Steps[Json]:
    """PUT /nodes/N/{qemu,lxc}/V/resize."""
    if call.guest_type == "lxc":
        key = yield from daemon_flock(m, call, "lxc", call.vmid)
        guest = m.guests.need("lxc", call.node, call.vmid)
        guest.need_unlocked()
        _check_digest(guest, call)
        _new_size(m, guest, call)
        release(m, call, key)
    work = Work(type="resize", id=str(call.vmid), seconds=RESIZE_S, body=lambda job: _worker(job, call))
    upid = yield from fork(m, call, work)
    return upid


def _check_digest(guest: Guest, call: Call) -> None:
    wanted = call.params.get("digest")
    if wanted and wanted != guest.digest:
        raise died(QEMU_STALE if guest.type == "qemu" else LXC_STALE)


def _new_size(m: Machine, guest: Guest, call: Call) -> int:
    """The wanted size in bytes, checked against the present one."""
    disk, wanted = call.params["disk"], call.params["size"]
    raw = guest.values.get(disk)
    if raw is None:
        raise died(f"disk '{disk}' does not exist")
    if lookup(raw, "media") == "cdrom":
        raise died("you can't resize a cdrom")
    now = m.storages.need(file_of(raw), guest.node).size
    size = now + parse_size(wanted) if wanted.startswith("+") else parse_size(wanted)
    if size < now:
        raise died("shrinking disks is not supported" if guest.type == "qemu" else "unable to shrink disk size")
    if size == now and guest.type == "lxc":
        raise died("disk is already at specified size")
    return size


def _worker(job: Job, call: Call) -> Steps[None]:
    m, disk = job.m, call.params["disk"]
    yield from job.flock(call.guest_type, call.vmid)
    guest = reloaded(job, call.guest_type, call.vmid)
    _check_digest(guest, call)
    guest.need_unlocked()
    size = _new_size(m, guest, call)
    raw = guest.values[disk]
    if size == m.storages.need(file_of(raw), guest.node).size:
        return
    if m.storages.need(file_of(raw), guest.node).format == "subvol":
        raise TaskError("can't resize this image format")
    yield from job.work(0.4)
    m.storages.need_room(
        file_of(raw).partition(":")[0],
        guest.node,
        file_of(raw).partition(":")[2],
        size - m.storages.need(file_of(raw), guest.node).size,
    )
    m.storages.resize(file_of(raw), guest.node, size)
    job.hand.touched()
    if not guest.running:
        job.log("Image resized.")
    yield from job.work(1.0)
    config = guest.config.copy()
    config.values[disk] = join(file_of(raw), options_of(raw, without=("size",)) | {"size": format_size(size)})
    m.guests.write(guest, config, job.hand)
