"""A pass reads few configs, and no change stays unseen for longer than the bound."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trueup.core import reread
from trueup.core.reread import Remembered
from trueup.model import limits
from trueup.model.guests import Power, ResourceRow
from trueup.model.ids import GuestType, NodeName, Vmid

BOUND_S = 600.0


def row(vmid: int, **values) -> ResourceRow:
    base = {"type": GuestType.QEMU, "vmid": Vmid(vmid), "node": NodeName("pve1"), "name": f"vm-{vmid}"}
    return ResourceRow(**{**base, "status": Power.RUNNING, **values})


def remembered(vmid: int, at: float, **values) -> Remembered:
    return Remembered(row=row(vmid, **values), at=at)


@given(
    guests=st.integers(1, 3000),
    paces=st.lists(st.floats(1, 120), min_size=5, max_size=60),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_no_change_hides_for_longer_than_the_bound(guests: int, paces: list[float], seed: int) -> None:
    """Between two reads of a guest never lies more than the bound, as long as passes keep their pace."""
    chance = random.Random(seed)
    rows = {Vmid(n): row(n) for n in range(100, 100 + guests)}
    known = {vmid: Remembered(row=rows[vmid], at=-chance.uniform(0, BOUND_S / 2)) for vmid in rows}
    now, pace = 0.0, max(paces)
    for _ in paces:
        now += pace
        for vmid in reread.due(known, rows, now, pace, BOUND_S):
            assert now - known[vmid].at <= BOUND_S
            known[vmid] = Remembered(row=rows[vmid], at=now)
        assert all(now - one.at + pace <= BOUND_S for one in known.values())


def test_a_quiet_cluster_costs_a_share_of_its_configs() -> None:
    rows = {Vmid(n): row(n) for n in range(100, 10_100)}
    known = {vmid: Remembered(row=rows[vmid], at=vmid / 1000) for vmid in rows}
    due = reread.due(known, rows, 100.0, 30.0, BOUND_S)
    assert len(due) == 2 * 10_000 * 30 // 600 + 1
    assert due == set(sorted(rows)[: len(due)])  # those whose look is longest ago


def test_a_small_cluster_is_seen_whole() -> None:
    rows = {Vmid(n): row(n) for n in range(100, 100 + limits.REREAD_LEAST)}
    known = {vmid: Remembered(row=rows[vmid], at=99.0) for vmid in rows}
    assert reread.due(known, rows, 100.0, 1.0, BOUND_S) == set(rows)


@pytest.mark.parametrize(
    "values",
    [
        {"lock": "backup"},
        {"name": "other"},
        {"status": Power.STOPPED},
        {"tags": "a"},
        {"node": NodeName("pve2")},
        {"max_memory": 1},
        {"max_disk": 1},
        {"max_cpu": 2.0},
        {"template": True},
        {"ha": "started"},
        {"pool": "p"},
        {"uptime_s": 30},  # it should be up for 150 s by now
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_the_lists_hint_at_is_read(monkeypatch: pytest.MonkeyPatch, values: dict) -> None:
    monkeypatch.setattr(limits, "REREAD_LEAST", 0)
    before = row(100, uptime_s=100)
    others = {Vmid(n): row(n) for n in range(101, 200)}
    known = {vmid: Remembered(row=one, at=0.0) for vmid, one in others.items()}
    known[Vmid(100)] = Remembered(row=before, at=50.0)  # the youngest: not its turn
    now = 100.0
    quiet = reread.due(known, others | {Vmid(100): replace(before, uptime_s=150)}, now, 0.1, BOUND_S)
    assert Vmid(100) not in quiet
    told = reread.due(known, others | {Vmid(100): replace(before, **{"uptime_s": 150, **values})}, now, 0.1, BOUND_S)
    assert Vmid(100) in told
    assert len(told) == len(quiet) + 1


def test_the_unknown_are_read() -> None:
    assert reread.due({}, {Vmid(100): row(100)}, 0.0, 0.0, BOUND_S) == {Vmid(100)}


def test_who_would_be_older_than_the_bound_by_the_next_pass_is_read_and_who_is_as_old_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "REREAD_LEAST", 1)
    rows = {Vmid(n): row(n) for n in range(100, 110)}
    known = {vmid: Remembered(row=one, at=100.0) for vmid, one in rows.items()}
    assert len(reread.due(known, rows, 699.5, 0.5, BOUND_S)) == 1
    assert reread.due(known, rows, 699.75, 0.5, BOUND_S) == set(rows)


def test_an_uptime_may_be_behind_as_far_as_the_lists_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REREAD_LEAST", 0)
    rows = {Vmid(n): row(n) for n in (100, 101)}
    known = {Vmid(100): remembered(100, 0.0), Vmid(101): remembered(101, 50.0, uptime_s=100)}
    behind = replace(rows[Vmid(101)], uptime_s=150 - int(limits.LISTS_LAG_S))
    assert Vmid(101) not in reread.due(known, rows | {Vmid(101): behind}, 100.0, 0.1, BOUND_S)
    more = replace(behind, uptime_s=behind.uptime_s - 1)
    assert Vmid(101) in reread.due(known, rows | {Vmid(101): more}, 100.0, 0.1, BOUND_S)
