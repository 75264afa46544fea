"""Differences of guests that exist: what is written, what grows, what needs people."""

import pytest
from msgspec.structs import replace

from tests.core.planning import CONFIG, LXC, SEEN, all_of, diffs, first, kinds, mark, one, seen, template, want
from trueup.core.planner import next_op
from trueup.core.properties import MASK
from trueup.model.guests import Power, Restart
from trueup.model.ops import Kind
from trueup.model.plan import Bucket


def with_config(**keys):
    return {**CONFIG, **keys}


def test_a_converged_guest_is_unchanged():
    guest = one(want(), seen())
    assert guest.bucket is Bucket.UNCHANGED
    assert (guest.ops, guest.diff, guest.notes) == ((), (), ())


def test_only_keys_of_the_manifest_are_ours():
    assert one(want(config={"cores": "2"}), seen(config={**SEEN, "args": "-x", "net3": "e1000=AA"})).ops == ()


def test_only_what_differs_is_written():
    guest = one(want(config=with_config(cores="4", tags="web")), seen())
    assert guest.bucket is Bucket.UPDATE
    assert kinds(guest) == ["configure"]
    assert guest.ops[0].params == {"cores": "4", "tags": "web"}
    assert guest.ops[0].goal == {"cores": "4", "tags": "web"}
    assert diffs(guest) == {"cores": ("2", "4"), "tags": ("", "web")}


def test_why_says_what_follows():
    changed = want(config=with_config(cores="4", tags="web"))
    assert [diff.why for diff in one(changed, seen()).diff] == [
        "differs from the manifest; takes effect at the next restart; the manifest does not allow trueup to restart it",
        "not set; applies at once",
    ]
    allowed = want(config=with_config(cores="4"), restart=Restart.ALLOWED)
    assert one(allowed, seen()).diff[0].why.endswith("the next restart, which follows at once if PVE needs it")
    later = want(config=with_config(cores="4"), restart="Sat 02:00-04:00 UTC")
    assert one(later, seen()).diff[0].why.endswith("follows in its window, Sat 02:00-04:00 UTC if PVE needs it")
    stopped = one(want(config=with_config(cores="4"), power=Power.STOPPED), seen(status=Power.STOPPED))
    assert stopped.diff[0].why.endswith("applies at the next start")


def test_a_key_that_the_manifest_takes_away_is_deleted():
    guest = one(want(config=with_config(net1="", onboot="")), seen(config={**SEEN, "net1": "virtio=AA", "onboot": "1"}))
    assert guest.ops[0].params == {"delete": "net1,onboot"}
    assert guest.ops[0].goal == {"net1": "", "onboot": ""}


def test_a_renamed_guest_is_named_back():
    guest = one(want(), seen(name="other"))
    assert guest.ops[0].params == {"name": "g-101"}
    assert diffs(guest) == {"name": ("other", "g-101")}
    box = one(want(type=LXC, config={}), seen(type=LXC, name="other", config={}))
    assert box.ops[0].params == {"hostname": "g-101"}


def test_an_interface_keeps_its_address():
    guest = one(want(config={"net0": "virtio,bridge=vmbr1"}), seen(config={"net0": "virtio=AA,bridge=vmbr0"}))
    assert guest.ops[0].params == {"net0": "virtio=AA,bridge=vmbr1"}


def test_the_users_text_is_compared_without_trailing_blanks():
    assert one(want(description="text\n\n"), seen(description="text")).ops == ()
    guest = one(want(description="new"), seen(description="old"))
    assert kinds(guest) == ["configure"]
    assert (guest.ops[0].params, guest.ops[0].goal, guest.ops[0].description) == ({}, {}, "new")
    assert diffs(guest) == {"description": ("old", "new")}
    assert one(want(description=None), seen(description="old")).ops == ()
    assert one(want(description=""), seen(description="old")).ops[0].description == ""


def test_a_config_write_without_a_text_keeps_the_text():
    assert one(want(config={"cores": "8"}), seen(description="old")).ops[0].description is None


def test_secrets_are_written_once_and_never_shown():
    guest = one(want(config=with_config(cipassword="hunter2")), seen())
    assert guest.ops[0].params == {"cipassword": "hunter2"}
    assert guest.ops[0].goal == {"cipassword": MASK}
    assert "hunter2" not in str(guest.diff)
    assert one(want(config=with_config(cipassword="x")), seen(config={**SEEN, "cipassword": MASK})).ops == ()


def test_a_new_disk_is_a_config_write():
    guest = one(want(config=with_config(scsi1={"storage": "local-lvm", "size": "4G"})), seen())
    assert guest.ops[0].params == {"scsi1": "local-lvm:4"}


def test_a_disk_grows_by_an_operation_of_its_own_to_an_absolute_size():
    guest = one(want(config={"scsi0": {"storage": "local-lvm", "size": "64G", "ssd": "1"}}), seen())
    assert kinds(guest) == ["configure", "grow"]
    assert guest.ops[0].params == {"scsi0": "local-lvm:vm-101-disk-0,ssd=1,size=32G"}
    assert guest.ops[1].params == {"disk": "scsi0", "size": "64G"}
    assert guest.ops[1].goal == {"scsi0": "64G"}
    assert guest.bucket is Bucket.UPDATE


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"storage": "local-lvm", "size": "16G"}, "the disk has 32G, and PVE cannot shrink it"),
        ({"storage": "ceph", "size": "32G"}, "elsewhere; trueup does not move disks"),
        ("local-lvm:vm-101-disk-9", "elsewhere"),
        ("local:iso/x.iso,media=cdrom", "elsewhere"),
    ],
)
def test_what_would_lose_a_disk_needs_approval(value, why):
    guest = one(want(config={"scsi0": value}), seen())
    assert guest.bucket is Bucket.NEEDS_APPROVAL
    assert guest.ops == ()
    assert why in guest.approvals[0].why
    assert guest.approvals[0].command == "trueup request disk-remove 101 --param disk=scsi0"
    assert guest.diff[0].why.endswith("needs approval")


def test_what_needs_approval_holds_nothing_else_up():
    guest = one(want(config={"scsi0": {"storage": "ceph", "size": "32G"}, "cores": "4"}), seen())
    assert guest.bucket is Bucket.NEEDS_APPROVAL
    assert first(guest).params == {"cores": "4"}


def test_a_disk_that_the_manifest_takes_away_goes_and_its_volume_stays():
    had = {**SEEN, "scsi1": "local-lvm:vm-101-disk-1,size=4G"}
    guest = one(want(config=with_config(scsi1="", cores="4")), seen(config=had))
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["configure", "detach"])
    assert (guest.ops[1].params, guest.ops[1].goal) == ({"delete": "scsi1"}, {"scsi1": ""})
    assert guest.ops[0].params == {"cores": "4"}
    assert "local-lvm:vm-101-disk-1 stays, as an unused disk" in guest.diff[1].why
    assert diffs(guest)["scsi1"] == (had["scsi1"], "")
    assert one(want(config=with_config(scsi1="")), seen()).bucket is Bucket.UNCHANGED


def test_a_protected_guest_loses_no_disk_without_approval():
    guest = one(want(config={"scsi0": ""}), seen(config={**SEEN, "protection": "1"}))
    assert guest.bucket is Bucket.NEEDS_APPROVAL
    assert guest.approvals[0].command == "trueup request disk-remove 101 --param disk=scsi0"
    assert "`protection`" in guest.approvals[0].why


def test_a_containers_root_cannot_be_taken_off():
    guest = one(want(type=LXC, config={"rootfs": ""}), seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0,size=8G"}))
    assert [approval.command for approval in guest.approvals] == ["trueup request destroy 101"]


def test_a_volume_that_is_there_is_attached_by_its_name():
    guest = one(want(config=with_config(scsi1={"volume": "local-lvm:vm-101-disk-1"})), seen())
    assert guest.ops[0].params == {"scsi1": "local-lvm:vm-101-disk-1"}
    had = {**SEEN, "scsi1": "local-lvm:vm-101-disk-1,size=4G"}
    assert one(want(config=with_config(scsi1={"volume": "local-lvm:vm-101-disk-1"})), seen(config=had)).ops == ()


@pytest.mark.parametrize(
    "volume", ["local-lvm:vm-102-disk-1", "local:102/vm-102-disk-0.qcow2", "z:base-9/subvol-9-disk-0"]
)
def test_another_guests_volume_is_never_attached(volume):
    for guest in (one(want(config=with_config(scsi1={"volume": volume})), seen()), one(want(config={"scsi1": volume}))):
        assert guest.bucket is Bucket.BLOCKED
        assert "101.yaml:1: scsi1: volume" in guest.blocked_by
        assert "is guest" in guest.blocked_by


def test_a_linked_clones_volume_is_its_own():
    value = {"volume": "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2"}
    assert one(want(config=with_config(scsi1=value)), seen()).bucket is Bucket.UPDATE


def test_tags_alone_are_a_kind_of_their_own():
    assert kinds(one(want(config=with_config(tags="web")), seen())) == ["tag"]
    assert kinds(one(want(config=with_config(tags="")), seen(config={**SEEN, "tags": "web"}))) == ["tag"]
    assert kinds(one(want(config=with_config(tags="web"), description="x"), seen())) == ["configure"]


def test_what_the_manifest_ignores_is_never_mended():
    desired = want(config=with_config(cores="4", net0="virtio,bridge=vmbr1"), ignore=("cores", "net*"))
    had = {**SEEN, "net0": "virtio=AA,bridge=vmbr0"}
    assert one(desired, seen(config=had)).bucket is Bucket.UNCHANGED
    assert one(desired, seen(config=had, pending=("cores",))).notes == ()
    assert one(desired).ops[0].params["cores"] == "4"


def test_a_medium_is_changed_and_taken_out_by_a_config_write():
    had = {"ide2": "l:iso/a.iso,media=cdrom,size=3M"}
    changed = one(want(config={"ide2": "l:iso/b.iso,media=cdrom"}), seen(config=had))
    assert changed.ops[0].params == {"ide2": "l:iso/b.iso,media=cdrom"}
    taken = one(want(config={"ide2": ""}), seen(config=had))
    assert (kinds(taken), taken.ops[0].params) == (["configure"], {"delete": "ide2"})
    kept = one(want(config={"ide2": "l:iso/b.iso,media=cdrom"}), seen(config={"ide2": had["ide2"] + ",cache=unsafe"}))
    assert kept.ops[0].params == {"ide2": "l:iso/b.iso,media=cdrom,cache=unsafe"}
    disk = one(want(config={"ide2": "a:4"}), seen(config=had))
    assert disk.ops[0].params == {"ide2": "a:4"}


def test_a_container_is_rebuilt_for_what_only_a_new_one_can_have():
    config = {"rootfs": {"storage": "ceph", "size": "8G"}, "unprivileged": "1"}
    guest = one(want(type=LXC, config=config), seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0,size=8G"}))
    assert guest.bucket is Bucket.NEEDS_APPROVAL
    assert [approval.command for approval in guest.approvals] == ["trueup request destroy 101"]


def test_a_vm_where_a_container_is_wanted_needs_a_new_guest():
    guest = one(want(type=LXC, config={}), seen())
    assert guest.bucket is Bucket.NEEDS_APPROVAL
    assert diffs(guest) == {"kind": ("qemu", "lxc")}
    assert "qm" not in guest.approvals[0].command
    assert one(want(type=LXC, config={}), seen(marker=None)).bucket is Bucket.BLOCKED


def test_creation_parameters_do_not_differ_afterwards():
    assert one(want(type=LXC, config={"password": "x", "pool": "p"}), seen(type=LXC, config={})).ops == ()


def test_protection_that_stands_as_a_fence_is_left_on():
    desired, had = want(config={"protection": "0"}), seen(config={"protection": "1"})
    assert kinds(one(desired, had)) == ["configure"]
    fenced = one(desired, had, fenced=frozenset({101}))
    assert fenced.ops == ()
    assert "protection stays on" in fenced.notes[0]


def test_guests_of_ours_without_a_manifest_need_an_approved_destroy():
    whole = all_of([want()], seen(), seen(105), seen(104))
    assert [guest.vmid for guest in whole.guests] == [101, 104, 105]
    orphan = whole.guests[1]
    assert orphan.bucket is Bucket.NEEDS_APPROVAL
    assert orphan.approvals[0].command == "trueup request destroy 104"
    assert orphan.ops == ()
    assert next_op(orphan) is None


def test_an_orphan_says_what_keeps_its_destroy_waiting():
    quiet = all_of([], seen()).guests[0]
    closed = all_of([], seen(), closed={101: "stop 0192 is in flight"}).guests[0]
    assert diffs(quiet) == {"guest": ("g-101", "")}
    assert quiet.approvals[0].kind == "destroy"
    assert (quiet.notes, closed.notes) == ((), ("stop 0192 is in flight",))
    locked = all_of([], seen(lock="backup")).guests[0]
    assert locked.notes[0].startswith("locked by PVE (backup)")


def test_guests_that_are_not_ours_never_appear():
    foreign = [
        template(),
        seen(301, marker=None),
        seen(302, marker=mark(302, installation="other")),
        seen(303, marker=mark(101)),
        seen(304, marker=mark(304, uid="new")),
    ]
    assert all_of([], *foreign, adopted={304: "old"}).guests == ()


# -- at the edges ------------------------------------------------------------------------------------------------------


def test_a_fence_holds_protection_alone():
    guest = one(want(config={"cores": "4"}), seen(), fenced=frozenset({101}))
    assert guest.ops[0].params == {"cores": "4"}
    assert "protection" not in str(guest.notes)
    assert "protection stays on" not in str(one(want(config={"protection": "0"}), seen()).notes)


def test_a_secret_that_goes_is_gone_in_the_goal_too():
    guest = one(want(config={"cipassword": ""}), seen(config={"cipassword": MASK}))
    assert guest.ops[0].goal == {"cipassword": ""}
    assert diffs(one(want(config={"cipassword": "x"}), seen())) == {"cipassword": ("", MASK)}


def test_only_disks_have_an_owner_in_their_name():
    hook = want(config={"hookscript": "local:snippets/vm-102-hook.pl"})
    assert kinds(one(hook, seen())) == ["configure"]
    vm = one(want(config={"scsi1": {"volume": "local-lvm:vm-102-disk-1"}}), seen())
    assert "`qm disk move 102 DISK --target-vmid 101`" in vm.blocked_by
    box = one(want(type=LXC, config={"mp0": "a:vm-102-disk-1,mp=/x"}), seen(type=LXC, config={}))
    assert "`pct move-volume 102 VOLUME --target-vmid 101`" in box.blocked_by


def test_the_manifests_own_name_and_text_may_stand_in_its_config():
    assert one(want(config={"description": "mine", "name": "g-101"}), seen()).unsupported == ()
    assert one(want(type=LXC, config={"hostname": "g-101"}), seen(type=LXC, config={})).unsupported == ()
    assert len(one(want(config={"hostname": "other", "name": "other"}), seen()).unsupported) == 2


def test_a_name_is_the_configs_or_else_that_of_the_list():
    assert one(want(config={}), seen(config={"name": "g-101"}, name="stale")).ops == ()
    assert one(want(config={}), replace(seen(), config={})).ops == ()
    nameless = one(want(config={}), replace(seen(), config={}, name=""))
    assert nameless.diff[0].why.startswith("not set; ")


def test_what_has_to_be_approved_says_which_request_it_needs():
    box = one(want(type=LXC, config={"unprivileged": "1"}), seen(type=LXC, config={}))
    (approval,) = box.approvals
    assert (approval.kind, box.ops) == (Kind.DESTROY, ())
    assert kinds(one(want(config={"unprivileged": "1"}), seen())) == ["configure"]
    root = one(want(type=LXC, config={"rootfs": ""}), seen(type=LXC, config={"rootfs": "a:subvol-101-disk-0,size=8G"}))
    assert root.approvals[0].why == "the manifest takes the disk away: only a new guest can have that"
    moved = one(want(config={"scsi0": {"storage": "ceph", "size": "32G"}}), seen())
    assert moved.approvals[0].kind is Kind.DISK_REMOVE


@pytest.mark.parametrize(
    ("size", "asked"),
    [("32G", ["configure"]), ("34359738367", ["configure", "grow"]), ("34359738368", ["configure"])],
)
def test_a_disk_grows_by_what_it_lacks_and_no_more(size, asked):
    value = {"storage": "local-lvm", "size": "32G", "ssd": "1"}
    had = {"scsi0": f"local-lvm:vm-101-disk-0,size={size}"}
    guest = one(want(config={"scsi0": value}), seen(config=had))
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, asked)


def test_growth_is_told_in_pves_sizes():
    guest = one(want(config={"scsi0": {"storage": "local-lvm", "size": "64G"}}), seen())
    assert diffs(guest) == {"scsi0": ("32G", "64G")}
