"""Calls about the cluster and its nodes, tasks and storages.

Rule kept here: these calls only look; what a token may not see is left out of lists and refused for single things.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvesim.kernel import Steps, join, sleep
from pvesim.machine import Call, Machine
from pvesim.rows import cluster_status, node_row, node_status, resource_row
from pvesim.storage import content_row
from pvesim.tasks import Task, broadcast_rows, list_rows, log_rows
from pvesim.tokens import ALL_PRIVILEGES
from pvesim.wire import Json, Listing, bad_parameters
from pvesim.workers import TaskError

ABORT_S = 1.0
FIRST_VMID = 100


def version(m: Machine, call: Call) -> Json:
    """GET /version."""
    del call
    if m.is_9:
        return {"release": "9.2", "version": "9.2.11", "repoid": "14a22df35955d97d"}
    return {"release": "8.4", "version": "8.4.21", "repoid": "2606ac850d46da29"}


def permissions(m: Machine, call: Call) -> Json:
    """GET /access/permissions of the caller, on one path or on all that have an entry (here: the root alone)."""
    del m
    granted: Iterable[str] = ALL_PRIVILEGES if call.who.privileges is None else sorted(call.who.privileges)
    found: dict[str, Json] = dict.fromkeys(granted, 1)
    if "path" in call.params:
        return {call.params["path"]: found}
    return {"/": found} if found else {}


def nodes(m: Machine, call: Call) -> Json:
    """GET /nodes."""
    del call
    return [node_row(m, node) for node in m.cluster.nodes.values()]


def status(m: Machine, call: Call) -> Json:
    """GET /nodes/N/status."""
    return node_status(m, m.cluster.nodes[call.node])


def state(m: Machine, call: Call) -> Json:
    """GET /cluster/status."""
    return cluster_status(m, m.cluster.nodes[call.node])


def resources(m: Machine, call: Call) -> Json:
    """GET /cluster/resources."""
    wanted = call.params.get("type")
    rows: list[Json] = []
    if wanted in {None, "vm"} and call.who.may("VM.Audit"):
        rows += [resource_row(m, guest) for guest in m.guests.guests.values()]
    if wanted in {None, "storage"}:
        rows += [
            {
                "id": f"storage/{node.name}/{s.name}", "type": "storage", "storage": s.name, "node": node.name,
                "plugintype": s.kind, "content": ",".join(s.content), "shared": int(s.shared), "disk": 2**30,
                "maxdisk": 2**40, "status": "available" if node.online else "unknown",
            }
            for node in m.cluster.nodes.values()
            for s in m.storages.defined.values()
        ]  # fmt: skip
    if wanted in {None, "node"}:
        for node in m.cluster.nodes.values():
            row = node_row(m, node)
            del row["ssl_fingerprint"]
            rows.append(row | ({"cgroup-mode": 2} if node.online else {}))
    return rows


def nextid(m: Machine, call: Call) -> Json:
    """GET /cluster/nextid: it looks and reserves nothing."""
    asked = call.params.get("vmid")
    if asked is None:
        vmid = FIRST_VMID
        while vmid in m.guests.guests:
            vmid += 1
        return str(vmid)
    guest = m.guests.guests.get(int(asked))
    if guest is not None:
        raise bad_parameters({"vmid": f"{'VM' if guest.type == 'qemu' else 'CT'} {asked} already exists"})
    return asked


def cluster_tasks(m: Machine, call: Call) -> Json:
    """GET /cluster/tasks: what the nodes broadcast; without Sys.Audit a token does not even see its own."""
    rows = [row for tasks in m.tasks.values() for row in broadcast_rows(tasks)]
    if not call.who.may("Sys.Audit"):
        rows = [row for row in rows if row["user"] == call.who.full_id]
    rows.sort(key=lambda row: int(str(row["starttime"])), reverse=True)
    return rows


def cluster_log(m: Machine, call: Call) -> Json:
    """GET /cluster/log, newest first."""
    rows = m.log.rows if call.who.may("Sys.Syslog") else [r for r in m.log.rows if r["user"] == call.who.full_id]
    newest = list(reversed(rows))
    return newest[: int(call.params.get("max", "50"))]


def tasks(m: Machine, call: Call) -> Listing:
    """GET /nodes/N/tasks."""
    viewer = None if call.who.may("Sys.Audit") else call.who.full_id
    return list_rows(m.tasks[call.node], call.params, viewer=viewer)


def _own_or_audit(call: Call, task: Task | None, privilege: str) -> None:
    user = task.user if task is not None else call.names["upid"].split(":")[-2]
    if not call.who.owns(user):
        call.who.need(f"/nodes/{call.node}", privilege)


def task_index(m: Machine, call: Call) -> Json:
    """GET /nodes/N/tasks/UPID."""
    del m, call
    return [{"name": "log"}, {"name": "status"}]


def task_status(m: Machine, call: Call) -> Json:
    """GET /nodes/N/tasks/UPID/status."""
    task = m.tasks[call.node].need(call.names["upid"])
    _own_or_audit(call, task, "Sys.Audit")
    return task.status_row()


def task_log(m: Machine, call: Call) -> Listing:
    """GET /nodes/N/tasks/UPID/log; unlike the status it answers for an unknown task too."""
    known = m.tasks[call.node]
    if known.find(call.names["upid"]) is None:
        _parse(call)
    task = known.find(call.names["upid"])
    _own_or_audit(call, task, "Sys.Audit")
    return log_rows(task, call.params)


def _parse(call: Call) -> None:
    if not call.names["upid"].startswith("UPID:") or call.names["upid"].count(":") != UPID_COLONS:
        raise bad_parameters({"upid": "unable to parse worker upid"})


UPID_COLONS = 8


def abort_task(m: Machine, call: Call) -> Steps[Json]:
    """DELETE /nodes/N/tasks/UPID: terminate it and wait for its end."""
    task = m.tasks[call.node].need(call.names["upid"])
    _own_or_audit(call, task, "Sys.Modify")
    proc = m.running.get(task.upid)
    if proc is None:
        return None
    m.kernel.interrupt(proc, TaskError("received interrupt", interrupt=True))
    yield from join(proc, m.scaled(5.0))
    m.kernel.kill(proc)
    yield from sleep(m.scaled(ABORT_S))
    return None


def storages(m: Machine, call: Call) -> Json:
    """GET /nodes/N/storage."""
    if not call.who.may("Datastore.Audit", "Datastore.AllocateSpace"):
        return []
    wanted = call.params.get("content")
    rows = m.storages.rows(call.node)
    return [row for row in rows if wanted is None or wanted in str(row["content"]).split(",")]


def content(m: Machine, call: Call) -> Json:
    """GET /nodes/N/storage/S/content."""
    types = {guest.vmid: guest.type for guest in m.guests.guests.values()}
    rows = [content_row(v, guest_types=types) for v in m.storages.visible(call.node, call.names["storage"])]
    kind, vmid = call.params.get("content"), call.params.get("vmid")
    return [
        row
        for row in rows
        if (kind is None or row["content"] == kind) and (vmid is None or str(row.get("vmid")) == vmid)
    ]
