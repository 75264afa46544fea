"""Whether an accepted one-shot may be sent now: what was signed, what is seen, and what PVE would make of it."""

from typing import Any

import pytest

from tests.core.operations import LXC, NODE, QEMU, SENT_S, TOKEN, intent, mark, upid
from trueup.core import incarnation, intents, marker, one_shots
from trueup.core.intents import Stamp
from trueup.core.kinds import KINDS
from trueup.core.one_shots import NotYet, Objection, judge, made_since
from trueup.model.guests import Identity, Marker, Observed, Power
from trueup.model.ids import Digest, GuestType, NodeName, OpId, Vmid
from trueup.model.limits import CLOCK_DIFFERENCE_S
from trueup.model.ops import Intent, Kind, Reason
from trueup.model.pve import TaskRow

VM = Identity(smbios1_uuid="u-1", ctime="1767225600", vmgenid="g-1", marker_uid="uid-101")
CT = Identity(rootfs="local-lvm:vm-101-disk-0", macs=("BC:24:11:00:00:01",), marker_uid="uid-101")
SIGNED = {QEMU: VM, LXC: CT}
DIGEST = Digest("d1")
INSTALLATION = "lab-1"
BOTH = pytest.mark.parametrize("guest", list(GuestType))


def seen(guest: GuestType = QEMU, **more: Any) -> Observed:
    fields = {
        "type": guest,
        "vmid": Vmid(101),
        "node": NODE,
        "name": "web",
        "status": Power.STOPPED,
        "digest": DIGEST,
        "marker": mark(),
        "identity": SIGNED[guest],
    }
    return Observed(**{**fields, **more})


def signed(kind: Kind, guest: GuestType = QEMU, **more: Any) -> Intent:
    fields = {"type": guest, "identity": SIGNED[guest], "digest": DIGEST, "one_shot": True}
    return intent(kind, **{**fields, **more})


def say(kind: Kind, guest: Observed, *, quorate: bool = True, **more: Any) -> Objection | NotYet | None:
    return judge(signed(kind, guest.type, **more), guest, installation=INSTALLATION, quorate=quorate)


def reason(found: Objection | NotYet | None) -> Reason | None:
    assert isinstance(found, Objection)
    assert found.why
    return found.reason


# -- as signed --------------------------------------------------------------------------------------------------------


@BOTH
def test_the_very_guest_that_was_signed_for_may_be_destroyed(guest: GuestType):
    assert say(Kind.DESTROY, seen(guest)) is None


@BOTH
@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if spec.carried_out], ids=str)
@pytest.mark.parametrize("what", ["digest", "marker", "type"])
def test_any_difference_to_what_was_signed_ends_every_kind(guest: GuestType, kind: Kind, what: str):
    other = {
        "digest": seen(guest, digest=Digest("d2")),
        "marker": seen(guest, identity=Identity(**{**_fields(SIGNED[guest]), "marker_uid": "uid-102"})),
        "type": seen(LXC if guest is QEMU else QEMU, identity=SIGNED[guest]),
    }[what]
    found = judge(signed(kind, guest), other, installation=INSTALLATION, quorate=True)
    assert reason(found) is Reason.NOT_AS_SIGNED


@pytest.mark.parametrize("part", ["smbios1_uuid", "ctime", "vmgenid"])
def test_each_part_of_a_vms_identity_counts(part: str):
    other = Identity(**{**_fields(VM), part: "another"})
    assert reason(say(Kind.DESTROY, seen(identity=other))) is Reason.NOT_AS_SIGNED


@pytest.mark.parametrize("part", [{"rootfs": "local-lvm:vm-101-disk-1"}, {"macs": ("BC:24:11:00:00:02",)}])
def test_each_part_of_a_containers_identity_counts(part: dict[str, Any]):
    other = Identity(**{**_fields(CT), **part})
    assert reason(say(Kind.DESTROY, seen(LXC, identity=other))) is Reason.NOT_AS_SIGNED


@pytest.mark.parametrize("unknown", [{"identity": None}, {"digest": Digest("")}])
def test_a_request_that_names_no_guest_is_never_carried_out(unknown: dict[str, Any]):
    assert reason(say(Kind.DESTROY, seen(digest=Digest("")), **unknown)) is Reason.NOT_AS_SIGNED


def _fields(identity: Identity) -> dict[str, Any]:
    return {name: getattr(identity, name) for name in identity.__struct_fields__}


# -- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "foreign",
    [None, mark(installation="lab-2"), mark(vmid=Vmid(102))],
    ids=["no marker", "another installation's", "a copy"],
)
def test_nothing_destructive_is_done_to_a_container_without_our_marker(foreign: Marker | None):
    assert reason(say(Kind.DESTROY, seen(LXC, marker=foreign))) is Reason.REFUSED
    assert say(Kind.DESTROY, seen(QEMU, marker=foreign)) is None, "a VM has an identity of its own"
    assert say(Kind.START, seen(LXC, marker=foreign), goal={"power": "running"}) is None


def row(kind: str = "vzrestore", vmid: int = 101, *, start_s: int = SENT_S) -> TaskRow:
    return TaskRow(upid=upid(kind, guest=str(vmid), start_s=start_s), status="OK")


@pytest.mark.parametrize("kind", ["vzcreate", "vzrestore", "vzdestroy"])
def test_a_task_that_replaced_the_container_since_is_found(kind: str):
    found = made_since(Vmid(101), [row("vzstart"), row(kind)], SENT_S * 1000, ())
    assert found == row(kind)


def test_others_earlier_and_explained_tasks_are_none():
    since_ms = SENT_S * 1000
    slack_s = int(CLOCK_DIFFERENCE_S)
    assert made_since(Vmid(101), [row(vmid=102)], since_ms, ()) is None
    assert made_since(Vmid(101), [row("vzsnapshot")], since_ms, ()) is None
    assert made_since(Vmid(101), [row(start_s=SENT_S - slack_s - 1)], since_ms, ()) is None
    assert made_since(Vmid(101), [row(start_s=SENT_S - slack_s)], since_ms, ()) is not None, "clocks differ"
    assert made_since(Vmid(101), [row()], since_ms, {row().upid.text}) is None


# -- what can wait, and what cannot -----------------------------------------------------------------------------------


def test_a_lock_and_a_lost_quorum_are_waited_for():
    assert isinstance(say(Kind.DESTROY, seen(lock="backup")), NotYet)
    assert isinstance(say(Kind.DESTROY, seen(), quorate=False), NotYet)
    assert say(Kind.STOP, seen(status=Power.RUNNING), quorate=False, goal={"power": "stopped"}) is None


REFUSED: list[tuple[Kind, Observed, dict[str, Any]]] = [
    (Kind.DESTROY, seen(status=Power.RUNNING), {}),
    (Kind.DESTROY, seen(LXC, status=Power.RUNNING), {}),
    (Kind.DESTROY, seen(status=Power.UNKNOWN), {}),
    (Kind.DESTROY, seen(ha="started"), {}),
    (Kind.DESTROY, seen(ha="ignored"), {}),
    (Kind.RESTORE, seen(status=Power.RUNNING), {}),
    (Kind.RESTORE, seen(config={"protection": "1"}), {}),
    (Kind.DISK_REMOVE, seen(), {"goal": {"scsi1": ""}}),
    (Kind.DISK_REMOVE, seen(config={"scsi1": "a:b", "protection": "1"}), {"goal": {"scsi1": ""}}),
    (Kind.DISK_REMOVE, seen(LXC, config={"mp0": "a:b"}), {"goal": {"mp0": ""}}),
    (Kind.DISK_REMOVE, seen(config={"sata1": "a:b"}, status=Power.RUNNING), {"goal": {"sata1": ""}}),
    (Kind.ROLLBACK, seen(template=True), {}),
    (Kind.SNAPSHOT_DELETE, seen(template=True), {}),
    (Kind.MIGRATE, seen(), {"goal": {"node": "pve1"}}),
    (Kind.TEMPLATE, seen(template=True), {}),
    (Kind.TEMPLATE, seen(status=Power.RUNNING), {}),
    (Kind.REBOOT, seen(), {}),
    (Kind.UNLOCK, seen(lock="backup"), {}),
]


@pytest.mark.parametrize(("kind", "guest", "more"), REFUSED, ids=lambda value: str(value)[:24])
def test_what_pve_would_refuse_is_refused_before_anything_is_written(kind: Kind, guest: Observed, more: dict[str, Any]):
    assert reason(say(kind, guest, **more)) is Reason.REFUSED


ALLOWED: list[tuple[Kind, Observed, dict[str, Any]]] = [
    (Kind.DESTROY, seen(ha="started"), {"params": {"purge": "1"}}),
    (Kind.DESTROY, seen(config={"protection": "1"}), {}),
    (Kind.DISK_REMOVE, seen(config={"scsi1": "a:b"}, status=Power.RUNNING), {"goal": {"scsi1": ""}}),
    (Kind.DISK_REMOVE, seen(config={"virtio1": "a:b"}, status=Power.RUNNING), {"goal": {"virtio1": ""}}),
    (Kind.DISK_REMOVE, seen(config={"sata1": "a:b"}), {"goal": {"sata1": ""}}),
    (Kind.DISK_REMOVE, seen(LXC, config={"unused0": "a:b"}, status=Power.RUNNING), {"goal": {"unused0": ""}}),
    (Kind.ROLLBACK, seen(status=Power.RUNNING), {}),
    (Kind.MIGRATE, seen(), {"goal": {"node": "pve2"}}),
    (Kind.REBOOT, seen(status=Power.RUNNING), {}),
]


@pytest.mark.parametrize(("kind", "guest", "more"), ALLOWED, ids=lambda value: str(value)[:24])
def test_what_pve_takes_may_be_sent(kind: Kind, guest: Observed, more: dict[str, Any]):
    assert say(kind, guest, **more) is None


def test_a_state_that_is_there_already_is_not_asked_for():
    assert reason(say(Kind.STOP, seen(), goal={"power": "stopped"})) is Reason.SUPERSEDED


@pytest.mark.parametrize(("guest", "tool"), [(QEMU, "qm"), (LXC, "pct")])
def test_unlocking_names_the_command_for_root(guest: GuestType, tool: str):
    unlock = signed(Kind.UNLOCK, QEMU)
    found = judge(unlock, seen(guest, lock="backup"), installation=INSTALLATION, quorate=True)
    assert isinstance(found, Objection)
    assert f"`{tool} unlock 101` as root on pve1" in found.why


# -- still the same guest, after our own writes -----------------------------------------------------------------------


def test_our_new_marker_and_a_new_generation_leave_a_vm_what_it_is():
    ours = signed(Kind.DESTROY, marker=mark(), identity=Identity(**{**_fields(VM), "marker_uid": ""}))
    assert incarnation.still(ours, seen())
    assert incarnation.still(ours, seen(identity=Identity(**{**_fields(VM), "vmgenid": "g-2"})))
    assert not incarnation.still(ours, seen(identity=Identity(**{**_fields(VM), "smbios1_uuid": "u-2"})))
    assert not incarnation.still(ours, seen(identity=Identity(**{**_fields(VM), "ctime": "1"})))
    assert not incarnation.still(ours, seen(LXC))


def test_a_vm_whose_uuid_was_not_known_is_known_by_our_marker():
    before = Identity(marker_uid="uid-101")
    asked = signed(Kind.DISK_REMOVE, identity=before)
    assert incarnation.still(asked, seen())
    assert not incarnation.still(asked, seen(marker=None))


def test_an_operation_that_wrote_no_marker_knows_a_container_by_all_that_it_has():
    asked = signed(Kind.STOP, LXC, marker=None)
    assert incarnation.still(asked, seen(LXC))
    assert not incarnation.still(asked, seen(LXC, identity=Identity(rootfs="another")))


def test_a_request_that_says_nothing_of_its_guest_is_told_so():
    for asked in (signed(Kind.STOP, identity=None), signed(Kind.STOP, digest=Digest(""))):
        assert incarnation.as_signed(asked, seen()) == "the request does not say which guest it means"


def test_a_container_is_known_by_our_marker_or_by_all_that_it_has():
    ours = signed(Kind.DESTROY, LXC, marker=mark())
    assert incarnation.still(ours, seen(LXC, identity=Identity(rootfs="another")))
    assert incarnation.still(ours, seen(LXC, marker=None))
    assert not incarnation.still(ours, seen(LXC, marker=mark(uid="uid-102"), identity=Identity(rootfs="another")))
    assert not incarnation.still(ours, seen(LXC, marker=None, identity=Identity(rootfs="another")))


# -- the request, made anew -------------------------------------------------------------------------------------------

STAMP = Stamp(
    op_id=OpId("op-9"), uid="uid-new", installation=INSTALLATION, token=TOKEN, now_ms=SENT_S * 1000, send_by_ms=1
)


def test_a_guard_writes_the_mark_and_lifts_protection_by_the_digest():
    guest = seen(description="keep me", config={"protection": "1"})
    prepared = intents.again(signed(Kind.DESTROY), guest, STAMP)
    assert prepared.intent.one_shot
    assert prepared.params == {"destroy-unreferenced-disks": "0"}
    params = intents.guard(prepared.intent, guest)
    assert params.keys() == {"description", "delete", "digest"}
    assert (params["delete"], params["digest"]) == ("protection", DIGEST)
    assert marker.split(params["description"]) == ("keep me", prepared.intent.marker)
    assert prepared.intent.marker is not None
    assert (prepared.intent.marker.op_id, prepared.intent.marker.counter) == (OpId("op-9"), mark().counter + 1)


def test_a_guard_marks_a_guest_of_somebody_elses_with_a_uid_of_its_own():
    prepared = intents.again(signed(Kind.DESTROY), seen(marker=None), STAMP)
    assert prepared.intent.marker is not None
    assert prepared.intent.marker.uid == "uid-new"


def test_what_was_signed_is_sent_where_the_guest_is_now():
    moved = seen(node=NodeName("pve2"))
    assert intents.again(signed(Kind.DESTROY), moved, STAMP).intent.path == "/nodes/pve2/qemu/101"
    volume = {"storage": "local", "volume": "local:backup/vzdump-qemu-101-x.vma.zst"}
    stays = intents.again(signed(Kind.BACKUP_DELETE, goal=volume), moved, STAMP).intent
    assert stays.path == "/nodes/pve1/storage/local/content/local%3Abackup%2Fvzdump-qemu-101-x.vma.zst"
    assert stays.task_id == "101@local"


def test_names_in_paths_are_quoted():
    hostile = intents.again(signed(Kind.ROLLBACK, goal={"snapshot": "../../x"}), seen(), STAMP).intent
    assert hostile.path == "/nodes/pve1/qemu/101/snapshot/..%2F..%2Fx/rollback"


def test_unreferenced_disks_go_only_where_somebody_signed_for_them():
    asked = signed(Kind.DESTROY, params={"destroy-unreferenced-disks": "1", "purge": "1"})
    assert intents.again(asked, seen(), STAMP).params == {"destroy-unreferenced-disks": "1", "purge": "1"}


def test_a_lock_is_never_skipped():
    with pytest.raises(Exception, match="never skipped"):
        intents.again(signed(Kind.DESTROY, params={"skiplock": "1"}), seen(), STAMP)


def test_a_container_is_restored_onto_its_own_storage():
    asked = signed(Kind.RESTORE, LXC, params={"ostemplate": "b:backup/x", "restore": "1"})
    guest = seen(LXC, config={"rootfs": "local-lvm:vm-101-disk-0,size=4G"})
    assert intents.again(asked, guest, STAMP).params["storage"] == "local-lvm"
    assert one_shots.KINDS[Kind.RESTORE].marks
