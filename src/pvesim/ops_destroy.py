"""Destruction of guests.

Rule kept here: DELETE looks at protection and at nothing that could tell one incarnation from the next. The disks
go first, the config last, so that whatever stops a destroy in between leaves a guest without disks.
"""

from __future__ import annotations

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest
from pvesim.ha import PREFIX
from pvesim.kernel import Sleep, Steps
from pvesim.machine import Call, Machine
from pvesim.properties import UNUSED, file_of, is_cdrom
from pvesim.texts import Config
from pvesim.wire import ApiError, Json, died
from pvesim.workers import Job, TaskError, Work, fork, reloaded

DESTROY_S = 2.0
LAST_STUB_S = 0.02


def destroy(m: Machine, call: Call) -> Steps[Json]:
    """DELETE /nodes/N/{qemu,lxc}/V."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    _check(guest, call, used=m.ha.of(guest.type, guest.vmid) is not None)
    work = Work(
        type="qmdestroy" if call.guest_type == "qemu" else "vzdestroy",
        id=str(call.vmid),
        seconds=DESTROY_S,
        body=lambda job: _worker(job, call),
    )
    upid = yield from fork(m, call, work)
    return upid


def _check(guest: Guest, call: Call, *, used: bool) -> None:
    """The checks before the fork; a lock is looked at here for containers only."""
    guest.need_unprotected()
    word = "VM" if guest.type == "qemu" else "CT"
    if used and not call.flag("purge"):
        raise died(f"unable to remove {word} {guest.vmid} - used in HA resources and purge parameter not set.")
    if guest.type == "lxc":
        guest.need_unlocked()
        if guest.running and not call.flag("force"):
            raise died(f"unable to destroy CT {guest.vmid} - container is running")
    elif guest.running:
        raise died(f"VM {guest.vmid} is running - destroy failed")


def _worker(job: Job, call: Call) -> Steps[None]:
    m, kind, vmid = job.m, call.guest_type, call.vmid
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    _check(guest, call, used=m.ha.of(kind, vmid) is not None)
    if guest.lock != "suspended":
        guest.need_unlocked()
    if guest.running:
        m.guests.set_running(guest, None, job.hand)
    yield from job.work(0.4)
    volids = volumes_of(guest)
    if call.flag("destroy-unreferenced-disks"):
        volids += [volume.volid for volume in m.storages.owned(vmid) if volume.volid not in volids]
    _free(job, volids)
    yield from job.work(1.0)
    if call.flag("purge"):
        job.log(f"purging {'VM' if kind == 'qemu' else 'CT'} {vmid} from related configurations..")
        if m.ha.resources.pop(f"{PREFIX[kind]}:{vmid}", None) is not None:
            job.log(f"NOTE: removed {'VM' if kind == 'qemu' else 'CT'} {vmid} from HA resource configuration.")
    m.guests.write(guest, Config(values={"lock": "destroyed"}), job.hand)
    yield Sleep(LAST_STUB_S)
    m.tokens.access.forget_guest(vmid)
    m.guests.remove(guest, job.hand)


def volumes_of(guest: Guest) -> list[str]:
    """All volumes that its config names, those of snapshots and saved states with them."""
    found: dict[str, None] = {}
    for values in (guest.values, *guest.config.snapshots.values()):
        for key, raw in sorted(values.items()):
            disk = is_volume_key(guest.type, key) and not is_cdrom(raw) and not file_of(raw).startswith("/")
            if disk or UNUSED.match(key) or "cloudinit" in raw or key == "vmstate":
                found[file_of(raw)] = None
    return list(found)


def _free(job: Job, volids: list[str]) -> None:
    for volid in volids:
        found = job.m.storages.find(volid, job.node)
        if found is not None and job.m.storages.children(found):
            raise TaskError(f"base volume '{volid}' is still in use by linked cloned")
    for volid in volids:
        if not job.m.storages.free(volid, job.node):
            job.log(f"disk image '{volid}' does not exist")
        else:
            job.hand.touched()


def free_quietly(m: Machine, guest: Guest) -> None:
    """Free a guest's volumes as if somebody had removed it by hand."""
    for volume in m.storages.owned(guest.vmid):
        try:
            m.storages.free(volume.volid, guest.node if volume.place == "*" else volume.place)
        except ApiError:
            continue
