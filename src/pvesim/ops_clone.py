"""Clones.

Rule kept here: a clone is known to the lists by its source; its target shows a lock and a placeholder until near
the end, and it carries the source's description, tags, protection and meta along unless the caller gave others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pvesim.allocation import Filling, is_volume_key, take_back
from pvesim.guests import Guest
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_create import drop_stub, reserve
from pvesim.properties import (
    NET,
    UNUSED,
    file_of,
    fill_lxc_net,
    fill_qemu_net,
    format_size,
    is_cdrom,
    join,
    new_uuid,
    options_of,
)
from pvesim.storage import Storage, Volume
from pvesim.texts import Config, clean_tags
from pvesim.wire import ApiError, Json, died, forbidden
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release

FULL_S = 10.0
LINKED_S = 1.0
FLOCK_S = 1.0
PLACEHOLDER = " qmclone temporary file"
NOT_CLONED = frozenset({
    "template", "lock", "parent", "snaptime", "snapstate", "vmstate", "runningmachine", "runningcpu",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is cloned to what."""

    source: Guest
    base: dict[str, str]
    pool: str | None
    newid: int
    target: str
    full: bool
    storage: str | None
    values: dict[str, str] = field(default_factory=dict[str, str])
    disks: dict[str, str] = field(default_factory=dict[str, str])


def clone(m: Machine, call: Call) -> Steps[Json]:
    """POST /nodes/N/{qemu,lxc}/V/clone."""
    kind, newid = call.guest_type, int(call.params["newid"])
    _allow(m, call, newid)
    source = m.guests.find(kind, call.node, call.vmid)
    if source is None:
        if kind == "qemu":
            raise died(f"unable to find configuration file for VM {call.vmid} on node '{call.node}'")
        source = m.guests.need(kind, call.node, call.vmid)
    m.cluster.need_quorum(call.node)
    plan = _plan(m, call, source, newid)
    if kind == "lxc":
        yield from _lock_container(m, call, plan)
    work = Work(
        type="qmclone" if kind == "qemu" else "vzclone",
        id=str(call.vmid),
        seconds=FULL_S if plan.full else LINKED_S,
        body=lambda job: _qemu_worker(job, plan) if kind == "qemu" else _lxc_worker(job, plan),
        undo=None if kind == "qemu" else lambda job: _unlock_container(job, plan),
    )
    upid = yield from fork(m, call, work)
    return upid


def _allow(m: Machine, call: Call, newid: int) -> None:
    """The rights on the new number or its pool, and on the storage."""
    pool = call.params.get("pool")
    if not call.who.may("VM.Allocate", path=f"/vms/{newid}") and not (
        pool is not None and call.who.may("VM.Allocate", path=f"/pool/{pool}")
    ):
        raise forbidden("")
    if pool is not None:
        m.tokens.access.need_pool(pool)
    if "storage" in call.params:
        call.who.need(f"/storage/{call.params['storage']}", "Datastore.AllocateSpace")


def _plan(m: Machine, call: Call, source: Guest, newid: int) -> Plan:
    """The checks before the fork, in PVE's order."""
    kind = source.type
    source.need_unlocked()
    base = source.values
    if "snapname" in call.params:
        base = source.config.snapshots.get(call.params["snapname"])
        if base is None:
            raise died(f"snapshot '{call.params['snapname']}' does not exist")
    target = call.params.get("target", call.node)
    if target not in m.cluster.nodes:
        raise died(f"no such cluster node '{target}'")
    storage = call.params.get("storage")
    full = call.flag("full") if "full" in call.params else not source.template
    plan = Plan(
        source=source, base=base, pool=call.params.get("pool"), newid=newid, target=target, full=full, storage=storage
    )
    plan.values = _values(m, call, plan)
    _check_target(m, call, plan)
    for key, raw in base.items():
        if is_volume_key(kind, key) and not is_cdrom(raw):
            _check_disk(m, call, plan, key)
    return plan


def _check_target(m: Machine, call: Call, plan: Plan) -> None:
    """Where the clone is to lie, and whether its number is free."""
    kind, storage = plan.source.type, plan.storage
    if storage is not None:
        defined = m.storages.need_content(storage, "images" if kind == "qemu" else "rootdir")
        if not plan.full:
            raise died("parameter 'storage' not allowed for linked clones")
        if plan.target != call.node and not defined.shared:
            raise died(f"can't clone to non-shared storage '{storage}'")
    if kind == "qemu" and m.guests.find("qemu", call.node, plan.newid) is not None:
        raise died(f"unable to create VM {plan.newid}: config file already exists")
    if kind == "lxc":
        m.guests.need_unused(plan.newid)
        if plan.full and plan.source.running and plan.base is plan.source.values:
            raise died("Cannot do full clones on a running container without snapshots")


def _check_disk(m: Machine, call: Call, plan: Plan, key: str) -> None:
    volid = file_of(plan.base[key])
    volume = m.storages.need(volid, call.node)
    plan.disks[key] = volid
    if not plan.full and "base-" not in volid:
        raise died(f"Linked clone feature is not supported for '{volid}' ({key})")
    place: Storage = m.storages.get(plan.storage or volume.volid.partition(":")[0])
    source_shared = m.storages.get(volid.partition(":")[0]).shared
    if plan.target != call.node and not (place.shared and source_shared):
        word = "VM" if plan.source.type == "qemu" else "CT"
        raise died(f"can't clone {word} to node '{plan.target}' ({word} uses local storage)")


def _values(m: Machine, call: Call, plan: Plan) -> dict[str, str]:
    """The target's config without its disks."""
    source, kind, values = plan.source, plan.source.type, dict[str, str]()
    for key, raw in plan.base.items():
        if key in NOT_CLONED or UNUSED.match(key) or is_volume_key(kind, key):
            continue
        if NET.match(key):
            renewed = fill_qemu_net if kind == "qemu" else fill_lxc_net
            values[key] = renewed(raw, m.rng, renew=True)
        else:
            values[key] = raw
    if kind == "qemu":
        rest = options_of(plan.base.get("smbios1", ""), without=("uuid",))
        values["smbios1"] = join(f"uuid={new_uuid(m.rng)}", rest)
        if "vmgenid" in values:
            values["vmgenid"] = new_uuid(m.rng)
        values["name"] = call.params.get("name", f"Copy-of-VM-{source.values.get('name', source.vmid)}")
    elif "hostname" in call.params:
        values["hostname"] = call.params["hostname"]
    if "description" in call.params:
        values["description"] = call.params["description"]
    if "tags" in values:
        values["tags"] = clean_tags(values["tags"])
    return values


def _copy_disks(job: Job, plan: Plan, filling: Filling) -> Steps[None]:
    """Copy or link one disk after the other, until nine tenths of the time have gone."""
    m, word = job.m, "drive" if plan.source.type == "qemu" else "mountpoint"
    done, share = job.progress, (0.9 - job.progress) / max(1, len(plan.disks))
    for key, volid in sorted(plan.disks.items()):
        base = m.storages.need(volid, job.node)
        job.log(f"create {'full' if plan.full else 'linked'} clone of {word} {key} ({volid})")
        volume = _new_volume(m, plan, base, job.node)
        filling.made.append(volume.volid)
        done += share
        yield from job.work(done)
        options = options_of(plan.base[key], without=("size",))
        plan.values[key] = join(volume.volid, options | {"size": format_size(base.size)})
    for key, raw in plan.base.items():
        if is_volume_key(plan.source.type, key) and is_cdrom(raw):
            plan.values[key] = _cdrom(m, plan, raw, job.node)


def _new_volume(m: Machine, plan: Plan, base: Volume, node: str) -> Volume:
    if not plan.full:
        return m.storages.linked(base, node, plan.newid, m.now)
    name = plan.storage or base.volid.partition(":")[0]
    form = base.format if base.format in {"qcow2", "subvol"} else "raw"
    return m.storages.allocate(name, node, plan.newid, base.size, m.now, form)


def _cdrom(m: Machine, plan: Plan, raw: str, node: str) -> str:
    """A cloud-init image is made anew, any other CD stays."""
    if "cloudinit" not in raw:
        return raw
    name = plan.storage or file_of(raw).partition(":")[0]
    drive = m.storages.add_named(name, node, f"vm-{plan.newid}-cloudinit", plan.newid, m.now)
    return join(drive.volid, options_of(raw))


def _qemu_worker(job: Job, plan: Plan) -> Steps[None]:
    m, source, newid = job.m, plan.source, plan.newid
    if m.is_9:
        job.log(f"creating a clone of VM {source.vmid} with ID {newid}")
    yield from job.flock("qemu", newid, FLOCK_S)
    holder = m.guests.guests.get(newid)
    if holder is not None and (holder.node, holder.type) == (job.node, "qemu"):
        raise TaskError(f"unable to create VM {newid}: config file already exists")
    if holder is not None:
        path = f"/etc/pve/nodes/{job.node}/qemu-server/{newid}.conf"
        raise TaskError(f"close (rename) atomic file '{path}' failed: File exists")
    stub = Config(values={"lock": "clone", "description": PLACEHOLDER})
    filling = Filling(m=m, guest_type="qemu", node=job.node, vmid=newid, log=job.log)
    guest = m.guests.create(Guest(vmid=newid, type="qemu", node=job.node, config=stub), job.hand)
    try:
        yield from job.flock("qemu", source.vmid, FLOCK_S, shared=not source.running)
        yield from job.work(0.1)
        yield from _copy_disks(job, plan, filling)
        m.guests.write(guest, Config(values=plan.values | {"lock": "clone"}), job.hand)
        yield from job.work(1.0)
        m.guests.write(guest, Config(values=plan.values), job.hand)
        m.tokens.access.put_in_pool(newid, plan.pool)
        if plan.target != job.node:
            m.guests.move(guest, plan.target)
    except (TaskError, ApiError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            take_back(filling)
            if m.cluster.nodes[job.node].quorate:
                m.guests.remove(guest, job.hand)
        interrupted = isinstance(error, TaskError) and error.interrupt
        text = "interrupted by signal" if interrupted else error.text.rstrip("\n")
        raise TaskError(f"clone failed: {text}") from error


def _lock_container(m: Machine, call: Call, plan: Plan) -> Steps[None]:
    """Before the fork: reserve the number, then lock the source."""
    stub = yield from reserve(m, call, "lxc", plan.newid)
    try:
        key = yield from daemon_flock(m, call, "lxc", plan.source.vmid)
        plan.source.need_unlocked()
        m.guests.set_lock(plan.source, "disk", call.hand())
    except ApiError:
        m.guests.remove(stub, call.hand())
        raise
    release(m, call, key)


def _unlock_container(job: Job, plan: Plan) -> None:
    if plan.source.lock == "disk":
        job.m.guests.set_lock(plan.source, None, job.hand)
    drop_stub(job, "lxc", plan.newid)


def _lxc_worker(job: Job, plan: Plan) -> Steps[None]:
    m, newid = job.m, plan.newid
    if m.is_9:
        job.log(f"creating a clone of container {plan.source.vmid} with ID {newid}")
    filling = Filling(m=m, guest_type="lxc", node=job.node, vmid=newid, log=job.log)
    try:
        yield from job.flock("lxc", newid)
        guest = m.guests.need("lxc", job.node, newid)
        yield from job.work(0.1)
        m.guests.write(guest, Config(values=plan.values | {"lock": "create"}), job.hand)
        yield from _copy_disks(job, plan, filling)
        yield from job.work(1.0)
        m.guests.write(guest, Config(values=plan.values), job.hand)
        m.tokens.access.put_in_pool(newid, plan.pool)
        if plan.target != job.node:
            m.guests.move(guest, plan.target)
        if plan.source.lock == "disk":
            m.guests.set_lock(plan.source, None, job.hand)
    except (TaskError, ApiError) as error:
        if not (isinstance(error, TaskError) and error.partial) and m.cluster.nodes[job.node].quorate:
            take_back(filling)
            _unlock_container(job, plan)
        interrupted = isinstance(error, TaskError) and error.interrupt
        text = "interrupted by signal" if interrupted else error.text.rstrip("\n")
        raise TaskError(f"clone failed: {text}") from error
