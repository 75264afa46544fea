"""Several agents on one journal in PostgreSQL, in simulated time: one leads, the others wait for their turn.

Each has a process of its own, with clocks that differ, and may die, stand still for longer than its lease (as under
SIGSTOP), lose its way to the database, or be told to end. The database may be gone for a while too, around a COMMIT.
When the story is over, one more agent brings everything to its end.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from tests.simulation import invariants, stores, swarm
from tests.simulation.database import WHATS, Accident, Host
from tests.simulation.deaths import AtWrite, Death, Halt, Mortality
from tests.simulation.harness import Life, Process, Run, Scenario, Stage, cluster_of, live, run_of
from tests.simulation.scenarios import SPEC
from tests.simulation.stores import Database
from tests.simulation.virtual_time import run as run_virtually
from trueup.engine.agent import Agent, Pace, run
from trueup.engine.recoverer import Report
from trueup.engine.tokens import KeeperFailed
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.guests import Desired

T = TypeVar("T")
PACE = Pace(interval_s=20.0, enforce=True)
PATIENT = (ReadFailed, KeeperFailed)
"""After these the service manager starts an agent again."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One machine: what happens to its processes, one after the other, and how far its clocks are off.

    The n-th process dies at `deaths[n]` and stands still at `halts[n]`; later ones live. `starts_s` is when it is
    switched on, `cut_s` when its way to the database is cut and for how long.
    """

    starts_s: float = 0.0
    deaths: Sequence[Death] = ()
    halts: Sequence[Sequence[Halt]] = ()
    cut_s: tuple[float, float] | None = None
    offset_s: float = 0.0
    rate: float = 1.0

    def process(self, past: int, seed: int) -> Process:
        """Its process after so many others."""
        mortality = Mortality(
            self.deaths[past] if past < len(self.deaths) else None, self.halts[past] if past < len(self.halts) else ()
        )
        return Process(mortality=mortality, seed=seed, offset_s=self.offset_s, rate=self.rate)

    def calmer(self) -> "list[Rival]":
        """The same machine with one accident less."""
        found = [replace(self, deaths=[]), replace(self, halts=[]), replace(self, cut_s=None), replace(self, rate=1.0)]
        return [one for one in [*found, replace(self, offset_s=0.0)] if one != self]


@dataclass(frozen=True, kw_only=True)
class Rivalry:
    """A story of several agents. `then` is wanted from `change_s` on, and all of them end at `end_s`."""

    scenario: Scenario
    rivals: Sequence[Rival]
    then: Sequence[Desired] = ()
    change_s: float = 60.0
    end_s: float = 240.0
    lease_s: float = 20.0
    database_offset_s: float = 0.0
    lingering: bool = False
    accidents: Sequence[Accident] = ()


def compete(story: Rivalry, host: Host) -> Run:
    """Let it happen."""
    place = stores.database(
        host,
        lease_s=story.lease_s,
        waits=True,
        offset_s=story.database_offset_s,
        lingering=story.lingering,
        accidents=story.accidents,
    )
    with place() as store:
        assert isinstance(store, Database)
        return run_virtually(_compete(story, store))


async def _compete(story: Rivalry, store: Database) -> Run:
    cluster, stage = cluster_of(story.scenario), Stage()
    loop = asyncio.get_running_loop()
    lives: list[Life] = []

    def wanted() -> Sequence[Desired]:
        return story.then if story.then and loop.time() >= story.change_s else story.scenario.desired

    async def body(agent: Agent, life: Life) -> None:
        life.report = await _recovered(agent)
        life.mutations_recovered = len(cluster.world.mutations())
        async with agent.reconciler() as reconciler:
            loop.call_later(max(0.0, story.end_s - loop.time()), reconciler.wind_down)
            await run(reconciler, agent.deck, wanted, pace=lambda: PACE, own_token=agent.own_token)

    async def career(number: int, rival: Rival) -> None:
        await asyncio.sleep(rival.starts_s)
        past = 0
        while loop.time() < story.end_s:
            process = rival.process(past, story.scenario.seed * 1000 + number * 100 + past)
            if rival.cut_s is not None and past == 0:
                loop.call_at(rival.cut_s[0], store.cut, process.mortality, rival.cut_s[1])
            life = await live(replace(story.scenario, body=body), cluster, store, process, stage)
            lives.append(life)
            past += 1
            if life.error is not None and not (store.again(life.error) or isinstance(life.error, PATIENT)):
                raise life.error
            await asyncio.sleep(limits.STANDBY_LOOK_S)

    await asyncio.gather(*(career(number, rival) for number, rival in enumerate(story.rivals)))
    last = replace(story.scenario, desired=story.then or story.scenario.desired, patient=True)
    while not lives or lives[-1].converged is None:
        process = Process(mortality=Mortality(), seed=story.scenario.seed + len(lives))
        lives.append(await live(last, cluster, store, process, stage))
        if not store.again(lives[-1].error):
            break
    return await run_of(cluster, store, sorted(lives, key=lambda life: life.led_from), stage)


async def _recovered(agent: Agent) -> Report:
    while True:
        try:
            return await agent.recover()
        except ReadFailed:
            await agent.deck.clock.sleep(30.0)


def check(run: Run) -> None:
    """What must hold besides all the rest: epochs follow each other, and whoever lost its lead sends nothing more."""
    epochs = [record.epoch for record in run.records]
    invariants.require(epochs == sorted(epochs), invariants.Wrong, f"two epochs wrote at a time: {epochs}", run)
    for life, successor in pairwise(run.lives):
        late = [(at, call) for at, call in life.mortality.sent if at > successor.led_from]
        what = f"sent after another had taken its lead at {successor.led_from:.2f}: {late}"
        invariants.require(not late, invariants.Wrong, what, run)


# --- Random ones ------------------------------------------------------------------------------------------------------

MOMENTS = ("journal.append before", "journal.append after", "database COMMIT before", "database COMMIT after",
           "^(POST|PUT) .* before", "^(POST|PUT) .* sent", "^(POST|PUT) .* reply", "clock.sleep")  # fmt: skip
FAULTS = ("request_lost", "reply_lost", "late", "error_500_worker_runs", "error_596_work_continues", "task_fails")


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A random story of rivals."""

    number: int
    story: Rivalry
    host: Host

    def run(self) -> Run:
        return compete(self.story, self.host)

    def check(self, run: Run) -> None:
        """What must hold; guests that nobody could bring to their manifest may be left, openly."""
        invariants.check(run)
        check(run)

    def tell(self) -> str:
        """The story in words."""
        story = self.story
        lines = [f"  wants {want.name} ({want.type} {want.vmid} on {want.node})" for want in story.scenario.desired]
        lines += [f"  fault {fault}" for fault in story.scenario.faults]
        lines += [f"  {accident}" for accident in story.accidents]
        lines += [f"  agent {number}: {rival}" for number, rival in enumerate(story.rivals)]
        off = f"the database's clock is off by {story.database_offset_s:g} s"
        return "\n".join([*lines, f"  incarnation tokens: {story.scenario.keeper}; {off}; lingering {story.lingering}"])

    def shorter(self) -> "list[Contest]":
        """The same with one part left out."""
        story = self.story
        found = [replace(story, accidents=without) for without in _without(story.accidents)]
        found += [
            replace(story, scenario=replace(story.scenario, faults=without))
            for without in _without(story.scenario.faults)
        ]
        for number, rival in enumerate(story.rivals):
            for calmer in rival.calmer():
                found.append(replace(story, rivals=[*story.rivals[:number], calmer, *story.rivals[number + 1 :]]))
        return [replace(self, story=one) for one in found]


def _without(parts: Sequence[T]) -> list[list[T]]:
    return [[*parts[:at], *parts[at + 1 :]] for at in range(len(parts))]


def contest(number: int, host: Host) -> Contest:
    """The one with this number; the same under any hash seed."""
    chance = random.Random(f"contest {number}")
    plain = swarm.story(number)
    faults: list[dict[str, object]] = [
        {"fault": chance.choice(FAULTS), "nth": chance.randrange(1, 6), "times": 1, "delay_s": 40.0}
        for _ in range(chance.randrange(3))
    ]
    for fault in faults:
        if fault["fault"] != "late":
            del fault["delay_s"]
    accidents = [
        Accident(commit=chance.randrange(1, 40), what=chance.choice(WHATS), seconds=chance.choice([1.0, 5.0, 40.0]))
        for _ in range(chance.randrange(3))
    ]
    keeper = chance.random() < 0.5
    scenario = Scenario(spec=SPEC, desired=plain.first, faults=faults, seed=number % 100_000, keeper=keeper)
    story = Rivalry(
        scenario=scenario,
        then=plain.then,
        rivals=[_rival(chance) for _ in range(3)],
        database_offset_s=chance.choice([0.0, -300.0, 300.0]),
        lingering=chance.random() < 0.5,
        accidents=accidents,
    )
    return Contest(number=number, story=story, host=host)


def _rival(chance: random.Random) -> Rival:
    deaths: list[Death] = []
    halts: list[list[Halt]] = []
    for _ in range(3):
        deaths.append(AtWrite(int(chance.expovariate(1 / 12))) if chance.random() < 0.4 else None)
        stands = chance.random() < 0.6
        halts.append([Halt(chance.choice(MOMENTS), chance.choice([3.0, 15.0, 45.0, 200.0]))] if stands else [])
    return Rival(
        starts_s=chance.choice([0.0, 0.0, 5.0, 30.0]),
        deaths=deaths,
        halts=halts,
        cut_s=(chance.uniform(0.0, 120.0), chance.choice([2.0, 10.0, 60.0])) if chance.random() < 0.3 else None,
        offset_s=chance.choice([0.0, 0.0, -120.0, 7.0, 120.0]),
        rate=chance.choice([1.0, 0.99, 1.01]),
    )
