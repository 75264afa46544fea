"""Restores: `qmrestore` and `vzrestore`, to a new number or over a guest.

Rule kept here: what the archive holds comes back with everything in it, description, tags and identifiers included;
a VM's generation id is always renewed. A VM's old disks go before the new ones are made, a container's after, and
a restore that failed or was killed leaves what PVE leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pvesim.allocation import Filling, fill, is_volume_key, take_back
from pvesim.guests import Guest
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_backup import restorable
from pvesim.ops_destroy import volumes_of
from pvesim.ops_power import fork_start
from pvesim.properties import (
    NET,
    file_of,
    fill_lxc_net,
    fill_qemu_net,
    format_size,
    is_cdrom,
    join,
    new_uuid,
    options_of,
)
from pvesim.storage import Archive, Volume
from pvesim.texts import Config
from pvesim.wire import ApiError, Json, bad_parameters, died, not_implemented
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release, reloaded

RESTORE_S = 5.0
LOCK_S = 5.0


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is restored where; `existed` says that a guest is overwritten."""

    kind: str
    vmid: int
    volid: str
    storage: str | None
    unique: bool
    start: bool
    pool: str | None
    given: dict[str, str]
    existed: bool = False
    old: list[str] = field(default_factory=list[str])
    changed: bool = False


def restore_qemu(m: Machine, call: Call, given: dict[str, str]) -> Steps[Json]:
    """POST qemu with `archive`."""
    plan = _plan(call, "qemu", call.params["archive"], given)
    if call.flag("live-restore"):
        raise not_implemented("POST", f"{call.path} with live-restore")
    for key in sorted(given):
        if is_volume_key("qemu", key):
            raise bad_parameters({key: "option conflicts with option 'archive'"})
    need_access(m, call, plan.volid, plan.vmid)
    m.storages.archive(plan.volid, call.node)
    emsg = f"unable to restore VM {plan.vmid} -"
    try:
        yield from _lock(m, call, plan, force=call.flag("force"))
    except ApiError as error:
        raise died(f"{emsg} {error.text.rstrip()}") from error
    work = Work(
        type="qmrestore", id=str(plan.vmid), seconds=RESTORE_S,
        body=lambda job: _qemu(job, plan, emsg), undo=lambda job: _unlock(job, plan),
    )  # fmt: skip
    upid = yield from fork(m, call, work)
    return upid


def restore_lxc(m: Machine, call: Call, given: dict[str, str]) -> Steps[Json]:
    """POST lxc with `restore`."""
    plan = _plan(call, "lxc", call.params["ostemplate"], given)
    force = call.flag("force")
    guest = m.guests.find("lxc", call.node, plan.vmid)
    if guest is None or not force:
        m.guests.need_unused(plan.vmid)
    else:
        need_stopped(guest)
        if guest.values.get("protection") == "1":
            raise died(f"unable to restore CT {plan.vmid} - protection mode enabled")
    need_access(m, call, plan.volid, plan.vmid)
    if "rootfs" not in given and any(is_volume_key("lxc", key) for key in given):
        raise died("mount points configured, but 'rootfs' not set - aborting")
    emsg = f"unable to restore CT {plan.vmid} -"
    try:
        yield from _lock(m, call, plan, force=force)
    except ApiError as error:
        raise died(f"{emsg} {error.text.rstrip()}") from error
    work = Work(
        type="vzrestore", id=str(plan.vmid), seconds=RESTORE_S,
        body=lambda job: _lxc(job, plan, emsg), undo=lambda job: _unlock(job, plan),
    )  # fmt: skip
    upid = yield from fork(m, call, work)
    return upid


def need_stopped(guest: Guest) -> None:
    """A running container is not overwritten."""
    if guest.running:
        raise died("can't overwrite running container")


def _plan(call: Call, kind: str, volid: str, given: dict[str, str]) -> Plan:
    return Plan(
        kind=kind, vmid=int(call.params["vmid"]), volid=volid, storage=call.params.get("storage"),
        unique=call.flag("unique"), start=call.flag("start"), pool=call.params.get("pool"), given=given,
    )  # fmt: skip


def need_access(m: Machine, call: Call, volid: str, vmid: int | None) -> None:
    """The right to read a backup: that of its guest, or of the whole storage."""
    name, _, rest = volid.partition(":")
    m.storages.get(name)
    if not rest.startswith("backup/"):
        raise died(f"unable to use volume {volid} - content type needs to be 'backup'")
    if call.who.may("Datastore.Allocate", path=f"/storage/{name}"):
        return
    found = m.storages.find(volid, call.node)
    if found is not None and found.vmid is not None and found.vmid != vmid:
        call.who.need(f"/storage/{name}", "Datastore.AllocateSpace")
        call.who.need(f"/vms/{found.vmid}", "VM.Backup")


def _lock(m: Machine, call: Call, plan: Plan, *, force: bool) -> Steps[None]:
    """Before the fork: a stub, or the lock `create` on the guest that is to be overwritten."""
    key = yield from daemon_flock(m, call, plan.kind, plan.vmid, LOCK_S)
    guest = m.guests.find(plan.kind, call.node, plan.vmid)
    if guest is None:
        holder = m.guests.guests.get(plan.vmid)
        if holder is not None and force:
            folder = "qemu-server" if plan.kind == "qemu" else "lxc"
            path = f"/etc/pve/nodes/{call.node}/{folder}/{plan.vmid}.conf"
            raise died(f"close (rename) atomic file '{path}' failed: File exists")
        m.guests.need_unused(plan.vmid)
        stub = Guest(vmid=plan.vmid, type=plan.kind, node=call.node, config=Config(values={"lock": "create"}))
        m.guests.create(stub, call.hand())
    else:
        if not force:
            m.guests.need_unused(plan.vmid)
        guest.need_unlocked()
        plan.existed = True
        m.guests.set_lock(guest, "create", call.hand())
    release(m, call, key)


def _unlock(job: Job, plan: Plan) -> None:
    guest = job.m.guests.find(plan.kind, job.node, plan.vmid)
    if guest is None or guest.lock != "create":
        return
    if plan.existed or plan.kind == "qemu":
        job.m.guests.set_lock(guest, None, job.hand)
    else:
        job.m.guests.remove(guest, job.hand)


def _qemu(job: Job, plan: Plan, emsg: str) -> Steps[None]:
    m, vmid = job.m, plan.vmid
    filling = Filling(m=m, guest_type="qemu", node=job.node, vmid=vmid, log=job.log)
    try:
        guest = _replaceable(job, vmid, emsg)
        yield from job.flock("qemu", vmid, 1.0)
        volume, archive = m.storages.archive(plan.volid, job.node)
        need_type(archive, "qemu", volume)
        job.log(f"restore vma archive: vma extract -v -r /var/tmp/vzdumptmp{job.task.pid}.fifo {_file(volume)}")
        yield from job.work(0.2)
        _drop_old(job, plan, guest)
        disks = _disks(filling, plan, archive)
        yield from job.work(0.95)
        values = _merged(m, plan, archive, disks)
        m.guests.write(guest, Config(values=values), job.hand)
        m.tokens.access.put_in_pool(vmid, plan.pool)
        yield from job.work(1.0)
    except (ApiError, TaskError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            take_back(filling)
            _unlock(job, plan)
            job.log(
                "error before or during data restore, some or all disks were not completely restored."
                f" VM {vmid} state is NOT cleaned up."
            )
        interrupted = isinstance(error, TaskError) and error.interrupt
        raise TaskError("interrupted by signal" if interrupted else error.text.rstrip("\n")) from error
    if plan.start:
        job.log("Execute autostart")
        fork_start(job, "qemu", vmid)


def _replaceable(job: Job, vmid: int, emsg: str) -> Guest:
    guest = reloaded(job, "qemu", vmid)
    if guest.values.get("protection") == "1":
        raise TaskError(f"{emsg} - protection mode enabled")
    if guest.running:
        raise TaskError(f"{emsg} vm is running")
    return guest


def need_type(archive: Archive, kind: str, volume: Volume) -> None:
    """A VM's archive makes no container."""
    if archive.guest_type != kind:
        raise TaskError(f"unable to read '{_file(volume)}' - wrong type of archive")


def _file(volume: Volume) -> str:
    name, _, rest = volume.volid.partition(":")
    folder = "/var/lib/vz" if name == "local" else f"/mnt/pve/{name}"
    return f"{folder}/dump/{rest.rpartition('/')[2]}"


def _drop_old(job: Job, plan: Plan, guest: Guest) -> None:
    """The overwritten VM: its config is a stub from here on, without a lock, and its disks are gone."""
    if not plan.existed:
        return
    old = volumes_of(guest)
    job.m.guests.write(guest, Config(values={"memory": "128"}), job.hand)
    for volid in old:
        job.m.storages.free(volid, job.node)


def _disks(filling: Filling, plan: Plan, archive: Archive) -> dict[str, str]:
    """New volumes for those in the archive: where they were, or on the storage that was given."""
    m, made = filling.m, dict[str, str]()
    for key in sorted(archive.sizes):
        raw = archive.values[key]
        old = file_of(raw)
        name = plan.storage or old.partition(":")[0]
        if filling.content not in m.storages.get(name).content:
            raise TaskError(f"Content type '{filling.content}' is not available on storage '{name}'")
        form = "qcow2" if old.endswith(".qcow2") else "subvol" if old.endswith(".subvol") else "raw"
        volume = m.storages.allocate(name, filling.node, plan.vmid, archive.sizes[key], m.now, form)
        filling.made.append(volume.volid)
        if plan.kind == "qemu":
            filling.log(f"new volume ID is '{volume.volid}'")
        made[key] = join(volume.volid, options_of(raw, without=("size",)) | {"size": format_size(volume.size)})
    for key, raw in archive.values.items():
        if is_volume_key("qemu", key) and plan.kind == "qemu" and "cloudinit" in raw:
            name = plan.storage or file_of(raw).partition(":")[0]
            drive = m.storages.add_named(name, filling.node, f"vm-{plan.vmid}-cloudinit", plan.vmid, m.now)
            made[key] = join(drive.volid, options_of(raw))
    return made


def _merged(m: Machine, plan: Plan, archive: Archive, disks: dict[str, str]) -> dict[str, str]:
    """The config of the archive with its new disks, new identifiers where asked for, and what was given."""
    kind = plan.kind
    values = {key: raw for key, raw in restorable(dict(archive.values)).items() if not _left_out(kind, key, raw)}
    if plan.unique:
        renew = fill_qemu_net if kind == "qemu" else fill_lxc_net
        values |= {key: renew(raw, m.rng, renew=True) for key, raw in values.items() if NET.match(key)}
    if kind == "qemu":
        if values.get("vmgenid", "0") != "0":
            values["vmgenid"] = new_uuid(m.rng)
        if plan.unique and "smbios1" in values:
            values["smbios1"] = join(f"uuid={new_uuid(m.rng)}", options_of(values["smbios1"], without=("uuid",)))
    given = {key: raw for key, raw in plan.given.items() if not is_volume_key(kind, key)}
    fill_net = fill_qemu_net if kind == "qemu" else fill_lxc_net
    return values | disks | {key: fill_net(raw, m.rng) if NET.match(key) else raw for key, raw in given.items()}


def _left_out(kind: str, key: str, raw: str) -> bool:
    """Disks are made anew; a VM keeps its CD-ROM drives."""
    return is_volume_key(kind, key) and not (kind == "qemu" and is_cdrom(raw) and "cloudinit" not in raw)


def _lxc(job: Job, plan: Plan, emsg: str) -> Steps[None]:
    m, vmid = job.m, plan.vmid
    filling = Filling(m=m, guest_type="lxc", node=job.node, vmid=vmid, log=job.log)
    yield from job.flock("lxc", vmid)
    try:
        guest = reloaded(job, "lxc", vmid)
        need_stopped(guest)
        job.log(f"recovering backed-up configuration from '{plan.volid}'")
        volume, archive = m.storages.archive(plan.volid, job.node)
        need_type(archive, "lxc", volume)
        yield from job.work(0.2)
        old = volumes_of(guest) if plan.existed else []
        plan.changed = True
        disks = _lxc_disks(filling, plan, archive)
        for volid in old:
            m.storages.free(volid, job.node)
        if plan.existed:
            m.guests.write(guest, Config(values={"lock": "create"}), job.hand)
        job.log(f"restoring '{plan.volid}' now..")
        job.log(f"extracting archive '{_file(volume)}'")
        yield from job.work(0.95)
        job.log(f"Total bytes read: {volume.size} ({volume.size // 1024}KiB, 50MiB/s)")
        job.log("merging backed-up and given configuration..")
        m.guests.write(guest, Config(values=_merged(m, plan, archive, disks)), job.hand)
        m.tokens.access.put_in_pool(vmid, plan.pool)
        yield from job.work(1.0)
    except (ApiError, TaskError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            _clean_up(job, plan, filling)
        raise TaskError(f"{emsg} {error.text.rstrip()}") from error
    if plan.start:
        fork_start(job, "lxc", vmid)


def _clean_up(job: Job, plan: Plan, filling: Filling) -> None:
    """A container that was already changed is gone after a failure, an untouched one only loses the lock."""
    take_back(filling)
    guest = job.m.guests.find("lxc", job.node, plan.vmid)
    if guest is None or not job.m.cluster.nodes[job.node].quorate:
        return
    if plan.changed or not plan.existed:
        job.m.guests.remove(guest, job.hand)
    else:
        job.m.guests.set_lock(guest, None, job.hand)


def _lxc_disks(filling: Filling, plan: Plan, archive: Archive) -> dict[str, str]:
    """The mount points given, else those of the archive on the given storage (`local` without one)."""
    given = {key: raw for key, raw in plan.given.items() if is_volume_key("lxc", key)}
    if given:
        return {key: fill(filling, key, raw) for key, raw in sorted(given.items())}
    plan.storage = plan.storage or "local"
    return _disks(filling, plan, archive)
