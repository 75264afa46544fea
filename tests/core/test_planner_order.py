"""Guests are made and started after those that they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.planning import CONFIG, all_of, clone, first, kinds, seen, want
from trueup.core.planner import check_order, next_op, runnable
from trueup.model.errors import BadInput
from trueup.model.guests import Archive, Power
from trueup.model.plan import Bucket

DB = want(110, name="db-1")
WEB = want(101, name="web-1", after=("db-1",))


def web(*observed, desired=WEB, **more):
    whole = all_of([desired, DB], *observed, **more)
    assert [guest.name for guest in whole.guests] == ["db-1", "web-1"]
    return whole.guests[1]


def db(**more):
    return seen(110, **{"name": "db-1", **more})


def test_in_an_empty_cluster_both_are_created_and_only_the_first_may_run():
    whole = all_of([WEB, DB])
    assert [guest.bucket for guest in whole.guests] == [Bucket.CREATE, Bucket.CREATE]
    assert [op.vmid for op in runnable(whole)] == [110]
    waiting = whole.guests[1]
    assert waiting.waits_for == ("db-1",)
    assert waiting.notes == ("after db-1, which does not exist yet",)
    assert (waiting.blocked_by, kinds(waiting)) == ("", ["create", "start"])


@pytest.mark.parametrize(
    ("state", "note"),
    [
        (db(status=Power.STOPPED), "after db-1, which is stopped"),
        (db(lock="create"), "after db-1, which is being made"),
    ],
)
def test_it_waits_until_the_other_runs(state, note):
    assert web(state).notes == (note,)
    assert next_op(web(state)) is None


@pytest.mark.parametrize(
    ("other", "state", "note"),
    [
        (DB, db(marker=None, config={"name": "another"}, name="another"), "which is another guest"),
        (DB, db(marker=None, status=Power.STOPPED), "which is stopped"),
        (DB, db(name="renamed", config={"name": "renamed"}, status=Power.STOPPED), "which is stopped"),
        (want(110, name="db-1", template=True), db(status=Power.STOPPED), "which is no template yet"),
        (want(110, name="db-1", template=True), db(template=True, status=Power.STOPPED), ""),
        (DB, db(template=True, status=Power.STOPPED), ""),
        (DB, db(), ""),
        (want(110, name="db-1", power=Power.STOPPED), db(), ""),
    ],
)
def test_how_the_other_is_that_is_waited_for(other, state, note):
    waiting = all_of([WEB, other], state).guests[1]
    assert [text for text in waiting.notes if text.startswith("after ")] == ([f"after db-1, {note}"] if note else [])


def test_one_that_cannot_be_read_is_waited_for():
    assert web(unread={110: "pve2 is away"}).notes == ("after db-1, which cannot be read",)


def test_it_goes_on_once_the_other_runs_or_is_as_its_manifest_wants():
    assert first(web(db())).vmid == 101
    stopped = want(110, name="db-1", power=Power.STOPPED)
    ignored = want(110, name="db-1", power=Power.IGNORE)
    for other in (stopped, ignored):
        assert first(all_of([WEB, other], db(status=Power.STOPPED)).guests[1]).vmid == 101


def test_starting_waits_but_configuring_does_not():
    down = seen(101, name="web-1", status=Power.STOPPED)
    waiting = web(db(status=Power.STOPPED), down)
    assert (waiting.bucket, next_op(waiting)) == (Bucket.POWER, None)
    changed = want(101, name="web-1", after=("db-1",), config={**CONFIG, "cores": "4"})
    both = web(db(status=Power.STOPPED), down, desired=changed)
    assert kinds(both) == ["configure", "start"]
    assert first(both).kind == "configure"


def test_what_starts_last_waits_as_a_whole_and_what_starts_nothing_has_no_such_note():
    both = want(101, name="web-1", after=("db-1",), config={**CONFIG, "cores": "4"})
    waiting = web(db(status=Power.STOPPED), seen(101, name="web-1", status=Power.STOPPED), desired=both)
    assert kinds(waiting) == ["configure", "start"]
    assert (waiting.waits_for, waiting.notes) == (("db-1",), ("after db-1, which is stopped",))
    running = web(db(status=Power.STOPPED), seen(101, name="web-1"), desired=both)
    assert kinds(running) == ["configure"]
    assert (running.waits_for, running.notes) == ((), ())


def test_a_restored_guest_waits_like_a_new_one():
    source = Archive(volume="nas:backup/vzdump-qemu-7-2026_01_01-00_00_00.vma.zst")
    waiting = web(desired=want(101, name="web-1", after=("db-1",), source=source))
    assert kinds(waiting)[0] == "restore-new"
    assert next_op(waiting) is None


def test_a_running_guest_does_not_wait():
    assert web(db(status=Power.STOPPED), seen(101, name="web-1")).waits_for == ()


def test_waiting_for_a_guest_that_will_not_move_is_being_blocked():
    held = web(paused=frozenset({"db-1"}))
    assert held.bucket is Bucket.BLOCKED
    assert held.blocked_by == "waits for db-1: paused (`trueup resume db-1`)"
    unknown = web(db(status=Power.UNKNOWN))
    assert unknown.blocked_by == "waits for db-1: nothing is planned that would change it"
    foreign = web(seen(110, name="x", marker=None))
    assert "does not carry our marker" in foreign.blocked_by
    unread = web(unread={110: "down"})
    assert unread.blocked_by == "waits for db-1: it cannot be read: down"


def test_what_can_be_done_before_the_wait_is_done_though_the_other_never_moves():
    changed = want(101, name="web-1", after=("db-1",), config={**CONFIG, "cores": "4"})
    guest = web(db(lock="backup", status=Power.STOPPED), seen(101, name="web-1", status=Power.STOPPED), desired=changed)
    assert (guest.bucket, first(guest).kind) == (Bucket.UPDATE, "configure")


def test_what_blocks_a_guest_itself_is_said_before_what_it_waits_for():
    guest = web(db(lock="backup", status=Power.STOPPED), seen(101, name="web-1", status=Power.STOPPED, lock="disk"))
    assert guest.blocked_by.startswith("locked by PVE (disk)")


def test_being_blocked_goes_down_the_line():
    last = want(120, name="last", after=("web-1",))
    whole = all_of([last, WEB, DB], paused=frozenset({"db-1"}))
    assert [guest.bucket for guest in whole.guests] == [Bucket.BLOCKED] * 3
    whole = all_of([last, WEB, DB])
    assert [guest.bucket for guest in whole.guests] == [Bucket.CREATE] * 3


def test_order_is_by_need_and_then_by_vmid():
    desired = [want(105), want(103, after=("g-105",)), want(104), want(101, after=("g-103",))]
    assert [guest.vmid for guest in all_of(desired).guests] == [104, 105, 103, 101]


@pytest.mark.parametrize(
    ("desired", "text"),
    [
        ([want(after=("db-9",))], "101.yaml:1: g-101 comes after 'db-9', which no manifest declares"),
        ([want(after=("g-101",))], "the order goes in a circle: g-101 after g-101"),
        ([want(101, after=("g-102",)), want(102, after=("g-101",))], "circle: g-101 after g-102 after g-101"),
        ([want(100, after=("g-101",)), clone(101, 100)], "circle: g-100 after g-101 after g-100"),
        ([want(99, after=("g-101",)), want(101, after=("g-102",)), want(102, after=("g-101",))], "circle: g-101"),
    ],
)
def test_an_order_that_cannot_be_had_is_refused_with_its_place(desired, text):
    with pytest.raises(BadInput) as caught:
        check_order(desired)
    assert text in str(caught.value)
    assert caught.value.where


@given(st.integers(1, 30), st.data())
def test_every_guest_comes_behind_those_that_it_needs(count, data):
    vmids = data.draw(st.permutations(range(100, 100 + count)))
    desired = [
        want(vmid, after=tuple(f"g-{other}" for other in data.draw(st.sets(st.sampled_from(vmids[:at])))) if at else ())
        for at, vmid in enumerate(vmids)
    ]
    shuffled = data.draw(st.permutations(desired))
    check_order(shuffled)
    order = [guest.name for guest in all_of(shuffled).guests]
    for one in desired:
        assert all(order.index(name) < order.index(one.name) for name in one.after)
