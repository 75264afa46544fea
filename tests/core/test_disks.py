"""Whether a disk lies where a manifest wants it, and is as it wants it."""

import pytest

from trueup.core import disks
from trueup.model.ids import GuestType

QEMU = GuestType.QEMU
CLOUD = "local-lvm:vm-101-cloudinit,media=cdrom"
ISO = "iso:iso/debian.iso,media=cdrom"
VOLUME = "local-lvm:vm-101-disk-0,size=32G"


@pytest.mark.parametrize(
    ("text", "cdrom", "cloudinit"),
    [
        (ISO, True, False),
        ("none,media=cdrom", True, False),
        ("none", True, False),
        ("cdrom", True, False),
        (CLOUD, True, True),
        ("local-lvm:vm-101-cloudinit", True, True),
        ("local-lvm:cloudinit", True, True),
        (VOLUME, False, False),
    ],
)
def test_a_drive_whose_medium_may_be_changed(text: str, cdrom: bool, cloudinit: bool) -> None:
    disk = disks.seen(QEMU, "ide2", text)
    assert (disk.cdrom, disk.cloudinit) == (cdrom, cloudinit)


@pytest.mark.parametrize(
    ("want", "have", "same"),
    [
        ({"storage": "local-lvm", "size": "32G"}, VOLUME, True),
        ({"storage": "other", "size": "32G"}, VOLUME, False),
        ({"size": "32G"}, VOLUME, True),
        ("local-lvm:vm-101-disk-0", VOLUME, True),
        ("local-lvm:vm-101-disk-1", VOLUME, False),
        ("local-lvm:32", VOLUME, True),
        ("other:32", VOLUME, False),
        ("none,media=cdrom", "none,media=cdrom", True),
        ("none,media=cdrom", ISO, False),
        (ISO, "none,media=cdrom", False),
        ("cdrom,media=cdrom", "cdrom,media=cdrom", True),
        ("cdrom,media=cdrom", ISO, False),
        (ISO, "cdrom,media=cdrom", False),
        ({"media": "cdrom"}, "none,media=cdrom", True),
        ({"media": "cdrom"}, "cdrom,media=cdrom", True),
        ({"storage": "iso", "media": "cdrom"}, "none,media=cdrom", False),
        ("local-lvm:cloudinit", CLOUD, True),
        ("local-lvm:cloudinit", VOLUME, False),
        ("local-lvm:vm-101-disk-0", CLOUD, False),
        ({"storage": "local-lvm"}, CLOUD, True),
        ("other:cloudinit", CLOUD, False),
    ],
)
def test_a_disk_is_where_it_is_wanted(want: disks.Wanted, have: str, same: bool) -> None:
    assert disks.same_place(QEMU, "ide2", want, have) is same


@pytest.mark.parametrize(
    ("want", "have", "same"),
    [
        ("local-lvm:cloudinit", CLOUD, True),
        ("local-lvm:cloudinit,media=disk", CLOUD, True),  # PVE makes it a CD-ROM drive whatever one says
        ("local-lvm:cloudinit,cache=unsafe", CLOUD, False),
        ({"storage": "local-lvm", "size": "32G"}, VOLUME, True),
        ({"storage": "local-lvm", "size": "32G", "media": "cdrom"}, VOLUME, False),
        ({"storage": "local-lvm", "size": "32G", "cache": "unsafe"}, VOLUME, False),
        ({"storage": "local-lvm", "size": "32G", "cache": "unsafe"}, VOLUME + ",cache=unsafe", True),
        ({"storage": "local-lvm", "size": "32G", "cache": ""}, VOLUME + ",cache=unsafe", False),
        ({"storage": "local-lvm", "size": "32G", "cache": ""}, VOLUME, True),
        ({"storage": "local-lvm", "iops_rd": "100"}, VOLUME, False),  # it has no default
    ],
)
def test_a_disk_has_the_options_that_are_wanted(want: disks.Wanted, have: str, same: bool) -> None:
    assert disks.same_volume(QEMU, "ide2", want, have) is same


@pytest.mark.parametrize(
    ("want", "storage", "size"),
    [
        ({"storage": "local-lvm", "size": "32"}, "local-lvm", 32 * disks.GIB),
        ({"storage": "local-lvm", "size": "512M"}, "local-lvm", 512 * 1024**2),
        ({"file": "local-lvm:vm-101-disk-0", "size": "1G"}, "local-lvm", disks.GIB),
        ({"storage": "local-lvm"}, "local-lvm", None),
        ({"file": "local-lvm:8"}, "local-lvm", 8 * disks.GIB),
    ],
)
def test_a_disk_as_a_manifest_gives_it(want: disks.Wanted, storage: str, size: int | None) -> None:
    disk = disks.wanted(QEMU, "scsi0", want)
    assert (disk.storage, disk.size) == (storage, size)


@pytest.mark.parametrize("key", ["efidisk0", "tpmstate0"])
def test_a_disk_whose_size_is_pves_own_affair_has_none(key: str) -> None:
    assert disks.wanted(QEMU, key, {"storage": "local-lvm", "size": "4M"}).size is None


GB = 32 * disks.GIB


def test_what_storages_round_up_to_is_an_extent_of_lvm() -> None:
    assert disks.SIZE_SLACK == 4_194_304


@pytest.mark.parametrize(
    ("key", "want", "have", "change"),
    [
        ("scsi0", {"size": "32G"}, f"a:b,size={GB}", 0),
        ("scsi0", {"size": "32G"}, f"a:b,size={GB + disks.SIZE_SLACK - 1}", 0),
        ("scsi0", {"size": "32G"}, f"a:b,size={GB + disks.SIZE_SLACK}", -disks.SIZE_SLACK),
        ("scsi0", {"size": "32G"}, f"a:b,size={GB - 1}", 1),
        ("scsi0", {"size": "32G"}, "a:b", 0),
        ("scsi0", {"storage": "a"}, "a:b,size=1G", 0),
        ("ide2", {"file": "iso:iso/x.iso", "media": "cdrom", "size": "2G"}, "iso:iso/x.iso,media=cdrom,size=1G", 0),
        ("efidisk0", {"storage": "a", "size": "4M"}, "a:b,size=528K", 0),
    ],
)
def test_by_how_much_a_disk_would_have_to_grow(key: str, want: disks.Wanted, have: str, change: int) -> None:
    assert disks.size_change(QEMU, key, want, have) == change


@pytest.mark.parametrize(
    ("given", "sent"),
    [("1", "on"), ("true", "on"), ("Yes", "on"), ("0", "ignore"), ("false", "ignore"), ("No", "ignore"), ("on", "on")],
)
def test_discard_is_on_or_ignore_however_yaml_spells_it(given: str, sent: str) -> None:
    want = {"storage": "a", "size": "8G", "discard": given, "cache": "unsafe"}
    assert disks.render_new(QEMU, "scsi0", want) == f"a:8,discard={sent},cache=unsafe"


@pytest.mark.parametrize(
    ("size", "number"),
    [("32G", "32"), ("512M", "0.5"), ("1K", "0.00000095367431640625"), ("1", "1"), ("10G", "10"), ("1536M", "1.5")],
)
def test_a_new_disks_size_is_in_gib_to_the_last_kib(size: str, number: str) -> None:
    assert disks.render_new(QEMU, "scsi0", {"storage": "a", "size": size}) == f"a:{number}"


@pytest.mark.parametrize(
    ("want", "have", "sent"),
    [
        ({"size": "32G", "cache": "unsafe"}, VOLUME, "local-lvm:vm-101-disk-0,cache=unsafe,size=32G"),
        ({"cache": ""}, VOLUME + ",cache=unsafe", "local-lvm:vm-101-disk-0,size=32G"),
        ("none,media=cdrom", ISO, "none,media=cdrom"),
        ({"media": "cdrom"}, ISO + ",size=600M", "iso:iso/debian.iso,media=cdrom,size=600M"),
        (ISO, "iso:iso/debian.iso,media=cdrom,size=600M", "iso:iso/debian.iso,media=cdrom,size=600M"),
        ({"storage": "iso", "media": "cdrom"}, "none,media=cdrom", "none,media=cdrom"),  # no medium is named
        ("local-lvm:vm-101-disk-1,cache=unsafe", VOLUME, "local-lvm:vm-101-disk-0,cache=unsafe,size=32G"),
        ("local-lvm:0,import-from=nfs:1/x.raw,ssd=1", VOLUME, "local-lvm:vm-101-disk-0,ssd=1,size=32G"),
    ],
)
def test_what_changes_is_sent_with_the_volume_that_is_there(want: disks.Wanted, have: str, sent: str) -> None:
    assert disks.render_changed(QEMU, "ide2", want, have) == sent


def test_an_imported_disk_takes_its_size_from_what_is_imported() -> None:
    disk = disks.wanted(QEMU, "scsi0", "local-lvm:0,import-from=nfs:101/x.raw")
    assert (disk.storage, disk.volume, disk.size) == ("local-lvm", "", None)


@pytest.mark.parametrize(("text", "storage"), [("/dev/disk/by-id/a:b", ""), ("local:101/x.raw", "local"), ("none", "")])
def test_a_path_is_on_no_storage(text: str, storage: str) -> None:
    assert disks.seen(QEMU, "scsi0", text).storage == storage
