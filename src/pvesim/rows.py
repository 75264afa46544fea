"""What PVE shows of guests and nodes.

Rule kept here: `/cluster/resources` mixes what is live (existence, lock, tags) with what was broadcast up to a
cycle ago (name, status, sizes); the lists of a node and `status/current` are always live.
"""

from __future__ import annotations

from pvesim.cluster import CPUS, MEMORY, Node
from pvesim.guests import Guest
from pvesim.ha import Resource
from pvesim.machine import Machine
from pvesim.properties import NET
from pvesim.wire import Json

_PRESSURE = (
    "pressurecpufull", "pressurecpusome", "pressureiofull", "pressureiosome", "pressurememoryfull",
    "pressurememorysome",
)  # fmt: skip


def guest_row(m: Machine, guest: Guest) -> dict[str, Json]:
    """One row of GET /nodes/N/{qemu,lxc}."""
    up = int(m.now - guest.started_at) if guest.running else 0
    row: dict[str, Json] = {
        "vmid": guest.vmid, "name": guest.name, "status": "running" if guest.running else "stopped",
        "cpus": guest.cpus(), "cpu": 0, "mem": guest.maxmem() // 4 if guest.running else 0,
        "maxmem": guest.maxmem(), "disk": 0, "maxdisk": guest.maxdisk(), "netin": 0, "netout": 0, "uptime": up,
    }  # fmt: skip
    if guest.type == "lxc":
        swap = int(guest.values.get("swap", "512")) * 1024**2
        row |= {"type": "lxc", "swap": 0, "maxswap": swap, "diskread": 0, "diskwrite": 0}
    elif m.is_9:
        row["memhost"] = 0
    if guest.running:
        row["pid"] = guest.pid
        if m.is_9:
            row |= dict.fromkeys(_PRESSURE, 0)
    if guest.lock:
        row["lock"] = guest.lock
    if guest.template:
        row["template"] = 1
    if "tags" in guest.values:
        row["tags"] = guest.values["tags"]
    return row


def current_row(m: Machine, guest: Guest) -> dict[str, Json]:
    """GET status/current."""
    row = guest_row(m, guest)
    row["ha"] = m.ha.current(guest.type, guest.vmid)
    if guest.type == "qemu":
        row["qmpstatus"] = "paused" if guest.paused else "running" if guest.running else "stopped"
        if guest.running:
            taps = sorted(key[3:] for key in guest.values if NET.match(key))
            row |= {"nics": {f"tap{guest.vmid}i{n}": {"netin": 0, "netout": 0} for n in taps}} if taps else {}
        if guest.values.get("agent", "0").startswith(("1", "enabled=1")):
            row["agent"] = 1
    return row


def verbose_state(m: Machine, resource: Resource) -> str:
    """The state as it is shown to people."""
    guest = m.guests.guests.get(resource.vmid)
    running = guest is not None and guest.running
    if m.ha.disarmed == "ignore":
        return "ignore"
    if resource.request == "ignored":
        return "ignored"
    if resource.state == "started" and not running:
        return "starting"
    if resource.state == "request_stop":
        return "stopping"
    if resource.state == "stopped" and resource.request == "disabled":
        return "disabled"
    return resource.state


def resource_row(m: Machine, guest: Guest) -> dict[str, Json]:
    """One row of GET /cluster/resources."""
    m.guests.settle(guest.vmid, guest.node)
    row: dict[str, Json] = {
        "id": f"{guest.type}/{guest.vmid}", "type": guest.type, "vmid": guest.vmid, "node": guest.node,
        "status": "unknown",
    }  # fmt: skip
    if guest.lock:
        row["lock"] = guest.lock
    if "tags" in guest.values:
        row["tags"] = guest.values["tags"]
    resource = m.ha.of(guest.type, guest.vmid)
    if resource is not None:
        row["hastate"] = verbose_state(m, resource)
    pool = m.tokens.access.pool_of(guest.vmid)
    if pool is not None:
        row["pool"] = pool
    shown = m.guests.shown.get(guest.vmid)
    if shown is None or m.guests.stats_expired(guest):
        return row
    row["status"] = "running" if shown.running else "stopped"
    row["name"], row["template"] = shown.name, shown.template
    row["maxcpu"], row["maxmem"], row["maxdisk"] = shown.cpus, shown.maxmem, shown.maxdisk
    row["uptime"] = int(m.now - shown.started_at) if shown.running else 0
    row["mem"] = shown.maxmem // 4 if shown.running else 0
    row["cpu"] = row["disk"] = row["diskread"] = row["diskwrite"] = row["netin"] = row["netout"] = 0
    if m.is_9:
        row["memhost"] = 0
    return row


def node_row(m: Machine, node: Node) -> dict[str, Json]:
    """One row of GET /nodes."""
    row: dict[str, Json] = {
        "id": f"node/{node.name}", "node": node.name, "type": "node", "level": "",
        "status": "online" if node.online else "offline", "ssl_fingerprint": _fingerprint(node),
    }  # fmt: skip
    if node.online:
        row |= {
            "cpu": 0.01, "maxcpu": CPUS, "mem": MEMORY // 8, "maxmem": MEMORY, "disk": 2**33, "maxdisk": 2**36,
            "uptime": int(m.now - node.booted_at),
        }  # fmt: skip
    return row


def _fingerprint(node: Node) -> str:
    return ":".join(f"{(node.number * 37 + n * 11) % 256:02X}" for n in range(32))


def node_status(m: Machine, node: Node) -> dict[str, Json]:
    """GET /nodes/N/status."""
    release = "9.2.11" if m.is_9 else "8.4.21"
    return {
        "uptime": int(m.now - node.booted_at), "cpu": 0.01, "wait": 0, "idle": 0, "loadavg": ["0.01", "0.01", "0.00"],
        "memory": {"total": MEMORY, "used": MEMORY // 8, "free": MEMORY - MEMORY // 8, "available": MEMORY // 2},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": 2**36, "used": 2**33, "free": 2**36 - 2**33, "avail": 2**36 - 2**33},
        "cpuinfo": {"cpus": CPUS, "cores": CPUS, "sockets": 1, "model": "Simulated CPU", "mhz": "2400.000",
                    "hvm": "1", "flags": "", "user_hz": 100},
        "pveversion": f"pve-manager/{release}/14a22df35955d97d", "kversion": "Linux 6.14.0-2-pve",
        "ksm": {"shared": 0}, "boot-info": {"mode": "efi", "secureboot": 0},
    }  # fmt: skip


def cluster_status(m: Machine, viewer: Node) -> list[dict[str, Json]]:
    """GET /cluster/status as `viewer` sees it."""
    rows: list[dict[str, Json]] = []
    if len(m.cluster.nodes) > 1:
        rows.append({
            "id": "cluster", "type": "cluster", "name": "pvesim", "nodes": len(m.cluster.nodes),
            "quorate": int(viewer.quorate), "version": len(m.cluster.nodes),
        })  # fmt: skip
    for node in m.cluster.nodes.values():
        reachable = node.online and (node is viewer or node.quorate == viewer.quorate)
        rows.append({
            "id": f"node/{node.name}", "type": "node", "name": node.name, "ip": f"10.99.0.{node.number}",
            "nodeid": node.number if len(m.cluster.nodes) > 1 else 0, "local": int(node is viewer),
            "online": int(reachable), "level": "",
        })  # fmt: skip
    return rows
