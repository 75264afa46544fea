"""Three agents of which one leads: killed, paused and woken, told to end. Nothing is done twice; one chain grows."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.agents import Group, wait
from tests.real_death import evidence
from tests.real_death.stage import Simulator, ct, vm

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def group(tmp_path: Path, database: str) -> Iterator[Group]:
    with Simulator(tmp_path) as sim, Group(tmp_path / "group", sim, database) as made:
        yield made


def converged(group: Group, guests: int) -> bool:
    leader = group.leader()
    said = [line["text"] for line in leader.log() if line["event"] == "pass_ended"] if leader else []
    return bool(said) and said[-1] == f"{guests} unchanged"


def account(group: Group) -> None:
    """The world against the journal, and epochs that only grow."""
    evidence.account(group.sim, group)  # type: ignore[arg-type]
    epochs = [record.epoch for record in group.read()[1]]
    assert epochs == sorted(epochs)


def test_the_leader_is_killed_paused_and_told_to_end(group: Group) -> None:
    clones = [vm(110 + n, "source: {clone: 9000}", "config: {cores: 2}", node=f"pve{n % 3 + 1}") for n in range(8)]
    group.manifest(clones)
    for member in group.members:
        member.start()
    first = wait(group.leader)
    others = [member for member in group.members if member is not first]
    wait(lambda: all(member.ready().get("phase") == "standby" for member in others))
    assert all(member.ready()["status"] == 200 for member in others)
    assert first.ready()["phase"] in {"recovering", "leading", "starting"}

    # Killed in the middle of its work.
    wait(lambda: "op_started" in first.events())
    first.signal(signal.SIGKILL)
    second = wait(lambda: (found := group.leader()) is not first and found)
    wait(lambda: converged(group, 8))
    account(group)

    # Paused in the middle of its work, and woken when another one leads.
    group.manifest([*clones, *(ct(200 + n, node=f"pve{n % 3 + 1}") for n in range(6))])
    wait(lambda: second.events().count("op_started") and len(group.sim.mutations()) > 8)
    second.signal(signal.SIGSTOP)
    third = wait(lambda: (found := group.leader()) is not second and found)
    wait(lambda: converged(group, 14))
    mutations, (_, records, epochs) = len(group.sim.mutations()), group.read()
    second.signal(signal.SIGCONT)
    wait(lambda: "not_leading" in second.events())
    wait(lambda: second.ready().get("phase") == "standby")
    assert len(group.sim.mutations()) == mutations
    assert [r.seq for r in group.read()[1]] == [r.seq for r in records]
    account(group)

    # Told to end: the lease is given back, and nobody waits for its end.
    third.signal(signal.SIGTERM)
    assert third.process is not None
    assert third.process.wait(60) == 0
    wait(lambda: group.leader() is second, 30)
    wait(lambda: converged(group, 14))
    assert group.read()[2] == epochs + 1
    account(group)

    # Commands that write say who leads; those that read do it from anywhere.
    told = group.trueup("journal", "prune", "--older-than", "30d")
    assert told.returncode == 1
    assert f":{second.pid} leads" in told.stderr
    assert group.trueup("journal", "verify").returncode == 0
    assert group.trueup("status").returncode == 0
    for member in group.members:
        for life in member.folder.glob("life-*"):
            assert "k33p-m3-quiet" not in life.read_text()
