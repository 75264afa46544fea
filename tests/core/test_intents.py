"""The very request that an operation sends, and what of it is journaled."""

from typing import Any

import msgspec
import pytest

from tests.core.operations import LXC, NODE, OP, OTHER_OP, QEMU, TOKEN, mark
from trueup.core import codec
from trueup.core import marker as markers
from trueup.core.intents import REDACTED, Prepared, Stamp, again, prepare, redact
from trueup.core.kinds import KINDS
from trueup.core.tasksearch import matches
from trueup.model.errors import InvariantBroken
from trueup.model.guests import Identity, Marker, Observed, Power
from trueup.model.ids import Digest, GuestType, NodeName, Upid, Vmid
from trueup.model.ops import Kind, Started
from trueup.model.plan import PlannedOp

STAMP = Stamp(op_id=OP, uid="uid-new", installation="lab-1", token=TOKEN, now_ms=1_800_000_000_999, send_by_ms=77)
BEFORE = mark(op_id=OTHER_OP, counter=3)
NEXT = mark(op_id=OP, counter=4)
NEW = mark(uid="uid-new", counter=1)
IDENTITY = Identity(smbios1_uuid="u-1", marker_uid="uid-101")


def planned(kind: Kind, guest: GuestType, **more: Any) -> PlannedOp:
    fields = {"kind": kind, "type": guest, "vmid": Vmid(101), "node": NODE, "name": "web-1", "labels": {"tier": "web"}}
    return PlannedOp(**{**fields, **more})


def seen(guest: GuestType, **more: Any) -> Observed:
    fields = {
        "type": guest,
        "vmid": Vmid(101),
        "node": NODE,
        "name": "web-1",
        "status": Power.STOPPED,
        "digest": Digest("d1"),
        "marker": BEFORE,
        "description": "Team web",
        "identity": IDENTITY,
    }
    return Observed(**{**fields, **more})


def text(user: str, marker: Marker) -> str:
    return markers.render(user, marker)


both = pytest.mark.parametrize("guest", list(GuestType), ids=str)


# -- the request of each kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("guest", "key"), [(QEMU, "name"), (LXC, "hostname")])
def test_create(guest: GuestType, key: str):
    op = planned(Kind.CREATE, guest, params={"cores": "2", "net0": "virtio,bridge=vmbr0"}, description="Team web")
    made = prepare(op, None, STAMP)
    assert (made.intent.method, made.intent.path) == ("POST", f"/nodes/pve1/{guest}")
    assert made.params == {
        "vmid": "101",
        key: "web-1",
        "cores": "2",
        "net0": "virtio,bridge=vmbr0",
        "description": text("Team web", NEW),
    }


@pytest.mark.parametrize(("guest", "key"), [(QEMU, "name"), (LXC, "hostname")])
def test_clone_goes_to_the_node_of_its_source(guest: GuestType, key: str):
    op = planned(
        Kind.CLONE,
        guest,
        params={"full": "1", "storage": "local-lvm"},
        source=Vmid(9000),
        source_node=NodeName("pve3"),
        description="",
    )
    made = prepare(op, None, STAMP)
    assert (made.intent.method, made.intent.path) == ("POST", f"/nodes/pve3/{guest}/9000/clone")
    assert made.params == {
        "newid": "101",
        key: "web-1",
        "full": "1",
        "storage": "local-lvm",
        "target": "pve1",
        "description": text("", NEW),
    }
    assert (made.intent.node, made.intent.vmid, made.intent.source, made.intent.task_id) == ("pve3", 101, 9000, "9000")


@pytest.mark.parametrize("source_node", [NODE, None])
def test_clone_on_one_node_names_no_target(source_node: NodeName | None):
    made = prepare(planned(Kind.CLONE, QEMU, source=Vmid(9000), source_node=source_node), None, STAMP)
    assert "target" not in made.params
    assert made.intent.node == "pve1"


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.CLONE])
@both
def test_what_is_made_never_carries_a_foreign_description_along(kind: Kind, guest: GuestType):
    made = prepare(planned(kind, guest, source=Vmid(9000), source_node=NODE), None, STAMP)
    assert made.params["description"] == text("", NEW)
    assert "digest" not in made.params
    assert "start" not in made.params


@pytest.mark.parametrize(("guest", "method"), [(QEMU, "POST"), (LXC, "PUT")])
def test_configure(guest: GuestType, method: str):
    op = planned(Kind.CONFIGURE, guest, params={"cores": "4", "delete": "cpulimit"}, goal={"cores": "4"})
    made = prepare(op, seen(guest), STAMP)
    assert (made.intent.method, made.intent.path) == (method, f"/nodes/pve1/{guest}/101/config")
    assert made.params == {
        "cores": "4",
        "delete": "cpulimit",
        "description": text("Team web", NEXT),
        "digest": "d1",
    }


@both
def test_grow(guest: GuestType):
    op = planned(Kind.GROW, guest, params={"disk": "scsi0", "size": "64G"}, goal={"scsi0": "64G"})
    made = prepare(op, seen(guest), STAMP)
    assert (made.intent.method, made.intent.path) == ("PUT", f"/nodes/pve1/{guest}/101/resize")
    assert made.params == {"disk": "scsi0", "size": "64G", "digest": "d1"}


@pytest.mark.parametrize("kind", [Kind.START, Kind.SHUTDOWN, Kind.STOP])
@both
def test_power(kind: Kind, guest: GuestType):
    op = planned(kind, guest, params={"timeout": "60"}, goal={"power": "stopped"})
    made = prepare(op, seen(guest), STAMP)
    assert (made.intent.method, made.intent.path) == ("POST", f"/nodes/pve1/{guest}/101/status/{kind}")
    assert made.params == {"timeout": "60"}


@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if spec.carried_out], ids=str)
@both
def test_the_task_that_pve_will_make_is_found_again_by_the_intent_alone(kind: Kind, guest: GuestType):
    made = request(kind, guest).intent
    route = KINDS[kind].route(guest)
    assert made.task_type == route.task
    if route.task:
        user, kind_of_task, id_ = made.token, made.task_type, made.task_id
        made_by_pve = f"UPID:{made.node}:000004D2:0004E1C7:{made.sent_not_before_s:08X}:{kind_of_task}:{id_}:{user}:"
        assert matches(made, Upid.parse(made_by_pve))


@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if spec.carried_out], ids=str)
@both
def test_the_intent_can_be_journaled_and_says_all_that_recovery_asks_for(kind: Kind, guest: GuestType):
    made = request(kind, guest).intent
    assert codec.encode_event(Started(intent=made))
    assert (made.kind, made.type, made.vmid, made.name, made.labels) == (kind, guest, 101, "web-1", {"tier": "web"})
    assert (made.token, made.sent_not_before_s, made.send_by_ms) == (TOKEN, 1_800_000_000, 77)
    assert not made.one_shot
    assert (made.marker is not None) or not KINDS[kind].marks
    is_new = kind in {Kind.CREATE, Kind.CLONE}
    assert made.identity == (None if is_new else IDENTITY)
    assert made.digest == ("" if is_new else "d1")


def request(kind: Kind, guest: GuestType) -> Prepared:
    is_new = kind in {Kind.CREATE, Kind.CLONE}
    source = {"source": Vmid(9000), "source_node": NodeName("pve3")} if kind is Kind.CLONE else {}
    return prepare(planned(kind, guest, **source), None if is_new else seen(guest), STAMP)


@pytest.mark.parametrize("kind", [Kind.CREATE, Kind.START])
def test_only_a_clone_has_a_source(kind: Kind):
    op = planned(kind, QEMU, source=Vmid(9000), source_node=NodeName("pve3"))
    made = prepare(op, None if kind is Kind.CREATE else seen(QEMU), STAMP).intent
    assert (made.source, made.node, made.task_id) == (None, "pve1", "101")


def test_a_call_that_pve_does_not_have_for_this_guest_is_a_key_error():
    with pytest.raises(KeyError):
        prepare(planned(Kind.UNLOCK, LXC), seen(LXC), STAMP)


# -- PVE's digest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if spec.guarded], ids=str)
@pytest.mark.parametrize("observed", [None, seen(QEMU, digest=Digest(""))])
def test_a_guarded_write_is_never_made_without_the_digest_that_was_read(kind: Kind, observed: Observed | None):
    with pytest.raises(InvariantBroken, match="digest"):
        prepare(planned(kind, QEMU), observed, STAMP)


def test_the_digest_is_that_of_the_guest_as_it_is_now():
    made = prepare(planned(Kind.CONFIGURE, QEMU), seen(QEMU, digest=Digest("d9")), STAMP)
    assert made.params["digest"] == made.intent.digest == "d9"


# -- our marker -------------------------------------------------------------------------------------------------------


def test_a_guest_keeps_its_uid_and_its_counter_rises_with_each_write():
    counters, guest = [], seen(QEMU)
    for _ in range(3):
        made = prepare(planned(Kind.CONFIGURE, QEMU), guest, STAMP).intent.marker
        assert made is not None
        assert made.uid == "uid-101"
        assert made.op_id == OP
        counters.append(made.counter)
        guest = msgspec.structs.replace(guest, marker=made)
    assert counters == [4, 5, 6]


def test_no_two_writes_send_the_same_text_so_a_digest_never_comes_back():
    first = prepare(planned(Kind.CONFIGURE, QEMU), seen(QEMU), STAMP)
    second = prepare(planned(Kind.CONFIGURE, QEMU), seen(QEMU, marker=first.intent.marker), STAMP)
    assert first.params["description"] != second.params["description"]


def test_a_guest_without_our_marker_gets_the_new_uid():
    assert prepare(planned(Kind.CONFIGURE, QEMU), seen(QEMU, marker=None), STAMP).intent.marker == NEW


def test_the_marker_in_the_intent_is_the_one_in_the_request():
    made = prepare(planned(Kind.CONFIGURE, QEMU, description="New text"), seen(QEMU), STAMP)
    assert markers.split(made.params["description"]) == ("New text", made.intent.marker)


def test_a_marker_always_names_the_guest_that_it_is_written_for():
    copied = seen(QEMU, marker=mark(vmid=Vmid(555), op_id=OTHER_OP, counter=3))
    made = prepare(planned(Kind.CONFIGURE, QEMU), copied, STAMP).intent.marker
    assert made is not None
    assert made.vmid == 101


@pytest.mark.parametrize(
    ("wanted", "sent"), [(None, "Team web"), ("", ""), ("Other", "Other"), ("Other  \n\n", "Other")]
)
def test_the_users_text_is_kept_unless_the_manifest_has_its_own(wanted: str | None, sent: str):
    made = prepare(planned(Kind.CONFIGURE, QEMU, description=wanted), seen(QEMU), STAMP)
    assert made.params["description"] == text(sent, NEXT)


@pytest.mark.parametrize("kind", [Kind.START, Kind.GROW])
def test_a_request_without_a_description_writes_no_marker_and_remembers_the_one_that_is_there(kind: Kind):
    made = prepare(planned(kind, QEMU), seen(QEMU), STAMP)
    assert "description" not in made.params
    assert made.intent.marker == BEFORE


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "guest", "key"),
    [
        (Kind.CREATE, QEMU, "cipassword"),
        (Kind.CREATE, LXC, "password"),
        (Kind.CONFIGURE, QEMU, "cipassword"),
    ],
)
def test_a_secret_is_sent_and_never_journaled(kind: Kind, guest: GuestType, key: str):
    op = planned(kind, guest, params={key: "hunter2", "cores": "2"}, goal={key: "hunter2", "cores": "2"})
    made = prepare(op, None if kind is Kind.CREATE else seen(guest), STAMP)
    assert made.params[key] == "hunter2"
    assert made.intent.params[key] == made.intent.goal[key] == REDACTED
    assert b"hunter2" not in codec.encode_event(Started(intent=made.intent))


def test_everything_else_is_journaled_exactly_as_it_is_sent():
    made = prepare(
        planned(Kind.CONFIGURE, QEMU, params={"cores": "4", "sshkeys": "ssh-ed25519%20AAAA"}), seen(QEMU), STAMP
    )
    assert made.intent.params == made.params


def test_redacting_changes_secrets_only():
    assert redact({"password": "x", "cipassword": "y", "name": "z"}) == {
        "password": REDACTED,
        "cipassword": REDACTED,
        "name": "z",
    }


def test_the_planned_operation_is_left_as_it_is():
    op = planned(Kind.CREATE, QEMU, params={"cipassword": "hunter2"})
    prepare(op, None, STAMP)
    assert op.params == {"cipassword": "hunter2"}


@pytest.mark.parametrize(
    ("ha", "task"), [("started", "hastart"), ("error", "hastart"), ("", "qmstart"), ("ignored", "qmstart")]
)
def test_a_start_of_a_managed_guest_makes_the_task_of_the_ha_manager(ha: str, task: str):
    found = prepare(planned(Kind.START, QEMU, goal={"power": "running"}), seen(QEMU, ha=ha), STAMP).intent
    assert (found.task_type, found.task_id) == (task, "101")


def test_what_the_ha_manager_does_not_do_keeps_its_own_task():
    assert prepare(planned(Kind.GROW, QEMU), seen(QEMU, ha="started"), STAMP).intent.task_type == "resize"
    assert prepare(planned(Kind.START, QEMU), None, STAMP).intent.task_type == "qmstart"


@both
def test_a_backup_carries_our_id_in_its_note(guest: GuestType):
    goal = {"storage": "backup"}
    made = prepare(
        planned(Kind.BACKUP, guest, params={"storage": "backup", "mode": "snapshot"}, goal=goal), seen(guest), STAMP
    )
    assert made.intent.path == f"/nodes/{NODE}/vzdump"
    assert made.intent.goal == {"storage": "backup", "note": OP}
    assert made.params == {
        "vmid": "101",
        "storage": "backup",
        "mode": "snapshot",
        "remove": "0",
        "notes-template": f"web-1, by trueup {OP}",
    }


@both
def test_a_pool_gets_the_guest_from_wherever_it_was(guest: GuestType):
    made = prepare(planned(Kind.POOL, guest, goal={"pool": "prod/web"}), seen(guest), STAMP)
    assert (made.intent.method, made.intent.path) == ("PUT", "/pools/prod%2Fweb")
    assert made.params == {"vms": "101", "allow-move": "1"}
    assert (made.intent.task_type, made.intent.task_id) == ("", "")


@both
def test_a_restore_to_a_new_vmid_is_another_guest(guest: GuestType):
    made = prepare(planned(Kind.RESTORE_NEW, guest, params={"archive": "backup:x"}), None, STAMP)
    assert made.params["unique"] == "1"
    assert made.params["description"] == text("", msgspec.structs.replace(NEW, vmid=Vmid(101)))
    assert ("restore" in made.params) == (guest is LXC)
    assert made.params.get("restore", "1") == "1"


def test_a_vm_is_restored_over_itself_onto_the_storages_that_the_archive_names():
    made = prepare(planned(Kind.RESTORE, QEMU, params={"archive": "backup:x"}), seen(QEMU), STAMP)
    assert made.params == {"archive": "backup:x", "vmid": "101", "force": "1", "description": text("Team web", NEXT)}


@pytest.mark.parametrize(
    ("params", "config", "storage"),
    [
        ({}, {"rootfs": "local-zfs:subvol-101-disk-0,size=8G"}, "local-zfs"),
        ({}, {}, "local"),
        ({"storage": "ceph"}, {"rootfs": "local-zfs:subvol-101-disk-0,size=8G"}, "ceph"),
    ],
)
def test_a_container_is_restored_over_itself_onto_its_own_storage(
    params: dict[str, str], config: dict[str, str], storage: str
):
    op = planned(Kind.RESTORE, LXC, params={"ostemplate": "backup:x", **params})
    made = prepare(op, seen(LXC, config=config), STAMP)
    assert (made.params["vmid"], made.params["force"], made.params["storage"]) == ("101", "1", storage)


def test_a_restore_of_a_container_that_is_gone_leaves_the_storage_to_pve():
    made = prepare(planned(Kind.RESTORE, LXC, params={"ostemplate": "backup:x"}), None, STAMP)
    assert "storage" not in made.params


@pytest.mark.parametrize(("now", "name"), [("web-2", "web-2"), ("", "web-1")])
def test_an_accepted_request_made_anew_names_the_guest_as_it_is_called_now(now: str, name: str):
    accepted = prepare(planned(Kind.STOP, QEMU), seen(QEMU), STAMP).intent
    made = again(accepted, seen(QEMU, name=now, node=NodeName("pve2")), STAMP).intent
    assert (made.name, made.node, made.one_shot) == (name, "pve2", True)


def test_an_accepted_request_made_anew_keeps_what_was_signed_and_renews_text_and_digest():
    accepted = prepare(planned(Kind.SHUTDOWN, QEMU, params={"timeout": "60"}), seen(QEMU), STAMP).intent
    with_old = msgspec.structs.replace(accepted, params={**accepted.params, "description": "old", "digest": "old"})
    assert again(with_old, seen(QEMU), STAMP).params == {"timeout": "60"}
