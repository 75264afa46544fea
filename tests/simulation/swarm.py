"""Random stories: several guests, accidents of every kind, people and machines that interfere, and deaths.

Each run leaves some kinds of accident out (swarm testing), so that the frequent ones do not hide the rare ones. The
same number gives the same story, under any hash seed.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from msgspec.structs import replace as changed

from pvesim.wire import Failure
from tests.simulation.cluster import SimCluster
from tests.simulation.deaths import AtWrite, Death
from tests.simulation.harness import Run, Scenario, simulate
from tests.simulation.scenarios import SPEC, ct, vm
from trueup.model.guests import Clone, Desired, Power
from trueup.model.ids import NodeName, Vmid

FAULTS = (
    "request_lost", "reply_lost", "late", "error_500_worker_runs", "error_596_work_continues", "error_595",
    "unauthorized", "task_fails", "task_killed", "task_ok_without_effect", "task_unlisted", "task_log_gone",
)  # fmt: skip
PATHS = ("clone", "config", "resize", "status/", r"/qemu$|/lxc$", "")
NODES = ("pve1", "pve2")
CALM_S = 4 * 3600.0
"""After this all accidents are over, and the agent looks once more."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that is done to the cluster; `what` is for people."""

    at_s: float
    what: str
    do: Callable[[SimCluster], None]


@dataclass(frozen=True, kw_only=True)
class Story:
    """One random story. Parts can be left out, to find the shortest one that still fails."""

    number: int
    first: Sequence[Desired]
    then: Sequence[Desired]
    faults: Sequence[dict[str, object]]
    happenings: Sequence[Happening]
    deaths: Sequence[Death]
    keeper: bool

    def run(self) -> Run:
        scenario = Scenario(
            spec=SPEC,
            desired=self.first,
            then=self.then,
            faults=self.faults,
            events=[(happening.at_s, happening.do) for happening in self.happenings],
            seed=self.number % 100_000,
            keeper=self.keeper,
            later_s=CALM_S,
            patient=True,
        )
        return simulate(scenario, *self.deaths)

    @property
    def tasks_lie(self) -> bool:
        """Whether PVE says OK without having done it."""
        return any(fault["fault"] == "task_ok_without_effect" for fault in self.faults)

    def tell(self) -> str:
        """The story in words."""
        lines = [f"  wants {want.name} ({want.type} {want.vmid} on {want.node})" for want in self.first]
        lines += [f"  fault {fault}" for fault in self.faults]
        lines += [f"  at {happening.at_s:.0f} s: {happening.what}" for happening in self.happenings]
        lines += [f"  life {number} dies at point {death}" for number, death in enumerate(self.deaths)]
        return "\n".join([*lines, f"  incarnation tokens: {self.keeper}"])

    def shorter(self) -> list["Story"]:
        """The same story with one part left out."""
        found: list[Story] = []
        for name in ("deaths", "happenings", "faults", "first"):
            parts = list(getattr(self, name))
            for index in range(len(parts)):
                fewer = {name: parts[:index] + parts[index + 1 :]}
                if name == "first":
                    left = {want.vmid for want in fewer["first"]}
                    fewer["then"] = [want for want in self.then if want.vmid in left]
                found.append(replace(self, **fewer))  # type: ignore[arg-type]
        return found


def story(number: int) -> Story:
    """The story with this number."""
    chance = random.Random(number)
    first = _guests(chance)
    then = [_changed(chance, want) for want in first]
    enabled = [fault for fault in FAULTS if chance.random() < 0.5]
    return Story(
        number=number,
        first=first,
        then=then,
        faults=[_fault(chance, enabled) for _ in range(chance.randrange(4))] if enabled else [],
        happenings=_happenings(chance, first),
        deaths=[_death(chance) for _ in range(chance.randrange(4))],
        keeper=chance.random() < 0.3,
    )


def _death(chance: random.Random) -> Death:
    if chance.random() < 0.6:
        return AtWrite(int(chance.expovariate(1 / 12)))
    return int(chance.expovariate(1 / 120))


def _guests(chance: random.Random) -> list[Desired]:
    makers: list[Callable[[int, NodeName], Desired]] = [
        lambda vmid, node: vm(vmid, node=node, config={"memory": "512", "scsi0": "local-lvm:8"}),
        lambda vmid, node: ct(vmid, node=node),
        lambda vmid, node: vm(
            vmid,
            node=node,
            source=Clone(source=Vmid(9000)),
            config={"cores": "4", "scsi0": {"storage": "shared", "size": "16G"}},
        ),
        lambda vmid, node: ct(
            vmid, node=node, source=Clone(source=Vmid(9001)), config={"memory": "1024", "rootfs": {"size": "8G"}}
        ),
    ]
    count = chance.randrange(1, 4)
    return [chance.choice(makers)(100 + number, NodeName(chance.choice(NODES))) for number in range(count)]


def _changed(chance: random.Random, want: Desired) -> Desired:
    config = dict(want.config)
    if chance.random() < 0.6:
        config["tags"] = chance.choice(["a", "b;c"])
    if chance.random() < 0.4:
        config["onboot"] = "1"
    power = Power.STOPPED if chance.random() < 0.4 else want.power
    return changed(want, config=config, power=power, restart="allowed")


def _fault(chance: random.Random, enabled: Sequence[str]) -> dict[str, object]:
    fault: dict[str, object] = {
        "fault": chance.choice(enabled),
        "path": chance.choice(PATHS),
        "nth": chance.randrange(1, 4),
        "times": chance.choice([1, 1, 1, 2, 5]),
    }
    if fault["fault"] == "late":
        fault["delay_s"] = chance.choice([0.3, 2.0, 8.0, 60.0, 1800.0])
    if fault["fault"] == "task_killed":
        fault["at"] = chance.random()
    return fault


def _act(**action: object) -> Callable[[SimCluster], None]:
    return lambda cluster: cluster.act(action)


def _happenings(chance: random.Random, guests: Sequence[Desired]) -> list[Happening]:
    found: list[Happening] = []
    for _ in range(chance.randrange(3)):
        at_s = chance.uniform(0.0, 60.0)
        until_s = at_s + chance.choice([1.0, 12.0, 45.0, 300.0])
        node = chance.choice(NODES)
        vmid = chance.choice(guests).vmid
        chance.choice(_MAKERS)(found, at_s, until_s, node, vmid)
    return sorted(found, key=lambda happening: happening.at_s)


def _down(found: list[Happening], at_s: float, until_s: float, node: str, _vmid: int) -> None:
    found.append(Happening(at_s=at_s, what=f"{node} loses power", do=_act(action="node_down", node=node)))
    found.append(Happening(at_s=until_s, what=f"{node} is back", do=_act(action="node_up", node=node)))


def _frozen(found: list[Happening], at_s: float, until_s: float, node: str, _vmid: int) -> None:
    found.append(
        Happening(
            at_s=at_s, what=f"pvedaemon of {node} freezes", do=_act(action="freeze", node=node, daemon="pvedaemon")
        )
    )
    found.append(Happening(at_s=until_s, what="it goes on", do=_act(action="thaw", node=node, daemon="pvedaemon")))


def _restarted(found: list[Happening], at_s: float, _until_s: float, node: str, _vmid: int) -> None:
    found.append(
        Happening(at_s=at_s, what=f"pvedaemon of {node} is restarted", do=_act(action="restart_pvedaemon", node=node))
    )


def _clock(found: list[Happening], at_s: float, _until_s: float, node: str, _vmid: int) -> None:
    found.append(
        Happening(
            at_s=at_s, what=f"the clock of {node} steps by 10 s", do=_act(action="clock", node=node, offset_s=-10)
        )
    )


def _no_quorum(found: list[Happening], at_s: float, until_s: float, _node: str, _vmid: int) -> None:
    found.append(Happening(at_s=at_s, what="quorum is lost", do=_act(action="quorum", quorate=False)))
    found.append(Happening(at_s=until_s, what="quorum is back", do=_act(action="quorum", quorate=True)))


def _backup(found: list[Happening], at_s: float, until_s: float, _node: str, vmid: int) -> None:
    found.append(Happening(at_s=at_s, what=f"a backup locks {vmid}", do=_lock(vmid, "backup")))
    found.append(Happening(at_s=until_s, what=f"the lock of {vmid} goes", do=_lock(vmid, "")))


def _lock(vmid: int, name: str) -> Callable[[SimCluster], None]:
    def do(cluster: SimCluster) -> None:
        if cluster.has(vmid):
            with suppress(Failure):
                cluster.act({"action": "lock", "vmid": vmid, **({"lock": name} if name else {})})

    return do


def _edited(found: list[Happening], at_s: float, _until_s: float, _node: str, vmid: int) -> None:
    def do(cluster: SimCluster) -> None:
        if cluster.has(vmid):
            with suppress(Failure):  # without quorum /etc/pve is read-only, for people too
                cluster.put({"vmid": vmid, "config": {"cores": 3}})

    found.append(Happening(at_s=at_s, what=f"somebody edits {vmid}", do=do))


_MAKERS = (_down, _frozen, _restarted, _clock, _no_quorum, _backup, _edited)
