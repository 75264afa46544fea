"""The guests file: how a world is described, and how somebody changes it by hand.

Rule kept here: a guest given as data is completed as PVE would have completed it, and every change by hand gives
the config a new text, so that nobody can mistake it for the one he has seen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from pvesim.access import Access, Holder, Pool, User, normalized
from pvesim.allocation import Filling, fill, is_volume_key, unlogged
from pvesim.guests import Guest, Hand
from pvesim.ha import Resource
from pvesim.ha_rounds import keep_going
from pvesim.machine import Machine
from pvesim.ops_create import complete_by_hand
from pvesim.ops_destroy import free_quietly
from pvesim.properties import ALLOCATE, GIB, VOLID, file_of, is_cdrom, lookup, parse_size
from pvesim.storage import DEFAULT_TEMPLATE, Archive, Storage
from pvesim.texts import Config, digest_of
from pvesim.tokens import Token

Raw = Mapping[str, object]
DEFAULT_NODES = ("pve1", "pve2", "pve3")
DEFAULT_STORAGES: tuple[Raw, ...] = (
    {"storage": "local", "type": "dir", "shared": 0, "content": "vztmpl,iso,backup"},
    {"storage": "local-lvm", "type": "lvmthin", "shared": 0, "content": "images,rootdir"},
    {"storage": "shared", "type": "rbd", "shared": 1, "content": "images,rootdir"},
    {"storage": "backup", "type": "nfs", "shared": 1, "content": "backup"},
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
        wanted_nodes = raw.get("nodes")
        nodes = tuple(map(str, cast("list[object]", wanted_nodes))) if isinstance(wanted_nodes, list) else None
        m.storages.defined[name] = Storage(name=name, kind=str(kind), shared=shared, content=tuple(parts), nodes=nodes)
        if "size" in raw:
            m.storages.quotas[name] = int(str(raw["size"]))
    given = spec.get("templates", spec.get("container_templates"))
    wanted = cast("list[object]", given) if isinstance(given, list) else [DEFAULT_TEMPLATE]
    for item in wanted:
        volid = str(cast("Raw", item)["volid"]) if isinstance(item, dict) else str(item)
        parsed = VOLID.match(volid)
        if parsed is not None and parsed[1] in m.storages.defined:
            for node in m.cluster.nodes:
                m.storages.add(volid, node, 126_515_062, m.now)


def add_tokens(m: Machine, spec: Raw) -> None:
    """The tokens of a description; users without an entry of any kind may do everything, as far as it has no `acl`."""
    access = m.tokens.access
    for raw in rows(spec, "tokens") or []:
        user, _, tokenid = str(raw["id"]).partition("!")
        given = raw.get("privs", raw.get("privileges"))
        privsep = raw.get("privsep") in (1, True, "1")
        expire = int(str(raw.get("expire", 0)))
        m.tokens.add(Token(user=user, tokenid=tokenid, secret=str(raw["secret"]), privsep=privsep, expire=expire))
        if isinstance(given, list):
            access.unlimited.discard(user)
            access.roles[f"of {user}"] = frozenset(str(p) for p in cast("list[object]", given))
            access.grant("/", Holder(kind="user", name=user), f"of {user}", propagate=1)
        elif "acl" not in spec:
            access.unlimited.add(user)
    for user in cast("list[object]", spec.get("users", [])):
        access.users.setdefault(str(user), User())
    _add_rights(access, spec)


def put_resource(m: Machine, raw: Raw) -> None:
    """A guest under HA, or no longer when its `state` is null."""
    sid = str(raw["sid"])
    if "state" in raw and raw["state"] is None:
        m.ha.resources.pop(sid, None)
        return
    resource = m.ha.resources.setdefault(sid, Resource(sid=sid))
    resource.request = str(raw.get("state", resource.request))
    resource.max_restart = int(str(raw.get("max_restart", resource.max_restart)))
    resource.max_relocate = int(str(raw.get("max_relocate", resource.max_relocate)))
    guest = m.guests.guests.get(resource.vmid)
    resource.node = guest.node if guest is not None else ""
    keep_going(m)


def add_backups(m: Machine, spec: Raw) -> None:
    """Archives that are there from the beginning: `vmid`, `type`, `config`, and what else shall be known of them."""
    for raw in rows(spec, "backups") or []:
        kind, vmid = str(raw.get("type", "qemu")), int(str(raw["vmid"]))
        node = str(raw.get("node") or next(iter(m.cluster.nodes)))
        ctime = float(str(raw.get("ctime", m.now)))
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.gmtime(ctime))
        suffix = "vma.zst" if kind == "qemu" else "tar.zst"
        volid = str(raw.get("volid", f"{raw.get('storage', 'backup')}:backup/vzdump-{kind}-{vmid}-{stamp}.{suffix}"))
        values = {key: str(value) for key, value in cast("Raw", raw.get("config", {})).items()}
        sizes = {
            key: parse_size(lookup(value, "size") or "8G")
            for key, value in values.items()
            if is_volume_key(kind, key) and not is_cdrom(value)
        }
        volume = m.storages.add(volid, node, int(str(raw.get("size", 2**20))), ctime)
        notes = str(raw["notes"]) if raw.get("notes") else None
        m.storages.put(replace(volume, notes=notes, protected=raw.get("protected") in (1, True, "1")))
        m.storages.archives[volume.place, volid] = Archive(guest_type=kind, vmid=vmid, values=values, sizes=sizes)


def _add_rights(access: Access, spec: Raw) -> None:
    """The keys `roles`, `groups`, `acl` and `pools`."""
    for name, privileges in cast("Raw", spec.get("roles", {})).items():
        access.roles[name] = frozenset(str(p) for p in cast("list[object]", privileges))
    for name, members in cast("Raw", spec.get("groups", {})).items():
        access.groups.setdefault(name, None)
        for user in cast("list[object]", members):
            access.users.setdefault(str(user), User()).groups.append(name)
    for raw in rows(spec, "acl") or []:
        name = str(raw.get("token", raw.get("ugid", raw.get("user", raw.get("group")))))
        kind = "group" if "group" in raw or "@" not in name else "token" if "!" in name else "user"
        given = raw.get("privs")
        role = str(raw.get("role"))
        if isinstance(given, list):
            role = f"of {name} on {raw['path']}"
            access.roles[role] = frozenset(str(p) for p in cast("list[object]", given))
        if role not in access.roles:
            raise BadSpec(f"unknown role {role!r}")
        holder = Holder(kind=kind, name=name)
        propagate = int(raw.get("propagate", 1) in (1, True, "1"))
        access.grant(normalized(str(raw["path"])), holder, role, propagate=propagate)
    for raw in rows(spec, "pools") or []:
        pool = access.pools.setdefault(str(raw["poolid"]), Pool())
        pool.comment = str(raw["comment"]) if "comment" in raw else None
        pool.vms |= {int(str(v)) for v in cast("list[object]", raw.get("vms", []))}
        pool.storages |= {str(s) for s in cast("list[object]", raw.get("storage", []))}


def put_guest(m: Machine, raw: Raw) -> None:
    """Create, change or remove one guest as somebody would by hand."""
    vmid = int(str(raw["vmid"]))
    guest = m.guests.guests.get(vmid)
    if raw.get("deleted"):
        if guest is not None:
            free_quietly(m, guest)
            m.tokens.access.forget_guest(vmid)
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
