"""Snapshots and backups: one for each time of the schedule, named after it; what is too many is only ever offered."""

from datetime import UTC, datetime

import pytest

from tests.core.planning import HERE, diffs, kinds, mark, one, seen, template, want
from trueup.core import marker as markers
from trueup.core.planner import next_op
from trueup.model.guests import Backup, BackupPolicy, Power, Restart, Snapshot, SnapshotPolicy
from trueup.model.ids import Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Bucket

NIGHTLY = SnapshotPolicy(schedule="daily 02:00", keep=2)
BACKUPS = BackupPolicy(storage="pbs", schedule="daily 01:00", keep=2)


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOON = at("2026-11-24T12:00")


def taken(*names, installation=HERE):
    text = markers.render("", mark(installation=installation))
    return {name: Snapshot(name=name, description=text, taken_s=1) for name in names}


def uuid7(ms):
    text = f"{ms:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000000"


def made(when, *, notes=None, storage="pbs", vmid=101, **more):
    notes = f"g-101, by trueup {uuid7(at(when))}" if notes is None else notes
    return Backup(
        volume=f"{storage}:backup/vm/101/{when}", vmid=Vmid(vmid), made_s=at(when) // 1000, notes=notes, **more
    )


def snapshotting(snapshots, now=NOON, policy=NIGHTLY, **more):
    return one(want(snapshots=policy), seen(snapshots=snapshots, **more), now_ms=now)


def backing(*backups, now=NOON, policy=BACKUPS, **more):
    return one(want(backups=policy), seen(backups=backups, **more), now_ms=now)


def test_the_first_one_is_taken_at_once_and_named_after_the_schedule():
    guest = snapshotting({})
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["snapshot"])
    op = guest.ops[0]
    assert (op.params, op.goal) == ({"snapname": "auto-20261124-0200"}, {"snapshot": "auto-20261124-0200"})
    assert op.description is None
    assert diffs(guest) == {"snapshots": ("", "auto-20261124-0200")}


def test_there_is_one_for_each_time_however_often_one_looks():
    have = taken("auto-20261124-0200")
    assert snapshotting(have).bucket is Bucket.UNCHANGED
    assert snapshotting(have, at("2026-11-25T01:59")).bucket is Bucket.UNCHANGED
    assert snapshotting(have, at("2026-11-25T02:00")).ops[0].goal == {"snapshot": "auto-20261125-0200"}


def test_missed_times_are_not_made_up_for():
    guest = snapshotting(taken("auto-20261101-0200"))
    assert [op.goal["snapshot"] for op in guest.ops] == ["auto-20261124-0200"]
    assert diffs(guest)["snapshots"][0] == "auto-20261101-0200"


def test_others_snapshots_count_for_nothing_but_their_name():
    foreign = taken("auto-20261124-0300", installation="other") | {"mine": Snapshot(name="mine")}
    assert kinds(snapshotting(foreign)) == ["snapshot"]
    assert snapshotting(taken("auto-20261124-0200", installation="other")).bucket is Bucket.UNCHANGED


def test_the_stamp_is_the_local_time_of_the_schedules_zone():
    policy = SnapshotPolicy(schedule="daily 02:00 Europe/Berlin", keep=1, prefix="nightly")
    assert snapshotting({}, policy=policy).ops[0].goal == {"snapshot": "nightly-20261124-0200"}
    before = snapshotting({}, at("2026-11-24T00:59"), policy=policy)
    assert before.ops[0].goal == {"snapshot": "nightly-20261123-0200"}


def test_too_many_are_offered_and_change_nothing_else():
    guest = snapshotting(taken(*(f"auto-202611{day}-0200" for day in (21, 22, 23, 24))))
    assert (guest.bucket, guest.ops, guest.diff) == (Bucket.UNCHANGED, (), ())
    assert [approval.command for approval in guest.approvals] == [
        "trueup request snapshot-delete 101 --param snapshot=auto-20261121-0200",
        "trueup request snapshot-delete 101 --param snapshot=auto-20261122-0200",
    ]
    assert guest.notes == (
        "2 snapshots are more than the 2 to be kept; deleting needs signatures, and nothing waits for it",
    )


def test_an_offer_does_not_make_a_change_need_approval():
    guest = snapshotting(taken(*(f"auto-202611{day}-0200" for day in (21, 22, 23))))
    assert (guest.bucket, kinds(guest), len(guest.approvals)) == (Bucket.UPDATE, ["snapshot"], 1)


@pytest.mark.parametrize(
    ("snapshots", "more", "note"),
    [
        (None, {}, "its snapshots were not read, so none is taken"),
        (
            {},
            {"policy": SnapshotPolicy(schedule="sometimes", keep=1)},
            "no snapshot is taken: 'sometimes' is no schedule",
        ),
        ({}, {"policy": SnapshotPolicy(schedule="daily 01:00 Mars/Base", keep=1)}, "no time zone 'Mars/Base'"),
        ({}, {"lock": "backup"}, "locked by PVE (backup)"),
    ],
)
def test_where_one_cannot_tell_or_may_not_none_is_taken(snapshots, more, note):
    guest = snapshotting(snapshots, **more)
    assert guest.bucket is Bucket.UNCHANGED
    assert note in guest.notes[0]


def test_templates_and_strangers_have_none():
    golden = one(want(9000, name="golden", config={}, snapshots=NIGHTLY), template(marker=mark(9000), snapshots={}))
    assert (golden.ops, golden.notes) == ((), ("PVE takes no snapshots of a template",))
    assert one(want(snapshots=NIGHTLY), seen(marker=None, snapshots={})).unadopted


def test_a_backup_is_made_for_each_time():
    guest = backing()
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["backup"])
    assert guest.ops[0].params == {"storage": "pbs", "mode": "snapshot", "compress": "zstd"}
    assert guest.ops[0].goal == {"storage": "pbs"}
    assert backing(made("2026-11-24T01:00")).bucket is Bucket.UNCHANGED
    assert kinds(backing(made("2026-11-24T00:59"))) == ["backup"]


def test_a_nodes_late_clock_makes_no_second_backup():
    late = Backup(
        volume="pbs:backup/vm/101/x", vmid=Vmid(101), made_s=at("2026-11-24T00:50") // 1000,
        notes=f"g-101, by trueup {uuid7(at('2026-11-24T01:00'))}",
    )  # fmt: skip
    assert backing(late).bucket is Bucket.UNCHANGED


@pytest.mark.parametrize(
    "other",
    [
        made("2026-11-24T02:00", notes="by hand"),
        made("2026-11-24T02:00", storage="elsewhere"),
        made("2026-11-24T02:00", vmid=102),
    ],
)
def test_other_backups_do_not_count(other):
    assert kinds(backing(other)) == ["backup"]


def test_an_earlier_guests_backups_are_not_this_ones():
    born = mark(uid=uuid7(at("2026-11-24T03:00")))
    old = [made(f"2026-11-{day}T01:00") for day in (20, 21, 22, 24)]
    guest = backing(*old, marker=born)
    assert (kinds(guest), guest.approvals) == (["backup"], ())


def test_too_many_backups_are_offered_but_for_protected_ones():
    old = [made(f"2026-11-{day}T01:00", protected=day == 20) for day in (20, 21, 22, 23, 24)]
    guest = backing(*old)
    assert guest.bucket is Bucket.UNCHANGED
    assert [approval.command for approval in guest.approvals] == [
        "trueup request backup-delete 101 --param volume=pbs:backup/vm/101/2026-11-21T01:00",
        "trueup request backup-delete 101 --param volume=pbs:backup/vm/101/2026-11-22T01:00",
    ]


def test_a_mode_that_interrupts_follows_the_manifests_disruption():
    policy = BackupPolicy(storage="pbs", schedule="daily 01:00", keep=1, mode="stop")
    guest = backing(policy=policy)
    assert guest.bucket is Bucket.BLOCKED
    assert "a backup in mode stop interrupts it: the manifest does not allow" in guest.blocked_by
    assert kinds(backing(policy=policy, status=Power.STOPPED)) == ["start", "backup"]
    free = one(want(backups=policy, restart=Restart.ALLOWED), seen(backups=()), now_ms=NOON)
    assert kinds(free) == ["backup"]


def test_backups_that_were_not_read_are_not_missing():
    guest = one(want(backups=BACKUPS), seen(), now_ms=NOON)
    assert (guest.bucket, guest.notes) == (Bucket.UNCHANGED, ("its backups were not read, so none is made",))


def test_copies_come_after_everything_else():
    desired = want(snapshots=NIGHTLY, backups=BACKUPS, pool="dev", config={"cores": "4"})
    guest = one(desired, seen(snapshots={}, backups=(), status=Power.STOPPED), now_ms=NOON)
    assert kinds(guest) == ["configure", "pool", "start", "backup", "snapshot"]
    assert next_op(guest) == guest.ops[0]


# -- at the edges ------------------------------------------------------------------------------------------------------


def test_what_is_to_become_a_template_has_no_snapshots_taken_any_more():
    golden = one(want(snapshots=NIGHTLY, template=True), seen(snapshots={}), now_ms=NOON)
    assert "PVE takes no snapshots of a template" in golden.notes
    assert "snapshot" not in kinds(golden)


def test_one_too_many_is_told_as_one():
    guest = snapshotting(taken(*(f"auto-202611{day}-0200" for day in (22, 23, 24))))
    assert guest.notes[0].startswith("1 snapshot is more than the 2 to be kept; ")
    assert [(approval.kind, approval.why) for approval in guest.approvals] == [
        (Kind.SNAPSHOT_DELETE, "auto-20261122-0200 is more than the 2 to be kept")
    ]
    due = snapshotting(taken(*(f"auto-202611{day}-0200" for day in (21, 22, 23))))
    assert due.notes[0].startswith("1 snapshot is more")
    copied = backing(*(made(f"2026-11-{day}T01:00") for day in (22, 23, 24)))
    assert copied.notes[0].startswith("1 backup is more than the 2 to be kept; ")
    assert [approval.kind for approval in copied.approvals] == [Kind.BACKUP_DELETE]


def test_a_later_one_of_ours_counts_for_this_time_too():
    assert snapshotting(taken("auto-20261124-0300")).bucket is Bucket.UNCHANGED


@pytest.mark.parametrize("name", ["auto-20261124", "auto-x", "autox20261124-0300", "nightly-20261124-0300"])
def test_a_name_that_is_not_the_policys_is_none_of_ours(name):
    guest = snapshotting(taken(name))
    assert kinds(guest) == ["snapshot"]
    assert diffs(guest)["snapshots"][0] == ""


def test_a_snapshot_without_a_marker_is_nobodys():
    bare = {"auto-20261101-0200": Snapshot(name="auto-20261101-0200", description="by hand", taken_s=1)}
    assert diffs(snapshotting(bare))["snapshots"] == ("", "auto-20261124-0200")


def test_the_newest_of_ours_is_the_last_whatever_their_order():
    assert (
        diffs(snapshotting(taken("auto-20261102-0200", "auto-20261101-0200")))["snapshots"][0] == "auto-20261102-0200"
    )
    guest = backing(made("2026-11-23T01:00"), made("2026-11-22T01:00"))
    assert diffs(guest) == {"backups": ("pbs:backup/vm/101/2026-11-23T01:00", "pbs, 20261124-0100")}
    assert guest.diff[0].why == "due by its schedule, daily 01:00"
    assert diffs(backing())["backups"][0] == ""


def test_the_hour_of_its_making_is_the_nodes_where_that_is_later():
    note = f"g-101, by trueup {uuid7(at('2026-11-24T00:50'))}"
    assert backing(made("2026-11-24T01:00", notes=note)).bucket is Bucket.UNCHANGED


def test_a_backup_of_the_guests_first_hour_is_its_own():
    born = mark(uid=uuid7(at("2026-11-24T01:00")))
    assert backing(made("2026-11-24T01:00"), marker=born).bucket is Bucket.UNCHANGED


def test_a_backup_that_interrupts_is_held_and_still_told_of():
    policy = BackupPolicy(storage="pbs", schedule="daily 01:00", keep=1, mode="stop")
    unknown = backing(policy=policy, status=Power.UNKNOWN)
    assert "backup" not in kinds(unknown)
    held = backing(policy=policy)
    assert "a backup in mode stop interrupts it" in held.diff[0].why
