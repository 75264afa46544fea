"""What PVE knows of its property strings, written down once more: a slip in the tables has to be made twice."""

import pytest

from trueup.core import property_formats as formats
from trueup.core.property_formats import Format, Shape, default_of, format_of
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC
NET = {"firewall": "0", "link_down": "0", "type": "veth"}
QEMU_DISK = Format(
    shape=Shape.DISK, default_key="file", aliases={"volume": "file"},
    defaults={
        "backup": "1", "cache": "none", "detect_zeroes": "1", "discard": "ignore", "efitype": "2m", "iothread": "0",
        "media": "disk", "pre-enrolled-keys": "0", "replicate": "1", "ro": "0", "shared": "0", "snapshot": "0",
        "ssd": "0", "version": "v1.2",
    },
)  # fmt: skip
LXC_DISK = Format(
    shape=Shape.DISK, default_key="volume", aliases={"file": "volume"},
    defaults={"backup": "0", "quota": "0", "replicate": "1", "ro": "0", "shared": "0"},
)  # fmt: skip


def props(default_key: str = "", **more: dict[str, str] | tuple[str, ...]) -> Format:
    return Format(shape=Shape.PROPERTIES, default_key=default_key, **more)  # type: ignore[arg-type]


AGENT = props("enabled", defaults={"fstrim_cloned_disks": "0", "freeze-fs-on-backup": "1", "type": "virtio"})
PCI = props("host", exclusive=("host", "mapping"), defaults={"pcie": "0", "rombar": "1", "x-vga": "0"})
USB = props("host", exclusive=("host", "mapping"), defaults={"usb3": "0"})
FEATURES = props(defaults={"fuse": "0", "keyctl": "0", "mknod": "0", "nesting": "0", "force_rw_sys": "0"})
TEXT = Format()

FORMATS = [
    *((QEMU, f"{bus}0", QEMU_DISK) for bus in ("ide", "sata", "scsi", "virtio", "efidisk", "tpmstate", "unused")),
    *((LXC, key, LXC_DISK) for key in ("rootfs", "mp0", "mp12", "unused3")),
    *((QEMU, f"{name}0", props()) for name in ("audio", "ipconfig", "numa")),
    *((QEMU, name, props()) for name in ("cicustom", "ivshmem", "smbios1", "spice_enhancements", "ipconfig15")),
    (QEMU, "agent", AGENT),
    (QEMU, "amd-sev", props("type")),
    (QEMU, "boot", props("legacy", exclusive=("legacy", "order"))),
    (QEMU, "cpu", props("cputype", defaults={"hidden": "0"})),
    (QEMU, "hostpci3", PCI),
    (QEMU, "machine", props("type")),
    (QEMU, "memory", props("current")),
    (QEMU, "net0", props("model", aliases={"hwaddr": "macaddr"}, defaults=NET)),
    (QEMU, "rng0", props("source")),
    (QEMU, "startup", props("order")),
    (QEMU, "usb4", USB),
    (QEMU, "vga", props("type")),
    (QEMU, "virtiofs0", props("dirid")),
    (QEMU, "watchdog", props("model")),
    (QEMU, "cipassword", Format(shape=Shape.SECRET)),
    (QEMU, "sshkeys", Format(shape=Shape.SSH_KEYS)),
    (QEMU, "hotplug", Format(shape=Shape.FLAGS)),
    (LXC, "dev0", props("path", defaults={"deny-write": "0"})),
    (LXC, "features", FEATURES),
    (LXC, "net1", props(aliases={"macaddr": "hwaddr"}, defaults=NET)),
    (LXC, "startup", props("order")),
    (LXC, "password", Format(shape=Shape.SECRET)),
    *((guest, "description", Format(shape=Shape.DESCRIPTION)) for guest in GuestType),
    *((guest, "nameserver", Format(shape=Shape.WORDS)) for guest in GuestType),
    *((guest, "searchdomain", Format(shape=Shape.WORDS)) for guest in GuestType),
    *((guest, "tags", Format(shape=Shape.TAGS)) for guest in GuestType),
    # `numa` is a switch, and `numa0` a node; a family has no member without a number; others have none with one
    *((QEMU, key, TEXT) for key in ("numa", "net", "usb", "audio", "rootfs", "mp0", "features", "dev0", "password")),
    *((QEMU, key, TEXT) for key in ("agent0", "tags1", "vga0", "name", "cores", "serial0", "parallel1", "")),
    *((LXC, key, TEXT) for key in ("scsi0", "agent", "usb0", "numa0", "hotplug", "cipassword", "dev", "net")),
]


@pytest.mark.parametrize(("guest", "key", "expected"), FORMATS)
def test_a_key_has_pves_format(guest: GuestType, key: str, expected: Format) -> None:
    assert format_of(guest, key) == expected


def test_what_holds_where_nothing_is_written() -> None:
    qemu = {
        "acpi": "1", "agent": "0", "autostart": "0", "bios": "seabios", "ciupgrade": "1", "cores": "1", "cpu": "kvm64",
        "cpulimit": "0", "freeze": "0", "hotplug": "network,disk,usb", "kvm": "1", "memory": "512", "numa": "0",
        "onboot": "0", "ostype": "other", "protection": "0", "reboot": "1", "scsihw": "lsi", "sockets": "1",
        "tablet": "1", "vga": "std",
    }  # fmt: skip
    lxc = {
        "cmode": "tty", "console": "1", "cpulimit": "0", "debug": "0", "memory": "512", "onboot": "0",
        "protection": "0", "swap": "512", "tty": "2", "unprivileged": "0",
    }  # fmt: skip
    either = {*qemu, *lxc}
    assert {key: value for key in either if (value := default_of(QEMU, key)) is not None} == qemu
    assert {key: value for key in either if (value := default_of(LXC, key)) is not None} == lxc


def test_words_that_pve_reads_in_a_way_of_their_own() -> None:
    models = "e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet"
    assert sorted(formats.NET_MODELS) == [*models.split(), "rtl8139", "virtio", "vmxnet3"]
    assert sorted(formats.SETS) == ["flags", "mount", "mountoptions", "trunks"]
    assert sorted(formats.MACS) == ["hwaddr", "macaddr"]
    assert sorted(formats.ONLY_AT_CREATION) == ["format", "import-from"]
    families = ["audio", "dev", "hostpci", "ipconfig", "net", "rng", "smbios", "usb", "virtiofs"]
    assert sorted(formats.NUMBERED_FAMILIES) == families


def test_shapes_have_their_names() -> None:
    names = "text disk properties tags words flags secret ssh-keys description"
    assert [shape.value for shape in Shape] == names.split()


def test_keys_that_are_no_config_of_a_guest() -> None:
    reserved = (
        "archive cdrom delete description digest force hostname live-restore lock meta name newid node ostemplate "
        "parent restore revert runningcpu runningmachine skiplock snapstate snaptime start template unique vmid vmstate"
    )
    assert sorted(formats.RESERVED_KEYS) == reserved.split()
    assert {guest: " ".join(sorted(keys)) for guest, keys in formats.ONLY_AT_CREATION_KEYS.items()} == {
        QEMU: "bwlimit ha-managed import-working-storage pool storage",
        LXC: "bwlimit ha-managed ignore-unpack-errors password pool ssh-public-keys storage",
    }


@pytest.mark.parametrize(("key", "own"), [("efidisk0", True), ("tpmstate0", True), ("scsi0", False), ("rootfs", False)])
def test_the_size_of_some_volumes_is_pves_own_affair(key: str, own: bool) -> None:
    assert formats.sizeless(key) is own
