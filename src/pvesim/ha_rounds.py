"""The rounds of HA: the manager decides, the agents on the nodes start, stop and move guests as root@pam.

Rule kept here: a round looks at what is and at what is wanted, does at most one step for each resource and leaves
the rest to the next; a node that stays away is fenced after a minute, and its guests go to others without the locks
that only live work could hold.
"""

from __future__ import annotations

from dataclasses import replace

from pvesim.guests import Guest, Hand
from pvesim.ha import Resource
from pvesim.machine import Machine
from pvesim.ops_migrate import plan_of, work_of
from pvesim.ops_power import Ending, end_work, start_work
from pvesim.workers import Work, task_of_root

ROUND_S = 10.0
FENCE_S = 60.0
SHUTDOWN_S = 60
STRIPPED_LOCKS = frozenset({
    "backup", "mounted", "migrate", "clone", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended",
})  # fmt: skip
HELD = frozenset({"started", "request_stop", "migrate", "relocate", "queued", "fence", "recovery"})


def keep_going(m: Machine) -> None:
    """Let the rounds begin with the first resource."""
    if not m.ha.running and m.ha.resources:
        m.ha.running = True
        m.kernel.at(m.now + m.scaled(ROUND_S), lambda: _round(m))


def _round(m: Machine) -> None:
    if m.cluster.has_quorum() and m.ha.disarmed is None:
        _fence(m)
        for resource in list(m.ha.resources.values()):
            _step(m, resource)
    m.ha.running = False
    keep_going(m)


def _fence(m: Machine) -> None:
    """Nodes that have been away for long lose their guests."""
    for node in m.cluster.nodes.values():
        if node.online or node.offline_since is None or m.now - node.offline_since < m.scaled(FENCE_S):
            continue
        for resource in m.ha.resources.values():
            guest = _guest(m, resource)
            if guest is None or guest.node != node.name or resource.request in {"disabled", "ignored"}:
                continue
            _recover(m, resource, guest)


def _recover(m: Machine, resource: Resource, guest: Guest) -> None:
    target = _best_node(m, {guest.node})
    if target is None:
        resource.state = "recovery"
        return
    m.guests.move(guest, target)
    if guest.lock in STRIPPED_LOCKS:
        m.guests.set_lock(guest, None, Hand())
    resource.upid, resource.target, resource.node = None, None, target
    resource.failed_starts = 0
    resource.state = "started" if resource.request == "started" else "request_stop"


def _best_node(m: Machine, avoid: set[str]) -> str | None:
    """The node with the fewest resources."""
    load = {node.name: 0 for node in m.cluster.nodes.values() if node.online and node.quorate}
    for resource in m.ha.resources.values():
        if resource.node in load:
            load[resource.node] += 1
    free = [name for name in load if name not in avoid]
    return min(free, key=lambda name: (load[name], name)) if free else None


def _guest(m: Machine, resource: Resource) -> Guest | None:
    guest = m.guests.guests.get(resource.vmid)
    return guest if guest is not None and guest.type == resource.guest_type else None


def _step(m: Machine, resource: Resource) -> None:
    """One resource in one round."""
    guest = _guest(m, resource)
    if guest is None or resource.request == "ignored":
        return
    resource.node = guest.node
    node = m.cluster.nodes[guest.node]
    if not node.online or not node.quorate:
        return
    if resource.upid is not None:
        task = m.task_of(resource.upid)
        if task is not None and task.exitstatus is None:
            return
        _ended(m, resource, guest, "" if task is None else task.exitstatus or "")
    if resource.state == "error":
        if resource.request != "disabled":
            return
        resource.state = "request_stop"
    if resource.upid is None:
        _act(m, resource, guest)


def _act(m: Machine, resource: Resource, guest: Guest) -> None:
    """Do what brings the resource nearer to its wish."""
    wanted = resource.request == "started"
    if resource.target is not None and _go(m, resource, guest, resource.target):
        return
    resource.target = None
    if not wanted:
        resource.state = "request_stop" if guest.running else "stopped"
        if guest.running:
            _run(m, resource, guest, _stop_work(resource, guest))
        return
    resource.state = "started"
    if not guest.running:
        _run(m, resource, guest, start_work(guest.type, guest.vmid))


def _stop_work(resource: Resource, guest: Guest) -> Work:
    timeout = SHUTDOWN_S if resource.stop_timeout is None else resource.stop_timeout
    verb = "shutdown" if timeout else "stop"
    return end_work(Ending(kind=guest.type, vmid=guest.vmid, verb=verb, timeout=timeout or None, force=True))


def _go(m: Machine, resource: Resource, guest: Guest, target: str) -> bool:
    """Start a migration; False when there is nowhere to go."""
    there = m.cluster.nodes.get(target)
    if there is None or not there.online or target == guest.node:
        return False
    plan = plan_of(guest, target, online=guest.type == "qemu", restart=guest.type == "lxc")
    plan = replace(plan, with_disks=True, local={})
    resource.state = "migrate" if guest.running else "relocate"
    _run(m, resource, guest, work_of(m, guest.node, plan))
    return True


def _run(m: Machine, resource: Resource, guest: Guest, work: Work) -> None:
    task = task_of_root(m, guest.node, work)
    task.log.insert(0, "task started by HA resource agent")
    resource.upid = task.upid


def _ended(m: Machine, resource: Resource, guest: Guest, status: str) -> None:
    """What came of the last task."""
    moved, resource.upid = resource.state in {"migrate", "relocate"}, None
    good = status == "OK" or status.startswith("WARNINGS: ")
    if moved:
        resource.target = None
        resource.state = "started" if resource.request == "started" else "request_stop"
    elif resource.state == "request_stop":
        resource.state = "stopped" if good else "error"
        resource.last_error = None if good else status
    elif guest.running:
        resource.failed_starts, resource.relocated, resource.tried = 0, 0, []
    else:
        _failed_start(m, resource, guest, status)


def _failed_start(m: Machine, resource: Resource, guest: Guest, status: str) -> None:
    """Try again here, then elsewhere, then give up."""
    resource.last_error = status
    resource.failed_starts += 1
    if resource.failed_starts <= resource.max_restart:
        return
    resource.failed_starts = 0
    resource.tried.append(guest.node)
    target = _best_node(m, set(resource.tried))
    if resource.relocated >= resource.max_relocate or target is None:
        resource.state = "error"
        return
    resource.relocated += 1
    resource.target = target
