"""The daemon: told to end, killed, and with PVE's own daemons restarted or stalled under it."""

import json
import signal
from typing import Any

from tests.real_death.evidence import account, settled
from tests.real_death.stage import Simulator, Stage, ct, until, vm

CLONES = tuple(vm(110 + n, "source: {clone: 9000}", "config: {cores: 2}", node=f"pve{n}") for n in (1, 2, 3))


def log(stage: Stage) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stage.err().splitlines() if line.startswith("{")]


def news(stage: Stage, *events: str) -> list[dict[str, Any]]:
    return [line for line in log(stage) if line["event"] in events]


def converged(stage: Stage, guests: int) -> bool:
    said = [line["text"] for line in news(stage, "pass_ended")]
    return bool(said) and said[-1] == f"{guests} unchanged"


def test_told_to_end_in_the_middle_of_clones(sim: Simulator, stage: Stage) -> None:
    sim.control("duration", type="qmclone", seconds=30)  # 1.5 s
    stage.manifest("guests", *CLONES)
    agent = stage.start("agent")
    until(lambda: len(sim.mutations()) >= 1)
    agent.send_signal(signal.SIGTERM)
    done = stage.end(agent)
    assert done.code == 0, done
    assert "Traceback" not in done.err
    journal = stage.journal()
    assert journal.verification.ok
    assert len(sim.mutations()) == len(journal.ops)
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)


def test_told_twice_it_leaves_the_rest_to_recovery(sim: Simulator, stage: Stage) -> None:
    sim.control("duration", type="qmclone", seconds=100)  # 5 s
    stage.manifest("guests", CLONES[0])
    agent = stage.start("agent")
    until(lambda: news(stage, "op_task"))
    agent.send_signal(signal.SIGINT)
    until(lambda: news(stage, "stopping"))
    agent.send_signal(signal.SIGINT)
    done = stage.end(agent)
    assert done.code == 0, done
    assert "Traceback" not in done.err
    assert [op.state.value for op in stage.journal().open] == ["task_running"]
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    assert sum(row["path"].endswith("/clone") for row in sim.mutations()) == 1


def test_killed_and_started_again_it_recovers_before_it_works(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guests", *CLONES, ct(201))
    for kills in range(3):
        agent = stage.start("agent")
        until(lambda kills=kills: len(news(stage, "op_started")) > kills or converged(stage, 4))
        agent.kill()
        stage.end(agent)
        events = [line["event"] for line in log(stage)]
        assert events.index("recovery_ended") < events.index("op_started")
    agent = stage.start("agent")
    until(lambda: converged(stage, 4))
    agent.send_signal(signal.SIGTERM)
    assert stage.end(agent).code == 0
    settled(sim, stage)


def test_pve_is_restarted_under_it(sim: Simulator, stage: Stage) -> None:
    """Connections die in the middle of requests; what their answers would have said is found out."""
    sim.control("duration", type="qmclone", seconds=20)
    stage.manifest("guests", *CLONES, ct(201), ct(202, node="pve2"))
    agent = stage.start("agent")
    seen = 0
    for daemon in ("pveproxy", "pvedaemon", "pveproxy"):
        seen = until(lambda seen=seen: len(sim.mutations()) > seen and len(sim.mutations()))
        for node in ("pve1", "pve2"):
            sim.control(f"restart_{daemon}", node=node)
    until(lambda: converged(stage, 5))
    agent.send_signal(signal.SIGTERM)
    assert stage.end(agent).code == 0
    account(sim, stage)
    settled(sim, stage)


def test_a_stalled_daemon_delivers_what_a_dead_agent_had_sent(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guests", vm(101))
    agent = stage.halts(r"^connected request POST \S+/qemu 101", "apply", "--yes")
    sim.control("freeze", node="pve1", daemon="pvedaemon")
    agent.send_signal(signal.SIGCONT)
    until(lambda: "written request" in (stage.folder / "life-1.trace").read_text())
    agent.kill()
    stage.end(agent)
    assert sim.mutations() == []  # it is on its way, and nobody has looked at it
    agent = stage.start("agent")
    until(lambda: news(stage, "recovery_began"))
    sim.control("thaw", node="pve1", daemon="pvedaemon")
    until(lambda: converged(stage, 1))
    agent.send_signal(signal.SIGTERM)
    assert stage.end(agent).code == 0
    settled(sim, stage)
    assert sum(row["effect"] for row in sim.mutations()) == 2  # one create, one start


def test_an_agent_that_stood_still_before_its_first_byte_does_not_send_it_any_more(
    sim: Simulator, stage: Stage
) -> None:
    stage.change("[limits]", '[limits]\nsend_by = "1s"')
    stage.manifest("guests", vm(101, "source: {empty: true}", "power: stopped"))
    agent = stage.halts(r"^connected request POST \S+/qemu 101", "apply", "--yes", "--once")
    (op,) = stage.journal().open
    until(lambda: sim.ask("/_sim/state")["time"] * 1000 > op.intent.send_by_ms + 200)
    agent.send_signal(signal.SIGCONT)
    assert stage.end(agent).code != 0
    (op,) = stage.journal().ops
    assert (op.state, op.reason) == ("failed", "expired")
    assert sim.mutations() == []
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
