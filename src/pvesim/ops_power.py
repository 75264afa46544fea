"""Start, stop and shutdown.

Rule kept here: QEMU checks inside the task and takes a stop of a stopped guest for success; containers are
checked before the fork. A shutdown holds the guest's lock file for as long as it waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest, Hand
from pvesim.ha_requests import request_start, request_stop
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.properties import file_of
from pvesim.texts import Config
from pvesim.wire import Json, bad_parameters, died
from pvesim.workers import Job, TaskError, Work, enter, fork, launch, new_task, reloaded

START_S = 1.0
STOP_S = 1.0
SHUTDOWN_S = 2.0
SHUTDOWN_TIMEOUT_S = 60.0


def start(m: Machine, call: Call) -> Steps[Json]:
    """POST status/start."""
    m.cluster.need_quorum(call.node)
    if m.ha.manages(call.guest_type, call.vmid):
        upid = yield from request_start(m, call)
        return upid
    guest = m.guests.find(call.guest_type, call.node, call.vmid)
    if call.guest_type == "lxc" and guest is not None and guest.running:
        raise died(f"CT {call.vmid} already running")
    upid = yield from fork(m, call, start_work(call.guest_type, call.vmid))
    return upid


def start_work(kind: str, vmid: int) -> Work:
    """The start of a guest as a task."""
    name = "qmstart" if kind == "qemu" else "vzstart"
    return Work(type=name, id=str(vmid), seconds=START_S, body=lambda job: _start(job, kind, vmid))


def _start(job: Job, kind: str, vmid: int) -> Steps[None]:
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    if guest.template:
        raise TaskError(f"you can't start a {'vm' if kind == 'qemu' else 'CT'} if it's a template")
    if guest.lock != "suspended":
        guest.need_unlocked()
    if guest.running:
        raise TaskError(f"{'VM' if kind == 'qemu' else 'CT'} {vmid} already running")
    for key, raw in sorted(guest.values.items()):
        if is_volume_key(kind, key) and file_of(raw).partition(":")[0] in job.m.storages.defined:
            job.m.storages.need(file_of(raw), job.node)
    job.orphan = partial(_running, job.m, guest, job.hand)
    yield from job.work(0.2)
    config = guest.config.copy()
    config.apply_pending()
    state = config.values.pop("vmstate", None)
    if state is not None or guest.lock == "suspended":
        job.log("Resuming suspended VM")
        config.values.pop("runningmachine", None)
        config.values.pop("lock", None)
    yield from job.work(1.0)
    if raw_changed(guest, config):
        job.m.guests.write(guest, config, job.hand)
    if state is not None:
        job.m.storages.free(state, job.node)
    _running(job.m, guest, job.hand)


def raw_changed(guest: Guest, config: Config) -> bool:
    """Whether a start has something to write."""
    return config.values != guest.values or bool(guest.config.pending or guest.config.pending_delete)


def fork_start(job: Job, kind: str, vmid: int) -> None:
    """Start a guest from inside another task: a second task, in the name of the same user."""
    work = start_work(kind, vmid)
    task = new_task(job.m, job.node, work, job.task.user)
    launch(job.m, task, work, hand=job.hand)
    enter(job.m, task)


def _running(m: Machine, guest: Guest, hand: Hand) -> None:
    """The guest's process runs: the effect of a start."""
    if m.guests.guests.get(guest.vmid) is guest and not guest.running:
        m.guests.set_running(guest, m.cluster.nodes[guest.node].fork_pid(m.rng), hand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a guest is to end."""

    kind: str
    vmid: int
    verb: str
    timeout: float | None = None
    force: bool = False
    overrule: bool = False


def stop(m: Machine, call: Call) -> Steps[Json]:
    """POST status/stop."""
    if m.ha.manages(call.guest_type, call.vmid):
        if call.flag("overrule-shutdown"):
            raise bad_parameters({"overrule-shutdown": "Not applicable for HA resources."})
        upid = yield from request_stop(m, call, 0)
        return upid
    upid = yield from _end(m, call, "stop")
    return upid


def shutdown(m: Machine, call: Call) -> Steps[Json]:
    """POST status/shutdown."""
    if m.ha.manages(call.guest_type, call.vmid):
        upid = yield from request_stop(m, call, int(call.params.get("timeout", "60")))
        return upid
    upid = yield from _end(m, call, "shutdown")
    return upid


def _end(m: Machine, call: Call, verb: str) -> Steps[str]:
    kind, vmid = call.guest_type, call.vmid
    guest = m.guests.find(kind, call.node, vmid)
    if kind == "lxc" and (guest is None or not guest.running):
        raise died(f"CT {vmid} not running")
    timeout = float(call.params["timeout"]) if "timeout" in call.params else None
    ending = Ending(
        kind=kind, vmid=vmid, verb=verb, timeout=timeout, force=call.flag("forceStop"),
        overrule=call.flag("overrule-shutdown"),
    )  # fmt: skip
    upid = yield from fork(m, call, end_work(ending))
    return upid


def end_work(ending: Ending) -> Work:
    """A stop or a shutdown as a task."""
    return Work(
        type=("qm" if ending.kind == "qemu" else "vz") + ending.verb,
        id=str(ending.vmid),
        seconds=STOP_S if ending.verb == "stop" else SHUTDOWN_S,
        body=lambda job: end_guest(job, ending),
    )


def end_guest(job: Job, ending: Ending) -> Steps[None]:
    """What such a task does."""
    m, kind, vmid = job.m, ending.kind, ending.vmid
    guest = m.guests.find(kind, job.node, vmid)
    if guest is None:
        raise TaskError(f"unable to find configuration file for VM {vmid} on node '{job.node}'")
    if not guest.running:
        yield from job.work(0.02)
        return
    if ending.verb == "stop" and ending.overrule:
        _overrule(job, kind, vmid)
    yield from job.flock(kind, vmid)
    guest = reloaded(job, kind, vmid)
    if not guest.running:
        return
    guest.need_unlocked()
    if ending.verb != "stop" and not guest.acpi:
        yield from _ignored(job, ending)
    yield from job.work(1.0)
    if guest.running:
        m.guests.set_running(guest, None, job.hand)
    if guest.config.pending or guest.config.pending_delete:
        config = guest.config.copy()
        config.apply_pending()
        m.guests.write(guest, config, job.hand)


def _ignored(job: Job, ending: Ending) -> Steps[None]:
    """The guest does not react: wait, then give up or pull the plug."""
    job.seconds = ending.timeout if ending.timeout is not None else SHUTDOWN_TIMEOUT_S
    yield from job.work(1.0)
    if not ending.force:
        raise TaskError("VM quit/powerdown failed - got timeout")
    job.log("VM quit/powerdown failed - terminating now with SIGTERM")


def _overrule(job: Job, kind: str, vmid: int) -> None:
    """Interrupt the shutdown tasks of the same caller that run on this guest."""
    name = "qmshutdown" if kind == "qemu" else "vzshutdown"
    mine = [
        task
        for task in job.m.tasks[job.node].active
        if (task.type, task.id, task.user) == (name, str(vmid), job.task.user) and task.exitstatus is None
    ]
    if mine:
        job.log(f"overruled {name} tasks: {', '.join(task.upid for task in mine)}")
    for task in mine:
        job.m.kernel.interrupt(job.m.running[task.upid], TaskError("received interrupt", interrupt=True))
