"""Which right each option of a guest's config needs.

Rule kept here: every option is in one of PVE's classes; what is in none may be set by root alone, and a token is
never root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pvesim.access import Identity
from pvesim.allocation import is_volume_key
from pvesim.properties import ALLOCATE, NET, UNUSED, file_of, lookup
from pvesim.wire import died

_QEMU: Mapping[str, str] = {
    **dict.fromkeys(("cores", "cpu", "cpulimit", "cpuunits", "numa", "smp", "sockets", "vcpus", "affinity"),
                    "VM.Config.CPU"),
    **dict.fromkeys(("memory", "balloon", "shares", "allow-ksm"), "VM.Config.Memory"),
    **dict.fromkeys(
        ("acpi", "hotplug", "kvm", "machine", "scsihw", "smbios1", "tablet", "vga", "watchdog", "audio0", "rng0",
         "amd-sev", "intel-tdx", "hugepages", "ivshmem", "keephugepages", "arch"),
        "VM.Config.HWType",
    ),
    **dict.fromkeys(("boot", "bootdisk", "vmstatestorage"), "VM.Config.Disk"),
    **dict.fromkeys(
        ("agent", "autostart", "bios", "description", "keyboard", "localtime", "migrate_downtime", "migrate_speed",
         "name", "onboot", "ostype", "protection", "reboot", "startdate", "startup", "tdf", "template", "tags",
         "vmgenid", "spice_enhancements"),
        "VM.Config.Options",
    ),
    "freeze": "VM.PowerMgmt",
    **dict.fromkeys(("cicustom", "cipassword", "citype", "ciuser", "ciupgrade", "nameserver", "searchdomain",
                     "sshkeys"), "VM.Config.Cloudinit"),
}  # fmt: skip
_LXC: Mapping[str, str] = {
    **dict.fromkeys(("cores", "cpulimit", "cpuunits"), "VM.Config.CPU"),
    **dict.fromkeys(("memory", "swap"), "VM.Config.Memory"),
    **dict.fromkeys(("nameserver", "searchdomain", "hostname"), "VM.Config.Network"),
}


def privileges_for(guest_type: str, key: str) -> tuple[str, ...]:
    """One of these is needed to set or delete the option; empty means that no token can."""
    if NET.match(key):
        return ("VM.Config.Network",)
    if is_volume_key(guest_type, key) or UNUSED.match(key):
        return ("VM.Config.Disk",)
    if guest_type == "lxc":
        return (_LXC.get(key, "VM.Config.Options"),)
    if key.startswith("ipconfig") or _QEMU.get(key) == "VM.Config.Cloudinit":
        return ("VM.Config.Cloudinit", "VM.Config.Network")
    if key.startswith("numa"):
        return ("VM.Config.CPU",)
    if key.startswith(("serial", "usb", "hostpci", "parallel", "virtiofs")):
        return ("VM.Config.HWType",)
    return (_QEMU[key],) if key in _QEMU else ()


def need(who: Identity, guest: tuple[str, int, str | None], values: Mapping[str, str], keys: Iterable[str]) -> None:
    """The refusal of a change; `guest` is type, number and the pool it is going to be in."""
    kind, vmid, pool = guest
    if not who.privsep and who.user in who.access.unlimited:
        return
    for key in keys:
        raw = values.get(key, "")
        wanted = privileges_for(kind, key)
        if kind == "qemu" and is_volume_key(kind, key) and "media=cdrom" in raw and not ALLOCATE.match(file_of(raw)):
            wanted = ("VM.Config.CDROM",)
        if not wanted:
            raise died(f"only root can set '{key}' config")
        who.need_guest(vmid, pool, *wanted)
        if is_volume_key(kind, key) and raw:
            _need_storage(who, raw)
        if NET.match(key) and raw:
            _need_bridge(who, raw)


def _need_storage(who: Identity, raw: str) -> None:
    volid = file_of(raw)
    if ":" in volid and (ALLOCATE.match(volid) or volid.endswith(":cloudinit")):
        who.need(f"/storage/{volid.partition(':')[0]}", "Datastore.AllocateSpace")


def _need_bridge(who: Identity, raw: str) -> None:
    bridge, tag = lookup(raw, "bridge"), lookup(raw, "tag")
    if bridge is None:
        return
    path = f"/sdn/zones/localnetwork/{bridge}"
    if tag is not None and who.may("SDN.Use", path=f"{path}/{tag}"):
        return
    who.need(path if tag is None else f"{path}/{tag}", "SDN.Use")
