"""Calls about HA: its resources, its status, and whether it is armed.

Rule kept here: these calls read and write the configuration; nothing happens before the next round.
"""

from __future__ import annotations

import hashlib
import json
import time

from pvesim.guests import absent
from pvesim.ha import PREFIX, TYPES, Resource
from pvesim.ha_rounds import keep_going
from pvesim.machine import Call, Machine
from pvesim.rows import verbose_state
from pvesim.wire import Json, bad_parameters, died

_KEYS = ("max_restart", "max_relocate", "comment")


def _sid(m: Machine, raw: str) -> str:
    """`vm:100`, also for `100`."""
    if raw.isdigit():
        guest = m.guests.guests.get(int(raw))
        if guest is None:
            raise died(f"unable do find VM with ID {raw}")
        return f"{PREFIX[guest.type]}:{raw}"
    kind, _, number = raw.partition(":")
    if kind not in TYPES or not number.isdigit():
        raise bad_parameters({"sid": f"invalid format - value '{raw}' does not look like a valid HA resource ID\n"})
    return raw


def _digest(m: Machine) -> str:
    text = json.dumps([_row(r) for r in m.ha.resources.values()], sort_keys=True)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _row(resource: Resource) -> dict[str, Json]:
    row: dict[str, Json] = {
        "sid": resource.sid, "type": resource.sid.partition(":")[0], "state": resource.request,
        "max_restart": resource.max_restart, "max_relocate": resource.max_relocate, "failback": int(resource.failback),
    }  # fmt: skip
    if resource.comment is not None:
        row["comment"] = resource.comment
    return row


def _need(m: Machine, raw: str) -> Resource:
    sid = _sid(m, raw)
    found = m.ha.resources.get(sid)
    if found is None:
        raise died(f"no such resource '{sid}'")
    return found


def index(m: Machine, call: Call) -> Json:
    """GET /cluster/ha/resources."""
    digest, wanted = _digest(m), call.params.get("type")
    rows = [_row(resource) | {"digest": digest} for resource in m.ha.resources.values()]
    return [row for row in rows if wanted is None or row["type"] == wanted]


def get(m: Machine, call: Call) -> Json:
    """GET /cluster/ha/resources/S."""
    return _row(_need(m, call.names["sid"])) | {"digest": _digest(m)}


def create(m: Machine, call: Call) -> Json:
    """POST /cluster/ha/resources."""
    m.cluster.need_quorum(call.node)
    sid = _sid(m, call.params["sid"])
    kind, vmid = TYPES[sid.partition(":")[0]], int(sid.partition(":")[2])
    guest = m.guests.guests.get(vmid)
    if guest is None or guest.type != kind:
        raise absent(kind, call.node, vmid) if guest is not None else died(f"unable to find VM '{vmid}'")
    if "group" in call.params and m.is_9:
        raise died("invalid parameter 'group': ha groups have been migrated to rules")
    if sid in m.ha.resources:
        raise died(f"create resource failed: resource ID '{sid}' already defined")
    resource = Resource(sid=sid, node=guest.node, group=call.params.get("group"))
    _apply(resource, call)
    m.ha.resources[sid] = resource
    keep_going(m)
    call.hand().touched()
    return None


def _apply(resource: Resource, call: Call) -> None:
    params = call.params
    state = params.get("state", resource.request)
    resource.request = "started" if state == "enabled" else state
    resource.max_restart = int(params.get("max_restart", str(resource.max_restart)))
    resource.max_relocate = int(params.get("max_relocate", str(resource.max_relocate)))
    resource.comment = params.get("comment", resource.comment)
    if "failback" in params:
        resource.failback = call.flag("failback")
    if resource.request in {"stopped", "disabled"}:
        resource.stop_timeout = None


def update(m: Machine, call: Call) -> Json:
    """PUT /cluster/ha/resources/S."""
    resource = _need(m, call.names["sid"])
    if resource.state == "error" and call.params.get("state") != "disabled":
        raise died(f"service '{resource.sid}' in error state, must be disabled and fixed first")
    if call.params.get("digest") not in {None, "", _digest(m)}:
        raise died("detected modified configuration - file changed by other user? Try again.")
    _writable(m, call)
    for name in call.params.get("delete", "").replace(",", " ").split():
        if name not in _KEYS:
            raise died(f"unable to delete required option '{name}'")
        if name == "comment":
            resource.comment = None
        else:
            setattr(resource, name, 1)
    _apply(resource, call)
    keep_going(m)
    call.hand().touched()
    return None


def _writable(m: Machine, call: Call) -> None:
    m.guests.need_writable(call.node, "ha/resources.cfg", call.hand())


def delete(m: Machine, call: Call) -> Json:
    """DELETE /cluster/ha/resources/S: the guest stays as it is."""
    sid = _sid(m, call.names["sid"])
    if sid not in m.ha.resources:
        raise died(f"cannot delete service '{sid}', not HA managed!")
    _writable(m, call)
    del m.ha.resources[sid]
    call.hand().touched()
    return None


def move(m: Machine, call: Call) -> Json:
    """POST /cluster/ha/resources/S/migrate and relocate: queued, and nothing more is known."""
    resource = _need(m, call.names["sid"])
    if not m.ha.manages(resource.guest_type, resource.vmid):
        raise died(f"service '{resource.sid}' is not managed by HA")
    if resource.state == "error":
        raise died(f"service '{resource.sid}' in error state, must be disabled and fixed first")
    resource.target = call.params["node"]
    call.hand().touched()
    return {"sid": resource.sid, "requested-node": call.params["node"]}


def arm(m: Machine, call: Call) -> Json:
    """POST /cluster/ha/status/arm-ha."""
    m.ha.disarmed = None
    call.hand().touched()
    return None


def disarm(m: Machine, call: Call) -> Json:
    """POST /cluster/ha/status/disarm-ha."""
    m.ha.disarmed = call.params["resource-mode"]
    call.hand().touched()
    return None


def current(m: Machine, call: Call) -> Json:
    """GET /cluster/ha/status/current."""
    viewer = m.cluster.nodes[call.node]
    rows: list[Json] = [{
        "id": "quorum", "type": "quorum", "node": viewer.name, "quorate": int(viewer.quorate),
        "status": "OK" if viewer.quorate else f"No quorum on node '{viewer.name}'!",
    }]  # fmt: skip
    master = next((node for node in m.cluster.nodes.values() if node.online and node.quorate), None)
    stamp = int(m.clock(viewer.name))
    shown = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(stamp))
    busy = bool(m.ha.resources)
    extra = f" - disarmed, resource mode: {m.ha.disarmed}" if m.ha.disarmed else ""
    if master is not None and busy:
        rows.append({
            "id": "master", "type": "master", "node": master.name, "timestamp": stamp,
            "status": f"{master.name} (active, {shown}){extra}",
        })  # fmt: skip
        if m.is_9:
            rows.append(_fencing(m, master.name))
    for node in m.cluster.nodes.values() if busy else ():
        old = not node.online
        active = any(r.node == node.name for r in m.ha.resources.values())
        word = "old timestamp - dead?" if old else "active" if active else "idle"
        rows.append({
            "id": f"lrm:{node.name}", "type": "lrm", "node": node.name,
            "timestamp": int(node.offline_since or 0) if old else stamp,
            "status": f"{node.name} ({word}, {shown})",
        })  # fmt: skip
    rows += [_service(m, resource) for _, resource in sorted(m.ha.resources.items())]
    return rows


def _fencing(m: Machine, master: str) -> dict[str, Json]:
    row: dict[str, Json] = {"id": "fencing", "type": "fencing", "node": master}
    if m.ha.disarmed is None:
        return row | {"status": "armed (CRM watchdog active)", "armed-state": "armed"}
    return row | {
        "status": f"disarmed, resource mode: {m.ha.disarmed} (CRM watchdog released)", "armed-state": "disarmed",
        "resource_mode": m.ha.disarmed,
    }  # fmt: skip


def _service(m: Machine, resource: Resource) -> dict[str, Json]:
    state = verbose_state(m, resource)
    row: dict[str, Json] = {
        "id": f"service:{resource.sid}", "type": "service", "sid": resource.sid, "node": resource.node,
        "state": state, "status": f"{resource.sid} ({resource.node}, {state})", "request_state": resource.request,
        "max_restart": resource.max_restart, "max_relocate": resource.max_relocate,
        "failback": int(resource.failback),
    }  # fmt: skip
    if resource.state != "queued":
        row["crm_state"] = resource.state
    if resource.comment is not None:
        row["comment"] = resource.comment
    return row
