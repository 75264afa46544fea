"""The data of PVE's API viewer: which calls there are and what they take, as a tree in a script.

Rule kept here: it is made from the same tables by which requests are checked, so that it never promises more or
less than the simulator does; only the sentences stand here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from pvesim.api import ROUTES
from pvesim.guest_options import (
    DRIVE_PARTS,
    LXC_NET_PARTS,
    LXC_OPTIONS,
    MOUNT_PARTS,
    NET_PARTS,
    QEMU_OPTIONS,
    lxc_option,
    qemu_option,
)
from pvesim.routing import Route
from pvesim.schema import DISK_SIZE, HIGHEST_VMID, LOWEST_VMID, Param
from pvesim.wire import Json

PATH = "/pve-docs/api-viewer/apidoc.js"
_TEXTS: Mapping[str, str] = {
    "acpi": "Whether the guest gets ACPI.", "agent": "The guest agent: whether it is used, and how.",
    "allow-ksm": "Whether the host may merge equal pages of this guest's memory.",
    "archive": "A backup to restore from instead of making an empty guest.", "arch": "The processor architecture.",
    "autostart": "Start again after a crash; ignored today.", "balloon": "The least memory in MiB; 0 turns it off.",
    "bios": "Which firmware the guest boots.", "boot": "The order of devices to boot from.",
    "bwlimit": "The highest rate in KiB/s.", "cipassword": "The password cloud-init sets.",
    "citype": "The format of the cloud-init data.", "ciuser": "The user cloud-init sets up.",
    "cicustom": "Files to use in place of the generated cloud-init data.",
    "ciupgrade": "Whether cloud-init upgrades the packages at the first boot.",
    "cmode": "What a console of the container shows.", "comment": "A remark.", "compress": "How an archive is packed.",
    "console": "Whether the container has a console device.", "cores": "Cores of each socket, or of the container.",
    "cpu": "The emulated processor.", "cpulimit": "The most processor time, in cores; 0 is no limit.",
    "cpuunits": "The weight against other guests.", "delete": "Settings to remove, separated by commas.",
    "description": "Notes about the guest.", "destroy-unreferenced-disks": "Whether unnamed volumes go, too.",
    "dev": "A device handed through to the container.", "digest": "Refuse when the config has another SHA-1 by now.",
    "disk": "The disk that is meant.", "efidisk": "The disk with the variables of the firmware.",
    "features": "Further abilities of the container.", "force": "Go on where one would be refused otherwise.",
    "freeze": "Whether the processor stands still after the start.", "full": "A full copy instead of a linked one.",
    "hookscript": "A script that runs at steps of the guest's life.", "hostname": "The container's host name.",
    "hostpci": "A PCI device of the host.", "hotplug": "What may be plugged while the guest runs.",
    "ide": "An IDE disk or CD-ROM.", "ipconfig": "The address cloud-init sets on one interface.",
    "kvm": "Whether hardware virtualization is used.", "lock": "The lock of the config.",
    "machine": "The emulated machine.", "memory": "Memory in MiB.", "migrate_downtime": "Seconds a move may stop it.",
    "migrate_speed": "The rate of a move in MB/s.", "mode": "How a running guest is backed up.",
    "mp": "A mount point of the container.", "name": "The name of the VM.", "nameserver": "Addresses of DNS servers.",
    "net": "A network interface.", "newid": "The number of the copy.", "node": "The node.",
    "notes-template": "Notes for the archive, with variables in double braces.", "numa": "NUMA, and its cells.",
    "onboot": "Whether the guest starts with its node.", "online": "Move it while it runs.",
    "ostemplate": "The template or the backup a container is made from.", "ostype": "What kind of system the guest is.",
    "pool": "A pool the guest is to be in.", "protected": "Whether an archive is kept from deletion.",
    "protection": "Whether the guest and its disks are kept from removal.", "purge": "Remove it from jobs and HA, too.",
    "reboot": "Whether a reboot of the guest is one.", "restart": "Stop it, move it, start it.",
    "restore": "Whether the template is a backup.", "revert": "Waiting changes to drop.",
    "rootfs": "The container's root file system.", "sata": "A SATA disk or CD-ROM.", "scsi": "A SCSI disk or CD-ROM.",
    "scsihw": "The emulated SCSI controller.", "searchdomain": "The DNS search domain.", "serial": "A serial port.",
    "shares": "The weight when memory is short.", "size": "The new size, or with a plus how much is added.",
    "smbios1": "Fields of the SMBIOS table, the UUID among them.", "snapname": "The name of a snapshot.",
    "sockets": "Processor sockets.", "sshkeys": "Public keys for cloud-init, URL-encoded.",
    "start": "Start it afterwards.",
    "startup": "When in the order it starts, and the waits.", "storage": "The storage.", "swap": "Swap in MiB.",
    "tablet": "Whether there is a USB tablet as pointer.", "tags": "Labels of the guest.", "target": "The target node.",
    "template": "Whether it is a template.", "timeout": "Seconds to wait at most.", "timezone": "The time zone inside.",
    "tpmstate": "The disk with the state of the TPM.", "tty": "How many terminals the container has.",
    "unique": "Whether identifiers are made anew.", "unprivileged": "Whether root inside is nobody outside.",
    "unused": "A volume of the guest that is not attached.", "usb": "A USB device.", "vcpus": "Processors plugged in.",
    "vga": "The display.", "virtio": "A VirtIO disk.", "vmgenid": "The id of this generation of the guest.",
    "vmid": "The number of the guest.", "vmstate": "Whether the memory is saved, too.",
    "vmstatestorage": "The storage for saved memory.", "watchdog": "A watchdog device.",
    "with-local-disks": "Whether disks of this node may be copied.",
}  # fmt: skip
_VIEWER = "document.title = 'API of the simulated Proxmox VE';"
_VERBS = {"GET": "Shows", "POST": "Makes or does", "PUT": "Changes", "DELETE": "Removes"}
_FAMILIES = {
    "qemu": {
        "ide[n]": "ide0", "sata[n]": "sata0", "scsi[n]": "scsi0", "virtio[n]": "virtio0", "net[n]": "net0",
        "unused[n]": "unused0", "ipconfig[n]": "ipconfig0", "serial[n]": "serial0", "usb[n]": "usb0",
        "hostpci[n]": "hostpci0", "parallel[n]": "parallel0", "numa[n]": "numa0", "virtiofs[n]": "virtiofs0",
        "efidisk0": "efidisk0", "tpmstate0": "tpmstate0",
    },
    "lxc": {"rootfs": "rootfs", "mp[n]": "mp0", "net[n]": "net0", "unused[n]": "unused0", "dev[n]": "dev0"},
}  # fmt: skip
_NAMES_IN_PATH = {
    "node": Param(required=True), "vmid": Param(type="integer", required=True),
    "snapname": Param(required=True, max_length=40),
}  # fmt: skip


def text_for(name: str) -> str:
    """A sentence about a parameter."""
    stem = name.removesuffix("[n]").rstrip("0123456789")
    return _TEXTS.get(name) or _TEXTS.get(stem) or f"The {name.replace('-', ' ').replace('_', ' ')}."


def described(name: str, param: Param, kind: str | None = None) -> dict[str, Json]:
    """One parameter as the viewer shows it."""
    row: dict[str, Json] = {"type": param.type, "description": text_for(name), "typetext": f"<{param.type}>"}
    if not param.required:
        row["optional"] = 1
    limits: dict[str, Json] = {
        "minimum": param.minimum, "maximum": param.maximum, "maxLength": param.max_length, "requires": param.needs,
    }  # fmt: skip
    row |= {key: value for key, value in limits.items() if value is not None}
    if param.enum is not None:
        row["enum"], row["typetext"] = list(param.enum), " | ".join(param.enum)
    if name in {"vmid", "newid"}:
        row |= {"format": "pve-vmid", "minimum": LOWEST_VMID, "maximum": HIGHEST_VMID}
    if param is DISK_SIZE:
        row["pattern"] = r"\+?\d+(\.\d+)?[KMGT]?"
    parts = _parts(name, kind) if kind is not None else None
    if parts is not None:
        row["format"] = {part: {"type": "string", "optional": 1, "description": f"The {part}."} for part in parts}
    return row


def _parts(name: str, kind: str) -> list[str] | None:
    """The named parts of a property string."""
    stem = name.removesuffix("[n]").rstrip("0123456789")
    if stem == "net":
        return sorted(NET_PARTS if kind == "qemu" else LXC_NET_PARTS)
    if kind == "qemu" and stem in {"ide", "sata", "scsi", "virtio", "efidisk", "tpmstate"}:
        return sorted(DRIVE_PARTS)
    return sorted(MOUNT_PARTS) if kind == "lxc" and stem in {"rootfs", "mp"} else None


def _options(kind: str) -> dict[str, dict[str, Json]]:
    """All options of a guest's config."""
    table, find = (QEMU_OPTIONS, qemu_option) if kind == "qemu" else (LXC_OPTIONS, lxc_option)
    found = {name: described(name, param, kind) for name, param in table.items()}
    for shown, example in _FAMILIES[kind].items():
        param = find(example)
        if param is not None:
            found[shown] = described(shown, param, kind)
    return found


def _info(route: Route) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    if route.more is not None:
        properties |= _options(route.fixed.get("type", "qemu"))
    properties |= {name: described(name, param) for name, param in route.params.items()}
    for name in route.pattern.groupindex:
        properties[name] = described(name, _NAMES_IN_PATH.get(name, Param(required=True)))
    info: dict[str, Json] = {
        "method": route.method, "name": f"{route.method.lower()}_{route.path.rpartition('/')[2].strip('{}')}",
        "description": f"{_VERBS[route.method]} {route.path}.", "allowtoken": 1,
        "parameters": {"additionalProperties": 0, "properties": dict(sorted(properties.items()))},
        "returns": {"type": "any"},
    }  # fmt: skip
    if route.protected:
        info["protected"] = 1
    if "node" in route.pattern.groupindex:
        info["proxyto"] = "node"
    if route.demands is not None:
        check: list[Json] = ["perm", route.demands.path, list(route.demands.privileges)]
        info["permissions"] = {"check": [*check, "any", 1] if route.demands.any_of else check}
    else:
        info["permissions"] = {"user": "all"}
    return info


def _children(path: str, known: Mapping[str, list[Route]]) -> list[Json]:
    depth = path.count("/") + 1 if path else 1
    below = sorted({"/".join(p.split("/")[: depth + 1]) for p in known if p.startswith(f"{path}/")})
    nodes: list[Json] = []
    for child in below:
        children = _children(child, known)
        node: dict[str, Json] = {"path": child, "text": child.rpartition("/")[2], "leaf": int(not children)}
        if children:
            node["children"] = children
        if child in known:
            node["info"] = {route.method: _info(route) for route in known[child]}
        nodes.append(node)
    return nodes


def tree() -> list[Json]:
    """The calls as a tree of paths."""
    known: dict[str, list[Route]] = {}
    for route in ROUTES:
        known.setdefault(route.path, []).append(route)
    return _children("", known)


@cache
def script() -> str:
    """The file as a node serves it: the constant, and after it the viewer's own code."""
    return f"const apiSchema = {json.dumps(tree(), indent=3, sort_keys=True)}\n;\n\n{_VIEWER}\n"
