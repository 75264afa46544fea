"""SIGKILL at named points: in each life the agent dies at another one, and the last life ends what all of them began.

Each life is given one guest more, and dies in the middle of what that one needs; what the lives before left behind is
recovered on the way.
"""

import pytest

from tests.real_death.evidence import is_fence, recovered_first, settled
from tests.real_death.stage import Simulator, Stage, ct, vm

CLONED_VM = ("source: {clone: 9000}", "config: {cores: 4, scsi0: {storage: shared, size: 16G}}")
CLONED_CT = ("source: {clone: 9001}", "config: {memory: 1024, rootfs: {size: 8G}}")

Life = tuple[str, str]
"""The manifest that is new in this life, and the step at which it dies."""

MAKING: dict[str, Life] = {
    "the epoch is taken": (vm(101), r"^epoch: after"),
    "a create is not journaled yet": (vm(102), r"^append started create 102: before"),
    "a create is journaled, not sent": (vm(103, node="pve2"), r"^append started create 103: after"),
    "the connection for a container stands": (ct(104, node="pve3"), r"^connected request POST \S+/lxc 104"),
    "a create is written, not answered": (vm(105), r"^written request POST \S+/qemu 105"),
    "a container is written, not answered": (ct(106), r"^written request POST \S+/lxc 106"),
}
CLONING: dict[str, Life] = {
    "a clone is answered, its task not noted": (vm(111, *CLONED_VM), r"^answered request POST \S+/clone 111"),
    "a clone's task is noted": (vm(112, *CLONED_VM, node="pve2"), r"^append taskrunning clone 112: after"),
    "a container's clone is written": (ct(113, *CLONED_CT), r"^written request POST \S+/clone 113"),
    "a clone has ended, not recorded": (vm(114, *CLONED_VM), r"^append succeeded clone 114: before"),
    "a container's clone is recorded": (ct(115, *CLONED_CT), r"^append succeeded clone 115: after"),
}
FOLLOWING: dict[str, Life] = {
    "a clone's config is journaled, not sent": (vm(121, *CLONED_VM), r"^append started configure 121: after"),
    "a config write is not answered": (vm(122, *CLONED_VM), r"^written request P\S+ \S+/config 122"),
    "a container's config is answered": (ct(123, *CLONED_CT), r"^answered request PUT \S+/config 123"),
    "a disk to grow is not answered": (vm(124, *CLONED_VM), r"^written request PUT \S+/resize 124"),
    "a start is written, not answered": (ct(125), r"^written request POST \S+/start 125"),
    "a start is journaled, not sent": (vm(126), r"^append started start 126: after"),
}

FEW = {
    name: {**MAKING, **CLONING, **FOLLOWING}[name]
    for name in ("a create is journaled, not sent", "a clone is answered, its task not noted")
}


@pytest.mark.parametrize("lives", [MAKING, CLONING, FOLLOWING], ids=["making", "cloning", "following"])
def test_each_life_ends_at_another_point(sim: Simulator, stage: Stage, lives: dict[str, Life]) -> None:
    for number, (name, (guest, doom)) in enumerate(lives.items()):
        stage.manifest(f"guest-{number}", guest)
        in_flight = len(stage.journal().open) if number else 0
        steps = stage.dies(doom, "apply", "--yes")
        recovered_first(steps, in_flight)
        account_open(sim, stage, name)
    in_flight = len(stage.journal().open)
    done, steps = stage.lives_on("apply", "--yes")
    assert done.code == 0, done
    recovered_first(steps, in_flight)
    settled(sim, stage)


def test_a_few_points_on_postgres(sim: Simulator, stage: Stage) -> None:
    """With TRUEUP_EVERY_POINT=1 all of them are died at there."""
    assert stage.on_postgres
    test_each_life_ends_at_another_point(sim, stage, FEW)


def account_open(sim: Simulator, stage: Stage, name: str) -> None:
    """In the middle of it: whatever took effect stands in the journal, done or open."""
    journal = stage.journal()
    assert journal.verification.ok, name
    known = {(op.intent.method, op.intent.path) for op in journal.ops}
    effects = [row for row in sim.mutations() if row["effect"] and not is_fence(row)]
    assert all((row["method"], row["path"]) in known for row in effects), name


def test_deaths_while_guests_go_down(sim: Simulator, stage: Stage) -> None:
    stage.manifest("guests", vm(131), ct(132), vm(133))
    assert stage.run("apply", "--yes").code == 0
    sim.by_hand(vmid=133, acpi=False)  # it does not hear the shutdown, and is stopped hard afterwards
    sim.control("duration", type="qmshutdown", seconds=10)
    off = ("power: stopped", "disruption: {restart: allowed}")
    lives = {
        "a shutdown is not answered": (vm(131, *off), r"^written request POST \S+/shutdown 131"),
        "a container's shutdown is noted": (
            ct(132) + "\n".join([*off, ""]),
            r"^append taskrunning shutdown 132: after",
        ),
        "a stop is not answered": (vm(133, *off), r"^written request POST \S+/stop 133"),
    }
    down: list[str] = []
    for name, (guest, doom) in lives.items():
        down.append(guest)
        stage.manifest("guests", *down, *(vm(131), ct(132), vm(133))[len(down) :])
        in_flight = len(stage.journal().open)
        recovered_first(stage.dies(doom, "apply", "--yes"), in_flight)
        account_open(sim, stage, name)
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    state = {guest["vmid"]: guest["status"] for guest in sim.ask("/_sim/state")["guests"]}
    assert {state[vmid] for vmid in (131, 132, 133)} == {"stopped"}


def test_deaths_in_the_middle_of_recovery(sim: Simulator, stage: Stage) -> None:
    """One config write that never arrived, and a recovery that dies at each of its own steps."""
    stage.manifest("guest", ct(141))
    assert stage.run("apply", "--yes").code == 0
    stage.manifest("guest", ct(141).replace("memory: 512", "memory: 768"))
    stage.dies(r"^append started configure 141: after", "apply", "--yes")
    for doom in (
        r"^epoch: before",
        r"^recovery begins",
        r"^read tasks pve1",
        r"^append fencing configure 141: before",
        r"^append fencing configure 141: after",
        r"^connected fence PUT \S+ 141",
        r"^written fence PUT \S+ 141",
        r"^append fenced configure 141: after",
        r"^append failed configure 141: before",
    ):
        recovered_first(stage.dies(doom, "recover"), 1)
        assert [op.intent.kind.value for op in stage.journal().open] == ["configure"], doom
    done = stage.run("recover", "--json")
    assert done.code == 0
    report = done.json()
    assert (report["examined"], report["rolled_back"], report["presumed"]) == (1, 1, 0)
    assert report["ops"][0]["row"] == "R11"
    (rolled,) = [op for op in stage.journal().ops if op.intent.kind.value == "configure"]
    assert rolled.reason == "not_started"
    assert stage.run("apply", "--yes").code == 0
    settled(sim, stage)
    guest = sim.guest(141)
    assert guest is not None
    assert str(guest["config"]["memory"]) == "768"
