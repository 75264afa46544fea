"""What PVE knows of its property strings, as tables: which keys have subkeys, and what holds where nothing is written.

From the format definitions of qemu-server (PVE::QemuServer, ::Drive, ::CPUConfig) and pve-container
(PVE::LXC::Config). A key that is not listed is plain text. Only what changes a comparison stands here.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from trueup.model.ids import GuestType


class Shape(StrEnum):
    """How a key's value is compared and written."""

    TEXT = "text"
    DISK = "disk"
    PROPERTIES = "properties"
    TAGS = "tags"
    WORDS = "words"
    FLAGS = "flags"
    SECRET = "secret"  # noqa: S105 - the name of a shape
    SSH_KEYS = "ssh-keys"
    DESCRIPTION = "description"


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One key's format.

    `default_key` is the subkey whose name may be left out ('' = none). `defaults` hold for subkeys that are not
    written. `aliases` are other names of subkeys. `exclusive` are subkeys of which one rules out the others.
    """

    shape: Shape = Shape.TEXT
    default_key: str = ""
    defaults: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    exclusive: tuple[str, ...] = ()


NET_MODELS = frozenset(
    {
        *("e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e"),
        *("i82551", "i82557b", "i82559er", "ne2k_isa", "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3"),
    }
)
"""QEMU's network models: `virtio=MAC` means model=virtio and macaddr=MAC."""

SETS = frozenset({"flags", "mount", "mountoptions", "trunks"})
"""Subkeys that hold a set, separated by semicolons."""

MACS = frozenset({"macaddr", "hwaddr"})

ONLY_AT_CREATION = frozenset({"format", "import-from"})
"""Subkeys of disks that PVE obeys when it makes the volume and does not keep."""

HOTPLUG_DEFAULT = "network,disk,usb"

_TEXT = Format()
_QEMU_DISK = Format(
    shape=Shape.DISK,
    default_key="file",
    aliases={"volume": "file"},
    defaults={
        "backup": "1",
        "cache": "none",
        "detect_zeroes": "1",
        "discard": "ignore",
        "efitype": "2m",
        "iothread": "0",
        "media": "disk",
        "pre-enrolled-keys": "0",
        "replicate": "1",
        "ro": "0",
        "shared": "0",
        "snapshot": "0",
        "ssd": "0",
        "version": "v1.2",
    },
)
_LXC_DISK = Format(
    shape=Shape.DISK,
    default_key="volume",
    aliases={"file": "volume"},
    defaults={"backup": "0", "quota": "0", "replicate": "1", "ro": "0", "shared": "0"},
)
_NET_DEFAULTS = {"firewall": "0", "link_down": "0", "type": "veth"}
_PLAIN_MAP = Format(shape=Shape.PROPERTIES)


def _props(default_key: str = "", **rest: Mapping[str, str] | tuple[str, ...]) -> Format:
    return msgspec.convert({"shape": "properties", "default_key": default_key, **rest}, Format)


_QEMU: Mapping[str, Format] = {
    "agent": _props("enabled", defaults={"fstrim_cloned_disks": "0", "freeze-fs-on-backup": "1", "type": "virtio"}),
    "amd-sev": _props("type"),
    "audio": _PLAIN_MAP,
    "boot": _props("legacy", exclusive=("legacy", "order")),
    "cicustom": _PLAIN_MAP,
    "cpu": _props("cputype", defaults={"hidden": "0"}),
    "hostpci": _props("host", exclusive=("host", "mapping"), defaults={"pcie": "0", "rombar": "1", "x-vga": "0"}),
    "ipconfig": _PLAIN_MAP,
    "ivshmem": _PLAIN_MAP,
    "machine": _props("type"),
    "memory": _props("current"),
    "net": _props("model", aliases={"hwaddr": "macaddr"}, defaults=_NET_DEFAULTS),
    "numa#": _PLAIN_MAP,
    "rng": _props("source"),
    "smbios": _PLAIN_MAP,
    "spice_enhancements": _PLAIN_MAP,
    "startup": _props("order"),
    "usb": _props("host", exclusive=("host", "mapping"), defaults={"usb3": "0"}),
    "vga": _props("type"),
    "virtiofs": _props("dirid"),
    "watchdog": _props("model"),
    "cipassword": Format(shape=Shape.SECRET),
    "sshkeys": Format(shape=Shape.SSH_KEYS),
    "hotplug": Format(shape=Shape.FLAGS),
}
_LXC: Mapping[str, Format] = {
    "dev": _props("path", defaults={"deny-write": "0"}),
    "features": _props(
        defaults={"fuse": "0", "keyctl": "0", "mknod": "0", "nesting": "0", "force_rw_sys": "0"},
    ),
    "net": _props(aliases={"macaddr": "hwaddr"}, defaults=_NET_DEFAULTS),
    "startup": _props("order"),
    "password": Format(shape=Shape.SECRET),
}
_BOTH: Mapping[str, Format] = {
    "description": Format(shape=Shape.DESCRIPTION),
    "nameserver": Format(shape=Shape.WORDS),
    "searchdomain": Format(shape=Shape.WORDS),
    "tags": Format(shape=Shape.TAGS),
}

_QEMU_DISK_KEY = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate|unused)[0-9]+")
_LXC_DISK_KEY = re.compile(r"rootfs|(?:mp|unused)[0-9]+")
_NUMBERED = re.compile(r"(.*?)([0-9]+)")

NUMBERED_FAMILIES = frozenset({"audio", "dev", "hostpci", "ipconfig", "net", "rng", "smbios", "usb", "virtiofs"})


@lru_cache(maxsize=1024)  # a plan asks several times for each of a few dozen keys of thousands of guests
def format_of(guest_type: GuestType, key: str) -> Format:
    """The format of one config key; plain text if PVE has no subkeys for it."""
    qemu = guest_type is GuestType.QEMU
    if is_disk(guest_type, key):
        return _QEMU_DISK if qemu else _LXC_DISK
    table = _QEMU if qemu else _LXC
    numbered = _NUMBERED.fullmatch(key)
    if numbered is not None:
        if key.startswith("numa"):
            return table.get("numa#", _TEXT)
        return table.get(numbered[1], _TEXT) if numbered[1] in NUMBERED_FAMILIES else _TEXT
    if key in NUMBERED_FAMILIES:
        return _TEXT
    return table.get(key) or _BOTH.get(key, _TEXT)


@lru_cache(maxsize=1024)
def is_disk(guest_type: GuestType, key: str) -> bool:
    """Whether a key holds a volume: a disk, a CD-ROM, a mount point, a root volume, an unused volume."""
    pattern = _QEMU_DISK_KEY if guest_type is GuestType.QEMU else _LXC_DISK_KEY
    return pattern.fullmatch(key) is not None


def sizeless(key: str) -> bool:
    """Whether PVE itself chooses the size of this volume: EFI variables and TPM state."""
    return key.startswith(("efidisk", "tpmstate"))


def default_of(guest_type: GuestType, key: str) -> str | None:
    """What holds if a key is not written; None if that depends, or if not written means not there."""
    return (_QEMU_DEFAULTS if guest_type is GuestType.QEMU else _LXC_DEFAULTS).get(key)


_QEMU_DEFAULTS: Mapping[str, str] = {
    "acpi": "1",
    "agent": "0",
    "autostart": "0",
    "bios": "seabios",
    "ciupgrade": "1",
    "cores": "1",
    "cpu": "kvm64",
    "cpulimit": "0",
    "freeze": "0",
    "hotplug": HOTPLUG_DEFAULT,
    "kvm": "1",
    "memory": "512",
    "numa": "0",
    "onboot": "0",
    "ostype": "other",
    "protection": "0",
    "reboot": "1",
    "scsihw": "lsi",
    "sockets": "1",
    "tablet": "1",
    "vga": "std",
}
_LXC_DEFAULTS: Mapping[str, str] = {
    "cmode": "tty",
    "console": "1",
    "cpulimit": "0",
    "debug": "0",
    "memory": "512",
    "onboot": "0",
    "protection": "0",
    "swap": "512",
    "tty": "2",
    "unprivileged": "0",
}

RESERVED_KEYS = frozenset(
    {
        *("archive", "cdrom", "delete", "description", "digest", "force", "hostname", "live-restore", "lock", "meta"),
        *("name", "newid", "node", "ostemplate", "parent", "restore", "revert", "runningcpu", "runningmachine"),
        *("skiplock", "snapstate", "snaptime", "start", "template", "unique", "vmid", "vmstate"),
    }
)
"""Keys of PVE's calls that a manifest gives elsewhere, or that only PVE writes."""

ONLY_AT_CREATION_KEYS: Mapping[GuestType, frozenset[str]] = {
    GuestType.QEMU: frozenset({"bwlimit", "ha-managed", "import-working-storage", "pool", "storage"}),
    GuestType.LXC: frozenset(
        {"bwlimit", "ha-managed", "ignore-unpack-errors", "password", "pool", "ssh-public-keys", "storage"}
    ),
}
"""Parameters of PVE's create calls that it does not keep in the config: they never differ afterwards."""
