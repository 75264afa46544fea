"""A quiet cluster costs few reads, and a change that no list shows is mended within the bound all the same."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.simulation import invariants
from tests.simulation.cluster import START_S
from tests.simulation.harness import Life, Run, Scenario, simulate
from tests.simulation.scenarios import SPEC, vm
from trueup.engine.agent import Agent, Pace, run
from trueup.model import limits
from trueup.model.guests import Power
from trueup.model.ops import Kind

GUESTS = 40
PACE = Pace(interval_s=30.0, enforce=True)
WANTED = [vm(200 + n, config={"onboot": "1"}, power=Power.STOPPED) for n in range(GUESTS)]
QUIET_S, BY_HAND_S, END_S = 1500.0, 3000.0, 4200.0


def loop_for(seconds: float, pace: Pace = PACE, marks: Mapping[float, str] | None = None):
    """An incarnation that recovers and then loops; at each mark's time its name goes among the calls."""

    async def body(agent: Agent, life: Life) -> None:
        await agent.recover()
        async with agent.reconciler() as reconciler:
            asyncio.get_running_loop().call_later(seconds, reconciler.wind_down)
            for at, mark in (marks or {}).items():
                asyncio.get_running_loop().call_later(at, life.mortality.passed.append, mark)
            await run(reconciler, agent.deck, lambda: WANTED, pace=lambda: pace)

    return body


def calls_between(run: Run, begin: str, end: str) -> list[str]:
    passed = run.lives[-1].mortality.passed
    return passed[passed.index(begin) + 1 : passed.index(end)]


def test_few_reads_and_no_change_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REREAD_LEAST", 0)
    scenario = Scenario(
        spec=SPEC,
        desired=WANTED,
        events=[(BY_HAND_S, lambda cluster: cluster.put({"vmid": 217, "config": {"onboot": 0}}))],
        body=loop_for(END_S, marks={QUIET_S: "quiet", BY_HAND_S: "by hand"}),
    )
    story = simulate(scenario)
    invariants.check(story)
    calls = calls_between(story, "quiet", "by hand")
    passes = calls.count("journal.doubts before")
    configs = sum(1 for call in calls if call.endswith("/pending before"))
    assert passes == (BY_HAND_S - QUIET_S) / PACE.interval_s
    assert configs == passes * (2 * GUESTS * PACE.interval_s // limits.REREAD_BOUND_S + 1)
    lists = len([call for call in calls if call.startswith("GET ")]) - configs
    # Two for the cluster, two for the only node that has guests of ours; and the list of storages once in a while.
    assert 0 <= lists - passes * (2 + 2) <= (BY_HAND_S - QUIET_S) / limits.REREAD_BOUND_S + 1
    mended = [
        op for op in story.ops if op.intent.kind is Kind.CONFIGURE and op.started_at_ms > (START_S + BY_HAND_S) * 1000
    ]
    assert [op.intent.vmid for op in mended] == [217]
    assert mended[0].started_at_ms / 1000 - START_S - BY_HAND_S <= limits.REREAD_BOUND_S


def test_what_the_lists_show_is_mended_by_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REREAD_LEAST", 0)
    at = QUIET_S + 1
    scenario = Scenario(
        spec=SPEC,
        desired=WANTED,
        events=[(at, lambda cluster: cluster.put({"vmid": 217, "config": {"onboot": 0, "memory": 333}}))],
        body=loop_for(QUIET_S + 100),
    )
    story = simulate(scenario)
    mended = [op for op in story.ops if op.intent.kind is Kind.CONFIGURE and op.started_at_ms > (START_S + at) * 1000]
    assert [op.intent.vmid for op in mended] == [217]
    assert mended[0].started_at_ms / 1000 - START_S - at <= PACE.interval_s + limits.LISTS_LAG_S


def test_a_failed_operation_is_tried_again_when_its_time_has_come() -> None:
    """The next pass may be an hour away: a guest whose operation failed does not wait for it."""
    scenario = Scenario(
        spec=SPEC,
        desired=WANTED,
        faults=[{"fault": "task_fails", "nth": 5}],
        body=loop_for(300.0, Pace(interval_s=3600.0, enforce=True)),
    )
    story = simulate(scenario)
    creates = [op for op in story.ops if op.intent.kind is Kind.CREATE]
    assert len(creates) == GUESTS + 1
    assert len({op.intent.vmid for op in creates if op.state == "succeeded"}) == GUESTS


def test_a_cluster_that_could_not_be_read_is_read_again_soon() -> None:
    faults = [{"fault": "error_595", "method": "GET", "path": "^/cluster/resources"}]
    scenario = Scenario(
        spec=SPEC, desired=WANTED, faults=faults, body=loop_for(120.0, Pace(interval_s=3600.0, enforce=True))
    )
    story = simulate(scenario)
    assert len(story.ops) == GUESTS
    assert min(op.started_at_ms for op in story.ops) / 1000 - START_S < 2 * limits.AGAIN_S
