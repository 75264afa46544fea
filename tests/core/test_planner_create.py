"""How guests come into being, and what is refused before anything is made."""

from typing import Any

import pytest

from tests.core.planning import CONFIG, LXC, NODES, all_of, clone, diffs, kinds, mark, one, seen, template, want
from trueup.core.planner import next_op, runnable
from trueup.model.guests import Archive, ContainerTemplate, Empty, Power, Restart
from trueup.model.ids import NodeName
from trueup.model.ops import Kind
from trueup.model.plan import Bucket

TEMPLATE = ContainerTemplate(volume="local:vztmpl/debian.tar.zst")


def container(**more):
    config = {"rootfs": {"storage": "local-lvm", "size": "8G"}, "net0": {"name": "eth0", "bridge": "vmbr0"}}
    return want(201, **{"type": LXC, "source": TEMPLATE, "config": config, **more})


def test_an_empty_vm_is_created_with_its_whole_config_and_then_started():
    guest = one(want(config={**CONFIG, "net0": {"model": "virtio", "bridge": "vmbr0"}, "tags": "web,prod", "numa": ""}))
    assert guest.bucket is Bucket.CREATE
    assert kinds(guest) == ["create", "start"]
    assert guest.ops[0].params == {
        "name": "g-101",
        "cores": "2",
        "memory": "2048",
        "scsi0": "local-lvm:32",
        "net0": "virtio,bridge=vmbr0",
        "tags": "web;prod",
    }
    assert guest.ops[0].goal == {}
    assert guest.ops[1].goal == {"power": "running"}
    assert diffs(guest)["guest"] == ("", "new, empty")
    assert diffs(guest)["power"] == ("", "running")


def test_start_is_never_sent_with_a_create():
    assert "start" not in one(want(config={**CONFIG, "start": "1"})).ops[0].params


def test_a_guest_wanted_stopped_is_only_created():
    assert kinds(one(want(power=Power.STOPPED))) == ["create"]


def test_a_container_is_created_from_its_template():
    guest = one(container(config={"rootfs": {"storage": "a", "size": "8G"}, "password": "hunter2"}))
    assert guest.ops[0].params == {
        "ostemplate": TEMPLATE.volume,
        "hostname": "g-201",
        "rootfs": "a:8",
        "password": "hunter2",
    }
    assert "hunter2" not in str(guest.diff)


@pytest.mark.parametrize(
    ("desired", "why"),
    [
        (container(source=Empty()), "a container needs a source"),
        (want(source=TEMPLATE), "only containers are made from a container template"),
        (want(config={"scsi0": {"storage": "a"}}), "101.yaml:1: scsi0: a new disk needs a size"),
        (want(source=Archive(volume="b:backup/vzdump-lxc-7-x.tar.zst")), "is the backup of a lxc guest"),
        (want(source=Archive(volume="pbs:backup/ct/7/2026-01-01T00:00:00Z")), "is the backup of a lxc guest"),
        (container(source=Archive(volume="b:backup/vzdump-qemu-7-x.vma.zst")), "is the backup of a qemu guest"),
        (container(source=Archive(volume="pbs:backup/vm/7/2026-01-01T00:00:00Z")), "is the backup of a qemu guest"),
        (want(node=NodeName("pve9")), "no node pve9 (correct `node` in the manifest; nodes: pve1, pve2, pve3)"),
    ],
)
def test_what_cannot_be_made_is_blocked_with_the_reason(desired, why):
    guest = one(desired)
    assert guest.bucket is Bucket.BLOCKED
    assert why in guest.blocked_by
    assert next_op(guest) is None


def test_a_backup_is_restored_to_a_new_guest():
    guest = one(want(source=Archive(volume="b:backup/vzdump-qemu-7-x.vma.zst"), description="hers", pool="dev"))
    assert (guest.bucket, kinds(guest)) == (Bucket.CREATE, ["restore-new", "start"])
    op = guest.ops[0]
    assert op.params == {
        "archive": "b:backup/vzdump-qemu-7-x.vma.zst", "storage": "local-lvm", "pool": "dev", "name": "g-101",
        "cores": "2", "memory": "2048",
    }  # fmt: skip
    assert (op.goal, op.description) == ({}, "hers")
    assert diffs(guest)["guest"] == ("", "restored from b:backup/vzdump-qemu-7-x.vma.zst")
    assert "its disks come from the backup" in guest.notes[0]


def test_a_containers_backup_is_a_template_to_pve():
    config = {"rootfs": {"storage": "a", "size": "8G"}, "mp0": {"storage": "b", "size": "8G", "mp": "/x"}, "cores": "2"}
    guest = one(want(type=LXC, config=config, source=Archive(volume="b:backup/vzdump-lxc-7-x.tar.zst")))
    params = {"ostemplate": "b:backup/vzdump-lxc-7-x.tar.zst", "hostname": "g-101", "cores": "2"}
    assert guest.ops[0].params == params


def test_a_new_guest_is_put_into_its_pool_by_the_same_call():
    assert one(want(pool="dev")).ops[0].params["pool"] == "dev"
    assert one(clone(pool="dev"), template()).ops[0].params["pool"] == "dev"


def test_a_clone_to_another_node_goes_by_way_of_its_source_where_disks_are_local():
    there: dict[str, Any] = {"node": NodeName("pve2")}
    local = one(clone(**there), template(), shared=frozenset({"nfs"}))
    assert (local.ops[0].node, "target" in local.ops[0].params) == ("pve1", False)
    assert "it is cloned there, and then moved to pve2" in local.notes[0]
    shared = one(clone(**there), template(), shared=frozenset({"local-lvm"}))
    assert (shared.ops[0].node, shared.ops[0].params["target"], shared.notes) == ("pve2", "pve2", ())
    unknown = one(clone(**there), template())
    assert unknown.ops[0].params["target"] == "pve2"
    assert "needs shared storage" in unknown.notes[0]
    linked = one(clone(full=False, config={}, **there), template(), shared=frozenset())
    assert "a linked clone of 9000 stays on pve1" in linked.blocked_by


def test_a_template_is_made_and_never_started():
    guest = one(want(template=True, restart=Restart.ALLOWED))
    assert kinds(guest) == ["create", "template"]
    assert guest.ops[1].goal == {"template": "1"}
    held = one(want(template=True))
    assert kinds(held) == ["create"]
    assert "becoming a template cannot be undone: the manifest does not allow" in held.notes[0]


def test_a_template_to_be_is_shown_as_one_and_what_cannot_be_made_becomes_none():
    assert diffs(one(want(template=True, restart=Restart.ALLOWED)))["template"] == ("", "1")
    lost = one(clone(template=True, restart=Restart.ALLOWED))
    assert (lost.bucket, lost.ops) == (Bucket.BLOCKED, ())


def test_a_clone_waits_until_its_declared_source_is_a_template():
    golden = want(9000, template=True, restart=Restart.ALLOWED, config={})
    box = seen(9000, config={}, status=Power.STOPPED)
    source, waiting = all_of([golden, clone(full=False, config={})], box).guests
    assert kinds(source) == ["template"]
    assert waiting.bucket is Bucket.CREATE
    assert next_op(waiting) is None
    assert waiting.notes == ("after g-9000, which it is cloned from and which is no template yet",)
    never = want(9000, template=True, config={})
    stuck = all_of([never, clone(full=False, config={})], box).guests[1]
    assert "waits for g-9000: becoming a template cannot be undone" in stuck.blocked_by


@pytest.mark.parametrize(
    ("manifest", "source", "lacks"),
    [
        ({"template": True}, {"status": Power.STOPPED}, "is no template yet"),
        ({"template": True}, {"status": Power.STOPPED, "template": True}, ""),
        ({"template": True, "type": LXC}, {"status": Power.STOPPED}, ""),  # never will it be that
        ({}, {"status": Power.STOPPED}, ""),
        ({}, None, "does not exist yet"),
    ],
)
def test_a_clone_waits_for_a_declared_source_that_is_still_to_be(manifest, source, lacks):
    golden = want(9000, config={}, restart=Restart.ALLOWED, **manifest)
    there = () if source is None else (seen(9000, config={}, **source),)
    guest = next(one for one in all_of([golden, clone(config={})], *there).guests if one.vmid == 101)
    note = f"after g-9000, which it is cloned from and which {lacks}"
    assert [text for text in guest.notes if text.startswith("after ")] == ([note] if lacks else [])


def test_a_clone_of_a_declared_source_that_cannot_be_read_says_so():
    golden = want(9000, config={}, template=True)
    guest = next(one for one in all_of([golden, clone(config={})], unread={9000: "away"}).guests if one.vmid == 101)
    assert "its clone source 9000 cannot be read: away" in guest.blocked_by


def test_a_guest_that_was_ours_and_is_gone_is_made_anew():
    guest = one(want(), adopted={101: "uid-101"})
    assert guest.bucket is Bucket.CREATE
    assert guest.diff[0].why == "it existed before and is gone"


def test_a_clone_is_followed_by_what_its_source_has_differently():
    guest = one(clone(), template())
    assert kinds(guest) == ["clone", "configure", "grow", "start"]
    op = guest.ops[0]
    assert op.params == {"newid": "101", "full": "1", "name": "g-101"}
    assert (op.source, op.source_node, op.node) == (9000, "pve1", "pve1")
    assert guest.ops[1].params == {"cores": "2"}
    assert guest.ops[2].params == {"disk": "scsi0", "size": "32G"}
    assert guest.ops[2].goal == {"scsi0": "32G"}
    assert diffs(guest)["guest"] == ("", "full clone of 9000")


def test_a_linked_clone_to_another_node():
    guest = one(clone(full=False, config={}, node=NodeName("pve2")), template())
    assert guest.ops[0].params == {"newid": "101", "full": "0", "name": "g-101", "target": "pve2"}
    assert (guest.ops[0].node, guest.ops[0].source_node) == ("pve2", "pve1")
    assert "shared storage" in guest.notes[0]


def test_a_clone_gets_its_own_addresses_so_a_wanted_one_is_written():
    same = one(clone(config={"net0": "virtio,bridge=vmbr0"}), template())
    assert kinds(same) == ["clone", "start"]
    own = one(clone(config={"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}), template())
    assert own.ops[1].params == {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}


def test_a_clone_keeps_its_sources_text_unless_the_manifest_has_one():
    assert one(clone(), template(description="golden image")).ops[0].description == "golden image"
    assert one(clone(description="mine "), template(description="golden image")).ops[0].description == "mine"
    assert one(clone(config={"description": "mine"}), template()).ops[0].description == "mine"
    assert one(want()).ops[0].description == ""


def test_a_full_clone_may_lie_on_another_storage():
    guest = one(clone(config={"scsi0": {"storage": "ceph", "size": "8G"}}), template())
    assert guest.ops[0].params["storage"] == "ceph"
    assert kinds(guest) == ["clone", "start"]


@pytest.mark.parametrize(
    ("desired", "source", "why"),
    [
        (clone(), None, "9000 does not exist, or the token may not see it"),
        (clone(), template(lock="disk"), "is not free: locked by PVE (disk)"),
        (clone(type=LXC), template(), "is a qemu guest, this one is to be lxc"),
        (clone(), template(template=False, status=Power.RUNNING), "is running (shut it down"),
        (clone(), template(template=False, status=Power.UNKNOWN), "is unknown"),
        (clone(full=False), template(template=False), "only templates have linked clones"),
        (clone(full=False, config={"scsi0": {"storage": "x"}}), template(), "a linked clone stays on its template's"),
        (clone(config={"scsi0": {"storage": "local-lvm", "size": "4G"}}), template(), "PVE cannot shrink it"),
        (clone(), template(node=NodeName("pve4")), "no node pve4"),
    ],
)
def test_a_source_that_cannot_give_it_blocks_before_anything_is_made(desired, source, why):
    guest = one(desired, *([source] if source else []))
    assert guest.bucket is Bucket.BLOCKED
    assert why in guest.blocked_by


def test_a_stopped_guest_can_be_cloned_in_full():
    assert kinds(one(clone(config={}), template(template=False))) == ["clone", "start"]


def test_a_source_that_could_not_be_read_or_is_busy_is_told_from_a_missing_one():
    assert "cannot be read: node is down" in one(clone(), unread={9000: "node is down"}).blocked_by
    assert "is not free: destroy x waits" in one(clone(), template(), closed={9000: "destroy x waits"}).blocked_by


def test_disks_on_several_storages_cannot_be_cloned_and_are_refused_before():
    config = {"scsi0": {"storage": "a"}, "scsi1": {"storage": "b"}}
    source = template(config={"scsi0": "x:base-9000-disk-0,size=1G", "scsi1": "x:base-9000-disk-1,size=1G"})
    assert "cannot give that" in one(clone(config=config), source).blocked_by


def test_volumes_are_renamed_by_the_clone():
    config = {"scsi0": "local-lvm:vm-101-disk-0", "ide2": "local:cloudinit", "ide0": "l:iso/x.iso,media=cdrom"}
    had = {
        "scsi0": "local-lvm:base-9000-disk-0,size=8G",
        "ide2": "local:9000/vm-9000-cloudinit.qcow2,media=cdrom",
        "ide0": "l:iso/x.iso,media=cdrom",
        "unused0": "local-lvm:base-9000-disk-7",
    }
    assert kinds(one(clone(config=config), template(config=had))) == ["clone", "start"]


def test_clones_of_a_declared_guest_wait_for_it():
    base = want(100, name="base", power=Power.STOPPED)
    whole = all_of([clone(101, 100, config={}), base])
    assert [guest.name for guest in whole.guests] == ["base", "g-101"]
    assert whole.guests[1].bucket is Bucket.CREATE
    assert whole.guests[1].waits_for == ("base",)
    assert kinds(whole.guests[1]) == ["clone", "start"]
    assert [op.vmid for op in runnable(whole)] == [100]


def test_keys_that_are_no_config_are_named_and_left_out():
    guest = one(want(config={**CONFIG, "vmid": "7", "lock": "backup", "name": "g-101"}))
    assert set(guest.ops[0].params) == {"name", "cores", "memory", "scsi0"}
    assert len(guest.unsupported) == 2


def test_labels_travel_with_every_operation():
    assert {str(op.labels) for op in one(want(labels={"tier": "web"})).ops} == {"{'tier': 'web'}"}


def test_what_a_clone_does_not_take_is_named():
    source = template(type=LXC, config={"rootfs": "a:base-9000-disk-0,size=8G"})
    guest = one(clone(201, type=LXC, config={"password": "x", "pool": "web", "bwlimit": "9"}), source)
    taken = {"pool": "web", "bwlimit": "9"}
    assert guest.ops[0].params == {"newid": "201", "full": "1", "hostname": "g-201", **taken}
    assert guest.unsupported == ("config.password is left out: a clone does not take it",)


def test_the_first_of_a_guests_operations_is_the_only_one_to_run_now():
    whole = all_of([clone(), want(102)], template())
    assert [op.kind for op in runnable(whole)] == [Kind.CLONE, Kind.CREATE]
    assert whole.count(Bucket.CREATE) == 2


def test_a_vmid_on_an_offline_node_blocks():
    guest = one(want(), nodes={**NODES, NodeName("pve1"): False})
    assert guest.blocked_by == "node pve1 is offline (bring it back)"
    assert kinds(guest) == ["create", "start"]


def test_the_marker_of_the_source_does_not_matter():
    assert kinds(one(clone(config={}), template(marker=mark(9000)))) == ["clone", "start"]


def test_seen_is_not_created():
    assert kinds(one(want(), seen())) == []


# -- at the edges ------------------------------------------------------------------------------------------------------

DUMP = Archive(volume="b:backup/vzdump-qemu-7-x.vma.zst")


def test_a_restore_names_the_one_storage_of_its_disks_whatever_else_has_a_colon():
    config = {
        "scsi0": {"storage": "local-lvm", "size": "32G"},
        "scsi1": "",
        "scsi2": "/dev/disk/by-id/x",
        "ide2": "iso:iso/x.iso,media=cdrom",
        "hostpci0": "0000:01:00.0",
    }
    assert one(want(source=DUMP, config=config)).ops[0].params["storage"] == "local-lvm"
    several = {"scsi0": {"storage": "a", "size": "1G"}, "scsi1": {"storage": "b", "size": "1G"}}
    assert "storage" not in one(want(source=DUMP, config=several)).ops[0].params


def test_a_restore_without_disks_in_the_manifest_says_nothing_of_them():
    assert one(want(source=DUMP, config={"cores": "2"})).notes == ()


def test_a_clone_that_would_take_anothers_volume_says_so():
    guest = one(clone(config={"scsi1": {"volume": "local-lvm:vm-102-disk-1"}}), template())
    assert guest.blocked_by.startswith("cloning 9000 cannot give that: 101.yaml:1: scsi1: volume local-lvm:vm-102-")


def test_a_linked_clone_beside_its_template_needs_no_shared_storage():
    guest = one(clone(full=False, config={}), template(), shared=frozenset())
    assert (kinds(guest), guest.notes) == (["clone", "start"], ())


def test_only_disks_on_storages_tie_a_clone_to_its_node():
    had = {
        "scsi0": "local-lvm:base-9000-disk-0,size=8G",
        "scsi1": "/dev/disk/by-id/x",
        "ide2": "iso:iso/x.iso,media=cdrom",
    }
    there = clone(config={}, node=NodeName("pve2"))
    guest = one(there, template(config=had), shared=frozenset({"local-lvm"}))
    assert (guest.ops[0].params["target"], guest.notes) == ("pve2", ())


@pytest.mark.parametrize(("text", "sent"), [("mine", "mine"), (None, "")])
def test_a_clone_of_a_guest_to_be_has_the_text_of_its_manifest(text, sent):
    golden = want(9000, config={})
    guest = all_of([golden, clone(config={}, description=text)]).guests[1]
    assert guest.ops[0].description == sent


@pytest.mark.parametrize(
    ("config", "had", "storage"),
    [
        ({"scsi0": "ceph:8", "hostpci0": "0000:01:00.0"}, {"hostpci0": "0000:01:00.0"}, "ceph"),
        ({"scsi0": "ceph:8", "scsi1": {"size": "8G"}}, {"scsi1": "local-lvm:base-9000-disk-1,size=8G"}, "ceph"),
        ({"scsi0": "ceph:8", "scsi1": "ceph:8"}, {"scsi1": "ceph:base-9000-disk-1,size=8G"}, "ceph"),
        ({"ide0": "ceph:4"}, {"ide0": "iso:iso/x.iso,media=cdrom"}, None),
        ({"scsi0": "ceph:8", "scsi1": "/dev/disk/by-id/a:b"}, {"scsi1": "/dev/disk/by-id/a:b"}, "ceph"),
    ],
)
def test_the_storage_of_a_full_clone_is_that_of_its_disks(config, had, storage):
    guest = one(clone(config=config), template(config={"scsi0": "local-lvm:base-9000-disk-0,size=8G", **had}))
    assert guest.ops[0].params.get("storage") == storage


def test_a_disk_where_a_medium_is_wanted_is_not_moved_first():
    had = {"ide0": "local-lvm:base-9000-disk-1,size=1G"}
    guest = one(clone(config={"ide0": "iso:iso/x.iso,media=cdrom"}), template(config=had))
    assert "the disk is local-lvm:vm-101-disk-1, which" in guest.blocked_by
    several = {"scsi0": "x:base-9000-disk-0,size=1G", "scsi1": "x:base-9000-disk-1,size=1G"}
    apart = one(clone(config={"scsi0": {"storage": "a"}, "scsi1": {"storage": "b"}}), template(config=several))
    assert apart.blocked_by.count("the disk is x:vm-101-disk-") == 2


@pytest.mark.parametrize(
    ("key", "had"),
    [
        ("unused0", "local-lvm:base-9000-disk-7"),  # a clone has none
        ("ide0", "l:iso/vm-9000-tools.iso,media=cdrom"),  # a medium is no volume of the source
        ("scsi1", "none"),
        ("scsi1", "damaged"),
    ],
)
def test_what_a_clone_has_of_its_source_as_it_is(key, had):
    wanted = "" if key == "unused0" else had
    assert kinds(one(clone(config={key: wanted}), template(config={key: had}))) == ["clone", "start"]


def test_a_clones_drive_for_cloud_init_is_its_own():
    had = {"ide2": "local:9000/vm-9000-cloudinit.qcow2,media=cdrom"}
    guest = one(clone(config={"ide2": "local:cloudinit,cache=unsafe"}), template(config=had))
    assert guest.ops[1].params["ide2"].startswith("local:vm-101-cloudinit.qcow2,")


def test_a_cloned_container_gets_its_own_addresses_too():
    had = {"rootfs": "a:base-9000-disk-0,size=8G", "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01"}
    config = {"net0": {"name": "eth0", "hwaddr": "BC:24:11:00:00:01"}}
    guest = one(clone(201, type=LXC, config=config), template(type=LXC, config=had))
    assert kinds(guest) == ["clone", "configure", "start"]
