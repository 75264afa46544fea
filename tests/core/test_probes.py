"""What each probe concludes from what was seen. A landing is attributable only to what this operation itself wrote."""

from typing import Any

import pytest

from tests.core.operations import LXC, OP, OTHER_OP, QEMU, intent, mark
from trueup.core import intents
from trueup.core.kinds import KINDS
from trueup.core.probes import Landing, Sight
from trueup.model.guests import Identity, Observed, Power
from trueup.model.ids import NodeName, Vmid
from trueup.model.ops import Kind

LANDED, NOT_LANDED, PARTIAL = Landing.LANDED, Landing.NOT_LANDED, Landing.PARTIAL
UNKNOWABLE, UNREADABLE = Landing.UNKNOWABLE, Landing.UNREADABLE
OURS, NOBODYS = True, False  # attributable or not

BEFORE = mark(op_id=OTHER_OP, counter=3)
FOREIGN = mark(uid="uid-of-another", op_id=OTHER_OP)
FENCED = mark(counter=9)

GONE = Sight(absent=True)
UNSEEN = Sight()


def guest(**more: Any) -> Observed:
    fields = {"type": QEMU, "vmid": Vmid(101), "node": NodeName("pve1"), "name": "web-1", "status": Power.STOPPED}
    return Observed(**{**fields, **more})


def sees(**more: Any) -> Sight:
    return Sight(guest=guest(**more))


def check(kind: Kind, sight: Sight, expected: tuple[Landing, bool], **of_the_intent: Any) -> None:
    found = KINDS[kind].probe(intent(kind, **of_the_intent), sight)
    assert (found.landing, found.attributable) == expected
    assert found.why


# -- create and clone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.CLONE])
@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(marker=mark()), (LANDED, OURS)),
        (sees(marker=mark(op_id=OTHER_OP, counter=7)), (LANDED, OURS)),  # written again since, still our guest
        (sees(marker=mark(), lock="create"), (PARTIAL, OURS)),
        (sees(marker=mark(), lock="clone"), (PARTIAL, OURS)),
        (sees(lock="clone"), (PARTIAL, NOBODYS)),  # PVE writes the description last
        (sees(lock="create"), (PARTIAL, NOBODYS)),
        (sees(lock="disk"), (PARTIAL, NOBODYS)),
        (sees(marker=mark(), lock="backup"), (LANDED, OURS)),
        (sees(marker=FOREIGN), (NOT_LANDED, NOBODYS)),
        (sees(), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_guest_was_made_if_it_carries_the_uid_that_only_this_request_gave_it(
    kind: Kind, sight: Sight, expected: tuple[Landing, bool]
):
    check(kind, sight, expected)


# -- configure and tag ------------------------------------------------------------------------------------------------

GOAL = {"cores": "4", "net0": "virtio,bridge=vmbr1", "cpulimit": ""}
MET = {"cores": "4", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr1"}
HALF = {"cores": "4", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}
NONE_MET = {"cores": "2", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "cpulimit": "2"}


@pytest.mark.parametrize("kind", [Kind.CONFIGURE, Kind.TAG])
@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(marker=mark(), config=MET), (LANDED, OURS)),
        (sees(marker=FENCED, config=MET), (LANDED, OURS)),  # a fence keeps the operation's id
        (sees(marker=mark(), config=MET, pending=("cores",)), (LANDED, OURS)),
        (sees(marker=mark(), config=HALF), (PARTIAL, OURS)),
        (sees(marker=mark(), config={**MET, "cpulimit": "2"}), (PARTIAL, OURS)),  # one was not deleted
        (sees(marker=BEFORE, config=NONE_MET), (NOT_LANDED, NOBODYS)),
        (sees(marker=BEFORE, config=MET), (NOT_LANDED, NOBODYS)),  # one write carries both, so this was another
        (sees(config=MET), (LANDED, NOBODYS)),  # somebody removed our marker
        (sees(config=HALF), (PARTIAL, NOBODYS)),
        (sees(config=NONE_MET), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_config_write_is_told_by_the_marker_that_it_carried(kind: Kind, sight: Sight, expected: tuple[Landing, bool]):
    check(kind, sight, expected, goal=GOAL)


def test_a_write_of_the_description_alone_is_told_by_its_marker_alone():
    check(Kind.CONFIGURE, sees(marker=mark()), (LANDED, OURS), goal={})
    check(Kind.CONFIGURE, sees(marker=BEFORE), (NOT_LANDED, NOBODYS), goal={})
    check(Kind.CONFIGURE, sees(), (NOT_LANDED, NOBODYS), goal={})


def test_a_secret_is_believed_to_be_written_with_its_marker_since_pve_never_shows_it():
    check(Kind.CONFIGURE, sees(marker=mark()), (LANDED, OURS), goal={"cipassword": intents.REDACTED})


# -- grow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"scsi0": "local-lvm:vm-101-disk-0,size=64G"}, (LANDED, NOBODYS)),
        ({"scsi0": "local-lvm:vm-101-disk-0,size=65536M"}, (LANDED, NOBODYS)),
        ({"scsi0": "local-lvm:vm-101-disk-0,size=100G"}, (LANDED, NOBODYS)),  # somebody went further
        ({"scsi0": "local-lvm:vm-101-disk-0,size=32G"}, (NOT_LANDED, NOBODYS)),
        ({"scsi0": "local-lvm:vm-101-disk-0"}, (UNKNOWABLE, NOBODYS)),
        ({}, (UNKNOWABLE, NOBODYS)),
    ],
)
def test_a_disk_was_grown_if_it_has_at_least_the_size(config: dict[str, str], expected: tuple[Landing, bool]):
    check(Kind.GROW, sees(config=config), expected, goal={"scsi0": "64G"})


def test_a_goal_that_is_no_size_is_not_guessed():
    check(Kind.GROW, sees(config={"scsi0": "a:b,size=1G"}), (UNKNOWABLE, NOBODYS), goal={"scsi0": "large"})


def test_of_a_guest_that_is_gone_no_disk_was_grown():
    check(Kind.GROW, GONE, (NOT_LANDED, NOBODYS), goal={"scsi0": "64G"})
    check(Kind.GROW, UNSEEN, (UNREADABLE, NOBODYS), goal={"scsi0": "64G"})


# -- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "want"), [(Kind.START, "running"), (Kind.STOP, "stopped"), (Kind.SHUTDOWN, "stopped")]
)
@pytest.mark.parametrize("status", [Power.RUNNING, Power.STOPPED])
def test_a_guest_in_the_wanted_state_may_have_been_put_there_by_anybody(kind: Kind, want: str, status: Power):
    expected = (LANDED if status == want else NOT_LANDED, NOBODYS)
    check(kind, sees(status=status), expected, goal={"power": want})


@pytest.mark.parametrize("kind", [Kind.START, Kind.STOP, Kind.SHUTDOWN])
def test_a_state_that_pve_does_not_know_is_not_guessed(kind: Kind):
    check(kind, sees(status=Power.UNKNOWN), (UNREADABLE, NOBODYS), goal={"power": "stopped"})
    check(kind, GONE, (NOT_LANDED, NOBODYS), goal={"power": "stopped"})
    check(kind, UNSEEN, (UNREADABLE, NOBODYS), goal={"power": "stopped"})


def test_a_reboot_without_a_purpose_leaves_no_trace_but_its_task():
    check(Kind.REBOOT, sees(status=Power.RUNNING), (UNKNOWABLE, NOBODYS))
    check(Kind.REBOOT, GONE, (NOT_LANDED, NOBODYS))
    check(Kind.REBOOT, UNSEEN, (UNREADABLE, NOBODYS))


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(status=Power.RUNNING), (LANDED, NOBODYS)),
        (sees(status=Power.RUNNING, pending=("memory",)), (LANDED, NOBODYS)),
        (sees(status=Power.RUNNING, pending=("cores", "memory")), (NOT_LANDED, NOBODYS)),
        (sees(status=Power.STOPPED), (PARTIAL, NOBODYS)),
    ],
)
def test_a_reboot_has_landed_once_the_guest_runs_with_what_waited(sight, expected):
    check(Kind.REBOOT, sight, expected, goal={"pending": "cores,numa"})


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(pool="prod"), (LANDED, NOBODYS)),
        (sees(pool="test"), (NOT_LANDED, NOBODYS)),
        (sees(), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_guest_is_in_a_pool_whoever_put_it_there(sight, expected):
    check(Kind.POOL, sight, expected, goal={"pool": "prod"})


# -- migrate and template ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(node="pve2"), (LANDED, NOBODYS)),
        (sees(node="pve1"), (NOT_LANDED, NOBODYS)),
        (sees(node="pve3"), (NOT_LANDED, NOBODYS)),
        (sees(node="pve1", lock="migrate"), (PARTIAL, NOBODYS)),
        (sees(node="pve2", lock="migrate"), (PARTIAL, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_guest_has_moved_if_its_config_is_on_the_target_and_the_migration_let_go(
    sight: Sight, expected: tuple[Landing, bool]
):
    check(Kind.MIGRATE, sight, expected, goal={"node": "pve2"})


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(template=True), (PARTIAL, NOBODYS)),
        (sees(template=False), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_the_flag_of_a_template_is_half_of_it(sight: Sight, expected: tuple[Landing, bool]):
    check(Kind.TEMPLATE, sight, expected)


# -- destroy ----------------------------------------------------------------------------------------------------------

SIGNED = Identity(smbios1_uuid="u-1", ctime="1700000000", vmgenid="g-1", marker_uid="uid-101")


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (GONE, (LANDED, OURS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),  # not seen is not gone
        (sees(identity=SIGNED), (NOT_LANDED, NOBODYS)),
        (sees(identity=SIGNED, lock="destroyed"), (PARTIAL, NOBODYS)),
        (sees(identity=Identity(smbios1_uuid="u-2")), (UNKNOWABLE, NOBODYS)),
        (sees(identity=Identity(smbios1_uuid="u-1", ctime="1800000000")), (UNKNOWABLE, NOBODYS)),
    ],
)
def test_a_guest_was_destroyed_if_it_is_nowhere_and_a_vmid_made_anew_proves_nothing(
    sight: Sight, expected: tuple[Landing, bool]
):
    check(Kind.DESTROY, sight, expected, identity=SIGNED)


def test_a_destroy_that_knew_no_identity_takes_whoever_has_the_vmid_for_its_guest():
    check(Kind.DESTROY, sees(identity=SIGNED), (NOT_LANDED, NOBODYS), identity=None)


# -- snapshots --------------------------------------------------------------------------------------------------------


def shows(snapshots: dict[str, str] | None, **of_the_guest: Any) -> Sight:
    return Sight(guest=guest(**of_the_guest), snapshots=snapshots)


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (shows({"up-7": f"before the update {OP}"}), (LANDED, OURS)),
        (shows({"up-7": "somebody's"}), (LANDED, NOBODYS)),
        (shows({"up-7": OP}, lock="snapshot"), (PARTIAL, NOBODYS)),
        (shows({"other": OP}), (NOT_LANDED, NOBODYS)),
        (shows({}), (NOT_LANDED, NOBODYS)),
        (shows(None), (UNREADABLE, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_snapshot_is_known_by_its_name_and_ours_by_its_description(sight: Sight, expected: tuple[Landing, bool]):
    check(Kind.SNAPSHOT, sight, expected, goal={"snapshot": "up-7"})


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (shows({"current": ""}), (LANDED, NOBODYS)),
        (shows({"up-7": ""}), (NOT_LANDED, NOBODYS)),
        (shows({"up-7": ""}, lock="snapshot-delete"), (PARTIAL, NOBODYS)),
        (shows(None), (UNREADABLE, NOBODYS)),
    ],
)
def test_a_snapshot_that_is_not_listed_may_have_been_deleted_by_anybody(sight: Sight, expected: tuple[Landing, bool]):
    check(Kind.SNAPSHOT_DELETE, sight, expected, goal={"snapshot": "up-7"})


def test_a_rollback_leaves_no_trace_but_its_task_and_a_new_generation_of_a_vm():
    check(Kind.ROLLBACK, shows({"up-7": OP}, marker=mark()), (UNKNOWABLE, NOBODYS))
    check(Kind.ROLLBACK, UNSEEN, (UNREADABLE, NOBODYS))
    check(Kind.ROLLBACK, GONE, (NOT_LANDED, NOBODYS))
    check(Kind.ROLLBACK, sees(lock="rollback"), (PARTIAL, NOBODYS))
    check(Kind.ROLLBACK, sees(identity=Identity(vmgenid="g-1")), (NOT_LANDED, NOBODYS), identity=SIGNED)
    check(Kind.ROLLBACK, sees(identity=Identity(vmgenid="g-2")), (LANDED, NOBODYS), identity=SIGNED)


# -- backups ----------------------------------------------------------------------------------------------------------

VOLUME = "backup:backup/vzdump-qemu-101-2026_11_23-10_00_00.vma.zst"


@pytest.mark.parametrize(
    ("archives", "expected"),
    [
        ({VOLUME: f"nightly {OP}"}, (LANDED, OURS)),
        ({VOLUME: "nightly"}, (NOT_LANDED, NOBODYS)),
        ({}, (NOT_LANDED, NOBODYS)),
        (None, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_backup_is_known_by_its_note(archives: dict[str, str] | None, expected: tuple[Landing, bool]):
    check(Kind.BACKUP, Sight(archives=archives), expected, goal={"note": OP})


def test_a_backup_without_a_note_is_never_found_in_somebodys_archive():
    check(Kind.BACKUP, Sight(archives={VOLUME: "nightly"}), (NOT_LANDED, NOBODYS), goal={})


@pytest.mark.parametrize(
    ("archives", "expected"),
    [({}, (LANDED, NOBODYS)), ({VOLUME: ""}, (NOT_LANDED, NOBODYS)), (None, (UNREADABLE, NOBODYS))],
)
def test_a_deleted_archive_is_no_longer_listed(archives: dict[str, str] | None, expected: tuple[Landing, bool]):
    check(Kind.BACKUP_DELETE, Sight(archives=archives), expected, goal={"volume": VOLUME})


# -- restore, disks, locks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(identity=Identity(vmgenid="g-2")), (LANDED, NOBODYS)),
        (sees(identity=Identity(vmgenid="g-1")), (NOT_LANDED, NOBODYS)),
        (sees(identity=Identity(rootfs="local:101/vm-101-disk-1.raw")), (UNKNOWABLE, NOBODYS)),
        (sees(identity=Identity(vmgenid="g-2"), lock="restore"), (PARTIAL, NOBODYS)),
        (sees(identity=Identity(vmgenid="g-2"), lock="create"), (PARTIAL, NOBODYS)),
        (GONE, (PARTIAL, NOBODYS)),  # the old guest is already deleted, the new one is not there
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_restore_shows_in_the_guests_generation_only(sight: Sight, expected: tuple[Landing, bool]):
    check(Kind.RESTORE, sight, expected, identity=SIGNED)


def test_a_restore_that_brought_our_marker_is_ours():
    check(Kind.RESTORE, sees(marker=mark(), identity=Identity(vmgenid="g-1")), (LANDED, OURS), identity=SIGNED)
    check(Kind.RESTORE, sees(marker=BEFORE, identity=Identity(vmgenid="g-1")), (NOT_LANDED, NOBODYS), identity=SIGNED)


def test_a_container_that_is_the_one_from_before_was_not_restored():
    before = Identity(rootfs="local:101/a.raw", marker_uid="uid-101")
    check(Kind.RESTORE, sees(type=LXC, identity=before), (NOT_LANDED, NOBODYS), type=LXC, identity=before)


def test_a_restored_container_cannot_be_told_from_the_one_before():
    check(Kind.RESTORE, sees(type=LXC), (UNKNOWABLE, NOBODYS), type=LXC, identity=Identity(rootfs="local:101/a.raw"))
    check(Kind.RESTORE, sees(identity=Identity(vmgenid="g-2")), (UNKNOWABLE, NOBODYS), identity=None)


DISK = {"scsi1": "local-lvm:vm-101-disk-1,size=8G"}


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(marker=mark()), (LANDED, OURS)),
        (sees(marker=BEFORE), (LANDED, NOBODYS)),
        (sees(), (LANDED, NOBODYS)),
        (sees(marker=mark(), config=DISK), (PARTIAL, OURS)),  # it waits for the guest to stop
        (sees(marker=BEFORE, config=DISK), (NOT_LANDED, NOBODYS)),
        (sees(config=DISK), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_removed_disk_is_not_in_the_config_and_our_marker_tells_whose_write_it_was(
    sight: Sight, expected: tuple[Landing, bool]
):
    check(Kind.DISK_REMOVE, sight, expected, goal={"scsi1": ""})


@pytest.mark.parametrize(
    ("sight", "one_shot", "expected"),
    [
        (sees(marker=mark(), pending=("scsi1",)), True, (PARTIAL, OURS)),
        (sees(marker=mark(), pending=("scsi1",)), False, (LANDED, OURS)),  # the loop goes on by itself
        (sees(marker=mark(), pending=("cores",)), True, (LANDED, OURS)),
        (sees(marker=mark(), pending=("scsi1", "cores")), True, (PARTIAL, OURS)),
        (sees(config={"scsi2": "local-lvm:vm-101-disk-2,size=8G"}), True, (NOT_LANDED, NOBODYS)),
    ],
)
def test_a_signed_removal_is_done_once_no_disk_of_it_is_left_or_waits(
    sight: Sight, one_shot: bool, expected: tuple[Landing, bool]
):
    check(Kind.DISK_REMOVE, sight, expected, goal={"scsi1": "", "scsi2": ""}, one_shot=one_shot)


@pytest.mark.parametrize(
    ("status", "one_shot", "landing"),
    [
        (Power.STOPPED, True, PARTIAL),
        (Power.RUNNING, True, UNKNOWABLE),
        (Power.STOPPED, False, UNKNOWABLE),
        (Power.RUNNING, False, UNKNOWABLE),
    ],
)
def test_a_reboot_for_no_values_leaves_no_trace_but_a_signed_one_is_not_over_while_the_guest_is_down(
    status: Power, one_shot: bool, landing: Landing
):
    check(Kind.REBOOT, sees(status=status), (landing, NOBODYS), one_shot=one_shot)


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (sees(), (LANDED, NOBODYS)),
        (sees(lock="backup"), (NOT_LANDED, NOBODYS)),
        (GONE, (NOT_LANDED, NOBODYS)),
        (UNSEEN, (UNREADABLE, NOBODYS)),
    ],
)
def test_a_guest_is_unlocked_if_no_lock_is_left(sight: Sight, expected: tuple[Landing, bool]):
    check(Kind.UNLOCK, sight, expected)


# -- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_what_nobody_marked_is_never_attributed(kind: Kind):
    """Only a destroy may attribute without a mark of its own: the recovery table asks more of it."""
    for power in Power:
        for lock in ("", "backup", "clone", "migrate", "rollback"):
            sight = Sight(guest=guest(status=power, lock=lock, marker=FOREIGN), snapshots={}, archives={})
            assert not KINDS[kind].probe(intent(kind, goal={"power": "running", "snapshot": "s"}), sight).attributable


SIGHTS = [
    Sight(guest=seen, absent=absent, snapshots=snapshots, archives={})
    for seen in (None, guest(), guest(marker=mark()), guest(marker=mark(), lock="snapshot", config=DISK))
    for absent in (True, False)
    for snapshots in (None, {}, {"up-7": ""})
    if not (seen and absent)
]


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_an_intent_without_a_marker_is_judged_too_and_nothing_is_attributed_to_it(kind: Kind):
    goal = {"scsi1": "", "snapshot": "up-7", "power": "running"}
    for sight in SIGHTS:
        found = KINDS[kind].probe(intent(kind, marker=None, goal=goal), sight)
        assert found.why
        assert not found.attributable or kind is Kind.DESTROY
