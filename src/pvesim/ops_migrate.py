"""Migration of guests between nodes.

Rule kept here: the guest belongs to the node whose folder has its config, and the config moves near the end in one
step, its lock with it; what fails before leaves the guest at home without a lock, what is killed leaves the lock
where the config is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest, Hand
from pvesim.ha_requests import request_move
from pvesim.kernel import Sleep, Steps
from pvesim.machine import Call, Machine
from pvesim.ops_power import START_S, start_work
from pvesim.ops_snapshot import migration_lock
from pvesim.properties import UNUSED, file_of, is_cdrom
from pvesim.storage import Volume
from pvesim.wire import ApiError, Json, bad_parameters, died
from pvesim.workers import Job, TaskError, Work, fork, reloaded, task_of_root

OFFLINE_S, ONLINE_S, DISK_S = 2.0, 6.0, 4.0
IN_ORDER = {"zfspool", "btrfs"}


@dataclass(slots=True, kw_only=True)
class Plan:
    """Where to, and how."""

    kind: str
    vmid: int
    target: str
    online: bool
    restart: bool
    with_disks: bool
    storage: str | None
    running: bool = False
    local: dict[str, Volume] = field(default_factory=dict[str, Volume])


def migrate(m: Machine, call: Call) -> Steps[Json]:
    """POST migrate; a guest under HA is moved by HA, and the task only asks for it."""
    plan = _checked(m, call)
    if m.ha.manages(plan.kind, plan.vmid):
        upid = yield from request_move(m, call, plan.target)
        return upid
    upid = yield from fork(m, call, work_of(m, call.node, plan))
    return upid


def _checked(m: Machine, call: Call) -> Plan:
    """The checks before the fork."""
    kind, target = call.guest_type, call.params["target"]
    if target == call.node:
        raise bad_parameters({"target": "target is local node."})
    m.cluster.need_quorum(call.node)
    if target not in m.cluster.nodes:
        raise died(f"no such cluster node '{target}'")
    guest = m.guests.need(kind, call.node, call.vmid)
    plan = plan_of(guest, target, online=call.flag("online"), restart=call.flag("restart"))
    plan.with_disks, plan.storage = call.flag("with-local-disks"), _mapped(call)
    if kind == "qemu":
        guest.need_unlocked()
        if guest.running and not plan.online:
            raise died("can't migrate running VM without --online")
    elif guest.running and not plan.online and not plan.restart:
        raise died("can't migrate running container without --online or --restart")
    if plan.storage is not None:
        call.who.need(f"/vms/{call.vmid}", "VM.Config.Disk")
        need_on(m, plan.storage, target)
        call.who.need(f"/storage/{plan.storage}", "Datastore.AllocateSpace")
        if ("images" if kind == "qemu" else "rootdir") not in m.storages.get(plan.storage).content:
            raise died(f"storage '{plan.storage}' does not support vm images")
    elif kind == "qemu":
        for volid in _volids(guest):
            need_on(m, volid.partition(":")[0], target)
    return plan


def plan_of(guest: Guest, target: str, *, online: bool, restart: bool) -> Plan:
    """A migration as HA asks for it, too."""
    return Plan(
        kind=guest.type, vmid=guest.vmid, target=target, online=online, restart=restart, with_disks=False, storage=None
    )


def work_of(m: Machine, node: str, plan: Plan) -> Work:
    """The migration as a task."""
    guest = m.guests.find(plan.kind, node, plan.vmid)
    seconds = ONLINE_S if guest is not None and guest.running else OFFLINE_S
    if guest is not None:
        seconds += DISK_S * sum(not m.storages.get(v.partition(":")[0]).shared for v in _volids(guest))
    return Work(
        type="qmigrate" if plan.kind == "qemu" else "vzmigrate", id=str(plan.vmid), seconds=seconds,
        body=lambda job: _worker(job, plan),
    )  # fmt: skip


def _mapped(call: Call) -> str | None:
    """The one storage that local disks go to; `1` means the same as here."""
    raw = call.params.get("targetstorage", call.params.get("target-storage"))
    return None if raw in {None, "1"} else raw


def need_on(m: Machine, storage: str, node: str) -> None:
    """A storage that has to be there on a node."""
    nodes = m.storages.get(storage).nodes
    if nodes is not None and node not in nodes:
        raise died(f"storage '{storage}' is not available on node '{node}'")


def _volids(guest: Guest) -> list[str]:
    """The disks of a guest, unused ones with them."""
    return [
        file_of(raw)
        for key, raw in sorted(guest.values.items())
        if (is_volume_key(guest.type, key) and (not is_cdrom(raw) or "cloudinit" in raw) and ":" in file_of(raw))
        or UNUSED.match(key)
    ]


def preconditions(m: Machine, call: Call) -> Json:
    """GET migrate."""
    m.cluster.need_quorum(call.node)
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    guest.need_unlocked()
    qemu = guest.type == "qemu"
    missing: dict[str, list[str]] = {
        node: sorted({
            name
            for name in (v.partition(":")[0] for v in _volids(guest))
            if (nodes := m.storages.get(name).nodes) is not None and node not in nodes
        })
        for node in m.cluster.nodes
        if node != call.node
    }  # fmt: skip
    allowed: list[Json] = [node for node, gone in missing.items() if not (qemu and gone)]
    if not qemu:
        return {"running": int(guest.running), "allowed-nodes": allowed, "not-allowed-nodes": {}}
    local: list[Json] = [
        {"volid": volid, "size": m.storages.need(volid, call.node).size, "cdrom": 0, "is_unused": int(unused)}
        for volid, unused in ((v, v in _unused(guest)) for v in _volids(guest))
        if not m.storages.get(volid.partition(":")[0]).shared
    ]
    return {
        "running": int(guest.running), "allowed_nodes": allowed,
        "not_allowed_nodes": {node: {"unavailable_storages": gone} for node, gone in missing.items() if gone},
        "local_disks": local, "local_resources": [], "mapped-resources": [], "mapped-resource-info": {},
        "has-dbus-vmstate": 1,
    }  # fmt: skip


def _unused(guest: Guest) -> set[str]:
    return {raw for key, raw in guest.values.items() if UNUSED.match(key)}


def _say(job: Job, level: str, text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.m.clock(job.node)))
    job.log(f"{stamp} {'' if level == 'info' else level.upper() + ': '}{text}")


def _worker(job: Job, plan: Plan) -> Steps[None]:
    m, began = job.m, job.m.now
    path = migration_lock(plan.vmid)
    got = yield from job.lock(path)
    if not got:
        raise TaskError(f"can't lock file '{path}' - got timeout")
    moved = False
    try:
        yield from job.flock(plan.kind, plan.vmid)
        yield from _leave(job, plan)
        moved = True
        yield from _arrive(job, plan)
    except (ApiError, TaskError) as error:
        if isinstance(error, TaskError) and error.partial:
            raise
        interrupted = isinstance(error, TaskError) and error.interrupt
        text = "interrupted by signal" if interrupted else error.text.rstrip("\n")
        if moved:
            _say(job, "err", text)
            _say(job, "err", f"migration finished with problems (duration {_duration(m.now - began)})")
            raise TaskError("migration problems") from error
        _come_back(job, plan)
        _say(job, "err", f"migration aborted (duration {_duration(m.now - began)}): {text}")
        raise TaskError("migration aborted") from error
    _say(job, "info", f"migration finished successfully (duration {_duration(m.now - began)})")


def _duration(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _leave(job: Job, plan: Plan) -> Steps[None]:
    """Everything up to the step in which the config moves."""
    m = job.m
    guest = reloaded(job, plan.kind, plan.vmid)
    plan.running = guest.running
    _prepare(m, guest, plan)
    if plan.kind == "lxc" and plan.running:
        _say(job, "info", f"shutdown CT {plan.vmid}")
        yield from job.work(0.2)
        m.guests.set_running(guest, None, job.hand)
    number = m.cluster.nodes[plan.target].number
    word = "VM" if plan.kind == "qemu" else "CT"
    _say(job, "info", f"starting migration of {word} {plan.vmid} to node '{plan.target}' (10.99.0.{number})")
    m.guests.set_lock(guest, "migrate", job.hand)
    _scan(job, guest, plan)
    if plan.kind == "qemu" and plan.running:
        _say(job, "info", f"starting VM {plan.vmid} on remote node '{plan.target}'")
        started = Work(type="qmstart", id=str(plan.vmid), seconds=START_S, body=_incoming)
        task_of_root(m, plan.target, started)
    yield from job.work(0.9)
    if not m.cluster.nodes[plan.target].online:
        raise TaskError(f"unable to connect to '{plan.target}'")
    _move(job, guest, plan)


def _incoming(job: Job) -> Steps[None]:
    """The start on the target: it waits for the memory of the guest, and is no start of its own."""
    yield from job.work(1.0)


def _prepare(m: Machine, guest: Guest, plan: Plan) -> None:
    if plan.kind == "lxc":
        guest.need_unlocked()
        if guest.running and plan.online:
            raise TaskError("lxc live migration is currently not implemented")
    else:
        guest.need_unlocked()
        if guest.running and not plan.online:
            raise TaskError("can't migrate running VM without --online")
        devices = sorted(key for key in guest.values if key.startswith(("hostpci", "usb")))
        if devices:
            raise TaskError(f"can't migrate VM which uses local devices: {', '.join(devices)}")
    for volid in _volids(guest):
        name = volid.partition(":")[0]
        need_on(m, name if m.storages.get(name).shared else plan.storage or name, plan.target)
    if not m.cluster.nodes[plan.target].online:
        raise TaskError("Can't connect to destination address using public key")


def _scan(job: Job, guest: Guest, plan: Plan) -> None:
    """Look at the local disks: which of them can go along."""
    m, wrong = job.m, dict[str, str]()
    word = "disk" if plan.kind == "qemu" else "volume"
    for volid in _volids(guest):
        if m.storages.get(volid.partition(":")[0]).shared:
            if plan.kind == "lxc":
                _say(job, "info", f"volume '{volid}' is on shared storage '{volid.partition(':')[0]}'")
            continue
        volume = plan.local[volid] = m.storages.need(volid, guest.node)
        _say(job, "info", f"found local {word} '{volid}' ({'unused' if volid in _unused(guest) else 'attached'})")
        if plan.kind == "qemu" and plan.running and not plan.with_disks and volid not in _unused(guest):
            wrong[volid] = "can't live migrate attached local disks without with-local-disks option"
        elif volume.snaps and plan.kind == "qemu" and plan.running:
            wrong[volid] = "online storage migration not possible if non-replicated snapshot exists"
        elif volume.snaps and m.storages.get(volid.partition(":")[0]).kind not in IN_ORDER:
            wrong[volid] = "non-migratable snapshot exists"
    for volid, why in sorted(wrong.items()):
        _say(job, "warn", f"can't migrate local {word} '{volid}': {why}")
    if wrong:
        short = "VM" if plan.kind == "qemu" else "CT"
        prefix = "Problem found while scanning volumes - " if plan.kind == "qemu" else ""
        raise TaskError(f"{prefix}can't migrate {short} - check log")


def _move(job: Job, guest: Guest, plan: Plan) -> None:
    """The disks are over there; the rename of the config is the moment at which the guest belongs to the target."""
    m, source = job.m, guest.node
    config = guest.config.copy()
    for volid in plan.local:
        fresh = m.storages.relocate(volid, source, plan.target, plan.storage, m.now)
        for values in (config.values, *config.snapshots.values()):
            for key, raw in values.items():
                if file_of(raw) == volid:
                    values[key] = raw.replace(volid, fresh, 1)
    m.guests.need_writable(source, guest.conf_name(), job.hand)
    m.guests.write(guest, config, job.hand)
    m.guests.move(guest, plan.target)  # here
    job.hand.touched()
    if guest.running:
        guest.pid = m.cluster.nodes[plan.target].fork_pid(m.rng)


def _arrive(job: Job, plan: Plan) -> Steps[None]:
    """The lock goes on the target; a container that was stopped for it starts there."""
    m = job.m
    yield from job.work(1.0)
    guest = m.guests.need(plan.kind, plan.target, plan.vmid)
    m.guests.set_lock(guest, None, Hand(pid=job.task.pid, row=job.hand.row))
    if plan.kind == "lxc" and plan.running:
        _say(job, "info", "start container on target node")
        task_of_root(m, plan.target, start_work("lxc", plan.vmid), hand=job.hand)
        yield Sleep(m.scaled(START_S))


def _come_back(job: Job, plan: Plan) -> None:
    """Nothing has moved: the lock goes, and a container that was stopped for it starts again."""
    m = job.m
    guest = m.guests.find(plan.kind, job.node, plan.vmid)
    if guest is None or not m.cluster.nodes[job.node].quorate:
        return
    if guest.lock == "migrate":
        _say(job, "info", "aborting phase 1 - cleanup resources")
        m.guests.set_lock(guest, None, job.hand)
    if plan.kind == "lxc" and plan.running and not guest.running:
        _say(job, "info", "start container on source node")
        m.guests.set_running(guest, m.cluster.nodes[job.node].fork_pid(m.rng), job.hand)
