"""Rare accidents, each by its name: what a token does not stop, nodes that know too much, people who undo a fence.

A second process on one journal, and an answer to COMMIT that is lost, are tried on the journal itself
(`tests/journal`); an agent that stands still before its first byte, as a process too (`tests/real_death`).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation import invariants
from tests.simulation.cluster import SimCluster, SimTransport
from tests.simulation.examples import EXAMPLES
from tests.simulation.harness import simulate
from tests.simulation.scenarios import CLONED_VM, EMPTY_VM
from tests.simulation.stories import die, ending, ops
from trueup.adapters.pve_wire import HttpAnswer, HttpRequest
from trueup.model.ids import GuestType
from trueup.model.notes import What
from trueup.model.ops import Kind, OpState

HOUR_S = 3600.0


def fault(kind: str, path: str, **more: object) -> Mapping[str, object]:
    return {"fault": kind, "path": path, **more}


def alarms(run: invariants.Run) -> list[str]:
    return [note.text for life in run.lives for note in life.notes if note.what is What.ALARM]


# --- A worker that stands still between the token check and its work -------------------------------------------------


def test_a_stalled_start_gets_past_its_dead_token_and_is_noticed() -> None:
    stalled = (fault("stalled", "start", delay_s=120.0),)
    run = die(replace(EMPTY_VM, keeper=True, faults=stalled, later_s=2 * HOUR_S), "start sent")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert first.contradicted, "its token was deleted, and PVE went on with it"
    assert ending(first) == ("failed", "task_error", "R5")
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert alarms(run)


@pytest.mark.parametrize("delay_s", [2.0, 20.0, 120.0])
def test_a_stalled_write_is_stopped_by_its_fence(delay_s: float) -> None:
    stalled = (fault("stalled", "config$", delay_s=delay_s),)
    run = die(replace(CLONED_VM, keeper=True, faults=stalled, later_s=2 * HOUR_S), "config sent")
    invariants.converged(run)
    assert ops(run, Kind.CONFIGURE)[-1].state is OpState.SUCCEEDED
    assert not alarms(run)


# --- An agent that stands still right before its first byte ----------------------------------------------------------


class Paused(SimTransport):
    """Stands still once, right before the first byte of a request, as a machine does that is suspended."""

    pause_s = 0.0
    waits_for = ""

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        if request.mutation and Paused.waits_for and Paused.waits_for in request.path:
            Paused.waits_for = ""
            await asyncio.sleep(Paused.pause_s)
        return await super().exchange(request)


@pytest.mark.parametrize("path", ["/clone", "/config", "/status/start"])
def test_a_request_that_was_held_up_for_too_long_is_not_sent(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.harness.SimTransport", Paused)
    Paused.waits_for, Paused.pause_s = path, HOUR_S
    run = simulate(replace(CLONED_VM, later_s=HOUR_S))
    invariants.converged(run)
    assert Paused.waits_for == ""
    late = [op for op in run.ops if op.state is OpState.FAILED]
    assert [op.reason.value for op in late if op.reason] == ["expired"]
    assert len([row for row in run.mutations if str(row["path"]).endswith("/clone")]) == 1


# --- A node without quorum that still knows a deleted token ----------------------------------------------------------


def test_a_node_that_is_cut_off_still_knows_the_token_and_is_not_counted() -> None:
    """The start goes to pve2, which then loses quorum: the token is deleted everywhere but there."""

    def cut_off(cluster: SimCluster) -> None:
        cluster.world.control({"action": "quorum", "quorate": False, "nodes": ["pve2"]})

    def back(cluster: SimCluster) -> None:
        cluster.act({"action": "quorum", "quorate": True})

    story = replace(
        CLONED_VM,
        keeper=True,
        patient=True,
        faults=(fault("late", "start", delay_s=30.0),),
        before_restart=cut_off,
        events=[(HOUR_S, back)],
        later_s=3 * HOUR_S,
    )
    run = die(story, "start sent")
    invariants.converged(run)
    counted = [note.text for life in run.lives for note in life.notes if "agent@pve!sim-1 of" in note.text]
    assert counted == [], "pve2 would still have let a request with it through"
    starts = ops(run, Kind.START)
    assert [op.state for op in starts][-1] is OpState.SUCCEEDED
    assert len([row for row in run.effects() if str(row["path"]).endswith("/start")]) == 1


# --- A call of the keeper whose answer is lost -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reply_lost", "request_lost", "error_596_work_continues"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_keeper_whose_answer_is_lost_is_asked_again(kind: str, method: str) -> None:
    lost = (fault(kind, "/access/users/.*/token", method=method, times=2),)
    story = replace(EMPTY_VM, keeper=True, patient=True, faults=lost, later_s=HOUR_S)
    run = die(story, "start sent") if method == "DELETE" else simulate(story)
    invariants.converged(run)
    assert len(run.lives) > 1
    tokens = [token for token in run.cluster.world.state()["tokens"] if "!sim-" in str(token)]  # type: ignore[union-attr]
    assert len(tokens) <= 1, "tokens of dead lives are gone, those too whose making was not heard of"


# --- People who undo a fence -----------------------------------------------------------------------------------------


def test_somebody_puts_the_old_text_back_under_a_fence() -> None:
    """Equal text, equal digest: then nothing in PVE tells the late write from one that is due, and it lands.

    What it writes is what was wanted when it was sent. The next pass brings the guest to what is wanted now.
    """
    kept: dict[str, str] = {}

    def remember(cluster: SimCluster) -> None:
        kept.update(_config(cluster, 301))

    def put_back(cluster: SimCluster) -> None:
        now = _config(cluster, 301)
        changed = {key: kept.get(key) for key in {*kept, *now} if kept.get(key) != now.get(key)}
        cluster.put({"vmid": 301, "config": changed})

    story = replace(
        EXAMPLES[GuestType.QEMU][Kind.TAG],
        between=lambda cluster: cluster.put({"vmid": 301, "config": {"onboot": "1"}}),
        faults=(fault("late", "config$", delay_s=HOUR_S + 10.0),),
        before_restart=remember,
        events=[(HOUR_S, put_back)],
        later_s=2 * HOUR_S,
    )
    run = die(story, "config sent")
    end = run.lives[-1].converged
    assert end is not None
    assert end.exit_code == 0
    first = ops(run, Kind.TAG)[0]
    landed = [row for row in run.effects() if f'"op":"{first.op_id}"' in str(row["params"])]
    assert len(landed) == 1, invariants.story(run)
    assert ending(first) == ("failed", "not_started", "R11")
    assert _config(run.cluster, 301)["tags"] == "a;b"


def _config(cluster: SimCluster, vmid: int) -> dict[str, str]:
    guests: Any = cluster.world.state()["guests"]
    return next(dict(guest["config"]) for guest in guests if guest["vmid"] == vmid)
