"""A week of a small cluster on virtual time: five nodes, two hundred guests, people, machines, and an agent that dies.

The script is seeded. What happens is what happens to clusters: somebody edits or stops or deletes a guest by hand,
somebody's backup locks one, nodes reboot or lose power, a daemon is restarted, quorum is lost for a while, clocks
step, PVE forgets its task lists, answers are lost, and now and then the agent is killed and started again.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pvesim.wire import Failure
from tests.simulation.cluster import SimCluster
from tests.simulation.deaths import AfterSeconds
from tests.simulation.harness import Life, Run, Scenario, simulate
from tests.simulation.scenarios import SPEC, ct, vm
from trueup.engine.agent import Agent, Pace, apply, run
from trueup.model.errors import ReadFailed
from trueup.model.guests import BackupPolicy, Clone, Desired, Power, SnapshotPolicy
from trueup.model.ids import NodeName, Vmid

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
NODES = [f"pve{number}" for number in range(1, 6)]
GUESTS = 200
FOREIGN = range(800, 820)
HOURLY = Pace(interval_s=HOUR_S, enforce=True)
EVERY_S = 2 * HOUR_S
"""Between two happenings."""


@dataclass
class Week:
    """What was wanted and what was done, for the checks afterwards."""

    desired: Sequence[Desired]
    spec: dict[str, object]
    happened: list[str] = field(default_factory=list)


def week(seed: int) -> Week:
    """The guests of this week: most are cloned, some are stopped, some wait for others."""
    chance = random.Random(seed)
    desired: list[Desired] = []
    for number in range(GUESTS):
        vmid, node = 1000 + number, NodeName(NODES[number % len(NODES)])
        after = (f"guest-{1000 + number - 50}",) if number >= 150 else ()
        power = Power.STOPPED if chance.random() < 0.1 else Power.RUNNING
        common: dict[str, object] = {
            "name": f"guest-{vmid}", "node": node, "after": after, "power": power, "restart": "allowed",
        }  # fmt: skip
        if number % 10 == 5:
            common["backups"] = BackupPolicy(storage="backup", schedule="daily 02:00", keep=3)
        if number % 20 == 7:
            common["snapshots"] = SnapshotPolicy(schedule="Mon,Thu 03:00", keep=5)
        if chance.random() < 0.5:
            source = {"source": Clone(source=Vmid(9000), full=False)} if chance.random() < 0.7 else {}
            desired.append(vm(vmid, config={"cores": "2", "memory": "1024"}, **common, **source))
        else:
            desired.append(ct(vmid, **common))
    foreign = [
        {"type": "qemu", "vmid": vmid, "node": NODES[vmid % 5], "name": f"foreign-{vmid}", "status": "running",
         "config": {"cores": 1, "memory": 256}}
        for vmid in FOREIGN
    ]  # fmt: skip
    guests = SPEC["guests"]
    assert isinstance(guests, list)
    return Week(desired=desired, spec={"nodes": NODES, "guests": [*guests, *foreign], "daemon_workers": 8})


def happenings(seed: int, vmids: Sequence[int]) -> list[tuple[float, str, Callable[[SimCluster], None]]]:
    """What is done to the cluster, and when."""
    chance = random.Random(seed + 1)
    found: list[tuple[float, str, Callable[[SimCluster], None]]] = []
    at_s = 6 * HOUR_S
    while at_s < WEEK_S - 24 * HOUR_S:
        what = chance.choice(_WHAT)
        found += what(chance, at_s, vmids)
        at_s += chance.expovariate(1 / EVERY_S)
    found += [(day * DAY_S - HOUR_S, "somebody mends what HA has given up", _mend) for day in range(1, 8)]
    return sorted(found, key=lambda one: one[0])


def _mend(cluster: SimCluster) -> None:
    """As the plan says: disabled, mended, and put under HA again another day."""
    for resource in cluster.world.state()["ha"]:  # type: ignore[union-attr]
        if resource["state"] == "error":  # type: ignore[index, call-overload]
            cluster.act({"action": "ha", "sid": resource["sid"], "state": None})  # type: ignore[index, call-overload]


def _act(**action: object) -> Callable[[SimCluster], None]:
    return lambda cluster: cluster.act(action)


def _put(vmid: int, **guest: object) -> Callable[[SimCluster], None]:
    def do(cluster: SimCluster) -> None:
        if cluster.has(vmid):
            with suppress(Failure):
                cluster.put({"vmid": vmid, **guest})

    return do


Happenings = list[tuple[float, str, Callable[[SimCluster], None]]]


def _edited(chance: random.Random, at_s: float, vmids: Sequence[int]) -> Happenings:
    vmid = chance.choice(vmids)
    return [(at_s, f"somebody edits {vmid}", _put(vmid, config={"cores": chance.randrange(3, 9)}))]


def _stopped(chance: random.Random, at_s: float, vmids: Sequence[int]) -> Happenings:
    vmid = chance.choice(vmids)
    return [(at_s, f"somebody stops {vmid}", _put(vmid, status="stopped"))]


def _deleted(chance: random.Random, at_s: float, vmids: Sequence[int]) -> Happenings:
    vmid = chance.choice(vmids)
    return [(at_s, f"somebody deletes {vmid}", _put(vmid, deleted=True))]


def _locked(chance: random.Random, at_s: float, vmids: Sequence[int]) -> Happenings:
    vmid = chance.choice(vmids)
    return [
        (at_s, f"a backup locks {vmid}", _put(vmid, lock="backup")),
        (at_s + HOUR_S, f"it is done with {vmid}", _put(vmid, lock="")),
    ]


def _rebooted(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    node = chance.choice(NODES)
    return [(at_s, f"{node} reboots", _act(action="reboot", node=node, seconds=180))]


def _dark(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    node = chance.choice(NODES[1:])
    return [
        (at_s, f"{node} loses power", _act(action="node_down", node=node)),
        (at_s + 3 * HOUR_S, f"{node} is back", _act(action="node_up", node=node)),
    ]


def _restarted(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    node = chance.choice(NODES)
    return [(at_s, f"pvedaemon of {node} is restarted", _act(action="restart_pvedaemon", node=node))]


def _no_quorum(_chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    return [
        (at_s, "quorum is lost", _act(action="quorum", quorate=False)),
        (at_s + HOUR_S, "quorum is back", _act(action="quorum", quorate=True)),
    ]


def _clock(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    node = chance.choice(NODES)
    offset_s = chance.choice([-10, 10])
    return [(at_s, f"the clock of {node} steps", _act(action="clock", node=node, offset_s=offset_s))]


def _rotated(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    node = chance.choice(NODES)
    return [(at_s, f"{node} forgets its tasks", _act(action="rotate_tasks", node=node, forget=True))]


def _unlucky(chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    fault = chance.choice(
        ["request_lost", "reply_lost", "error_500_worker_runs", "error_596_work_continues", "task_fails", "late"]
    )
    accident = {"fault": fault, "times": chance.randrange(1, 4), **({"delay_s": 40.0} if fault == "late" else {})}
    return [(at_s, f"{fault} waits for the next request", lambda cluster: cluster.world.add_fault(accident))]


def _revoked(_chance: random.Random, at_s: float, _vmids: Sequence[int]) -> Happenings:
    def do(cluster: SimCluster) -> None:
        tokens = cluster.world.state()["tokens"]
        assert isinstance(tokens, list)
        for token in tokens:
            if "!sim-" in str(token):
                cluster.act({"action": "delete_token", "id": token})

    return [(at_s, "the token of the agent is deleted", do)]


def _managed(chance: random.Random, at_s: float, vmids: Sequence[int]) -> Happenings:
    """Somebody puts a guest under HA; it may move when its node goes dark. Local disks would stay behind."""
    vmid = chance.choice(vmids)

    def do(cluster: SimCluster) -> None:
        if cluster.kind(vmid) == "qemu" and not cluster.has_local_disk(vmid):
            cluster.act({"action": "ha", "sid": f"vm:{vmid}", "state": "started"})

    return [(at_s, f"{vmid} is put under HA", do)]


_WHAT = (
    _revoked,
    _managed,
    _edited,
    _stopped,
    _deleted,
    _locked,
    _rebooted,
    _dark,
    _restarted,
    _no_quorum,
    _clock,
    _rotated,
    _unlucky,
)


def lives(seed: int) -> list[float]:
    """How many seconds each incarnation of the agent lives before it is killed; the last one lives on."""
    chance = random.Random(seed + 2)
    return [chance.uniform(2 * HOUR_S, 20 * HOUR_S) for _ in range(9)]


def simulate_week(seed: int) -> tuple[Week, Run]:
    """Live the week; the agent's loop looks every hour, and the last incarnation brings everything to its end."""
    this = week(seed)

    async def body(agent: Agent, life: Life) -> None:
        clock = asyncio.get_running_loop()
        while True:
            try:
                life.report = await agent.recover()
                break
            except ReadFailed:
                await agent.deck.clock.sleep(30.0)
        async with agent.reconciler() as reconciler:
            clock.call_later(max(0.0, WEEK_S - clock.time()), reconciler.wind_down)
            await run(reconciler, agent.deck, lambda: this.desired, pace=lambda: HOURLY, own_token=True)
        async with agent.reconciler() as reconciler:
            life.converged = await apply(reconciler, agent.deck, lambda: this.desired, once=False)

    def tell(what: str, do: Callable[[SimCluster], None]) -> Callable[[SimCluster], None]:
        def happen(cluster: SimCluster) -> None:
            this.happened.append(what)
            do(cluster)

        return happen

    vmids = [want.vmid for want in this.desired]
    events = [(at_s, tell(what, do)) for at_s, what, do in happenings(seed, vmids)]
    scenario = Scenario(
        spec=this.spec, desired=this.desired, events=events, seed=seed, keeper=True, patient=True, body=body
    )
    return this, simulate(scenario, *(AfterSeconds(seconds) for seconds in lives(seed)))
