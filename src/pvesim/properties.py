"""Property strings and the values PVE fills in: disks, network devices, sizes.

Rule kept here: what PVE adds by itself (MAC addresses, sizes, device order) is added here and nowhere else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping

QEMU_DISK = re.compile(r"^(ide[0-3]|scsi([12]?\d|30)|virtio(1[0-5]|\d)|sata[0-5]|efidisk0|tpmstate0)$")
LXC_VOLUME = re.compile(r"^(rootfs|mp\d{1,3})$")
UNUSED = re.compile(r"^unused\d{1,3}$")
NET = re.compile(r"^net(\d|[12]\d|3[01])$")
ALLOCATE = re.compile(r"^([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):(\d+(?:\.\d+)?)$")
VOLID = re.compile(r"^([A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]):(.+)$")
SIZE = re.compile(r"^\+?\d+(\.\d+)?[KMGT]?$")
NET_MODELS = (
    "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er",
    "ne2k_isa", "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3",
)  # fmt: skip
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
GIB = 1024**3


def split(raw: str) -> list[tuple[str, str]]:
    """The parts of a property string; a part without `=` has an empty name."""
    parts: list[tuple[str, str]] = []
    for part in raw.split(","):
        name, sign, value = part.partition("=")
        parts.append((name, value) if sign else ("", part))
    return parts


def lookup(raw: str, name: str) -> str | None:
    """One named part."""
    return next((value for key, value in split(raw) if key == name), None)


def file_of(raw: str) -> str:
    """The volume a disk or mount point names."""
    parts = split(raw)
    return next((v for k, v in parts if k in {"", "file", "volume"}), "")


def join(first: str, parts: Mapping[str, str]) -> str:
    """A property string as PVE prints it: the default part, then the others sorted."""
    return ",".join([first, *(f"{key}={parts[key]}" for key in sorted(parts))])


def options_of(raw: str, *, without: Iterable[str] = ()) -> dict[str, str]:
    """The named parts besides the volume."""
    dropped = {"", "file", "volume", *without}
    return {key: value for key, value in split(raw) if key not in dropped}


def format_size(size: int) -> str:
    """Bytes the way PVE prints a volume's size."""
    if size == 0:
        return "0T"
    for unit in ("", "K", "M", "G", "T"):
        if unit == "T" or size % 1024:
            return f"{size}{unit}"
        size //= 1024
    return str(size)


def parse_size(raw: str) -> int:
    """Bytes of a size such as 32G; a leading plus is ignored."""
    text = raw.lstrip("+")
    unit = text[-1] if text[-1:] in _UNITS and text[-1:] else ""
    number = text[: len(text) - len(unit)]
    return int(float(number) * _UNITS[unit])


def new_mac(rng: random.Random) -> str:
    """An address from the range of Proxmox."""
    return "BC:24:11:" + ":".join(f"{rng.randrange(256):02X}" for _ in range(3))


def new_uuid(rng: random.Random) -> str:
    """A version 4 UUID."""
    bits = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(bits[16], 16) % 4]
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{variant}{bits[17:20]}-{bits[20:]}"


def fill_qemu_net(raw: str, rng: random.Random, *, renew: bool = False) -> str:
    """`virtio,bridge=vmbr0` becomes `virtio=BC:24:11:..,bridge=vmbr0`."""
    model, mac = "", ""
    rest: dict[str, str] = {}
    for key, value in split(raw):
        if key == "" or key in NET_MODELS:
            model, mac = (value, mac) if key == "" else (key, value)
        elif key == "model":
            model = value
        elif key == "macaddr":
            mac = value
        else:
            rest[key] = value
    if renew or not mac:
        mac = new_mac(rng)
    return join(f"{model}={mac.upper()}", rest)


def fill_lxc_net(raw: str, rng: random.Random, *, renew: bool = False) -> str:
    """`name=eth0,bridge=vmbr0` gets an address and a type."""
    parts = {key: value for key, value in split(raw) if key}
    name = parts.pop("name", "eth0")
    if renew or "hwaddr" not in parts:
        parts["hwaddr"] = new_mac(rng)
    parts["hwaddr"] = parts["hwaddr"].upper()
    parts.setdefault("type", "veth")
    return join(f"name={name}", parts)


def is_cdrom(raw: str) -> bool:
    """Whether a drive is a CD-ROM (a cloud-init image counts as one here)."""
    return lookup(raw, "media") == "cdrom" or file_of(raw) in {"none", "cdrom"}


def default_boot(values: Mapping[str, str]) -> str:
    """The boot order PVE writes at creation; empty when there is no device."""
    disks = sorted((k for k in values if QEMU_DISK.match(k) and not k.startswith(("efi", "tpm"))), key=_rank)
    first = next((k for k in disks if not is_cdrom(values[k])), None)
    cdrom = next((k for k in disks if is_cdrom(values[k]) and "cloudinit" not in values[k]), None)
    net = next(iter(sorted(k for k in values if NET.match(k))), None)
    order = [device for device in (first, cdrom, net) if device is not None]
    return f"order={';'.join(order)}" if order else ""


def _rank(key: str) -> tuple[int, int]:
    kind = key.rstrip("0123456789")
    return ("ide", "scsi", "virtio", "sata").index(kind), int(key[len(kind) :])


def without_boot_device(boot: str, device: str) -> str:
    """A boot order after `device` was removed."""
    order = lookup(boot, "order")
    if order is None or device not in order.split(";"):
        return boot
    rest = [name for name in order.split(";") if name != device]
    return f"order={';'.join(rest)}"
