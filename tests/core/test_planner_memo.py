"""A plan with a memo of the plans before it is the plan without one, whatever has changed in between."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.planning import NODES, clone, context, mark, seen, template, want
from trueup.core import planner
from trueup.core.plan_context import Context
from trueup.core.plan_memo import Memo
from trueup.model.guests import Backup, BackupPolicy, Desired, Observed, Power, Snapshot, SnapshotPolicy
from trueup.model.ids import NodeName, Vmid
from trueup.model.plan import Bucket

HOUR_MS = 3_600_000
NOW_MS = 1_795_867_200_000

FIELDS: dict[str, dict[str, list[Any]]] = {
    "want": {
        "config": [{"cores": "2"}, {"cores": "4"}, {"cores": "2", "protection": "1"}],
        "power": [Power.RUNNING, Power.STOPPED],
        "restart": ["02:00-04:00 UTC", "never", "allowed", "12:00-23:00 UTC"],
        "after": [(), ("g-103",)],
        "snapshots": [None, SnapshotPolicy(schedule="hourly", keep=2)],
        "backups": [None, BackupPolicy(storage="local", schedule="hourly", keep=1)],
        "template": [False, True],
        "pool": ["", "web"],
        "node": [NodeName("pve1"), NodeName("pve2")],
    },
    "seen": {
        "config": [{"cores": "2"}, {"cores": "4"}, {"cores": "2", "protection": "1"}],
        "status": [Power.RUNNING, Power.STOPPED, Power.UNKNOWN],
        "lock": ["", "backup"],
        "marker": [mark(101), None, mark(101, installation="other")],
        "pending": [("cores",), ()],
        "snapshots": [None, {}, {"auto": Snapshot(name="auto", taken_s=NOW_MS // 1000 - 60)}],
        "backups": [None, (), (Backup(volume="local:b", vmid=Vmid(101), made_s=1),)],
        "ha": ["", "error"],
    },
    "context": {
        "now_ms": [NOW_MS + hours * HOUR_MS for hours in (0, 1, 5, 9, 14, 20)],
        "adopted": [{}, {Vmid(101): "uid-101"}, {Vmid(101): "another"}],
        "closed": [{}, {Vmid(101): "in flight"}, {Vmid(102): "in flight"}],
        "unread": [{}, {Vmid(101): "moved"}],
        "paused": [frozenset(), frozenset({"g-101"}), frozenset({"*"})],
        "quorate": [True, False],
        "nodes": [NODES, {NodeName("pve1"): False, NodeName("pve2"): True}],
        "shutdown_failed": [frozenset(), frozenset({Vmid(101)})],
        "fenced": [frozenset(), frozenset({Vmid(101)})],
        "installation": ["lab-1", "other"],
        "shared": [None, frozenset(), frozenset({"local-lvm"})],
    },
    "there": {"101": [True, False], "103": [True, False], "declared": [True, False]},
}
changes = st.sampled_from(
    [(part, key, value) for part, fields in FIELDS.items() for key, values in fields.items() for value in values]
)


def world(now: dict[str, dict[str, Any]]) -> tuple[list[Desired], dict[Vmid, Observed], Context]:
    desired = [want(101, **now["want"]), want(103)] + ([clone(102)] if now["there"]["declared"] else [])
    guests = [template()] + [seen(103)] * now["there"]["103"] + [seen(101, **now["seen"])] * now["there"]["101"]
    return desired, {guest.vmid: guest for guest in guests}, context(**now["context"])


@settings(max_examples=400)
@given(st.lists(changes, max_size=4), st.lists(changes, min_size=1, max_size=5))
def test_a_plan_with_a_memo_is_the_plan_without_one(first: list[Any], later: list[Any]) -> None:
    """A world that is as declared, but for a restart in its window; then one thing changes after the other."""
    memo = Memo()
    now: dict[str, dict[str, Any]] = {
        part: {key: values[0] for key, values in fields.items()} for part, fields in FIELDS.items()
    }
    for part, key, value in first:
        now[part][key] = value
    for part, key, value in [("there", "101", now["there"]["101"]), *later]:
        now[part][key] = value
        assert planner.plan(*world(now), memo) == planner.plan(*world(now))


def test_what_is_as_declared_is_not_planned_again() -> None:
    desired, observed = [want(101), want(102)], {Vmid(vmid): seen(vmid) for vmid in (101, 102)}
    memo, first, later = Memo(), context(now_ms=NOW_MS), context(now_ms=NOW_MS + HOUR_MS)
    plan = planner.plan(desired, observed, first, memo)
    assert {guest.bucket for guest in plan.guests} == {Bucket.UNCHANGED}
    again = planner.plan(desired, observed, later, memo)
    assert all(one is other for one, other in zip(plan.guests, again.guests, strict=True))
    changed = planner.plan(desired, {**observed, Vmid(102): seen(102, status=Power.STOPPED)}, later, memo)
    assert changed.guests[0] is plan.guests[0]
    assert changed.guests[1].bucket is Bucket.POWER


HOURLY: dict[str, Any] = {"snapshots": SnapshotPolicy(schedule="hourly", keep=2)}
DAILY: dict[str, Any] = {"backups": BackupPolicy(storage="local", schedule="hourly", keep=1)}
WINDOW: dict[str, Any] = {"restart": "02:00-04:00 UTC"}


@pytest.mark.parametrize(
    ("wanted", "there", "first", "then"),
    [
        ({}, {}, {}, {"paused": frozenset({"*"})}),
        ({}, {}, {}, {"quorate": False}),
        ({}, {}, {}, {"installation": "other"}),
        ({}, {}, {}, {"nodes": {NodeName("pve1"): False}}),
        ({}, {}, {}, {"unread": {Vmid(101): "moved"}}),
        ({}, {}, {"unread": {Vmid(101): "moved"}}, {}),
        ({}, {}, {}, {"adopted": {Vmid(101): "another"}}),
        ({}, {}, {}, {"closed": {Vmid(101): "in flight"}}),
        ({"config": {"protection": "0"}}, {}, {}, {"fenced": frozenset({Vmid(101)})}),
        (WINDOW, {"pending": ("cores",)}, {"now_ms": NOW_MS}, {"now_ms": NOW_MS + 14 * HOUR_MS}),
        (HOURLY, {"snapshots": {}}, {"now_ms": NOW_MS}, {"now_ms": NOW_MS + HOUR_MS}),
        (HOURLY, {"snapshots": None}, {"now_ms": NOW_MS}, {"now_ms": NOW_MS + HOUR_MS}),
        (DAILY, {"backups": None}, {"now_ms": NOW_MS}, {"now_ms": NOW_MS + HOUR_MS}),
    ],
)
def test_each_circumstance_that_a_plan_depends_on(
    wanted: dict[str, Any], there: dict[str, Any], first: dict[str, Any], then: dict[str, Any]
) -> None:
    desired, observed, memo = [want(101, **wanted)], {Vmid(101): seen(101, **there)}, Memo()
    for more in (first, then, first):
        circumstances = context(**more)
        assert planner.plan(desired, observed, circumstances, memo) == planner.plan(desired, observed, circumstances)


def test_other_manifests_are_other_plans_however_many_they_are() -> None:
    one, two, three = want(101), want(102), want(103)
    observed = {Vmid(vmid): seen(vmid) for vmid in (101, 102, 103)}
    memo = Memo()
    for desired in ([one, two], [one, three], [two, three], [three], [two, three]):
        found = planner.plan(desired, observed, context(), memo)
        assert found == planner.plan(desired, observed, context())
        assert memo.begin(desired, context()) == tuple(desired)


def test_what_is_given_out_is_only_kept_for_what_is_as_declared() -> None:
    memo, guest, there = Memo(), want(101), seen(101)
    memo.begin([guest], context())
    (plan,) = planner.plan([guest], {Vmid(101): there}, context()).guests
    memo.keep(guest, there, context(), plan)
    assert memo.known(guest, there, context()) is plan
    assert memo.known(guest, None, context()) is None
    for other in ({"snapshots": HOURLY["snapshots"]}, DAILY, WINDOW):
        timed = want(101, **other)
        memo.keep(timed, there, context(), plan)
        assert memo.known(timed, there, context()) is None
    changed = replace(plan, bucket=Bucket.UPDATE)
    for seen_now, circumstances, result in (
        (there, context(), changed),
        (None, context(), plan),
        (there, context(unread={Vmid(101): "moved"}), plan),
    ):
        memo.keep(guest, there, context(), plan)
        memo.keep(guest, seen_now, circumstances, result)
        assert memo.known(guest, there, context()) is None
    memo.keep(guest, there, context(), plan)
    memo.begin([want(102)], context())
    memo.begin([guest], context())
    assert memo.known(guest, there, context()) is None
    memo.keep(guest, there, context(), plan)
    memo.begin([guest], context(paused=frozenset({"x"})))
    assert memo.known(guest, there, context()) is None
    for restart in ("never", "allowed"):
        timeless = want(101, restart=restart)
        memo.keep(timeless, there, context(), plan)
        assert memo.known(timeless, there, context()) is plan
