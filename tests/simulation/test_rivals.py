"""Several agents on one PostgreSQL: whoever leads dies, stands still, loses its way or its time; nothing is done twice.

Random ones are told by `make simulate JOURNAL=postgres`.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from tests.simulation import invariants, rivals
from tests.simulation.cluster import SimTransport
from tests.simulation.database import Accident, Host
from tests.simulation.deaths import AtWrite, Halt
from tests.simulation.harness import Run, Scenario
from tests.simulation.rivals import Rival, Rivalry, compete, contest
from tests.simulation.scenarios import CLONED_CT, EMPTY_VM
from tests.simulation.stories import ending, ops
from trueup.model.ops import Kind

LONG_S = 60.0
"""Longer than a lease (20 s)."""


def two(first: Rival, second: Rival | None = None, scenario: Scenario = EMPTY_VM, **more: object) -> Rivalry:
    """A leader and one that stands by."""
    rivals_ = [first, second or Rival(starts_s=1.0)]
    return Rivalry(scenario=scenario, rivals=rivals_, end_s=100.0, **more)  # type: ignore[arg-type]


def halted(at: str, seconds: float = LONG_S) -> Rival:
    return Rival(halts=[[Halt(at, seconds)]])


def checked(run: Run) -> Run:
    invariants.converged(run)
    rivals.check(run)
    return run


def calls(sent: Sequence[tuple[float, str]]) -> list[str]:
    return [call.rpartition("/")[2] for _, call in sent]


@pytest.mark.parametrize("seconds", [27.0, LONG_S], ids=["longer than its lease", "longer than any request waits"])
def test_a_leader_that_slept_between_its_record_and_its_request_sends_nothing(host: Host, seconds: float) -> None:
    run = checked(compete(two(halted("POST /nodes/pve1/qemu before", seconds)), host))
    slept, successor = run.lives[:2]
    assert slept.mortality.halted
    assert not slept.mortality.sent, "it woke after another had taken over"
    assert [(life.epoch, life.error is not None) for life in (slept, successor)] == [(1, True), (2, False)]
    first, second = ops(run, Kind.CREATE)
    assert ending(first) == ("failed", "presumed_not_started", "R12")
    assert (first.epoch, second.epoch) == (1, 2)
    assert len([row for row in run.effects() if str(row["path"]).endswith("/qemu")]) == 1


def test_a_short_sleep_costs_nobody_the_lead(host: Host) -> None:
    run = checked(compete(two(halted("POST /nodes/pve1/qemu before", 5.0)), host))
    assert calls(run.lives[0].mortality.sent) == ["qemu", "start"]
    assert len(ops(run, Kind.CREATE)) == 1


@pytest.mark.parametrize("at", ["database COMMIT before", "database COMMIT after"])
def test_a_leader_that_slept_around_its_commit(host: Host, at: str) -> None:
    """Before it, it holds the lock that its successor begins with: the server cuts it off within the lease."""
    # The first one is that of the epoch, the second that of an intent.
    run = checked(compete(two(Rival(halts=[[Halt(at, LONG_S, nth=2)]])), host))
    slept = run.lives[0]
    assert slept.mortality.halted
    assert not slept.mortality.sent
    assert [life.epoch for life in run.lives[:2]] == [1, 2]
    epochs = [int(record.epoch) for record in run.records]
    assert epochs.count(1) == (1 if "before" in at else 2), "what was not committed is not there"
    assert run.lives[1].led_from < 25.0, "nobody waited for it longer than for its lease"


def test_a_leader_that_died_is_followed_when_its_lease_is_over(host: Host) -> None:
    first = Rival(deaths=[AtWrite(7)])  # the create has left
    run = checked(compete(two(first, lingering=True), host))
    assert run.lives[0].mortality.where.startswith("POST"), run.lives[0].mortality.where
    assert 15.0 < run.lives[1].led_from < 26.0
    assert [ending(op) for op in ops(run, Kind.CREATE)] == [("succeeded", "task_ok", "R3")]


def test_a_leader_that_cannot_reach_the_database_stops_in_time(host: Host) -> None:
    story = two(Rival(cut_s=(1.0, LONG_S)), scenario=CLONED_CT)
    run = checked(compete(story, host))
    assert run.lives[0].error is not None
    assert [life.epoch for life in run.lives[:2]] == [1, 2]


def test_a_database_that_is_gone_stops_everybody_and_then_one_leads(host: Host) -> None:
    accidents = [Accident(commit=4, what="after", seconds=LONG_S)]
    run = checked(compete(two(Rival(), scenario=CLONED_CT, accidents=accidents), host))
    assert host.struck
    first, second = run.lives[:2]
    assert first.error is not None
    assert second.led_from >= LONG_S
    assert not [at for life in run.lives for at, _ in life.mortality.sent if 20.0 < at < LONG_S]


def test_clocks_that_differ_change_nothing(host: Host) -> None:
    """Wall clocks minutes apart, monotonic ones that go faster and slower, a database that lives in another time."""
    first = Rival(offset_s=300.0, rate=0.99, halts=[[Halt("POST /nodes/pve1/qemu before", LONG_S)]])
    story = two(first, Rival(starts_s=1.0, offset_s=-300.0, rate=1.01), database_offset_s=3600.0)
    run = checked(compete(story, host))
    assert not run.lives[0].mortality.sent
    assert [op.epoch for op in ops(run, Kind.CREATE)] == [1, 2]


def test_a_request_of_the_old_leader_that_comes_late_is_stopped_by_its_token(host: Host) -> None:
    """It left in time, and is stuck: the new leader deletes the token of the old one before it judges anything."""
    late = ({"fault": "late", "path": "start", "delay_s": 90.0},)
    scenario = replace(EMPTY_VM, keeper=True, faults=late)
    run = checked(compete(two(halted("POST .*/start sent"), scenario=scenario), host))
    first, second = ops(run, Kind.START)
    assert (first.intent.token, second.intent.token) == ("agent@pve!sim-1", "agent@pve!sim-2")
    assert len([row for row in run.effects() if str(row["path"]).endswith("/start")]) == 1


@pytest.mark.parametrize("number", [2, 8])
def test_random_ones(host: Host, number: int) -> None:
    one = contest(number, host)
    one.check(one.run())


# --- Teeth ------------------------------------------------------------------------------------------------------------


def test_a_bound_that_nobody_looked_at_would_be_seen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same story with an agent that sends whenever it wakes."""
    exchange = SimTransport.exchange

    async def unbound(self, request):
        return await exchange(self, changed(request, send_by=0.0))

    monkeypatch.setattr(SimTransport, "exchange", unbound)
    run = compete(two(halted("POST /nodes/pve1/qemu before")), host)
    with pytest.raises(invariants.Wrong, match="after another had taken its lead"):
        rivals.check(run)
