"""Reboot, reset, suspend, resume, and the way to a template.

Rule kept here: the task of a VM's reboot is its first half; the second is a start of root@pam which no task knows
of. A VM suspended to disk keeps its lock until it is started again: that is a state, not a leftover.
"""

from __future__ import annotations

import time
from functools import partial

from pvesim.guests import Guest
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_power import Ending, end_guest, start_work
from pvesim.ops_snapshot import save_state, vmstate_storage, volumes
from pvesim.wire import ApiError, Json, died
from pvesim.workers import Job, TaskError, Work, daemon_flock, flock_key, fork, release, reloaded, task_of_root

REBOOT_S, RESET_S, SUSPEND_S, TO_DISK_S, TEMPLATE_S = 3.0, 0.3, 0.3, 5.0, 1.0
EVENT_S = 1.0


def _running(m: Machine, call: Call) -> Guest:
    """The guest, which must run."""
    guest = m.guests.find(call.guest_type, call.node, call.vmid)
    if call.guest_type == "qemu" and guest is None:
        raise died(f"unable to find configuration file for VM {call.vmid} on node '{call.node}'")
    if guest is None or not guest.running:
        word = "VM" if call.guest_type == "qemu" or call.path.endswith("reboot") else "CT"
        raise died(f"{word} {call.vmid} not running")
    return guest


def reboot(m: Machine, call: Call) -> Steps[Json]:
    """POST status/reboot."""
    guest, qemu = _running(m, call), call.guest_type == "qemu"
    if guest.paused:
        raise died("VM is paused - cannot shutdown")
    timeout = float(call.params["timeout"]) if "timeout" in call.params else None
    ending = Ending(kind=guest.type, vmid=guest.vmid, verb="reboot", timeout=timeout, force=not qemu)
    work = Work(
        type="qmreboot" if qemu else "vzreboot", id=str(call.vmid), seconds=REBOOT_S,
        body=lambda job: _reboot(job, ending),
    )  # fmt: skip
    upid = yield from fork(m, call, work)
    return upid


def _reboot(job: Job, ending: Ending) -> Steps[None]:
    m, kind, vmid = job.m, ending.kind, ending.vmid
    guest = m.guests.find(kind, job.node, vmid)
    ran = guest is not None and guest.running
    yield from end_guest(job, ending)
    guest = m.guests.find(kind, job.node, vmid)
    if guest is None or not ran or guest.running:
        return
    if kind == "lxc":
        m.guests.set_running(guest, m.cluster.nodes[job.node].fork_pid(m.rng), job.hand)
        return
    m.kernel.at(m.now + m.scaled(EVENT_S), partial(_event, m, job.node, vmid))


def _event(m: Machine, node: str, vmid: int) -> None:
    """The daemon that watches VMs end sees the request for a reboot."""
    guest = m.guests.find("qemu", node, vmid)
    if guest is not None and not guest.running and m.cluster.nodes[node].online:
        task_of_root(m, node, start_work("qemu", vmid))


def reset(m: Machine, call: Call) -> Steps[Json]:
    """POST status/reset."""
    _running(m, call)
    upid = yield from fork(
        m, call, Work(type="qmreset", id=str(call.vmid), seconds=RESET_S, body=partial(_reset, call))
    )
    return upid


def _reset(call: Call, job: Job) -> Steps[None]:
    yield from job.flock("qemu", call.vmid)
    reloaded(job, "qemu", call.vmid).need_unlocked()
    yield from job.work(1.0)
    job.hand.touched()


def suspend(m: Machine, call: Call) -> Steps[Json]:
    """POST status/suspend: in memory, or with `todisk` to disk."""
    guest, to_disk = _running(m, call), call.flag("todisk")
    if call.guest_type == "lxc":
        work = Work(type="vzsuspend", id=str(call.vmid), seconds=SUSPEND_S, body=_no_criu)
        upid = yield from fork(m, call, work)
        return upid
    storage = call.params.get("statestorage") or vmstate_storage(m, guest)
    if to_disk:
        if m.ha.manages("qemu", call.vmid):
            raise died("Cannot suspend HA managed VM to disk")
        call.who.need(f"/vms/{call.vmid}", "VM.Config.Disk")
        call.who.need(f"/storage/{storage}", "Datastore.AllocateSpace")
    work = Work(
        type="qmsuspend" if to_disk else "qmpause", id=str(call.vmid), seconds=TO_DISK_S if to_disk else SUSPEND_S,
        body=lambda job: _to_disk(job, call, storage) if to_disk else _pause(job, call),
    )  # fmt: skip
    upid = yield from fork(m, call, work)
    return upid


def _no_criu(job: Job) -> Steps[None]:
    yield from job.work(1.0)
    raise TaskError("unable to find command 'lxc-checkpoint'")


def _pause(job: Job, call: Call) -> Steps[None]:
    yield from job.flock("qemu", call.vmid)
    guest = reloaded(job, "qemu", call.vmid)
    if guest.lock != "backup":
        guest.need_unlocked()
    yield from job.work(1.0)
    guest.paused = True
    job.hand.touched()


def _to_disk(job: Job, call: Call, storage: str) -> Steps[None]:
    m, vmid = job.m, call.vmid
    yield from job.flock("qemu", vmid)
    guest = reloaded(job, "qemu", vmid)
    if guest.lock == "backup":
        raise TaskError("cannot suspend to disk during backup")
    guest.need_unlocked()
    config = guest.config.copy()
    date = time.strftime("%Y-%m-%d", time.gmtime(m.clock(job.node)))
    config.values |= {
        "lock": "suspending", "vmstate": save_state(m, guest, f"suspend-{date}", storage),
        "runningmachine": "pc-i440fx-10.1+pve0",
    }  # fmt: skip
    m.guests.write(guest, config, job.hand)
    job.unlock("qemu", vmid)
    try:
        yield from job.work(0.9)
    except TaskError as error:
        if not error.partial:
            _forget_state(m, guest, job, lock="suspending")
        raise
    job.log("State saved, quitting")
    yield from job.flock("qemu", vmid)
    if guest.lock != "suspending":
        raise TaskError("lock changed unexpectedly")
    m.guests.set_running(guest, None, job.hand)
    m.guests.set_lock(guest, "suspended", job.hand)
    yield from job.work(1.0)


def _forget_state(m: Machine, guest: Guest, job: Job, *, lock: str | None) -> None:
    config = guest.config.copy()
    volid = config.values.pop("vmstate", None)
    config.values.pop("runningmachine", None)
    if lock is None:
        config.values.pop("lock", None)
    if volid is not None:
        m.storages.free(volid, guest.node)
    m.guests.write(guest, config, job.hand)


def resume(m: Machine, call: Call) -> Steps[Json]:
    """POST status/resume; a VM suspended to disk is started."""
    kind = call.guest_type
    if kind == "lxc":
        guest = m.guests.find(kind, call.node, call.vmid)
        if guest is not None and guest.running:
            raise died(f"CT {call.vmid} already running")
        work = Work(type="vzresume", id=str(call.vmid), seconds=SUSPEND_S, body=_no_criu)
    else:
        guest = m.guests.find(kind, call.node, call.vmid)
        started = start_work("qemu", call.vmid)
        asleep = guest is not None and guest.lock == "suspended"
        if not asleep:
            _running(m, call)
        body = started.body if asleep else partial(_resume, call)
        work = Work(type="qmresume", id=str(call.vmid), seconds=started.seconds if asleep else SUSPEND_S, body=body)
    upid = yield from fork(m, call, work)
    return upid


def _resume(call: Call, job: Job) -> Steps[None]:
    yield from job.flock("qemu", call.vmid)
    guest = reloaded(job, "qemu", call.vmid)
    if guest.template:
        raise TaskError(f"VM {call.vmid} is a template and cannot be resumed!")
    if guest.lock != "backup":
        guest.need_unlocked()
    yield from job.work(1.0)
    guest.paused = False
    job.hand.touched()


def _convertible(guest: Guest, *, one_disk: bool) -> None:
    """Why a guest cannot become a template."""
    word = "VM" if guest.type == "qemu" else "CT"
    guest.need_unlocked()
    if guest.config.snapshots:
        raise died(f"unable to create template, because {word} contains snapshots")
    if guest.template and not one_disk:
        raise died("you can't convert a template to a template")
    if guest.running:
        text = "VM is" if guest.type == "qemu" else "the CT is"
        raise died(f"you can't convert a {word} to template if {text} running")


def template(m: Machine, call: Call) -> Steps[Json]:
    """POST template: a container's task runs, but its UPID is not told."""
    kind, one_disk = call.guest_type, "disk" in call.params
    if kind == "qemu":
        _convertible(m.guests.need(kind, call.node, call.vmid), one_disk=one_disk)
        work = Work(
            type="qmtemplate",
            id=str(call.vmid),
            seconds=TEMPLATE_S,
            body=lambda job: _qemu(job, call, one_disk=one_disk),
        )
        upid = yield from fork(m, call, work)
        return upid
    key = yield from daemon_flock(m, call, kind, call.vmid)
    _convertible(m.guests.need(kind, call.node, call.vmid), one_disk=False)
    work = Work(type="vztemplate", id=str(call.vmid), seconds=TEMPLATE_S, body=lambda job: _lxc(job, call))
    yield from fork(m, call, work)
    if key == flock_key(call.node, kind, call.vmid):
        release(m, call, key)
    return None


def _bases(job: Job, guest: Guest, wanted: str | None) -> None:
    """Rename the disks one by one; the config is written after each of them."""
    m = job.m
    for key, volid in volumes(guest.type, guest.values):
        if wanted not in {None, key} or "base-" in volid:
            continue
        fresh = m.storages.make_base(volid, job.node)
        config = guest.config.copy()
        config.values[key] = config.values[key].replace(volid, fresh, 1)
        m.guests.write(guest, config, job.hand)


def _set_template(job: Job, guest: Guest) -> None:
    config = guest.config.copy()
    config.values["template"] = "1"
    job.m.guests.write(guest, config, job.hand)


def _qemu(job: Job, call: Call, *, one_disk: bool) -> Steps[None]:
    yield from job.flock("qemu", call.vmid)
    guest = reloaded(job, "qemu", call.vmid)
    _convertible(guest, one_disk=one_disk)
    _set_template(job, guest)
    yield from job.work(0.8)
    _bases(job, guest, call.params.get("disk"))
    yield from job.work(1.0)


def _lxc(job: Job, call: Call) -> Steps[None]:
    guest = reloaded(job, "lxc", call.vmid)
    yield from job.work(0.8)
    try:
        _bases(job, guest, None)
    except ApiError as error:
        raise TaskError(error.text.rstrip()) from error
    _set_template(job, guest)
    yield from job.work(1.0)
