"""Property strings are compared by meaning. The values that PVE shows are taken from its real answers."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trueup.core import disks
from trueup.core.properties import (
    MASK,
    disk_size,
    format_size,
    is_disk,
    is_net,
    is_secret,
    parse,
    parse_size,
    render_create,
    render_update,
    satisfied,
    show,
    wanted_size,
)
from trueup.model.errors import BadInput
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC
GIB = 1024**3

SAME = [
    # What PVE fills in.
    (QEMU, "net0", "virtio,bridge=vmbr0", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", "model=virtio,bridge=vmbr0", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", {"model": "virtio", "bridge": "vmbr0"}, "virtio=BC:24:11:0F:AD:49,bridge=vmbr0,firewall=1"),
    (QEMU, "net0", "virtio=bc:24:11:0f:ad:49,bridge=vmbr0", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", {"virtio": "BC:24:11:0F:AD:49"}, "model=virtio,macaddr=BC:24:11:0F:AD:49"),
    (LXC, "net0", {"name": "eth0", "bridge": "vmbr0"}, "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth"),
    (LXC, "net0", "bridge=vmbr0,name=eth0", "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01"),
    (QEMU, "scsi0", "local-lvm:32", "local-lvm:vm-101-disk-0,size=32G"),
    (QEMU, "scsi0", {"storage": "local-lvm", "size": "32G"}, "local-lvm:vm-101-disk-0,size=32768M"),
    (QEMU, "scsi0", {"storage": "local-lvm", "size": "32"}, "local-lvm:vm-101-disk-0,iothread=1,size=32G"),
    (
        QEMU,
        "scsi0",
        {"storage": "local", "size": "1G", "discard": "1"},
        "local:101/vm-101-disk-0.raw,discard=on,size=1G",
    ),
    (QEMU, "scsi0", {"storage": "local-lvm"}, "local-lvm:vm-101-disk-0,size=8G"),
    (QEMU, "scsi0", {"discard": "on"}, "local-lvm:vm-101-disk-0,discard=on,size=8G"),
    (QEMU, "scsi0", "local:1,format=qcow2", "local:901/vm-901-disk-0.qcow2,size=1G"),
    (QEMU, "scsi0", "second:0.01,format=raw", "second:902/vm-902-disk-0.raw,size=10486K"),
    (QEMU, "scsi0", {"storage": "lvm", "size": "10M"}, "lvm:vm-1-disk-0,size=12M"),
    (QEMU, "scsi0", "local-lvm:0,import-from=local:import/x.qcow2", "local-lvm:vm-101-disk-0,size=3G"),
    (QEMU, "scsi0", "local-lvm:vm-101-disk-0", "local-lvm:vm-101-disk-0,size=3G"),
    (
        QEMU,
        "efidisk0",
        {"storage": "local-lvm", "size": "1G", "efitype": "4m"},
        "local-lvm:vm-1-disk-1,efitype=4m,size=4M",
    ),
    (QEMU, "tpmstate0", "local-lvm:1,version=v2.0", "local-lvm:vm-101-disk-2,size=4M,version=v2.0"),
    (QEMU, "ide2", "local-lvm:cloudinit", "local-lvm:vm-101-cloudinit,media=cdrom,size=4M"),
    (QEMU, "ide2", "local:cloudinit", "local:101/vm-101-cloudinit.qcow2,media=cdrom"),
    (QEMU, "ide2", "local:iso/debian.iso,media=cdrom", "local:iso/debian.iso,media=cdrom,size=628M"),
    (QEMU, "ide2", "none,media=cdrom", "none,media=cdrom"),
    (LXC, "rootfs", "local:0", "local:800/subvol-800-disk-0.subvol,size=0T"),
    (LXC, "rootfs", {"storage": "local-lvm", "size": "8G"}, "local-lvm:vm-201-disk-0,size=8G"),
    (LXC, "rootfs", {"storage": "zfs", "size": "8G"}, "zfs:subvol-201-disk-0,size=0T"),
    (LXC, "mp0", "local-lvm:8,mp=/data", "local-lvm:vm-201-disk-1,mp=/data,size=8G"),
    (LXC, "mp0", "/srv/data,mp=/data", "/srv/data,mp=/data"),
    (LXC, "mp0", "volume=/srv/data,mp=/data,ro=yes", "/srv/data,mp=/data,ro=1"),
    # Spellings.
    (QEMU, "agent", "1", "enabled=1"),
    (QEMU, "agent", "enabled=on", "1,fstrim_cloned_disks=1"),
    (QEMU, "agent", {"enabled": "true"}, "1"),
    (QEMU, "startup", "order=1,up=30", "order=1,up=30,down=60"),
    (QEMU, "startup", "1", "order=1"),
    (QEMU, "boot", "order=scsi0;net0", "order=scsi0;net0"),
    (QEMU, "vga", "std", "type=std,memory=32"),
    (QEMU, "cpu", "x86-64-v2-AES", "cputype=x86-64-v2-AES"),
    (QEMU, "cpu", "host,flags=+aes;-pcid", "host,flags=-pcid;+aes"),
    (QEMU, "machine", "q35", "pc-q35-9.2+pve1"),
    (QEMU, "machine", "pc", "type=pc-i440fx-9.0"),
    (QEMU, "memory", "2048", "current=2048"),
    (QEMU, "onboot", "yes", "1"),
    (QEMU, "onboot", "false", "0"),
    (QEMU, "cpulimit", "2", "2.0"),
    (QEMU, "tags", "web, prod", "prod;web"),
    (QEMU, "tags", "b;A;a", "a;b"),
    (QEMU, "hotplug", "usb,disk,network", "network,disk,usb"),
    (QEMU, "hotplug", "1", "network,disk,usb"),
    (QEMU, "nameserver", "1.1.1.1,9.9.9.9", "1.1.1.1 9.9.9.9"),
    (QEMU, "ipconfig0", {"ip": "dhcp"}, "ip=dhcp,ip6=auto"),
    (QEMU, "sshkeys", "ssh-ed25519 AAAA me@x\n", "ssh-ed25519%20AAAA%20me%40x%0A"),
    (QEMU, "usb0", "host=1234:5678", "1234:5678,usb3=0"),
    (QEMU, "description", "text\n", 'text\n<!-- trueup {"uid":"u"} -->'),
    (QEMU, "cipassword", "secret", MASK),
    (LXC, "features", "nesting=1", "keyctl=1,nesting=1"),
    (LXC, "mp1", "a:1,mp=/x,mountoptions=noatime;nosuid", "a:vm-1-disk-1,mp=/x,mountoptions=nosuid;noatime,size=1G"),
    # What holds where nothing is written.
    (QEMU, "onboot", "0", None),
    (QEMU, "agent", "0", None),
    (QEMU, "memory", "512", None),
    (QEMU, "cores", "1", None),
    (LXC, "unprivileged", "0", None),
    (LXC, "swap", "512", None),
    (QEMU, "net0", {"model": "virtio", "firewall": "0"}, "virtio=BC:24:11:0F:AD:49"),
    # Gone is gone, also as PVE writes it.
    (QEMU, "tags", "", " "),
    (QEMU, "boot", "", " "),
    (QEMU, "net1", "", None),
    (QEMU, "net1", {}, None),
    (QEMU, "scsi0", {"storage": "a", "ssd": ""}, "a:vm-1-disk-0,size=1G"),
    (QEMU, "machine", "q35,viommu=intel", "type=pc-q35-9.2,viommu=intel"),
    (QEMU, "machine", "q35", "q35,enable-s3=1"),
    (QEMU, "agent", {"enabled": "1", "type": ""}, "1"),
    (QEMU, "agent", {"enabled": "1", "type": ""}, "1,type= "),
]

DIFFERENT = [
    (QEMU, "net0", "e1000,bridge=vmbr0", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", "virtio,bridge=vmbr1", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", "virtio,bridge=vmbr0,tag=5", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0"),
    (QEMU, "net0", "virtio,bridge=vmbr0,firewall=0", "virtio=BC:24:11:0F:AD:49,bridge=vmbr0,firewall=1"),
    (QEMU, "net0", "virtio=BC:24:11:0F:AD:50", "virtio=BC:24:11:0F:AD:49"),
    (QEMU, "net0", {"firewall": "0"}, None),
    (QEMU, "scsi0", "local-lvm:32", "local-lvm:vm-101-disk-0,size=16G"),
    (QEMU, "scsi0", "local-lvm:16", "local-lvm:vm-101-disk-0,size=32G"),
    (QEMU, "scsi0", "local-lvm:32", "local:101/vm-101-disk-0.raw,size=32G"),
    (QEMU, "scsi0", "local-lvm:32", None),
    (QEMU, "scsi0", {"storage": "a", "ssd": ""}, "a:vm-1-disk-0,size=1G,ssd=1"),
    (QEMU, "scsi0", "local-lvm:vm-101-disk-0", "local-lvm:vm-101-disk-1,size=3G"),
    (QEMU, "scsi0", {"storage": "a", "size": "1G", "backup": "0"}, "a:vm-1-disk-0,size=1G"),
    (QEMU, "ide2", "local:iso/a.iso,media=cdrom", "local:iso/b.iso,media=cdrom"),
    (QEMU, "ide2", "none,media=cdrom", "local:iso/b.iso,media=cdrom"),
    (QEMU, "ide2", "local-lvm:cloudinit", "none,media=cdrom"),
    (LXC, "mp0", "local-lvm:8,mp=/data", "local-lvm:vm-201-disk-1,mp=/other,size=8G"),
    (QEMU, "agent", "1", None),
    (QEMU, "agent", "1", "0"),
    (QEMU, "boot", "order=net0;scsi0", "order=scsi0;net0"),
    (QEMU, "machine", "q35", "pc-i440fx-9.0"),
    (QEMU, "memory", "2048", "1024"),
    (QEMU, "cores", "2", None),
    (QEMU, "tags", "web", "web;prod"),
    (QEMU, "tags", "", "web"),
    (QEMU, "net1", "", "virtio=BC:24:11:0F:AD:49"),
    (QEMU, "cipassword", "secret", None),
    (QEMU, "name", "Web", "web"),
    (LXC, "unprivileged", "1", None),
    (QEMU, "agent", {"enabled": "1", "type": ""}, "1,type=isa"),
    (QEMU, "vga", "type=q35", "type=pc-q35-9.2"),
    (QEMU, "machine", "type=x,viommu=q35", "type=x,viommu=pc-q35-9.2"),
    (QEMU, "machine", "virt", "pc-q35-9.2"),
    (QEMU, "agent", {"enabled": "1"}, "1,2"),  # which is no property string
]


@pytest.mark.parametrize(("guest", "key", "want", "have"), SAME)
def test_the_same_by_meaning(guest, key, want, have):
    assert satisfied(guest, key, want, have)


@pytest.mark.parametrize(("guest", "key", "want", "have"), DIFFERENT)
def test_different_by_meaning(guest, key, want, have):
    assert not satisfied(guest, key, want, have)


@pytest.mark.parametrize(
    ("guest", "key", "want", "text"),
    [
        (QEMU, "scsi0", {"storage": "local-lvm", "size": "32G"}, "local-lvm:32"),
        (QEMU, "scsi0", {"storage": "local-lvm", "size": "512M", "ssd": "1"}, "local-lvm:0.5,ssd=1"),
        (QEMU, "scsi0", {"storage": "local-lvm", "size": "2T", "discard": "true"}, "local-lvm:2048,discard=on"),
        (QEMU, "scsi0", "local-lvm:32,ssd=1", "local-lvm:32,ssd=1"),
        (QEMU, "scsi0", {"file": "local-lvm:vm-101-disk-0", "ssd": "1"}, "local-lvm:vm-101-disk-0,ssd=1"),
        (QEMU, "scsi0", {"storage": "a", "import-from": "local:import/x.raw"}, "a:0,import-from=local:import/x.raw"),
        (QEMU, "efidisk0", {"storage": "local-lvm", "efitype": "4m"}, "local-lvm:1,efitype=4m"),
        (QEMU, "ide2", {"file": "none", "media": "cdrom"}, "none,media=cdrom"),
        (LXC, "rootfs", {"storage": "local-lvm", "size": "8G"}, "local-lvm:8"),
        (LXC, "mp0", {"storage": "local-lvm", "size": "8G", "mp": "/data"}, "local-lvm:8,mp=/data"),
        (LXC, "mp0", {"volume": "/srv", "mp": "/data"}, "/srv,mp=/data"),
        (QEMU, "net0", {"model": "virtio", "bridge": "vmbr0"}, "virtio,bridge=vmbr0"),
        (QEMU, "net0", {"bridge": "vmbr0", "model": "virtio", "macaddr": "AA"}, "virtio=AA,bridge=vmbr0"),
        (LXC, "net0", {"name": "eth0", "bridge": "vmbr0"}, "name=eth0,bridge=vmbr0"),
        (QEMU, "agent", {"enabled": "1"}, "1"),
        (QEMU, "boot", {"order": "scsi0;net0"}, "order=scsi0;net0"),
        (QEMU, "tags", "web, prod,web", "web;prod"),
        (QEMU, "sshkeys", "ssh-ed25519 AA+A me@x\n", "ssh-ed25519%20AA%2BA%20me%40x"),
        (QEMU, "sshkeys", "ssh-ed25519%20AA%2BA%20me%40x", "ssh-ed25519%20AA%2BA%20me%40x"),
        (QEMU, "sshkeys", "ssh-ed25519 A\udc80", "ssh-ed25519%20A%3F"),  # half a surrogate pair
        (QEMU, "memory", " 2048 ", "2048"),
        (QEMU, "cipassword", " x ", " x "),
        (QEMU, "description", " x\n", " x\n"),
        (QEMU, "net1", "", ""),
    ],
)
def test_what_is_sent_for_something_new(guest, key, want, text):
    assert render_create(guest, key, want) == text


@pytest.mark.parametrize("want", [{"storage": "local-lvm"}, {"size": "32G"}, {"discard": "on"}])
def test_a_new_disk_without_storage_or_size_is_refused_with_the_remedy(want):
    with pytest.raises(BadInput, match=r"scsi1: a new disk needs a (storage|size) \(write scsi1"):
        render_create(QEMU, "scsi1", want)


@pytest.mark.parametrize(
    ("guest", "key", "want", "have", "text"),
    [
        (QEMU, "net0", "e1000,bridge=vmbr1", "virtio=AA,bridge=vmbr0,tag=5", "e1000=AA,bridge=vmbr1,tag=5"),
        (LXC, "net0", {"bridge": "b1"}, "name=eth0,bridge=b0,hwaddr=AA", "name=eth0,bridge=b1,hwaddr=AA"),
        (LXC, "net0", {"ip": "dhcp"}, "name=eth0,ip=10.0.0.2/8,gw=10.0.0.1", "name=eth0,ip=dhcp"),
        (QEMU, "scsi0", "a:32,ssd=1", "a:vm-1-disk-0,iothread=1,size=16G", "a:vm-1-disk-0,iothread=1,ssd=1,size=16G"),
        (QEMU, "scsi0", {"storage": "a", "ssd": ""}, "a:vm-1-disk-0,size=1G,ssd=1", "a:vm-1-disk-0,size=1G"),
        (QEMU, "ide2", "l:iso/b.iso,media=cdrom", "l:iso/a.iso,media=cdrom,size=3M", "l:iso/b.iso,media=cdrom"),
        (QEMU, "agent", "0", "1,fstrim_cloned_disks=1", "0,fstrim_cloned_disks=1"),
        (QEMU, "boot", "order=net0", "legacy=cdn", "order=net0"),
        (QEMU, "smbios1", {"serial": "X"}, "uuid=f07fe0de", "uuid=f07fe0de,serial=X"),
        (QEMU, "usb0", {"mapping": "m"}, "host=1:2,usb3=1", "usb3=1,mapping=m"),
        (QEMU, "memory", "2048", "512", "2048"),
        (QEMU, "net1", "virtio,bridge=vmbr1", None, "virtio,bridge=vmbr1"),
        (QEMU, "agent", "0", "=,=", "0"),
        (QEMU, "net1", "", "virtio=AA", ""),
    ],
)
def test_what_is_sent_for_a_change_keeps_what_pve_filled_in(guest, key, want, have, text):
    assert render_update(guest, key, want, have) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32G", 32 * GIB),
        ("32768M", 32 * GIB),
        ("1.5K", 1536),
        ("0T", 0),
        ("7", 7),
        ("", None),
        ("+5G", None),
        ("5GB", None),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0T"), (7, "7"), (1536, "1536"), (2048, "2K"), (32 * GIB, "32G"), (2048 * GIB, "2T")]
)
def test_sizes_are_written_as_pve_writes_them(size, text):
    assert format_size(size) == text


@given(st.integers(0, 10**17))
def test_sizes_are_exact_there_and_back(size):
    assert parse_size(format_size(size)) == size


def test_the_size_of_a_disk_is_read_from_its_property_string():
    assert disk_size("local-lvm:vm-1-disk-0,size=10486K") == 10486 * 1024
    assert disk_size("local-lvm:vm-1-disk-0") is None
    assert disk_size("") is None
    assert disk_size(None) is None
    assert wanted_size(QEMU, "scsi0", {"storage": "a", "size": "1G"}) == GIB
    assert wanted_size(QEMU, "scsi0", "a:0.5") == GIB // 2
    assert wanted_size(QEMU, "efidisk0", "a:1") is None


def test_a_disk_grows_or_would_have_to_shrink():
    have = "a:vm-1-disk-0,size=16G"
    assert disks.size_change(QEMU, "scsi0", "a:32", have) == 16 * GIB
    assert disks.size_change(QEMU, "scsi0", "a:8", have) == -8 * GIB
    assert disks.size_change(QEMU, "scsi0", "a:16", have) == 0


def test_keys_are_told_apart():
    disk = {"scsi0", "ide2", "sata5", "virtio15", "efidisk0", "tpmstate0", "unused0"}
    assert {key for key in (*disk, "scsihw", "net0", "rootfs", "mp0") if is_disk(QEMU, key)} == disk
    assert {key for key in ("rootfs", "mp0", "unused3", "scsi0", "memory") if is_disk(LXC, key)} == {
        "rootfs",
        "mp0",
        "unused3",
    }
    assert [key for key in ("net0", "net12", "net", "nets") if is_net(QEMU, key)] == ["net0", "net12"]
    assert [key for key in ("cipassword", "password", "sshkeys", "ssh-public-keys") if is_secret(key)] == [
        "cipassword",
        "password",
    ]


def test_secrets_are_never_shown():
    assert show("cipassword", "hunter2") == MASK
    assert show("net0", {"model": "virtio", "bridge": "b"}) == "model=virtio,bridge=b"


# -- for all values ----------------------------------------------------------------------------------------------------

keys = st.one_of(
    st.sampled_from(
        [key for _, key, _, _ in SAME + DIFFERENT] + ["hostpci0", "numa0", "numa", "usb", "audio0", "unused0", "x", ""]
    ),
    st.text(max_size=8),
)
fragments = st.lists(
    st.sampled_from(
        [*",=;: /%\n", "size", "file", "virtio", "local", "vm-1-disk-0", "1", "32G", "cdrom", "none", "on", "ip"]
    )
).map("".join)
values = st.one_of(fragments, st.text(max_size=40))
wants = st.one_of(values, st.dictionaries(st.one_of(fragments, st.text(max_size=8)), values, max_size=4))
guests = st.sampled_from(GuestType)


@given(guests, keys, wants, st.one_of(st.none(), values))
@example(QEMU, "scsi0", "size=" + "9" * 5000, "size=" + "9" * 5000)
def test_nothing_that_anybody_wrote_raises(guest, key, want, have):
    satisfied(guest, key, want, have)
    show(key, want)
    disk_size(have)
    wanted_size(guest, key, want)
    parse(guest, key, have or "")
    for render in (lambda: render_create(guest, key, want), lambda: render_update(guest, key, want, have)):
        with suppress(BadInput):  # a new disk without a storage or a size
            render()


@given(guests, keys, values)
def test_whatever_pve_has_satisfies_itself(guest, key, have):
    assert satisfied(guest, key, have, have)


names = st.sampled_from(["vmbr0", "vmbr1", "eth0", "5"])
nets = st.fixed_dictionaries(
    {"model": st.sampled_from(["virtio", "e1000"]), "bridge": names},
    optional={"tag": st.sampled_from(["1", "5"]), "firewall": st.sampled_from(["0", "1", "on", "no"])},
)
disk_maps = st.fixed_dictionaries(
    {"storage": st.sampled_from(["local-lvm", "a.b_c"]), "size": st.integers(1, 2**42).map(format_size)},
    optional={"discard": st.sampled_from(["on", "1", "ignore"]), "ssd": st.sampled_from(["0", "1"])},
)


@given(nets, st.permutations(range(6)))
def test_a_network_interface_is_satisfied_by_what_pve_makes_of_it(want, order):
    parts = render_create(QEMU, "net0", want).split(",")
    filled = [f"{parts[0]}=BC:24:11:0F:AD:49", *parts[1:], "mtu=1"]
    shuffled = [filled[i] for i in order if i < len(filled)]
    assert satisfied(QEMU, "net0", want, ",".join(shuffled))


@given(disk_maps)
@example({"storage": "local-lvm", "size": "1K"})
def test_a_disk_is_satisfied_by_what_pve_makes_of_it(want):
    sent = render_create(QEMU, "scsi0", want)
    volume, *options = sent.split(",")
    storage, _, gib = volume.partition(":")
    kib = int(float(gib) * 1024 * 1024 + 0.999999)  # as PVE counts: in KiB, rounded up
    have = ",".join([f"{storage}:vm-101-disk-0", *options, f"size={format_size(kib * 1024)}"])
    assert satisfied(QEMU, "scsi0", want, have)
    assert satisfied(QEMU, "scsi0", sent, have)


@given(nets, nets)
def test_an_update_satisfies_and_keeps_the_address(old, new):
    have = render_create(QEMU, "net0", {**old, "macaddr": "BC:24:11:0F:AD:49"})
    changed = render_update(QEMU, "net0", new, have)
    assert satisfied(QEMU, "net0", new, changed)
    assert (parse(QEMU, "net0", changed) or {})["macaddr"] == "BC:24:11:0F:AD:49"


def test_no_two_rows_of_the_tables_are_the_same():
    rows = sorted(map(repr, SAME + DIFFERENT))
    assert all(left != right for left, right in pairwise(rows))
