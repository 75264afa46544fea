"""The options a guest's config may have, and the parameters of the calls that take them.

Rule kept here: an option is known because it is listed here; a misspelt one is refused as PVE would refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvesim.properties import LXC_VOLUME, NET, NET_MODELS, QEMU_DISK, VOLID, file_of, split
from pvesim.schema import (
    BOOLEAN,
    COUNT,
    DESCRIPTION,
    DIGEST,
    DISK_SIZE,
    NAME,
    NODE,
    OPTIONAL_VMID,
    POSITIVE,
    ROOT_ONLY,
    SNAPNAME,
    TAGS,
    TEXT,
    UNKNOWN,
    VMID,
    Param,
)

MEMORY_MIB = 16
DRIVE_PARTS = frozenset({
    "file", "volume", "aio", "backup", "bps", "bps_rd", "bps_wr", "cache", "cyls", "detect_zeroes", "discard",
    "format", "heads", "import-from", "iops", "iops_rd", "iops_wr", "iothread", "mbps", "mbps_rd", "mbps_wr",
    "media", "model", "product", "queues", "readonly", "replicate", "rerror", "ro", "scsiblock", "secs", "serial",
    "shared", "size", "snapshot", "ssd", "trans", "vendor", "werror", "wwn", "efitype", "pre-enrolled-keys",
    "ms-cert", "version", "iops_max", "mbps_max", "iops_rd_max", "iops_wr_max", "mbps_rd_max", "mbps_wr_max",
})  # fmt: skip
MOUNT_PARTS = frozenset({
    "volume", "acl", "backup", "mountoptions", "mp", "quota", "replicate", "ro", "shared", "size", "keepattrs",
})  # fmt: skip
NET_PARTS = frozenset({
    "model", "macaddr", "bridge", "firewall", "link_down", "mtu", "queues", "rate", "tag", "trunks",
})  # fmt: skip
LXC_NET_PARTS = frozenset({
    "name", "bridge", "firewall", "gw", "gw6", "host-managed", "hwaddr", "ip", "ip6", "link_down", "mtu", "rate",
    "tag", "trunks", "type",
})  # fmt: skip
QEMU_LOCKS = (
    "backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended",
)  # fmt: skip
LXC_LOCKS = (
    "backup", "create", "destroyed", "disk", "fstrim", "migrate", "mounted", "rollback", "snapshot",
    "snapshot-delete",
)  # fmt: skip
_OSTYPES = (
    "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris",
)  # fmt: skip
_CT_OSTYPES = (
    "debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos",
    "unmanaged",
)  # fmt: skip


def _drive(raw: str, key: str, known: frozenset[str]) -> str | None:
    for name, _ in split(raw):
        if name and name not in known:
            return f"invalid format - format error\n{key}.{name}: {UNKNOWN}\n"
    volume = file_of(raw)
    if volume in {"none", "cdrom"} or volume.startswith("/") or VOLID.match(volume):
        return None
    part = "file" if known is DRIVE_PARTS else "volume"
    return f"invalid format - format error\n{key}.{part}: invalid format - unable to parse volume ID '{volume}'\n\n"


def _net(raw: str, key: str, known: frozenset[str]) -> str | None:
    for name, value in split(raw):
        if known is NET_PARTS and name in {"", "model"} and value not in NET_MODELS:
            models = ", ".join(NET_MODELS)
            return (
                f"invalid format - format error\n{key}.model: value '{value}' does not have a value in the"
                f" enumeration '{models}'\n"
            )
        if name and name not in known and not (known is NET_PARTS and name in NET_MODELS):
            return f"invalid format - format error\n{key}.{name}: {UNKNOWN}\n"
    return None


def _memory(raw: str) -> str | None:
    value = raw.removeprefix("current=")
    if not re.match(r"^[+-]?\d+$", value):
        return f"invalid format - format error\nmemory.current: type check ('integer') failed - got '{value}'\n"
    if int(value) < MEMORY_MIB:
        return f"invalid format - format error\nmemory.current: value must have a minimum value of {MEMORY_MIB}\n"
    return None


QEMU_OPTIONS: Mapping[str, Param] = {
    **dict.fromkeys(
        ("acpi", "autostart", "ciupgrade", "freeze", "kvm", "localtime", "numa", "onboot", "protection", "reboot",
         "tablet", "tdf", "template", "allow-ksm"),
        BOOLEAN,
    ),
    **dict.fromkeys(
        ("affinity", "agent", "amd-sev", "arch", "args", "audio0", "boot", "bootdisk", "cdrom", "cicustom",
         "cipassword", "citype", "ciuser", "cpu", "hookscript", "hotplug", "hugepages", "intel-tdx",
         "ivshmem", "keephugepages", "keyboard", "machine", "nameserver", "rng0", "scsihw", "searchdomain",
         "smbios1", "spice_enhancements", "sshkeys", "startdate", "startup", "vga", "virtiofs0", "vmgenid",
         "vmstatestorage", "watchdog", "bios"),
        TEXT,
    ),
    "balloon": COUNT, "shares": COUNT, "cores": POSITIVE, "sockets": POSITIVE, "vcpus": POSITIVE, "smp": POSITIVE,
    "cpulimit": Param(type="number", minimum=0, maximum=128), "cpuunits": POSITIVE, "memory": Param(check=_memory),
    "migrate_downtime": Param(type="number", minimum=0), "migrate_speed": COUNT, "name": NAME, "tags": TAGS,
    "description": DESCRIPTION, "ostype": Param(enum=_OSTYPES), "lock": Param(enum=QEMU_LOCKS),
}  # fmt: skip
_QEMU_FAMILY = re.compile(
    r"^(ipconfig([12]?\d|3[01])|hostpci(1[0-5]|\d)|usb(1[0-4]|\d)|serial[0-3]|parallel[0-2]|numa[0-7]"
    r"|unused\d{1,3}|virtiofs\d)$"
)
LXC_OPTIONS: Mapping[str, Param] = {
    **dict.fromkeys(("console", "debug", "onboot", "protection", "template", "unprivileged"), BOOLEAN),
    **dict.fromkeys(
        ("features", "hookscript", "nameserver", "searchdomain", "startup", "timezone", "entrypoint", "env"), TEXT
    ),
    "arch": Param(enum=("amd64", "i386", "arm64", "armhf", "riscv32", "riscv64")),
    "cmode": Param(enum=("shell", "console", "tty")), "cores": Param(type="integer", minimum=1, maximum=8192),
    "cpulimit": Param(type="number", minimum=0, maximum=8192),
    "cpuunits": Param(type="integer", minimum=0, maximum=500000), "description": DESCRIPTION, "hostname": NAME,
    "memory": Param(type="integer", minimum=MEMORY_MIB), "swap": COUNT, "tags": TAGS,
    "tty": Param(type="integer", minimum=0, maximum=6), "ostype": Param(enum=_CT_OSTYPES),
    "lock": Param(enum=LXC_LOCKS),
}  # fmt: skip
_LXC_FAMILY = re.compile(r"^(dev\d{1,3}|unused\d{1,3})$")


def qemu_option(name: str) -> Param | None:
    """A VM's option by name."""
    if name in QEMU_OPTIONS:
        return QEMU_OPTIONS[name]
    if QEMU_DISK.match(name):
        return Param(check=lambda raw: _drive(raw, name, DRIVE_PARTS))
    if NET.match(name):
        return Param(check=lambda raw: _net(raw, name, NET_PARTS))
    return TEXT if _QEMU_FAMILY.match(name) else None


def lxc_option(name: str) -> Param | None:
    """A container's option by name."""
    if name in LXC_OPTIONS:
        return LXC_OPTIONS[name]
    if LXC_VOLUME.match(name):
        return Param(check=lambda raw: _drive(raw, name, MOUNT_PARTS))
    if NET.match(name):
        return Param(check=lambda raw: _net(raw, name, LXC_NET_PARTS))
    return TEXT if _LXC_FAMILY.match(name) else None


def known_option(guest_type: str, name: str) -> bool:
    """Whether `delete` may name it."""
    return (qemu_option if guest_type == "qemu" else lxc_option)(name) is not None


CREATE_QEMU: Mapping[str, Param] = {
    "vmid": VMID, "start": BOOLEAN, "storage": TEXT, "pool": TEXT, "force": Param(type="boolean", needs="archive"),
    "unique": Param(type="boolean", needs="archive"), "bwlimit": COUNT, "archive": TEXT,
    "live-restore": Param(type="boolean", needs="archive"), "ha-managed": BOOLEAN, "import-working-storage": TEXT,
}  # fmt: skip
CREATE_LXC: Mapping[str, Param] = {
    "vmid": VMID, "ostemplate": Param(required=True), "start": BOOLEAN, "storage": TEXT, "pool": TEXT,
    "force": BOOLEAN, "unique": Param(type="boolean", needs="restore"), "bwlimit": COUNT, "password": TEXT,
    "ssh-public-keys": TEXT, "restore": BOOLEAN, "ignore-unpack-errors": BOOLEAN, "ha-managed": BOOLEAN,
}  # fmt: skip
CLONE_QEMU: Mapping[str, Param] = {
    "newid": VMID, "name": NAME, "description": DESCRIPTION, "pool": TEXT, "snapname": SNAPNAME, "storage": TEXT,
    "format": Param(enum=("raw", "qcow2", "vmdk")), "full": BOOLEAN, "target": NODE, "bwlimit": COUNT,
}  # fmt: skip
CLONE_LXC: Mapping[str, Param] = {
    "newid": VMID, "hostname": NAME, "description": DESCRIPTION, "pool": TEXT, "snapname": SNAPNAME,
    "storage": TEXT, "full": BOOLEAN, "target": NODE, "bwlimit": COUNT,
}  # fmt: skip
PUT_QEMU: Mapping[str, Param] = {
    "digest": DIGEST, "delete": TEXT, "revert": TEXT, "skiplock": ROOT_ONLY, "force": BOOLEAN,
}  # fmt: skip
POST_QEMU: Mapping[str, Param] = {
    **PUT_QEMU, "background_delay": Param(type="integer", minimum=1, maximum=30), "import-working-storage": TEXT,
}  # fmt: skip
PUT_LXC: Mapping[str, Param] = {"digest": DIGEST, "delete": TEXT, "revert": TEXT}
_DISKS = (
    *(f"ide{n}" for n in range(4)), *(f"scsi{n}" for n in range(31)), *(f"virtio{n}" for n in range(16)),
    *(f"sata{n}" for n in range(6)), "efidisk0", "tpmstate0",
)  # fmt: skip
_UNUSED = tuple(f"unused{n}" for n in range(256))
MOVABLE_QEMU = (*_DISKS, *_UNUSED)
MOVABLE_LXC = ("rootfs", *(f"mp{n}" for n in range(256)), *_UNUSED)
RESIZE_QEMU: Mapping[str, Param] = {
    "disk": Param(required=True, enum=_DISKS),
    "size": DISK_SIZE,
    "digest": DIGEST,
    "skiplock": ROOT_ONLY,
}
RESIZE_LXC: Mapping[str, Param] = {
    "disk": Param(required=True, enum=("rootfs", *(f"mp{n}" for n in range(256)))), "size": DISK_SIZE,
    "digest": DIGEST,
}  # fmt: skip
START_QEMU: Mapping[str, Param] = {
    "timeout": COUNT, "skiplock": ROOT_ONLY, "machine": TEXT, "force-cpu": TEXT, "nets-host-mtu": TEXT,
    "stateuri": Param(check=lambda _: "Only root may use this option."),
    "migratedfrom": Param(check=lambda _: "Only root may use this option."),
    "with-conntrack-state": BOOLEAN, "migration_type": TEXT, "migration_network": TEXT, "targetstorage": TEXT,
}  # fmt: skip
START_LXC: Mapping[str, Param] = {"skiplock": ROOT_ONLY, "debug": BOOLEAN}
STOP_QEMU: Mapping[str, Param] = {
    "timeout": COUNT, "skiplock": ROOT_ONLY, "keepActive": ROOT_ONLY, "overrule-shutdown": BOOLEAN,
    "migratedfrom": Param(check=lambda _: "Only root may use this option."),
}  # fmt: skip
STOP_LXC: Mapping[str, Param] = {"skiplock": ROOT_ONLY, "overrule-shutdown": BOOLEAN}
SHUTDOWN_QEMU: Mapping[str, Param] = {
    "timeout": COUNT,
    "forceStop": BOOLEAN,
    "skiplock": ROOT_ONLY,
    "keepActive": ROOT_ONLY,
}
SHUTDOWN_LXC: Mapping[str, Param] = {"timeout": COUNT, "forceStop": BOOLEAN}
DESTROY_QEMU: Mapping[str, Param] = {
    "skiplock": ROOT_ONLY,
    "purge": BOOLEAN,
    "destroy-unreferenced-disks": BOOLEAN,
}
DESTROY_LXC: Mapping[str, Param] = {"force": BOOLEAN, "purge": BOOLEAN, "destroy-unreferenced-disks": BOOLEAN}
GET_CONFIG: Mapping[str, Param] = {"current": BOOLEAN, "snapshot": SNAPNAME}
NEXTID: Mapping[str, Param] = {"vmid": OPTIONAL_VMID}
SNAPSHOT_LXC: Mapping[str, Param] = {
    "snapname": Param(required=True, max_length=40, check=SNAPNAME.check),
    "description": TEXT,
}
SNAPSHOT_QEMU: Mapping[str, Param] = {**SNAPSHOT_LXC, "vmstate": BOOLEAN}
SNAPSHOT_CONFIG: Mapping[str, Param] = {"description": TEXT}
FEATURE: Mapping[str, Param] = {
    "feature": Param(required=True, enum=("snapshot", "clone", "copy")),
    "snapname": SNAPNAME,
}
