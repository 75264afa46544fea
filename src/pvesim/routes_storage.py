"""The content of storages: looked at, described, protected, deleted.

Rule kept here: a deletion is a task whose id names the owner and the storage; whoever waits for it with `delay`
gets null instead of its UPID.
"""

from __future__ import annotations

from dataclasses import replace

from pvesim.kernel import Steps, join
from pvesim.machine import Call, Machine
from pvesim.storage import Volume, content_row
from pvesim.wire import ApiError, Json, bad_parameters, died
from pvesim.workers import Job, TaskError, Work, fork

DELETE_S = 0.5


def index(m: Machine, call: Call) -> Json:
    """GET /nodes/N/storage/S/content: what the caller may not use is left out."""
    types = {guest.vmid: guest.type for guest in m.guests.guests.values()}
    rows = [
        content_row(volume, guest_types=types)
        for volume in m.storages.visible(call.node, call.names["storage"])
        if _accessible(m, call, volume)
    ]
    kind, vmid = call.params.get("content"), call.params.get("vmid")
    return [
        row
        for row in rows
        if (kind is None or row["content"] == kind) and (vmid is None or str(row.get("vmid")) == vmid)
    ]


def _volid(call: Call) -> str:
    """The volume in the path, with or without its storage."""
    storage, volume = call.names["storage"], call.names["volume"]
    if ":" not in volume:
        return f"{storage}:{volume}"
    name = volume.partition(":")[0]
    if name != storage:
        raise bad_parameters({"volume": f"storage ID mismatch ({name} != {storage})\n"})
    return volume


def _accessible(m: Machine, call: Call, volume: Volume) -> bool:
    try:
        need_access(m, call, volume)
    except ApiError:
        return False
    return True


def need_access(m: Machine, call: Call, volume: Volume) -> None:
    """PVE's rules about who may read a volume."""
    del m
    path = f"/storage/{volume.volid.partition(':')[0]}"
    if call.who.may("Datastore.Allocate", path=path):
        return
    if volume.content in {"iso", "vztmpl", "import"}:
        call.who.need(path, "Datastore.AllocateSpace", "Datastore.Audit")
    elif volume.vmid is None:
        raise died(f"missing privileges to access {volume.volid}")
    elif volume.content == "backup":
        call.who.need(path, "Datastore.AllocateSpace")
        call.who.need(f"/vms/{volume.vmid}", "VM.Backup")
    else:
        call.who.need(path, "Datastore.Audit")
        call.who.need(f"/vms/{volume.vmid}", "VM.Config.Disk")


def info(m: Machine, call: Call) -> Json:
    """GET content/V."""
    volume = m.storages.need(_volid(call), call.node)
    need_access(m, call, volume)
    row: dict[str, Json] = {
        "path": f"/mnt/{volume.volid.replace(':', '/')}", "size": volume.size, "used": volume.size,
        "format": volume.format,
    }  # fmt: skip
    if volume.subtype is not None:
        row |= {"notes": volume.notes or "", "protected": int(volume.protected)}
    return row


def update(m: Machine, call: Call) -> Json:
    """PUT content/V: notes and protection of a backup."""
    volume = m.storages.need(_volid(call), call.node)
    need_access(m, call, volume)
    if volume.subtype is None and call.params:
        raise died(f"attribute '{min(call.params)}' is not supported for storage type or content type")
    if "notes" in call.params:
        volume = replace(volume, notes=call.params["notes"] or None)
    if "protected" in call.params:
        volume = replace(volume, protected=call.flag("protected"))
    m.storages.put(volume)
    call.hand().touched()
    return None


def delete(m: Machine, call: Call) -> Steps[Json]:
    """DELETE content/V."""
    volid = _volid(call)
    name = volid.partition(":")[0]
    m.storages.get(name)
    volume = m.storages.find(volid, call.node)
    owner = volume.vmid if volume is not None else None
    if volume is not None and volume.content == "backup" and owner is not None:
        call.who.need(f"/storage/{name}", "Datastore.AllocateSpace")
        call.who.need(f"/vms/{owner}", "VM.Backup")
    else:
        call.who.need(f"/storage/{name}", "Datastore.Allocate")
    work = Work(
        type="imgdel",
        id=(f"{owner}@" if owner is not None else "") + name,
        seconds=DELETE_S,
        body=lambda job: _delete(job, volid),
    )
    upid = yield from fork(m, call, work)
    delay = float(call.params.get("delay", "0"))
    if not delay or upid not in m.running:
        return upid if not delay else _ended(m, call, upid)
    ended = yield from join(m.running[upid], m.scaled(delay))
    return _ended(m, call, upid) if ended else upid


def _ended(m: Machine, call: Call, upid: str) -> None:
    task = m.tasks[call.node].logs[upid]
    if task.exitstatus != "OK":
        raise died(task.exitstatus or "")


def _delete(job: Job, volid: str) -> Steps[None]:
    volume = job.m.storages.find(volid, job.node)
    name, _, rest = volid.partition(":")
    if volume is not None and volume.protected:
        raise TaskError(f"cannot remove protected volume '{rest}' on '{name}'")
    yield from job.work(0.9)
    if not job.m.storages.free(volid, job.node):
        job.log(f"disk image '{volid}' does not exist")
    else:
        job.hand.touched()
    job.log(f"Removed volume '{volid}'")
    yield from job.work(1.0)
