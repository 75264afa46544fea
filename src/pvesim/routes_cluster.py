"""Calls about the cluster and its nodes, tasks and storages.

Rule kept here: these calls only look; what a token may not see is left out of lists and refused for single things.
"""

from __future__ import annotations

from pvesim.cluster import Node
from pvesim.kernel import Steps, join, sleep
from pvesim.machine import Call, Machine
from pvesim.rows import cluster_status, node_row, node_status, resource_row
from pvesim.tasks import Task, broadcast_rows, list_rows, log_rows
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
    """GET /access/permissions of the caller, or of somebody else, on one path or on all that have an entry."""
    access, asked = m.tokens.access, call.params.get("userid", call.who.full_id)
    if asked != call.who.full_id:
        call.who.need("/access", "Sys.Audit")

    def granted(path: str) -> dict[str, Json]:
        user, bang, tokenid = asked.partition("!")
        token = m.tokens.tokens.get(asked)
        if not bang:
            return dict(access.of_user(user, path))
        return {} if token is None else dict(access.of_token(user, tokenid, path, privsep=token.privsep))

    if "path" in call.params:
        return {call.params["path"]: granted(call.params["path"])}
    if not call.who.privsep and asked == call.who.full_id and call.who.user in access.unlimited:
        return {"/": granted("/")}
    return {path: found for path in access.listed_paths() if (found := granted(path))}


def nodes(m: Machine, call: Call) -> Json:
    """GET /nodes."""
    return [_node(m, call, node) for node in m.cluster.nodes.values()]


def _node(m: Machine, call: Call, node: Node) -> dict[str, Json]:
    """A node as the caller may see it: without Sys.Audit there are no figures."""
    row = node_row(m, node)
    if not call.who.may("Sys.Audit", path=f"/nodes/{node.name}"):
        return {key: row[key] for key in ("id", "node", "type", "level", "status", "ssl_fingerprint")}
    return row


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
    if wanted in {None, "vm"}:
        rows += [
            resource_row(m, guest)
            for guest in m.guests.guests.values()
            if call.who.may("VM.Audit", path=f"/vms/{guest.vmid}")
        ]
    if wanted is None:
        rows += [
            {"id": f"/pool/{name}", "pool": name, "type": "pool"}
            for name in m.tokens.access.pools
            if call.who.may("Pool.Audit", path=f"/pool/{name}")
        ]
    if wanted in {None, "storage"}:
        rows += [
            {
                "id": f"storage/{node.name}/{s.name}", "type": "storage", "storage": s.name, "node": node.name,
                "plugintype": s.kind, "content": ",".join(s.content), "shared": int(s.shared),
                "disk": 2**30 + m.storages.used(s.name, node.name), "maxdisk": m.storages.total(s.name),
                "status": "available" if node.online else "unknown",
            }
            for node in m.cluster.nodes.values()
            for s in m.storages.defined.values()
            if _sees_storage(call, s.name)
        ]  # fmt: skip
    if wanted in {None, "node"}:
        for node in m.cluster.nodes.values():
            row = _node(m, call, node)
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
    if not call.who.may("Sys.Audit", path="/"):
        rows = [row for row in rows if row["user"] == call.who.full_id]
    rows.sort(key=lambda row: int(str(row["starttime"])), reverse=True)
    return rows


def cluster_log(m: Machine, call: Call) -> Json:
    """GET /cluster/log, newest first."""
    rows = (
        m.log.rows if call.who.may("Sys.Syslog", path="/") else [r for r in m.log.rows if r["user"] == call.who.full_id]
    )
    newest = list(reversed(rows))
    return newest[: int(call.params.get("max", "50"))]


def tasks(m: Machine, call: Call) -> Listing:
    """GET /nodes/N/tasks."""
    viewer = None if call.who.may("Sys.Audit", path=f"/nodes/{call.node}") else call.who.full_id
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
    wanted = call.params.get("content")
    return [
        row
        for row in m.storages.rows(call.node)
        if _sees_storage(call, str(row["storage"])) and (wanted is None or wanted in str(row["content"]).split(","))
    ]


def _sees_storage(call: Call, name: str) -> bool:
    return call.who.may("Datastore.Audit", "Datastore.AllocateSpace", path=f"/storage/{name}")
