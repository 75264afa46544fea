"""Backups: `vzdump`, one job at a time on each node.

Rule kept here: a job goes through its guests one after the other, the failure of one ends as `job errors` at the
end, and the archive counts only once it has its name; a guest's config lock goes whatever happened, unless the job
was killed.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace

from pvesim.allocation import is_volume_key
from pvesim.guests import Guest
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.properties import UNUSED, file_of, is_cdrom, lookup
from pvesim.storage import Archive
from pvesim.wire import ApiError, Json, bad_parameters
from pvesim.workers import Job, TaskError, Work, fork

BACKUP_S = 5.0
LOCKWAIT_S = 3 * 3600.0
HEADER = 40_960
SHARE = 1024
VARIABLES = re.compile(r"\{\{(cluster|guestname|node|vmid)\}\}")
COMPRESSED = {"1": ".lzo", "gzip": ".gz", "lzo": ".lzo", "zstd": ".zst"}
FOLDERS = {"local": "/var/lib/vz"}


@dataclass(slots=True, kw_only=True)
class Plan:
    """One job: the guests here, those that are elsewhere, and how it goes about them."""

    vmids: list[int]
    elsewhere: list[int]
    storage: str
    mode: str
    suffix: str
    template: str
    protected: bool
    everyone: bool
    keep: int | None
    title: str


def vzdump(m: Machine, call: Call) -> Steps[Json]:
    """POST /nodes/N/vzdump."""
    _check(call)
    plan = _plan(m, call)
    if not plan.vmids and not plan.everyone:
        return "OK"
    call.who.need(f"/storage/{plan.storage}", "Datastore.AllocateSpace")
    work = Work(
        type="vzdump",
        id=str(plan.vmids[0]) if len(plan.vmids) == 1 else "",
        seconds=BACKUP_S * max(1, len(plan.vmids)),
        body=lambda job: _job(job, call, plan),
    )
    upid = yield from fork(m, call, work)
    return upid


def _check(call: Call) -> None:
    """The refusals that need no look at guests."""
    params = call.params
    for name in ("all", "exclude", "pool"):
        if params.get(name, "0") not in {"0", ""} and params.get("vmid"):
            raise bad_parameters({name: "option conflicts with option 'vmid'"})
    if "\n" in params.get("notes-template", ""):
        raise bad_parameters({"notes-template": "contains a line feed\n"})
    unknown = [name for name in re.findall(r"\{\{(.*?)\}\}", params.get("notes-template", "")) if not _known(name)]
    if unknown:
        raise bad_parameters({"notes-template": f"found unknown: {', '.join(unknown)}\n"})
    if not any(params.get(name, "0") not in {"0", ""} for name in ("vmid", "all", "exclude", "pool")):
        raise bad_parameters({"vmid": "property is missing"})


def _known(name: str) -> bool:
    return VARIABLES.match(f"{{{{{name}}}}}") is not None


def _plan(m: Machine, call: Call) -> Plan:
    params = call.params
    if "vmid" in params:
        wanted = [int(part) for part in re.split(r"[;, ]+", params["vmid"]) if part]
    elif "pool" in params:
        wanted = sorted(m.tokens.access.need_pool(params["pool"]).vms)
    else:
        left_out = {part for part in re.split(r"[;, ]+", params.get("exclude", "")) if part}
        wanted = [vmid for vmid in m.guests.guests if str(vmid) not in left_out]
    here = [v for v in wanted if (guest := m.guests.guests.get(v)) is None or guest.node == call.node]
    keep = lookup(params.get("prune-backups", ""), "keep-last")
    shown = " ".join(f"--{k} {_quoted(v)}" for k, v in sorted(params.items()) if k != "vmid")
    return Plan(
        vmids=sorted(here),
        elsewhere=sorted(v for v in wanted if v not in here),
        storage=params.get("storage", "local"),
        mode=params.get("mode", "snapshot"),
        suffix=COMPRESSED.get(params.get("compress", "0"), ""),
        template=params.get("notes-template", ""),
        protected=call.flag("protected"),
        everyone="vmid" not in params and "pool" not in params,
        keep=int(keep) if keep is not None and params.get("remove", "1") == "1" else None,
        title=" ".join(["vzdump", *map(str, wanted if "vmid" in params else []), f"--node {call.node}", shown]).strip(),
    )


def _quoted(raw: str) -> str:
    return raw if re.match(r"^[A-Za-z0-9_,.:=/-]+$", raw) else f"'{raw}'"


def _job(job: Job, call: Call, plan: Plan) -> Steps[None]:
    m = job.m
    storage = m.storages.defined.get(plan.storage)
    if storage is None or "backup" not in storage.content:
        why = "wrong content type" if storage is not None else f"storage '{plan.storage}' does not exist"
        if storage is not None:
            why = f"can't use storage '{plan.storage}' for backups - {why}"
        raise TaskError(f"could not get storage information for '{plan.storage}': {why}")
    got = yield from job.lock("/var/run/vzdump.lock", LOCKWAIT_S)
    if not got:
        raise TaskError("can't acquire lock '/var/run/vzdump.lock' - got timeout")
    job.log(f"INFO: starting new backup job: {plan.title}")
    if plan.elsewhere:
        job.log(f"INFO: skip external VMs: {', '.join(map(str, plan.elsewhere))}")
    failed = 0
    for number, vmid in enumerate(plan.vmids):
        if vmid in m.guests.guests and not call.who.may("VM.Backup", path=f"/vms/{vmid}"):
            if plan.everyone:
                continue
            call.who.need(f"/vms/{vmid}", "VM.Backup")
        ok = yield from _guest(job, plan, vmid, ((number / len(plan.vmids)), (number + 1) / len(plan.vmids)))
        failed += not ok
    job.log(f"INFO: Backup job finished {'with errors' if failed else 'successfully'}")
    if failed:
        raise TaskError("job errors")


def _stamp(job: Job, style: str = "%Y-%m-%d %H:%M:%S") -> str:
    return time.strftime(style, time.gmtime(job.m.clock(job.node)))


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What has to be put right after a guest's backup, however it ended."""

    guest: Guest | None
    locked: bool = False
    stopped: bool = False


def _guest(job: Job, plan: Plan, vmid: int, span: tuple[float, float]) -> Steps[bool]:
    """One guest; False when it failed."""
    m, began = job.m, job.m.now
    taken = _Taken(guest=m.guests.guests.get(vmid))
    text: str | None = None
    try:
        yield from _archive(job, plan, vmid, taken, span)
    except (ApiError, TaskError) as error:
        if isinstance(error, TaskError) and error.partial:
            raise
        interrupted = isinstance(error, TaskError) and error.interrupt
        text = "interrupted by signal" if interrupted else error.text.rstrip("\n")
    _put_right(job, taken)
    if text is None:
        took = int(m.now - began)
        job.log(f"INFO: Finished Backup of VM {vmid} ({took // 3600:02}:{took // 60 % 60:02}:{took % 60:02})")
        job.log(f"INFO: Backup finished at {_stamp(job)}")
        return True
    job.log(f"ERROR: Backup of VM {vmid} failed - {text}")
    job.log(f"INFO: Failed at {_stamp(job)}")
    if text == "interrupted by signal":
        raise TaskError(text)
    return False


def _archive(job: Job, plan: Plan, vmid: int, taken: _Taken, span: tuple[float, float]) -> Steps[None]:
    m, guest = job.m, taken.guest
    if guest is None or guest.node != job.node:
        raise TaskError(f"unable to find VM '{vmid}'")
    name = f"vzdump-{guest.type}-{vmid}-{_stamp(job, '%Y_%m_%d-%H_%M_%S')}"
    job.log(f"INFO: Starting Backup of VM {vmid} ({guest.type})")
    job.log(f"INFO: Backup started at {_stamp(job)}")
    job.log(f"INFO: status = {'running' if guest.running else 'stopped'}")
    mode = plan.mode if guest.running else "stop"
    if plan.mode == "stop" and m.ha.is_managed(guest, "started"):
        raise TaskError(
            "Cannot execute a backup with stop mode on a HA managed and enabled Service. Use snapshot mode or"
            " disable the Service."
        )
    yield from job.flock(guest.type, vmid)
    guest = m.guests.need(guest.type, job.node, vmid)
    guest.need_unlocked()
    m.guests.set_lock(guest, "backup", job.hand)
    taken.locked = True
    job.unlock(guest.type, vmid)
    _announce(job, guest, mode)
    if mode == "stop" and guest.running:
        job.log("INFO: stopping virtual guest")
        taken.stopped = True
        m.guests.set_running(guest, None, job.hand)
    job.log(f"INFO: creating vzdump archive '{_path(plan, name, guest)}'")
    yield from job.work(span[0] + 0.9 * (span[1] - span[0]))
    _store(job, plan, guest, name)
    yield from job.work(span[1])


def _put_right(job: Job, taken: _Taken) -> None:
    """The lock goes, and a guest that was stopped for its backup runs again."""
    m, guest = job.m, taken.guest
    if guest is None:
        return
    if taken.locked and guest.lock == "backup" and m.cluster.nodes[job.node].quorate:
        m.guests.set_lock(guest, None, job.hand)
    if taken.stopped and not guest.running:
        job.log("INFO: restarting vm")
        m.guests.set_running(guest, m.cluster.nodes[job.node].fork_pid(m.rng), job.hand)


def _announce(job: Job, guest: Guest, mode: str) -> None:
    job.log(f"INFO: backup mode: {mode}")
    job.log("INFO: ionice priority: 7")
    if guest.type == "qemu":
        job.log(f"INFO: VM Name: {guest.name}")
        for key in sorted(key for key in guest.values if _included(guest, key)):
            volid = file_of(guest.values[key])
            job.log(f"INFO: include disk '{key}' '{volid}' {lookup(guest.values[key], 'size') or '0'}")
        return
    job.log(f"INFO: CT Name: {guest.name}")
    for key in sorted(key for key in guest.values if is_volume_key("lxc", key)):
        where = "/" if key == "rootfs" else lookup(guest.values[key], "mp")
        word = "including" if _included(guest, key) else "excluding volume"
        job.log(f"INFO: {word} mount point {key} ('{where}') {'in' if word == 'including' else 'from'} backup")


def _included(guest: Guest, key: str) -> bool:
    """Whether a disk goes into the archive: mount points only when they say so, disks unless they say no."""
    raw = guest.values[key]
    if not is_volume_key(guest.type, key) or is_cdrom(raw) or file_of(raw).startswith("/"):
        return False
    wanted = lookup(raw, "backup")
    if guest.type == "lxc":
        return key == "rootfs" or wanted == "1"
    return wanted != "0"


def _path(plan: Plan, name: str, guest: Guest) -> str:
    folder = FOLDERS.get(plan.storage, f"/mnt/pve/{plan.storage}")
    return f"{folder}/dump/{name}{'.vma' if guest.type == 'qemu' else '.tar'}{plan.suffix}"


def _store(job: Job, plan: Plan, guest: Guest, name: str) -> None:
    """The archive gets its name, then its notes, then its protection."""
    m = job.m
    sizes = {
        key: m.storages.need(file_of(raw), job.node).size for key, raw in guest.values.items() if _included(guest, key)
    }
    size = HEADER + sum(sizes.values()) // SHARE
    file = _path(plan, name, guest).rpartition("/")[2]
    m.storages.need_room(plan.storage, job.node, file, size)
    volume = m.storages.add(f"{plan.storage}:backup/{file}", job.node, size, m.clock(job.node))
    values = {key: raw for key, raw in guest.values.items() if key != "lock"}
    m.storages.archives[volume.place, volume.volid] = Archive(
        guest_type=guest.type, vmid=guest.vmid, values=values, sizes=sizes
    )
    job.hand.touched()
    job.log(f"INFO: archive file size: {size // 1024}KB")
    if plan.template:
        job.log("INFO: adding notes to backup")
        m.storages.put(replace(volume, notes=_notes(m, plan.template, guest)))
    if plan.protected:
        job.log("INFO: marking backup as protected")
        m.storages.put(replace(m.storages.need(volume.volid, job.node), protected=True))
    if plan.keep is not None:
        _prune(job, plan, guest)


def _notes(m: Machine, template: str, guest: Guest) -> str:
    """The template with its variables filled in."""
    known = {
        "cluster": "pvesim" if len(m.cluster.nodes) > 1 else "standalone node", "guestname": guest.name,
        "node": guest.node, "vmid": str(guest.vmid),
    }  # fmt: skip
    text = template.replace("\\n", "\n").replace("\\\\", "\\")
    return VARIABLES.sub(lambda found: known[found[1]], text)


def _prune(job: Job, plan: Plan, guest: Guest) -> None:
    job.log(f"INFO: prune older backups with retention: keep-last={plan.keep}")
    mine = [
        volume
        for volume in job.m.storages.visible(job.node, plan.storage)
        if (volume.subtype, volume.vmid) == (guest.type, guest.vmid) and not volume.protected
    ]
    old = sorted(mine, key=lambda volume: volume.volid, reverse=True)[plan.keep :]
    for volume in old:
        job.m.storages.free(volume.volid, job.node)
    extra = " not covered by keep-retention policy" if old else ""
    job.log(f"INFO: pruned {len(old)} backup(s){extra}")


def restorable(values: dict[str, str]) -> dict[str, str]:
    """What a restore takes from the config in an archive."""
    return {
        key: raw
        for key, raw in values.items()
        if key not in {"lock", "parent", "snaptime", "vmstate"} and not UNUSED.match(key)
    }
