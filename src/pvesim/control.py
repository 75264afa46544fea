"""What happens to the machines themselves, and what the simulator shows of itself.

Rule kept here: an action names what somebody does to the cluster (pulls a plug, restarts a daemon, edits a file),
never an answer a client is to get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from pvesim import guests_file
from pvesim.cluster import Node
from pvesim.guests import Hand
from pvesim.machine import Machine
from pvesim.ops_power import start_work
from pvesim.service import Service
from pvesim.tasks import NodeTasks, Task
from pvesim.texts import typed
from pvesim.tokens import Token
from pvesim.wire import Json
from pvesim.workers import TaskError, launch, new_task, worker_group

Action = Mapping[str, object]
REBOOT_S = 60.0
RELIST_S = 10.0
CLEARED_AT_BOOT = "backup"


class BadAction(ValueError):
    """An action that cannot be read."""


def state(m: Machine) -> dict[str, Json]:
    """The whole world as data."""
    return {
        "time": m.now,
        "nodes": [
            {
                "node": n.name, "online": n.online, "quorate": n.quorate, "clock_offset_s": n.offset_s,
                "frozen": [d for d in ("pveproxy", "pvedaemon") if m.kernel.is_frozen((d, n.name))],
            }
            for n in m.cluster.nodes.values()
        ],
        "guests": [
            {
                "type": g.type, "vmid": g.vmid, "node": g.node, "name": g.name, "template": g.template,
                "status": "running" if g.running else "stopped", "lock": g.lock,
                "config": typed(g.type, g.values), "pending": typed(g.type, g.config.pending), "digest": g.digest,
                "snapshots": list(g.config.snapshots),
            }
            for g in m.guests.guests.values()
        ],
        "volumes": [{"volid": v.volid, "place": v.place, "size": v.size} for v in m.storages.volumes.values()],
        "tasks": [
            {"upid": t.upid, "state": t.state, "status": t.exitstatus or "running"}
            for tasks in m.tasks.values()
            for t in tasks.logs.values()
        ],
        "tokens": sorted(m.tokens.tokens),
        "pools": {name: sorted(pool.vms) for name, pool in m.tokens.access.pools.items()},
        "ha": [
            {"sid": r.sid, "request": r.request, "state": r.state, "node": r.node, "last_error": r.last_error}
            for r in m.ha.resources.values()
        ],
        "faults": [fault.row() for fault in m.faults.faults],
    }  # fmt: skip


def mutations(m: Machine) -> list[dict[str, Json]]:
    """The rows of accepted requests."""
    return [
        {
            "seq": row.seq, "time": row.time, "method": row.method, "path": row.path, "params": dict(row.params),
            "user": row.user, "upid": row.upid, "effect": row.effect,
        }
        for row in m.mutations
    ]  # fmt: skip


def put_guests(m: Machine, body: Action) -> None:
    """One guest, or a guests file: nodes, storages, tokens and guests are added or merged."""
    if "vmid" in body:
        guests_file.put_guest(m, body)
        return
    if "nodes" in body:
        m.cluster.add(guests_file.node_names(body), m.now, m.rng)
        for name in m.cluster.nodes:
            m.tasks.setdefault(name, NodeTasks())
    if "storages" in body:
        guests_file.add_storages(m, body)
    guests_file.add_tokens(m, body)
    guests_file.add_backups(m, body)
    for raw in guests_file.rows(body, "guests") or ():
        guests_file.put_guest(m, raw)
    for raw in guests_file.rows(body, "ha") or ():
        guests_file.put_resource(m, raw)


def act(m: Machine, service: Service, action: Action) -> Json:
    """Do one action: `{"action": name, ...}`."""
    name = action.get("action")
    handler = _ACTIONS.get(str(name))
    if handler is None:
        raise BadAction(f"unknown action {name!r}, known are {', '.join(sorted(_ACTIONS))}")
    return handler(m, service, action)


def _node(m: Machine, action: Action) -> Node:
    node = m.cluster.nodes.get(str(action.get("node")))
    if node is None:
        raise BadAction(f"unknown node {action.get('node')!r}")
    return node


def _task(m: Machine, action: Action) -> Task:
    task = m.task_of(str(action.get("upid")))
    if task is None:
        raise BadAction(f"unknown task {action.get('upid')!r}")
    return task


def _node_down(m: Machine, service: Service, action: Action) -> Json:
    """Power is cut: everything that ran there is gone, what was on disk stays."""
    node = _node(m, action)
    node.online, node.offline_since = False, m.now
    for group in (("pveproxy", node.name), ("pvedaemon", node.name), ("orphan", node.name)):
        for proc in m.kernel.group(group):
            m.kernel.kill(proc)
        m.kernel.thaw(group)
    for task in m.tasks[node.name].logs.values():
        proc = m.running.get(task.upid)
        if proc is not None:
            m.kernel.kill(proc)
    for proc in m.kernel.group(("orphan", node.name)):
        m.kernel.kill(proc)
    for guest in m.guests.guests.values():
        if guest.node == node.name and guest.running:
            guest.running, guest.pid = False, 0
    service.hang_up_all(node.name)
    return None


def _node_up(m: Machine, service: Service, action: Action) -> Json:
    """It boots: locks of backups go, guests with `onboot` are started, dead tasks are found out by and by."""
    del service
    node = _node(m, action)
    if node.online:
        return None
    node.online, node.offline_since, node.booted_at = True, None, m.now
    node.next_pid = m.rng.randint(900, 2_000)
    for guest in m.guests.guests.values():
        if guest.node != node.name or guest.template or m.ha.manages(guest.type, guest.vmid):
            continue
        if guest.lock == CLEARED_AT_BOOT and node.quorate:
            m.guests.set_lock(guest, None, Hand())
        if guest.values.get("onboot") == "1" and node.quorate:
            work = start_work(guest.type, guest.vmid)
            task = new_task(m, node.name, work, "root@pam")
            launch(m, task, work, hand=Hand())
            m.tasks[node.name].enter(task)
    _relist_later(m, node.name)
    return None


def _relist_later(m: Machine, name: str) -> None:
    """Dead workers stay in the list as running until pvestatd looks, or the next fork."""
    tasks = m.tasks[name]
    tasks.orphans += [t for t in tasks.active if t.exitstatus is not None and t not in tasks.orphans]

    def relist() -> None:
        for task in list(tasks.orphans):
            tasks.orphans.remove(task)
            tasks.archive(task, m.clock(name))

    m.kernel.at(m.now + m.scaled(RELIST_S) * m.rng.uniform(0.1, 1.0), relist)


def _reboot(m: Machine, service: Service, action: Action) -> Json:
    """Down, and up again after a while."""
    node = _node(m, action)
    _node_down(m, service, action)
    seconds = float(str(action.get("seconds", m.scaled(REBOOT_S))))
    m.kernel.at(m.now + seconds, lambda: _came_up(m, service, node.name))
    return None


def _came_up(m: Machine, service: Service, name: str) -> None:
    _node_up(m, service, {"node": name})


def _quorum(m: Machine, service: Service, action: Action) -> Json:
    """`quorate` false: /etc/pve of the nodes is read-only, and they go on with the tokens they know."""
    del service
    quorate = bool(action.get("quorate", True))
    wanted = action.get("nodes")
    names = [str(n) for n in cast("list[object]", wanted)] if isinstance(wanted, list) else list(m.cluster.nodes)
    for name in names:
        node = _node(m, {"node": name})
        node.quorate = quorate
        if quorate:
            node.stale_tokens = None
        elif node.stale_tokens is None:
            node.stale_tokens = {key: _copy(token) for key, token in m.tokens.tokens.items()}
    return None


def _copy(token: Token) -> Token:
    return Token(
        user=token.user, tokenid=token.tokenid, secret=token.secret, privsep=token.privsep,
        expire=token.expire, comment=token.comment,
    )  # fmt: skip


def _daemon(action: Action) -> str:
    daemon = str(action.get("daemon", "pvedaemon"))
    if daemon not in {"pveproxy", "pvedaemon"}:
        raise BadAction(f"unknown daemon {daemon!r}")
    return daemon


def _freeze(m: Machine, service: Service, action: Action) -> Json:
    """All workers of a daemon stand still (SIGSTOP)."""
    del service
    m.kernel.freeze((_daemon(action), _node(m, action).name))
    return None


def _thaw(m: Machine, service: Service, action: Action) -> Json:
    """They go on (SIGCONT), with whatever has piled up."""
    del service
    m.kernel.thaw((_daemon(action), _node(m, action).name))
    return None


def _restart_pvedaemon(m: Machine, service: Service, action: Action) -> Json:
    """Stop and start: calls in it are dropped, its workers are terminated."""
    del service
    node = _node(m, action)
    group = ("pvedaemon", node.name)
    for proc in m.kernel.group(group):
        m.kernel.kill(proc)
    m.kernel.thaw(group)
    for task in m.tasks[node.name].active:
        proc = m.running.get(task.upid)
        if proc is not None:
            m.kernel.interrupt(proc, TaskError("received interrupt", interrupt=True))
            m.tasks[node.name].orphans.append(task)
    m.kernel.at(m.now + 0.05, lambda: _relist_later(m, node.name))
    return None


def _restart_pveproxy(m: Machine, service: Service, action: Action) -> Json:
    """Its connections die with it, and the requests that it still had with them; pvedaemon goes on."""
    node = _node(m, action)
    group = ("pveproxy", node.name)
    for proc in m.kernel.group(group):
        m.kernel.kill(proc)
    m.kernel.thaw(group)
    service.hang_up_all(node.name)
    return None


def _duration(m: Machine, service: Service, action: Action) -> Json:
    """How many PVE-seconds tasks of this `type` take from now on."""
    del service
    m.durations[str(action.get("type"))] = float(str(action.get("seconds")))
    return None


def _pause_task(m: Machine, service: Service, action: Action) -> Json:
    """A worker stands still; it keeps its locks."""
    del service
    m.kernel.freeze(worker_group(_task(m, action).upid))
    return None


def _resume_task(m: Machine, service: Service, action: Action) -> Json:
    """It goes on."""
    del service
    m.kernel.thaw(worker_group(_task(m, action).upid))
    return None


def _kill_task(m: Machine, service: Service, action: Action) -> Json:
    """SIGKILL to a worker."""
    del service
    proc = m.running.get(_task(m, action).upid)
    if proc is not None:
        m.kernel.kill(proc)
    return proc is not None


def _rotate(m: Machine, service: Service, action: Action) -> Json:
    """The index of finished tasks is rotated; `forget` true also loses index.1."""
    del service
    tasks = m.tasks[_node(m, action).name]
    tasks.rotate()
    if action.get("forget"):
        tasks.rotate()
    return None


def _forget_tasks(m: Machine, service: Service, action: Action) -> Json:
    """Logs are cleaned away: of one task (`upid`), or of all finished ones of a node."""
    del service
    if "upid" in action:
        task = _task(m, action)
        m.tasks[task.node].forget(task)
        return None
    tasks = m.tasks[_node(m, action).name]
    for task in list(tasks.logs.values()):
        if task.exitstatus is not None:
            tasks.forget(task)
    return None


def _clock(m: Machine, service: Service, action: Action) -> Json:
    """A node's clock is set: `offset_s` seconds ahead of the truth."""
    del service
    _node(m, action).offset_s = float(str(action.get("offset_s", 0)))
    return None


def _lock(m: Machine, service: Service, action: Action) -> Json:
    """Root sets a config lock, or removes it (no `lock`)."""
    del service
    guest = m.guests.guests.get(int(str(action.get("vmid"))))
    if guest is None:
        raise BadAction(f"unknown guest {action.get('vmid')!r}")
    lock = action.get("lock")
    m.guests.set_lock(guest, str(lock) if lock else None, Hand())
    return None


def _delete_guest(m: Machine, service: Service, action: Action) -> Json:
    """Somebody removes a guest with its disks."""
    del service
    guests_file.put_guest(m, {"vmid": action.get("vmid"), "deleted": True})
    return None


def _delete_token(m: Machine, service: Service, action: Action) -> Json:
    """Root removes a token."""
    del service
    return m.tokens.tokens.pop(str(action.get("id")), None) is not None


def _cluster_log(m: Machine, service: Service, action: Action) -> Json:
    """The share of rows that the cluster log loses from now on."""
    del service
    m.log.loses = float(str(action.get("loses", 0)))
    return None


def _quota(m: Machine, service: Service, action: Action) -> Json:
    """A storage's size in `bytes` (none: as large as before); what does not fit any more fails."""
    del service
    storage = str(action.get("storage"))
    if storage not in m.storages.defined:
        raise BadAction(f"unknown storage {storage!r}")
    m.storages.quotas.pop(storage, None)
    if action.get("bytes") is not None:
        m.storages.quotas[storage] = int(str(action["bytes"]))
    return None


def _ha(m: Machine, service: Service, action: Action) -> Json:
    """Put a guest under HA (`sid`, `state`, ...), take it out (`state` null), or arm and disarm (`disarm`)."""
    del service
    if "disarm" in action:
        mode = action["disarm"]
        m.ha.disarmed = str(mode) if mode else None
        return None
    guests_file.put_resource(m, action)
    return None


def _clear_faults(m: Machine, service: Service, action: Action) -> Json:
    """No more accidents."""
    del service, action
    m.faults.faults.clear()
    return None


_ACTIONS: Mapping[str, Callable[[Machine, Service, Action], Json]] = {
    "restart_pveproxy": _restart_pveproxy,
    "duration": _duration,
    "node_down": _node_down, "node_up": _node_up, "reboot": _reboot, "quorum": _quorum, "freeze": _freeze,
    "thaw": _thaw, "restart_pvedaemon": _restart_pvedaemon, "pause_task": _pause_task, "resume_task": _resume_task,
    "kill_task": _kill_task, "rotate_tasks": _rotate, "forget_tasks": _forget_tasks, "clock": _clock, "lock": _lock,
    "delete_guest": _delete_guest, "delete_token": _delete_token, "cluster_log": _cluster_log,
    "clear_faults": _clear_faults, "quota": _quota, "ha": _ha,
}  # fmt: skip
