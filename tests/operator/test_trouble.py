"""Trouble under a running agent: it says clearly what is wrong, loses nothing, and goes on once it is mended."""

import re
from collections.abc import Iterator

import pytest

from tests.cli.stage import Stage, guest, several
from tests.operator.living import Agent, living
from tests.operator.nodes_shell import on_a_node
from tests.operator.test_doctor import SETUP, bare
from tests.operator.tls_front import TlsFront

__all__ = ["bare"]

DISK = "config: {scsi0: {storage: local-lvm, size: 2G}}"


def sound(stage: Stage) -> None:
    assert stage.json("journal", "verify")["ok"] is True
    assert stage.run("plan").returncode == 0


@pytest.fixture
def front(stage: Stage) -> Iterator[TlsFront]:
    front = TlsFront(stage.sim.url, stage.sim.ca_file, stage.folder)
    stage.settings((stage.sim.url, front.url), (stage.sim.ca_file, str(front.ca_file)))
    yield front
    front.close()


@pytest.mark.parametrize("trust", ["ca_file", "fingerprint"])
def test_another_certificate(stage: Stage, front: TlsFront, trust: str) -> None:
    if trust == "fingerprint":
        stage.settings((f'ca_file = "{front.ca_file}"', f'fingerprint = "{front.fingerprint}"'))
    before = front.fingerprint
    stage.manifest(guest("db-1", 102))
    with living(Agent(stage)) as agent:
        agent.until_said("pass_ended", "1 unchanged")
        front.exchange()
        stage.manifest(several(guest("db-1", 102), guest("web-1", 101)))
        agent.until_said("alarm", "certificate")
        (alarm, *_) = [line["text"] for line in agent.events("alarm")]
        assert ("openssl x509" if trust == "fingerprint" else "ca_file") in alarm, alarm
        mutations = len(stage.sim.mutations())
    assert len(stage.sim.mutations()) == mutations, "nothing is sent to whoever that is"
    if trust == "fingerprint":
        stage.settings((before, front.fingerprint))
    else:
        front.ca_file.write_bytes(front.authority)
    with living(Agent(stage)) as agent:
        agent.until_said("pass_ended", "2 unchanged")
    sound(stage)


def test_a_full_storage(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "quota", "storage": "local-lvm", "bytes": 1})
    stage.manifest(several(guest("db-1", 102, DISK), guest("web-1", 101)))
    with living(Agent(stage)) as agent:
        agent.until_said("op_ended", times=3)
        failed = [line for line in agent.events("op_ended") if line["state"] == "failed"]
        assert {line["name"] for line in failed} == {"db-1"}
        assert "space" in failed[0]["exit_status"]
        assert [line["name"] for line in agent.events("op_ended") if line["state"] == "succeeded"] == ["web-1", "web-1"]
        stage.sim.ask("/_sim/control", {"action": "quota", "storage": "local-lvm"})
        agent.until_said("pass_ended", "2 unchanged")
        tries = [line for line in agent.events("op_started") if line.get("name") == "db-1" and line["kind"] == "create"]
        assert len(tries) <= 5, "it waits longer after each failure"
    sound(stage)


def test_a_node_that_vanished_and_one_that_is_down(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "node_down", "node": "pve3"})
    stage.manifest(several(guest("db-1", 102), guest("web-1", 101, node="renamed"), guest("web-2", 103, node="pve3")))
    with living(Agent(stage)) as agent:
        agent.until_said("pass_ended", "1 unchanged")
        found = {row["name"]: row["blocked_by"] or "" for row in stage.json("status", code=2)["guests"]}
        assert (
            "the cluster has no node renamed (correct `node` in the manifest; nodes: pve1, pve2, pve3)"
            in found["web-1"]
        )
        assert "node pve3 is offline (bring it back)" in found["web-2"]
        stage.sim.ask("/_sim/control", {"action": "node_up", "node": "pve3"})
        stage.manifest(several(guest("db-1", 102), guest("web-1", 101, node="pve2"), guest("web-2", 103, node="pve3")))
        agent.until_said("pass_ended", "3 unchanged")
    sound(stage)


def test_a_token_that_was_taken_away(bare: Stage) -> None:
    assert bare.run(*SETUP).returncode == 0
    bare.manifest(guest("db-1", 102))
    with living(Agent(bare)) as agent:
        agent.until_said("pass_ended", "1 unchanged")
        on_a_node(bare.sim, "pveum user token remove trueup@pve agent-a")
        bare.manifest(several(guest("db-1", 102), guest("web-1", 101)))
        agent.until_said("alarm", "check the API token and its secret; it may have expired or been deleted")
        assert any("restart" in line["text"] for line in agent.events("alarm"))
        assert bare.run("plan").returncode == 1
    said = on_a_node(bare.sim, "pveum user token add trueup@pve agent-a --privsep 0")
    found = re.search(r'"value": "([^"]+)"', said)
    assert found
    (bare.folder / "token.secret").write_text(found[1])
    with living(Agent(bare)) as agent:
        agent.until_said("pass_ended", "2 unchanged")
    sound(bare)
