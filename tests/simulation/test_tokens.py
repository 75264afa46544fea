"""Incarnation tokens: each life has its own, and the tokens of the dead are deleted before anything is judged."""

import asyncio
import math
from dataclasses import replace

import pytest

from tests.simulation import invariants, stores
from tests.simulation.cluster import SimTransport
from tests.simulation.deaths import AfterSeconds, turning_points
from tests.simulation.harness import Life, Scenario, simulate
from tests.simulation.scenarios import CLONED_VM, EMPTY_VM
from tests.simulation.stories import die, ending, ops
from trueup.adapters import sqlite
from trueup.adapters.pve_wire import HttpAnswer, HttpRequest
from trueup.engine import tokens
from trueup.engine.agent import Agent
from trueup.model.errors import JournalFailed, Stale
from trueup.model.ids import OpId, TokenId
from trueup.model.ops import Draft, Kind, TokenPlanned


def test_a_request_stuck_before_the_check_dies_with_its_token() -> None:
    late = ({"fault": "late", "path": "start", "delay_s": 60.0},)
    run = die(replace(EMPTY_VM, keeper=True, faults=late, later_s=3600.0), "start sent")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(first) == ("failed", "presumed_not_started", "R12")
    assert not first.contradicted, "PVE answered 401"
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert (first.intent.token, second.intent.token) == ("agent@pve!sim-1", "agent@pve!sim-2")


@pytest.mark.parametrize("shard", range(2))
def test_converges_after_a_death_at_every_point(shard: int) -> None:
    story = replace(CLONED_VM, keeper=True)
    for point in turning_points(simulate(story).lives[0].mortality.passed)[shard::2]:
        run = simulate(story, point)
        invariants.converged(run)
        assert len([token for token in run.cluster.world.state()["tokens"] if "sim-" in str(token)]) <= 1  # type: ignore[union-attr]


def test_a_keeper_without_rights_leaves_recovery_open() -> None:
    def gone(cluster: invariants.SimCluster) -> None:
        cluster.world.control({"action": "delete_token", "id": "root@pam!keeper"})

    run = die(replace(EMPTY_VM, keeper=True, before_restart=gone), "start sent")
    assert "could not be made" in str(run.lives[-1].error)
    assert [ending(op)[0] for op in ops(run, Kind.START)] == ["started"]


# --- An agent that stood still while another one took over -----------------------------------------------------------


def alive(cluster: invariants.SimCluster) -> list[str]:
    """The incarnation tokens that PVE has."""
    return sorted(str(token) for token in cluster.world.state()["tokens"] if "!sim-" in str(token))  # type: ignore[union-attr]


def test_the_token_of_a_later_epoch_is_never_deleted() -> None:
    """Epoch 1 dies. Epoch 2 stands still before its recovery, and wakes when epoch 3 leads with a token of its own."""

    clusters: list[invariants.SimCluster] = []
    kept: list[str] = []

    async def taken_over(agent: Agent, _life: Life) -> None:
        deck = agent.deck
        if deck.epoch == 1:
            await asyncio.sleep(3600.0)
        if deck.epoch > 2:
            return  # on a database it stands by after its refusal, and leads again in its turn
        assert agent._tokens is not None
        now_ms = deck.clock.now_ms()
        ids = [deck.entropy.uuid7(now_ms) for _ in range(2)]
        epoch = await deck.journal.take_epoch(holder="b:1", token=TokenId(""), record_id=ids[0], at_ms=now_ms)
        later = tokens.token_name("agent@pve", "sim-", epoch)
        planned = Draft(record_id=ids[1], at_ms=now_ms, op_id=OpId(""), event=TokenPlanned(token=later))
        await deck.journal.append(epoch, [planned])
        await agent._tokens._keeper.create(later)
        try:
            await agent._tokens.retire()
        finally:
            kept.extend(alive(clusters[0]))

    story = Scenario(spec=EMPTY_VM.spec, desired=(), keeper=True, body=taken_over, before_restart=clusters.append)
    run = simulate(story, AfterSeconds(60.0))
    assert isinstance(run.lives[1].error, Stale), "it may not write down what it did"
    assert kept == ["agent@pve!sim-2", "agent@pve!sim-3"]


class StandsStill(SimTransport):
    """Stands still for longer than a lease, right before the first byte of a request of the keeper."""

    method = ""

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        if request.method == StandsStill.method and "/access/users" in request.path:
            StandsStill.method = ""
            await asyncio.sleep(3600.0)
        return await super().exchange(request)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_keeper_sends_nothing_after_the_lease(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if stores.chosen() is not stores.file:
        pytest.skip("a file has no lease, so it is given one here; leases of a database are tried in test_rivals")
    until = math.inf

    def leased(_cluster: invariants.SimCluster) -> None:
        nonlocal until
        until, StandsStill.method = asyncio.get_running_loop().time() + 60.0, method

    monkeypatch.setattr("tests.simulation.harness.SimTransport", StandsStill)
    monkeypatch.setattr(sqlite.SqliteJournal, "lead_until", lambda _journal: until)
    run = die(replace(EMPTY_VM, keeper=True, before_restart=leased), "start sent")
    assert StandsStill.method == "", "it did stand still"
    assert isinstance(run.lives[-1].error, JournalFailed), "not a keeper that is to be looked at"
    made = ["agent@pve!sim-1"] if method == "POST" else ["agent@pve!sim-1", "agent@pve!sim-2"]
    assert alive(run.cluster) == made, "neither made nor deleted"
