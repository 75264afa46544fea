"""Where a guest belongs: moved when its node differs, in the way that PVE has for it, never against `disruption`."""

from typing import Any

import pytest

from tests.core.planning import CONFIG, LXC, NODES, SEEN, diffs, kinds, one, seen, want
from trueup.core.planner import next_op
from trueup.model.guests import Power, Restart
from trueup.model.ids import NodeName
from trueup.model.plan import Bucket

THERE: dict[str, Any] = {"node": NodeName("pve2")}
FREE: dict[str, Any] = {"restart": Restart.ALLOWED}


def test_a_stopped_guest_is_moved_before_it_is_started():
    guest = one(want(), seen(status=Power.STOPPED, **THERE))
    assert (guest.bucket, kinds(guest), guest.node) == (Bucket.UPDATE, ["migrate", "start"], "pve2")
    op = guest.ops[0]
    assert (op.node, op.params, op.goal) == ("pve2", {"target": "pve1"}, {"node": "pve1"})
    assert diffs(guest)["node"] == ("pve2", "pve1")


def test_a_running_vm_is_moved_while_it_runs_with_the_disks_that_are_not_shared():
    unknown = one(want(**FREE), seen(**THERE))
    assert unknown.ops[0].params == {"target": "pve1", "online": "1", "with-local-disks": "1"}
    local = one(want(**FREE), seen(**THERE), shared=frozenset({"nfs"}))
    assert local.ops[0].params == unknown.ops[0].params
    shared = one(want(**FREE), seen(**THERE), shared=frozenset({"local-lvm"}))
    assert shared.ops[0].params == {"target": "pve1", "online": "1"}


def test_a_running_container_is_restarted_by_it():
    guest = one(want(type=LXC, config={}, **FREE), seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0"}, **THERE))
    assert guest.ops[0].params == {"target": "pve1", "restart": "1"}


def test_a_running_guest_is_not_moved_against_its_manifest():
    guest = one(want(), seen(**THERE))
    assert (guest.bucket, guest.ops) == (Bucket.BLOCKED, ())
    assert guest.blocked_by.startswith("on pve2 instead of pve1: the manifest does not allow an interruption")
    later = one(want(restart="Sat 02:00-04:00 UTC"), seen(**THERE))
    assert later.blocked_by == "on pve2 instead of pve1: waits for its window: Sat 02:00-04:00 UTC"
    changed = one(want(config={**CONFIG, "cores": "4"}), seen(**THERE))
    assert (changed.bucket, kinds(changed), changed.ops[0].node) == (Bucket.UPDATE, ["configure"], "pve2")


def test_a_guest_that_is_to_stop_is_moved_at_rest():
    guest = one(want(power=Power.STOPPED, **FREE), seen(**THERE))
    assert kinds(guest) == ["shutdown", "migrate"]
    assert guest.ops[1].params == {"target": "pve1"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"nodes": {**NODES, NodeName("pve1"): False}}, "node pve1 is offline"),
        ({"nodes": {NodeName("pve2"): True}}, "the cluster has no node pve1"),
    ],
)
def test_the_node_that_it_goes_to_has_to_be_there(more, why):
    assert why in one(want(**FREE), seen(**THERE), **more).blocked_by


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"hostpci0": "0000:01:00.0"}, "hostpci0 is a device of pve2 (take it away, or use a mapping)"),
        ({"usb0": "host=1234:5678"}, "usb0 is a device of pve2"),
        ({"serial0": "/dev/ttyS0"}, "serial0 is a device of pve2"),
        ({"scsi1": "/dev/sdb"}, "scsi1 is a device or file of pve2"),
        ({"ide2": "cdrom,media=cdrom"}, "ide2 is the CD-ROM drive of pve2"),
        ({"parallel0": "/dev/parport0"}, "parallel0 is a device of pve2"),
        ({"ivshmem": "size=32"}, "ivshmem is a device of pve2"),
        ({"virtiofs0": "share"}, "virtiofs0 is a device of pve2"),
        ({"usb0": "host=1:2,,"}, "usb0 is a device of pve2"),
    ],
)
def test_what_ties_a_vm_to_its_node_is_named(config, why):
    assert why in one(want(**FREE), seen(config={**SEEN, **config}, **THERE)).blocked_by


@pytest.mark.parametrize(
    "config",
    [
        *({"hostpci0": "mapping=gpu"}, {"usb0": "spice"}, {"serial0": "socket"}, {"ide2": "none,media=cdrom"}),
        *({"args": "/no/disk"}, {"boot": "cdrom"}),
    ],
)
def test_what_every_node_has_is_no_tie(config):
    assert kinds(one(want(**FREE), seen(config={**SEEN, **config}, **THERE))) == ["migrate"]


@pytest.mark.parametrize(
    "config",
    [
        {"ide2": "iso:iso/debian.iso,media=cdrom"},
        {"unused0": "local:101/vm-101-disk-9.raw"},
        {"hookscript": "local:snippets/hook.pl"},
    ],
)
def test_media_and_what_is_no_disk_in_use_do_not_count_as_local_disks(config):
    moved = one(want(**FREE), seen(config={**SEEN, **config}, **THERE), shared=frozenset({"local-lvm"}))
    assert moved.ops[0].params == {"target": "pve1", "online": "1"}


def test_a_container_at_rest_is_moved_without_a_restart():
    box = seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0"}, status=Power.STOPPED, **THERE)
    assert one(want(type=LXC, config={}, **FREE), box).ops[0].params == {"target": "pve1"}


@pytest.mark.parametrize("config", [{"unused0": "/srv/data"}, {"hookscript": "/srv/hook.pl"}])
def test_what_a_container_does_not_use_is_no_tie(config):
    box = seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0", **config}, **THERE)
    assert kinds(one(want(type=LXC, config={}, **FREE), box)) == ["migrate"]


def test_a_containers_bind_mount_ties_it_unless_every_node_has_it():
    mount = {"rootfs": "a:subvol-101-disk-0", "mp0": "/srv/data,mp=/data"}
    tied = one(want(type=LXC, config={}, **FREE), seen(type=LXC, config=mount, **THERE))
    assert "mp0 is a folder or device of pve2 (add shared=1 if every node has the same)" in tied.blocked_by
    free = {**mount, "mp0": "/srv/data,mp=/data,shared=1"}
    assert kinds(one(want(type=LXC, config={}, **FREE), seen(type=LXC, config=free, **THERE))) == ["migrate"]


def test_a_state_that_pve_does_not_tell_moves_nothing():
    assert "does not tell whether it runs" in one(want(**FREE), seen(status=Power.UNKNOWN, **THERE)).blocked_by


def test_where_ha_puts_its_guests_is_no_difference():
    assert one(want(), seen(ha="started", **THERE)).bucket is Bucket.UNCHANGED
    assert one(want(), seen(ha="ignored", **THERE)).bucket is Bucket.BLOCKED


def test_a_guest_is_put_into_its_pool():
    guest = one(want(pool="dev"), seen(pool="old"))
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["pool"])
    assert (guest.ops[0].params, guest.ops[0].goal) == ({}, {"pool": "dev"})
    assert diffs(guest) == {"pool": ("old", "dev")}
    assert one(want(pool="dev"), seen(pool="dev")).bucket is Bucket.UNCHANGED
    assert one(want(), seen(pool="old")).bucket is Bucket.UNCHANGED
    assert guest.diff[0].why == "it is in another pool"
    assert one(want(pool="dev"), seen()).diff[0].why == "it is in no pool"


def test_only_the_first_operation_is_ever_sent():
    guest = one(want(pool="dev"), seen(status=Power.STOPPED, **THERE))
    assert kinds(guest) == ["pool", "migrate", "start"]
    assert next_op(guest) == guest.ops[0]
