"""Twenty guests of all sorts on three nodes, from nothing; then people change some by hand, and those are mended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_death.evidence import account, settled
from tests.real_death.stage import Simulator, Stage, ct, vm

NODES = ("pve1", "pve2", "pve3")
DISK = "config: {cores: 2, memory: 1024, scsi0: {storage: local-lvm, size: 8G}, net0: {model: virtio, bridge: vmbr0}}"
GROWN = "config: {cores: 4, memory: 2048, tags: [web, prod], scsi0: {size: 16G}}"
CHANGEABLE = "disruption: {restart: allowed}"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[Simulator, Stage]]:
    with (
        Simulator(tmp_path) as sim,
        Stage(tmp_path / "agent", sim.url, sim.ca_file, sim.token_id, sim.token_secret) as made,
    ):
        yield sim, made


def test_twenty_mixed_guests(stage: tuple[Simulator, Stage]) -> None:
    sim, agent = stage
    agent.change("[limits]", "[limits]\nslots_per_node = 6")
    guests: list[str] = []
    for number in range(5):
        node = NODES[number % 3]
        guests += [
            vm(101 + number, "source: {empty: true}", DISK, node=node),
            vm(111 + number, "source: {clone: 9000}", GROWN, CHANGEABLE, f"after: [vm-{101 + number}]", node=node),
            ct(201 + number, node=node),
            ct(211 + number, "source: {clone: 9001}", "config: {memory: 1024, rootfs: {size: 8G}}", node=node),
        ]
    agent.manifest("guests", *guests)
    plan = agent.run("plan", "--json")
    assert plan.code == 2
    assert plan.json()["summary"]["create"] == 20
    assert sim.mutations() == []
    done = agent.run("apply", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json()["plan"]["summary"]["unchanged"] == 20
    settled(sim, agent)
    assert {op.intent.kind.value for op in agent.journal().ops} == {"create", "clone", "configure", "grow", "start"}

    sim.by_hand(vmid=101, config={"memory": 4096})
    sim.by_hand(vmid=112, config={"tags": "by-hand"})
    sim.by_hand(vmid=202, status="stopped")
    sim.by_hand(vmid=213, config={"memory": 2048})
    sim.by_hand(vmid=205, deleted=True)
    plan = agent.run("plan", "--json")
    assert plan.code == 2
    found = {change["vmid"]: change for change in plan.json()["changes"]}
    assert sorted(found) == [101, 112, 202, 205, 213]
    keys = {vmid: [diff["key"] for diff in change["diff"]] for vmid, change in found.items() if vmid != 205}
    assert keys == {101: ["memory"], 112: ["tags"], 202: ["power"], 213: ["memory"]}
    assert found[205]["bucket"] == "create"

    assert agent.run("apply", "--yes").code in {0, 2}
    account(sim, agent)
    plan = agent.run("plan", "--json")
    assert {change["vmid"] for change in plan.json()["changes"]} <= {101}  # what waits for a restart of a running VM
    state = {guest["vmid"]: guest for guest in sim.ask("/_sim/state")["guests"]}
    assert state[202]["status"] == state[205]["status"] == "running"
    assert state[112]["config"]["tags"] in {"prod;web", "web;prod"}
    assert str(state[213]["config"]["memory"]) == "1024"
    assert len([guest for guest in state if guest < 9000]) == 20
