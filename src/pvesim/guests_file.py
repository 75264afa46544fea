"""The guests file: how a world is described, and how somebody changes it by hand.

Rule kept here: a guest given as data is completed as PVE would have completed it, and every change by hand gives
the config a new text, so that nobody can mistake it for the one he has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pvesim.allocation import Filling, fill, is_volume_key, unlogged
from pvesim.guests import Guest, Hand
from pvesim.machine import Machine
from pvesim.ops_create import complete_by_hand
from pvesim.ops_destroy import free_quietly
from pvesim.properties import ALLOCATE, GIB, VOLID, file_of, lookup, parse_size
from pvesim.storage import DEFAULT_TEMPLATE, Storage
from pvesim.texts import Config, digest_of
from pvesim.tokens import Token

Raw = Mapping[str, object]
DEFAULT_NODES = ("pve1", "pve2", "pve3")
DEFAULT_STORAGES: tuple[Raw, ...] = (
    {"storage": "local", "type": "dir", "shared": 0, "content": "vztmpl,iso,backup"},
    {"storage": "local-lvm", "type": "lvmthin", "shared": 0, "content": "images,rootdir"},
    {"storage": "shared", "type": "rbd", "shared": 1, "content": "images,rootdir"},
)
DEFAULT_GUESTS: tuple[Raw, ...] = (
    {
        "type": "qemu", "vmid": 9000, "node": "pve1", "name": "debian-12", "template": True,
        "config": {
            "cores": 1, "memory": 1024, "ostype": "l26", "scsihw": "virtio-scsi-single",
            "scsi0": "shared:base-9000-disk-0,size=8G", "net0": "virtio,bridge=vmbr0",
        },
    },
    {
        "type": "lxc", "vmid": 9001, "node": "pve1", "name": "debian-12-ct", "template": True,
        "config": {
            "cores": 1, "memory": 512, "swap": 512, "ostype": "debian", "unprivileged": 1,
            "rootfs": "shared:base-9001-disk-0,size=4G", "net0": "name=eth0,bridge=vmbr0,ip=dhcp",
        },
    },
)  # fmt: skip


class BadSpec(ValueError):
    """A guests file that cannot be read."""


def rows(raw: Raw, key: str) -> list[Raw] | None:
    """A list of objects in a description."""
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[object]", value)):
        raise BadSpec(f"{key} must be a list of objects")
    return cast("list[Raw]", value)


def node_names(spec: Raw) -> list[str]:
    """The nodes of a description."""
    value = spec.get("nodes", list(DEFAULT_NODES))
    if not isinstance(value, list):
        raise BadSpec("nodes must be a list")
    names = [str(cast("Raw", n)["node"]) if isinstance(n, dict) else str(n) for n in cast("list[object]", value)]
    if not names:
        raise BadSpec("at least one node is needed")
    return names


def add_storages(m: Machine, spec: Raw) -> None:
    """Storages with what lies on them from the beginning."""
    for raw in rows(spec, "storages") or DEFAULT_STORAGES:
        name = str(raw["storage"])
        shared = raw.get("shared") in (1, True, "1")
        content = raw.get("content", "images,rootdir")
        parts = content.split(",") if isinstance(content, str) else [str(c) for c in cast("list[object]", content)]
        kind = raw.get("type") or ("rbd" if shared else "dir" if "vztmpl" in parts else "lvmthin")
        m.storages.defined[name] = Storage(name=name, kind=str(kind), shared=shared, content=tuple(parts))
    given = spec.get("templates", spec.get("container_templates"))
    wanted = cast("list[object]", given) if isinstance(given, list) else [DEFAULT_TEMPLATE]
    for item in wanted:
        volid = str(cast("Raw", item)["volid"]) if isinstance(item, dict) else str(item)
        parsed = VOLID.match(volid)
        if parsed is not None and parsed[1] in m.storages.defined:
            for node in m.cluster.nodes:
                m.storages.add(volid, node, 126_515_062, m.now)


def add_tokens(m: Machine, spec: Raw) -> None:
    """The tokens of a description."""
    for raw in rows(spec, "tokens") or []:
        user, _, tokenid = str(raw["id"]).partition("!")
        given = raw.get("privs", raw.get("privileges"))
        privileges = frozenset(str(p) for p in cast("list[object]", given)) if isinstance(given, list) else None
        if privileges is not None:
            m.tokens.privileges[user] = privileges
        m.tokens.add(Token(user=user, tokenid=tokenid, secret=str(raw["secret"]), privileges=privileges))
    for user in cast("list[object]", spec.get("users", [])):
        m.tokens.users.add(str(user))


def put_guest(m: Machine, raw: Raw) -> None:
    """Create, change or remove one guest as somebody would by hand."""
    vmid = int(str(raw["vmid"]))
    guest = m.guests.guests.get(vmid)
    if raw.get("deleted"):
        if guest is not None:
            free_quietly(m, guest)
            m.guests.settle(vmid, guest.node)
            del m.guests.guests[vmid]
        return
    if guest is None:
        _new_guest(m, raw, vmid)
    else:
        _merge(m, raw, guest)


def _new_guest(m: Machine, raw: Raw, vmid: int) -> None:
    kind = str(raw.get("type", "qemu"))
    node = str(raw.get("node") or next(iter(m.cluster.nodes)))
    if kind not in {"qemu", "lxc"} or node not in m.cluster.nodes:
        raise BadSpec(f"guest {vmid}: unknown type {kind!r} or node {node!r}")
    guest = Guest(vmid=vmid, type=kind, node=node, config=Config())
    values = _values(m, raw, guest)
    if values.get("template") == "1":
        _make_bases(m, guest, values)
    complete_by_hand(m, kind, values, m.clock(node))
    m.guests.settle(vmid, node)
    m.guests.guests[vmid] = guest
    m.guests.write(guest, Config(values=values), Hand())
    _set_status(m, raw, guest)


def _make_bases(m: Machine, guest: Guest, values: dict[str, str]) -> None:
    """A template's disks are base images, which linked clones can use."""
    for key, raw in values.items():
        volid = file_of(raw)
        if not is_volume_key(guest.type, key) or f"vm-{guest.vmid}-disk-" not in volid:
            continue
        size = m.storages.need(volid, guest.node).size
        m.storages.free(volid, guest.node)
        base = volid.replace(f"vm-{guest.vmid}-disk-", f"base-{guest.vmid}-disk-")
        m.storages.add(base, guest.node, size, m.now)
        values[key] = raw.replace(volid, base)


def _merge(m: Machine, raw: Raw, guest: Guest) -> None:
    node = raw.get("node")
    if node is not None and str(node) != guest.node:
        if str(node) not in m.cluster.nodes:
            raise BadSpec(f"unknown node {node!r}")
        m.storages.move(guest.vmid, str(node))
        m.guests.move(guest, str(node))
    before = guest.text
    config = guest.config.copy()
    config.values = _values(m, raw, guest)
    m.guests.write(guest, config, Hand())
    if guest.text == before:
        guest.text = before + "\n"
        guest.digest = digest_of(guest.text)
    _set_status(m, raw, guest)


def _set_status(m: Machine, raw: Raw, guest: Guest) -> None:
    if "acpi" in raw:
        guest.acpi = bool(raw["acpi"])
    status = raw.get("status")
    if status == "running" and not guest.running:
        m.guests.set_running(guest, m.cluster.nodes[guest.node].fork_pid(m.rng), Hand())
    elif status == "stopped" and guest.running:
        m.guests.set_running(guest, None, Hand())


def _values(m: Machine, raw: Raw, guest: Guest) -> dict[str, str]:
    """The guest's values with the described ones merged in."""
    values = dict(guest.values)
    given = raw.get("config")
    for key, value in cast("Raw", given).items() if isinstance(given, dict) else ():
        if value is None:
            values.pop(key, None)
            continue
        text = str(int(value)) if isinstance(value, bool) else str(value)
        values[key] = _volume_or_text(m, guest, key, text.rstrip("\n") if key == "description" else text)
    if raw.get("name") is not None:
        values["name" if guest.type == "qemu" else "hostname"] = str(raw["name"])
    if "template" in raw:
        values.pop("template", None)
        if raw["template"]:
            values["template"] = "1"
    if "lock" in raw:
        values.pop("lock", None)
        if raw["lock"]:
            values["lock"] = str(raw["lock"])
    return values


def _volume_or_text(m: Machine, guest: Guest, key: str, raw: str) -> str:
    filling = Filling(m=m, guest_type=guest.type, node=guest.node, vmid=guest.vmid, log=unlogged)
    if not is_volume_key(guest.type, key):
        return fill(filling, key, raw)
    volid = file_of(raw)
    parsed = VOLID.match(volid)
    if parsed is None or parsed[1] not in m.storages.defined:
        return raw
    if parsed[2] != "cloudinit" and not ALLOCATE.match(volid) and m.storages.find(volid, guest.node) is None:
        size = lookup(raw, "size")
        m.storages.add(volid, guest.node, parse_size(size) if size else 8 * GIB, m.now)
        return raw
    return fill(filling, key, raw)
