"""What stands in the way: told with its remedy, never forced, and never taken for a failure."""

import pytest

from tests.core.planning import CONFIG, LXC, NODES, context, kinds, mark, one, seen, want
from trueup.core.plan_context import Context
from trueup.core.planner import next_op, why_closed
from trueup.model.guests import Power
from trueup.model.ids import Epoch, NodeName, OpId, TokenId
from trueup.model.ops import Intent, Kind, OpState, OpView, Reason, Row, Unresolved
from trueup.model.plan import Bucket

CHANGED = {**CONFIG, "cores": "4"}


@pytest.mark.parametrize(
    ("observed", "more", "why"),
    [
        (seen(marker=None), {}, "does not carry our marker (`trueup adopt 101` to take it over)"),
        (
            seen(marker=None, name="x"),
            {},
            "'x' on pve1) does not carry our marker (`trueup adopt 101` to take it over, or",
        ),
        (seen(marker=None), {"adopted": {101: "uid-101"}}, "no longer carries our marker"),
        (seen(marker=mark(installation="o")), {}, "belongs to another trueup, installation 'o'"),
        (seen(marker=mark(100)), {}, "carries the marker of vmid 100: it is a copy"),
        (seen(marker=mark(uid="u2")), {"adopted": {101: "u1"}}, "its marker says u2, the journal u1"),
        (seen(marker=None, lock="create", config={}), {}, "locked by PVE (create): its creation is at work"),
        (seen(type=LXC, marker=None, config={}), {}, "does not carry our marker"),
    ],
)
def test_guests_that_are_not_ours_are_explained_and_left_alone(observed, more, why):
    guest = one(want(config=CHANGED), observed, **more)
    assert guest.bucket is Bucket.BLOCKED
    assert why in guest.blocked_by
    assert guest.ops == ()
    assert next_op(guest) is None


def test_a_guest_as_the_manifest_wants_it_but_not_adopted_is_no_change():
    guest = one(want(), seen(marker=None))
    assert guest.bucket is Bucket.UNCHANGED
    assert guest.unadopted
    assert "`trueup adopt 101`" in guest.notes[0]


def test_half_a_guest_is_blocked_even_if_it_looks_as_wanted():
    guest = one(want(), seen(marker=None, lock="create"))
    assert (guest.bucket, guest.unadopted) == (Bucket.BLOCKED, False)
    assert "its creation is at work" in guest.blocked_by


@pytest.mark.parametrize("lock", ["create", "clone", "restore", "import", "destroyed"])
def test_what_is_left_of_a_guest_that_is_half_there_may_be_destroyed(lock):
    assert "then `qm destroy 101`, since only half" in one(want(config=CHANGED), seen(lock=lock)).blocked_by


def test_a_guest_that_the_journal_knows_by_its_uid_is_ours():
    assert kinds(one(want(config=CHANGED), seen(), adopted={101: "uid-101"})) == ["configure"]


def test_while_an_operation_is_open_that_is_said_before_whose_the_guest_is():
    closed = {"closed": {101: "clone 0192 is in flight"}}
    assert one(want(config=CHANGED), seen(marker=None), **closed).blocked_by == "clone 0192 is in flight"


def test_a_guest_of_the_other_type_is_left_alone_while_everything_is_paused():
    guest = one(want(type=LXC), seen(), paused=frozenset({"*"}))
    assert (guest.bucket, guest.approvals) == (Bucket.BLOCKED, ())
    assert "everything is paused" in guest.blocked_by


def test_a_copy_is_blocked_even_if_it_looks_as_wanted():
    assert one(want(), seen(marker=mark(100))).bucket is Bucket.BLOCKED
    assert one(want(), seen(marker=mark(installation="o"))).bucket is Bucket.BLOCKED


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"closed": {101: "clone 0192 is in flight"}}, "clone 0192 is in flight"),
        ({"paused": frozenset({"g-101"})}, "paused (`trueup resume g-101`)"),
        ({"paused": frozenset({"*"})}, "everything is paused (`trueup resume`)"),
        ({"quorate": False}, "the cluster has no quorum"),
        ({"nodes": {**NODES, NodeName("pve1"): False}}, "node pve1 is offline"),
        ({"nodes": {}}, "the cluster has no node pve1 (correct `node` in the manifest; nodes: none is known)"),
    ],
)
def test_circumstances_block_what_would_change_and_nothing_else(more, why):
    for guest in (one(want(config=CHANGED), seen(), **more), one(want(), **more)):
        assert guest.bucket is Bucket.BLOCKED
        assert why in guest.blocked_by
        assert guest.ops
        assert next_op(guest) is None
    same = one(want(), seen(), **more)
    assert same.bucket is Bucket.UNCHANGED
    assert same.blocked_by == ""
    assert why in same.notes[0]


def test_the_node_that_counts_is_where_the_guest_is():
    offline = {"nodes": {**NODES, NodeName("pve1"): False}}
    assert kinds(one(want(config=CHANGED), seen(node=NodeName("pve2")), **offline)) == ["configure"]
    assert one(want(config=CHANGED), seen(node=NodeName("pve2")), **offline).bucket is Bucket.UPDATE


def test_a_guest_that_cannot_be_read_is_never_taken_for_missing():
    guest = one(want(), unread={101: "pve1 does not answer"})
    assert guest.bucket is Bucket.BLOCKED
    assert guest.blocked_by == "it cannot be read: pve1 does not answer"
    assert guest.ops == ()


@pytest.mark.parametrize(
    "lock",
    [
        *("backup", "clone", "create", "destroyed", "disk", "fstrim", "import", "migrate", "mounted", "restore"),
        *("rollback", "snapshot", "snapshot-delete", "suspending", "something-new"),
    ],
)
def test_locks_are_explained_with_how_to_look_and_how_to_unlock(lock):
    guest = one(want(config=CHANGED), seen(lock=lock))
    assert guest.bucket is Bucket.BLOCKED
    assert guest.blocked_by.startswith(f"locked by PVE ({lock}): ")
    assert "`pvenode task list --vmid 101` on pve1" in guest.blocked_by
    assert "`qm unlock 101` as root there" in guest.blocked_by
    assert ("): something is at work, or was cut off" in guest.blocked_by) == (lock == "something-new")
    assert one(want(), seen(lock=lock)).bucket is Bucket.UNCHANGED


def test_a_containers_lock_is_undone_by_its_own_tool():
    guest = one(want(type=LXC, config={"cores": "4"}), seen(type=LXC, config={}, lock="disk"))
    assert "`pct unlock 101`" in guest.blocked_by


def test_suspended_to_disk_is_a_state_and_no_leftover():
    guest = one(want(), seen(lock="suspended", status=Power.STOPPED))
    assert "suspended to disk, which is a state and no leftover: the next start resumes it" in guest.blocked_by


def test_half_a_guest_may_only_be_removed():
    assert "then `qm destroy 101`" in one(want(config=CHANGED), seen(lock="clone")).blocked_by


def view(**more):
    intent = Intent(
        kind=Kind.CLONE,
        type=seen().type,
        vmid=seen().vmid,
        node=seen().node,
        method="POST",
        path="/",
        token=TokenId("t"),
    )
    fields = {"op_id": OpId("0192"), "state": OpState.STARTED, "intent": intent, "started_at_ms": 0, "epoch": Epoch(1)}
    return OpView(**{**fields, **more})


def test_open_operations_say_why_they_close_a_lane_and_where_to_look():
    unresolved = Unresolved(reason=Reason.UNREADABLE, row=Row.R8, settles_by="a readable task list")
    assert why_closed(view()) == "clone 0192 is in flight (see `trueup ops show 0192`)"
    assert why_closed(view(state=OpState.ACCEPTED)).startswith("clone 0192 was signed and accepted, and comes first")
    assert why_closed(view(unresolved=unresolved)).startswith("clone 0192 is unresolved: a readable task list")
    assert "has shown up" in why_closed(view(contradicted=True))


def test_the_context_has_safe_defaults():
    assert context().paused == frozenset()
    assert context().quorate


def test_circumstances_that_nobody_told_are_quiet_ones():
    told = Context(installation="lab-1")
    assert (told.quorate, told.now_ms, told.shared, told.paused, told.closed) == (True, 0, None, frozenset(), {})
