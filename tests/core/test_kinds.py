"""The registry knows every kind, and what it says of one kind fits together.

The table here is written from PVE's API once more, so that a slip in the registry has to be made twice.
"""

import inspect
import string

import msgspec
import pytest

from tests.core.operations import LXC, QEMU, intent
from trueup.core import probes
from trueup.core.kinds import KINDS, STATE_FENCES, Fence, KindSpec, Reads, Route, TaskId, Tier
from trueup.core.probes import Landing, Sight
from trueup.model import limits
from trueup.model.ids import GuestType
from trueup.model.ops import Kind

SAFE, DISRUPTIVE, DESTRUCTIVE = Tier.SAFE, Tier.DISRUPTIVE, Tier.DESTRUCTIVE
GUEST = "/nodes/{node}/{type}/{vmid}"
NEW = "/nodes/{node}/{type}"
ARCHIVE = "/nodes/{node}/storage/{storage}/content/{volume}"

# kind: tier, what is called, task of QEMU, task of LXC, id in the UPID
CALLS = {
    "create": (SAFE, "POST", NEW, "qmcreate", "vzcreate", "vmid"),
    "restore-new": (SAFE, "POST", NEW, "qmrestore", "vzrestore", "vmid"),
    "pool": (SAFE, "PUT", "/pools/{pool}", None, None, ""),
    "detach": (SAFE, "POST", GUEST + "/config", "qmconfig", None, "vmid"),
    "clone": (SAFE, "POST", NEW + "/{source}/clone", "qmclone", "vzclone", "source"),
    "configure": (SAFE, "POST", GUEST + "/config", "qmconfig", None, "vmid"),
    "tag": (SAFE, "POST", GUEST + "/config", "qmconfig", None, "vmid"),
    "grow": (SAFE, "PUT", GUEST + "/resize", "resize", "resize", "vmid"),
    "start": (SAFE, "POST", GUEST + "/status/start", "qmstart", "vzstart", "vmid"),
    "snapshot": (SAFE, "POST", GUEST + "/snapshot", "qmsnapshot", "vzsnapshot", "vmid"),
    "backup": (SAFE, "POST", "/nodes/{node}/vzdump", "vzdump", "vzdump", "vmid"),
    "shutdown": (DISRUPTIVE, "POST", GUEST + "/status/shutdown", "qmshutdown", "vzshutdown", "vmid"),
    "stop": (DISRUPTIVE, "POST", GUEST + "/status/stop", "qmstop", "vzstop", "vmid"),
    "reboot": (DISRUPTIVE, "POST", GUEST + "/status/reboot", "qmreboot", "vzreboot", "vmid"),
    "migrate": (DISRUPTIVE, "POST", GUEST + "/migrate", "qmigrate", "vzmigrate", "vmid"),
    "template": (DISRUPTIVE, "POST", GUEST + "/template", "qmtemplate", "vztemplate", "vmid"),
    "destroy": (DESTRUCTIVE, "DELETE", GUEST, "qmdestroy", "vzdestroy", "vmid"),
    "rollback": (DESTRUCTIVE, "POST", GUEST + "/snapshot/{snapshot}/rollback", "qmrollback", "vzrollback", "vmid"),
    "snapshot-delete": (
        *(DESTRUCTIVE, "DELETE", GUEST + "/snapshot/{snapshot}"),
        *("qmdelsnapshot", "vzdelsnapshot", "vmid"),
    ),
    "restore": (DESTRUCTIVE, "POST", NEW, "qmrestore", "vzrestore", "vmid"),
    "disk-remove": (DESTRUCTIVE, "POST", GUEST + "/config", "qmconfig", None, "vmid"),
    "backup-delete": (DESTRUCTIVE, "DELETE", ARCHIVE, "imgdel", "imgdel", "vmid@storage"),
    "unlock": (DESTRUCTIVE, None, GUEST + "/config", None, None, ""),
}

HA_TASKS = {"start": "hastart", "shutdown": "hastop", "stop": "hastop", "migrate": "hamigrate"}

CARRIED_OUT = {
    *("create", "clone", "restore-new", "configure", "tag", "pool", "detach", "grow", "start", "shutdown", "stop"),
    *("reboot", "snapshot", "backup", "migrate", "template"),
    *("destroy", "rollback", "snapshot-delete", "restore", "disk-remove", "backup-delete"),
}
BY_MARKER = {"create", "clone", "restore-new", "configure", "tag", "detach", "snapshot", "restore", "disk-remove"}
WITHOUT_UNDO_IN_LOST_QUORUM = {"grow", "destroy", "rollback", "snapshot-delete", "restore", "disk-remove"}

FENCES = {  # for the loop's own, for one that people signed
    "configure": (Fence.DIGEST, Fence.DIGEST),
    "tag": (Fence.DIGEST, Fence.DIGEST),
    "detach": (Fence.DIGEST, Fence.DIGEST),
    "restore-new": (Fence.GOAL, Fence.GOAL),
    "pool": (Fence.GOAL, Fence.GOAL),
    "grow": (Fence.DIGEST, Fence.DIGEST),
    "disk-remove": (Fence.DIGEST, Fence.DIGEST),
    "destroy": (Fence.PROTECTION, Fence.PROTECTION),
    "create": (Fence.GOAL, Fence.GOAL),
    "clone": (Fence.GOAL, Fence.GOAL),
    "snapshot": (Fence.GOAL, Fence.GOAL),
    "backup": (Fence.GOAL, Fence.GOAL),
    "start": (Fence.GOAL, Fence.TOKEN),
    "stop": (Fence.GOAL, Fence.TOKEN),
    "shutdown": (Fence.GOAL, Fence.TOKEN),
    "migrate": (Fence.GOAL, Fence.TOKEN),
    "reboot": (Fence.TOKEN, Fence.TOKEN),
    "template": (Fence.TOKEN, Fence.TOKEN),
    "rollback": (Fence.TOKEN, Fence.TOKEN),
    "snapshot-delete": (Fence.TOKEN, Fence.TOKEN),
    "restore": (Fence.TOKEN, Fence.TOKEN),
    "backup-delete": (Fence.TOKEN, Fence.TOKEN),
    "unlock": (Fence.TOKEN, Fence.TOKEN),
}

every_kind = pytest.mark.parametrize("kind", list(Kind), ids=str)


def test_the_registry_has_every_kind_once_and_under_its_own_name():
    assert set(KINDS) == set(Kind) == {Kind(name) for name in CALLS} == {Kind(name) for name in FENCES}
    assert all(spec.kind is kind for kind, spec in KINDS.items())


@every_kind
def test_it_calls_what_pve_has_and_expects_the_task_that_pve_makes(kind: Kind):
    tier, method, path, qemu, lxc, task_id = CALLS[kind]
    spec = KINDS[kind]
    assert spec.tier is tier
    assert {route.path for route in spec.routes.values()} == {path}
    ha = HA_TASKS.get(kind, "")
    if qemu:
        assert spec.route(QEMU) == Route(method=method or "", path=path, task=qemu, ha_task=ha)
    if lxc:
        assert spec.route(LXC) == Route(method=method or "", path=path, task=lxc, ha_task=ha)
    if task_id is not None:
        assert spec.task_id.value == task_id


@every_kind
def test_it_knows_both_types_of_guest_but_for_unlock_which_pve_offers_for_vms_only(kind: Kind):
    offered = {QEMU} if kind is Kind.UNLOCK else set(GuestType)
    assert set(KINDS[kind].routes) == offered


def test_a_call_that_pve_does_not_offer_is_a_key_error():
    with pytest.raises(KeyError):
        KINDS[Kind.UNLOCK].route(LXC)


@pytest.mark.parametrize("kind", [Kind.CONFIGURE, Kind.TAG, Kind.DETACH, Kind.DISK_REMOVE])
def test_containers_have_only_the_synchronous_config_write(kind: Kind):
    assert KINDS[kind].route(LXC) == Route(method="PUT", path=GUEST + "/config")


@pytest.mark.parametrize("guest", list(GuestType))
def test_pools_are_changed_synchronously(guest: GuestType):
    assert KINDS[Kind.POOL].route(guest) == Route(method="PUT", path="/pools/{pool}")


def test_unlocking_is_synchronous():
    assert KINDS[Kind.UNLOCK].route(QEMU) == Route(method="PUT", path=GUEST + "/config")


def test_the_task_of_a_deleted_backup_can_be_found():
    assert KINDS[Kind.BACKUP_DELETE].task_id is not TaskId.NONE


@every_kind
def test_a_kind_has_an_id_in_its_upid_exactly_if_it_makes_tasks(kind: Kind):
    tasks = {route.task for route in KINDS[kind].routes.values()}
    assert (KINDS[kind].task_id is not TaskId.NONE) <= bool(tasks - {""})


@every_kind
def test_its_path_asks_only_for_what_an_operation_knows(kind: Kind):
    for route in KINDS[kind].routes.values():
        fields = {field for _, field, _, _ in string.Formatter().parse(route.path) if field}
        assert fields <= {"node", "type", "vmid", "source", "pool", "snapshot", "storage", "volume"}


@every_kind
def test_what_its_probe_reads(kind: Kind):
    reads = {
        **dict.fromkeys(("start", "shutdown", "stop"), "state"),
        **dict.fromkeys(("snapshot", "snapshot-delete"), "snapshots"),
        **dict.fromkeys(("backup", "backup-delete"), "backups"),
    }
    assert KINDS[kind].reads.value == reads.get(kind.value, "guest")


def test_whose_task_ends_before_what_it_was_for_is_told():
    later = {"clone", "pool", "start", "shutdown", "stop", "reboot", "migrate", "destroy"}
    assert {kind.value for kind, spec in KINDS.items() if not spec.end_is_end} == later


def test_what_this_version_can_issue():
    assert {kind.value for kind, spec in KINDS.items() if spec.carried_out} == CARRIED_OUT


def test_what_no_token_may_do_is_never_issued():
    assert not KINDS[Kind.UNLOCK].carried_out


@every_kind
def test_what_lifts_protection_is_fenced_by_it_and_nothing_else_is(kind: Kind):
    assert KINDS[kind].lifts == (KINDS[kind].fence is Fence.PROTECTION)
    assert not (KINDS[kind].lifts and KINDS[kind].end_is_end), "whether its guest is gone is looked at"


def test_what_pve_would_half_do_without_quorum_asks_for_quorum_first():
    assert {kind.value for kind, spec in KINDS.items() if spec.needs_quorum} == WITHOUT_UNDO_IN_LOST_QUORUM


# -- fences -----------------------------------------------------------------------------------------------------------


@every_kind
def test_its_fence_for_the_loop_and_for_what_people_signed(kind: Kind):
    spec = KINDS[kind]
    assert (spec.fence_for(intent(kind)), spec.fence_for(intent(kind, one_shot=True))) == FENCES[kind]


def test_state_fences_are_those_that_pve_itself_refuses_by():
    assert set(STATE_FENCES) == {Fence.DIGEST, Fence.PROTECTION}


@every_kind
def test_a_digest_fence_needs_a_request_that_carried_the_digest_and_nothing_else_does(kind: Kind):
    assert KINDS[kind].guarded == (KINDS[kind].fence is Fence.DIGEST)


@every_kind
def test_signing_never_weakens_a_state_fence(kind: Kind):
    spec = KINDS[kind]
    if spec.fence in STATE_FENCES:
        assert spec.one_shot_fence is None


@every_kind
def test_only_what_the_loop_may_do_leans_on_its_goal(kind: Kind):
    if KINDS[kind].fence is Fence.GOAL:
        assert KINDS[kind].tier is not DESTRUCTIVE


# -- probes -----------------------------------------------------------------------------------------------------------


@every_kind
def test_its_probe_concludes_nothing_from_a_guest_that_was_not_seen(kind: Kind):
    found = KINDS[kind].probe(intent(kind, goal={"power": "running"}), Sight())
    assert found.landing in {Landing.UNREADABLE, Landing.UNKNOWABLE}
    assert not found.attributable
    assert found.why


@every_kind
def test_it_sends_our_marker_where_the_request_has_a_description(kind: Kind):
    assert KINDS[kind].marks == (kind in BY_MARKER)


@every_kind
def test_a_probe_that_reads_our_marker_belongs_to_a_kind_that_writes_it(kind: Kind):
    if "intent.marker" in inspect.getsource(KINDS[kind].probe):
        assert KINDS[kind].marks


def test_every_probe_serves_a_kind():
    public = {name for name, value in vars(probes).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert {spec.probe.__name__ for spec in KINDS.values()} == public  # type: ignore[attr-defined]


@every_kind
def test_a_kind_without_an_attributable_trace_never_leans_on_the_end_of_a_foreign_task(kind: Kind):
    # The UPID of a clone names its source only, so the end of such a task may be another clone's.
    if KINDS[kind].task_id is TaskId.SOURCE:
        assert not KINDS[kind].end_is_end
        assert KINDS[kind].marks


# -- words and what holds where nothing is said ------------------------------------------------------------------------


def test_the_words_are_those_that_are_shown_and_kept():
    assert [tier.value for tier in Tier] == ["safe", "disruptive", "destructive"]
    assert [fence.value for fence in Fence] == ["digest", "protection", "goal", "token"]
    assert [task_id.value for task_id in TaskId] == ["vmid", "source", "vmid@storage", ""]
    assert [reads.value for reads in Reads] == ["guest", "state", "snapshots", "backups"]


def test_what_a_kind_does_not_say_of_itself():
    start = KINDS[Kind.START]
    bare = KindSpec(
        kind=start.kind, tier=start.tier, routes={}, task_id=TaskId.VMID, probe=start.probe, fence=Fence.GOAL
    )
    assert (bare.marks, bare.guarded, bare.lifts, bare.needs_quorum, bare.carried_out) == (False,) * 5
    assert (bare.end_is_end, bare.reads, bare.one_shot_fence) == (True, Reads.GUEST, None)


# -- completeness -----------------------------------------------------------------------------------------------------


@every_kind
def test_it_has_its_patience(kind: Kind):
    assert limits.PATIENCE_S[kind] > 0


@pytest.mark.parametrize("missing", ["tier", "routes", "task_id", "probe", "fence"])
def test_a_kind_cannot_be_built_without(missing: str):
    fields = msgspec.structs.asdict(KINDS[Kind.START])
    del fields[missing]
    with pytest.raises(TypeError, match=missing):
        KindSpec(**fields)
