"""An older journal that is brought back is noticed at the start, and nothing is changed until somebody has looked."""

import asyncio
import shutil
import time
from dataclasses import replace

from tests.cli.stage import Stage, guest, several
from tests.operator.living import Agent, living
from tests.simulation.deaths import AfterSeconds
from tests.simulation.harness import Life, Run, simulate
from tests.simulation.scenarios import EMPTY_VM
from trueup.engine import agent as agents
from trueup.engine.agent import Agent as Incarnation
from trueup.model.ops import Acknowledged

FIRST = several(guest("db-1", 102, "power: stopped", "config: {cores: 1}"), guest("db-2", 103, "power: stopped"))
SECOND = FIRST.replace("cores: 1", "cores: 2")
THIRD = FIRST.replace("cores: 1", "cores: 3")


def back_to(stage: Stage, copy: str) -> None:
    for file in stage.journal().parent.glob("journal.db-*"):
        if not file.name.endswith("lock"):
            file.unlink()
    shutil.copy(stage.folder / copy, stage.journal())


def once(stage: Stage, manifests: str) -> None:
    stage.manifest(manifests)
    assert stage.json("apply", "--yes")["converged"] is True


def rolled_back(stage: Stage) -> None:
    """The guest was changed once more after the copy that is the journal now."""
    once(stage, FIRST)
    stage.json("journal", "backup", "older.db")
    once(stage, SECOND)
    back_to(stage, "older.db")


def test_the_agent_notices_changes_nothing_and_goes_on_once_somebody_has_looked(stage: Stage) -> None:
    rolled_back(stage)
    stage.manifest(THIRD)
    before = len(stage.sim.mutations())
    with living(Agent(stage)) as agent:
        agent.until_said("alarm", "102 carries our marker, written by operations that this journal does not know")
        agent.until_said("pass_ended", "observing only: 1 update")
        time.sleep(2)  # two passes more
        found = stage.json("status", code=2)
        assert "an older journal was brought back" in found["doubts"][0]
        assert "IN DOUBT" in stage.run("status").stdout
        assert len(stage.sim.mutations()) == before
        assert len(stage.json("journal", "acknowledge")["acknowledged"]) == 1
        agent.until_said("op_ended")
    assert stage.run("plan").returncode == 0
    with living(Agent(stage)) as agent:  # what was acknowledged is not doubted again
        agent.until_said("pass_ended", "2 unchanged")
    assert stage.json("status")["doubts"] == []


def test_apply_notices_too(stage: Stage) -> None:
    rolled_back(stage)
    stage.manifest(THIRD)
    before = len(stage.sim.mutations())
    for _ in range(2):
        done = stage.run("apply", "--yes")
        assert done.returncode == 1
        assert "nothing is changed: an older journal was brought back" in done.stderr
    assert len(stage.sim.mutations()) == before
    assert stage.run("journal", "acknowledge").returncode == 0
    assert stage.json("apply", "--yes")["converged"] is True


def test_what_was_in_flight_when_the_copy_was_made_is_not_fenced_before_somebody_has_looked(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "duration", "type": "qmcreate", "seconds": 60})  # that is 3 s here
    stage.manifest(guest("db-1", 102, "power: stopped"))
    with living(Agent(stage)) as agent:
        agent.until_said("op_task")
        stage.json("journal", "backup", "older.db")
        agent.until_said("op_ended")
        stage.manifest(guest("db-1", 102, "power: stopped", "config: {cores: 2}"))
        agent.until_said("op_ended", times=2)
    back_to(stage, "older.db")
    before = len(stage.sim.mutations())
    assert "nothing is recorded: an older journal was brought back" in stage.run("recover").stderr
    assert len(stage.json("status", code=2)["in_flight"]) == 1
    (doubt,) = stage.json("status", code=2)["doubts"]
    assert "102 carries our marker" in doubt
    assert len(stage.sim.mutations()) == before
    assert stage.run("journal", "acknowledge").returncode == 0
    assert stage.json("apply", "--yes")["converged"] is True


def test_the_newest_journal_is_not_doubted(stage: Stage) -> None:
    once(stage, FIRST)
    once(stage, SECOND)
    stage.json("journal", "backup", "newest.db")
    back_to(stage, "newest.db")
    stage.sim.by_hand(vmid=150, name="copy", config={"description": _description(stage, 102)})  # as a clone has it
    stage.manifest(THIRD + "---\n" + guest("copy", 150))
    assert stage.json("apply", "--yes", code=2)["converged"] is False
    assert stage.json("status", code=2)["doubts"] == []


def _description(stage: Stage, vmid: int) -> str:
    guests = stage.sim.ask("/_sim/state")["guests"]
    return next(seen["config"]["description"] for seen in guests if seen["vmid"] == vmid)


# --- incarnation tokens -----------------------------------------------------------------------------------------------

LATER = "agent@pve!sim-9"
END_S = 1e6
"""Later than anything here: the incarnation ends when it says so."""


def keeping(*, acknowledge: bool) -> Run:
    async def body(agent: Incarnation, life: Life) -> None:
        life.report = await agent.recover()
        if acknowledge and agent.deck.epoch == 1:
            await agent.deck.record("", Acknowledged(by="somebody"))
            life.mortality.kill()  # and the next incarnation starts
            await asyncio.sleep(1)
        async with agent.reconciler() as reconciler:

            def pace() -> agents.Pace:
                if reconciler.latest is not None:
                    reconciler.wind_down()
                return agents.Pace(interval_s=1.0, enforce=True)

            await agents.run(reconciler, agent.deck, lambda: EMPTY_VM.desired, pace=pace)

    tokens = [
        {"id": "agent@pve!sim", "secret": "00000000-0000-0000-0000-000000000001"},
        {"id": "root@pam!keeper", "secret": "00000000-0000-0000-0000-000000000002"},
        {"id": LATER, "secret": "00000000-0000-0000-0000-000000000003"},
    ]
    deaths = [AfterSeconds(END_S)] if acknowledge else []
    return simulate(replace(EMPTY_VM, keeper=True, body=body, spec={**EMPTY_VM.spec, "tokens": tokens}), *deaths)


def test_a_token_of_a_later_epoch_is_a_doubt_and_stays_until_somebody_has_looked() -> None:
    run = keeping(acknowledge=False)
    assert f"PVE has {LATER}, and this journal has only come to epoch 1" in "".join(
        note.text for note in run.lives[-1].notes
    )
    assert LATER in str(run.cluster.world.state()["tokens"])
    assert not [row for row in run.effects() if "/qemu" in str(row["path"])]
    run = keeping(acknowledge=True)
    assert LATER not in str(run.cluster.world.state()["tokens"])
