"""One run: manifests, a cluster, incarnations of the agent that may die, and what must hold afterwards."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation import stores
from tests.simulation.cluster import START_S, SimCluster, SimTransport
from tests.simulation.deaths import AfterSeconds, Death, Died, Mortality, MortalPort
from tests.simulation.signing import Ask, Signers
from tests.simulation.stores import Place, Store
from tests.simulation.virtual_time import run as run_virtually
from trueup.adapters import sqlite
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_keeper import PveKeeper
from trueup.engine import agent as agents
from trueup.engine.agent import Agent, Converged, Foundation, Incarnations
from trueup.engine.one_shots import CheckAgain
from trueup.engine.recoverer import Report
from trueup.engine.tokens import KeeperFailed
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.guests import Desired, Observed
from trueup.model.ids import OpId, TokenId
from trueup.model.notes import Note
from trueup.model.ops import OpView, Record
from trueup.model.settings import LimitSettings
from trueup.ports import Journal

TOKEN = TokenId("agent@pve!sim")
SECRET = "00000000-0000-0000-0000-000000000001"
MAX_LIVES = 500
KEEPER = TokenId("root@pam!keeper")
KEEPER_SECRET = "00000000-0000-0000-0000-000000000002"


class SimClock:
    """The loop's time; every sleep is a point to die at, unless `announced` is false.

    `offset_s` is how far the wall clock is off, `rate` how fast the monotonic one goes.
    """

    def __init__(
        self, mortality: Mortality, *, announced: bool = True, offset_s: float = 0.0, rate: float = 1.0
    ) -> None:
        self._mortality = mortality
        self._announced = announced
        self._offset_s = offset_s
        self._rate = rate

    def now_ms(self) -> int:
        return int((START_S + asyncio.get_running_loop().time() + self._offset_s) * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() * self._rate

    async def sleep(self, seconds: float) -> None:
        if self._announced:
            self._mortality.point("clock.sleep")
        elif self._mortality.dead.is_set():
            raise Died
        await asyncio.sleep(seconds / self._rate)
        await self._mortality.stand_still()


class SimEntropy:
    """Seeded chance; ids that look like UUIDv7."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uuid7(self, at_ms: int) -> str:
        tail = self._random.getrandbits(74)
        number = (at_ms << 80) | (7 << 76) | ((tail >> 62) << 64) | (2 << 62) | (tail & (2**62 - 1))
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def jitter(self) -> float:
        return self._random.random()


@dataclass
class Listener:
    """Keeps what the engine tells."""

    notes: list[Note] = field(default_factory=list)

    def note(self, note: Note) -> None:
        self.notes.append(note)


@dataclass(kw_only=True)
class Life:
    """What one incarnation left behind."""

    mortality: Mortality
    report: Report | None = None
    converged: Converged | None = None
    notes: list[Note] = field(default_factory=list)
    error: BaseException | None = None
    epoch: int = 0
    mutations_before: int = 0
    mutations_recovered: int = 0
    stage_at: int = 0
    led_from: float = 0.0
    """The second of the simulation from which on it might write."""


@dataclass(kw_only=True)
class Run:
    """A whole story, from the first incarnation to the last."""

    cluster: SimCluster
    lives: list[Life]
    ops: Sequence[OpView]
    verification: sqlite.Verification
    records: Sequence[Record]
    signed: Sequence[OpId]

    @property
    def mutations(self) -> list[Mapping[str, object]]:
        return list(self.cluster.world.mutations())

    def effects(self) -> list[Mapping[str, object]]:
        return [row for row in self.mutations if row["effect"]]


@dataclass(kw_only=True)
class Scenario:
    """What is simulated. `events` are done to the world at their second of virtual time.

    `then` is wanted once `desired` was reached; `between` is done to the world in that moment. `later_s` after all is
    done, the agent looks once more, as its loop would. `asked` is what people sign for then, anew where it has failed;
    `check` is the gate's last word on it. `patient`: a cluster that cannot be read is tried again, and an
    agent whose token could not be made is started again. `later_again_s`: and once more after these seconds.
    `journaled` writes a journal before the first life. `body` is
    what an incarnation does instead of all this.
    """

    spec: Mapping[str, object]
    desired: Sequence[Desired]
    then: Sequence[Desired] | None = None
    between: Callable[[SimCluster], None] | None = None
    asked: Ask | None = None
    check: CheckAgain | None = None
    later_s: float = 0.0
    later_again_s: float = 0.0
    keeper: bool = False
    patient: bool = False
    body: Callable[[Agent, "Life"], Awaitable[None]] | None = None
    faults: Sequence[Mapping[str, object]] = ()
    events: Sequence[tuple[float, Callable[[SimCluster], None]]] = ()
    seed: int = 1
    limits: LimitSettings = field(default_factory=LimitSettings)
    journaled: Callable[[Any], Awaitable[None]] | None = None
    before_restart: Callable[[SimCluster], None] | None = None


def simulate(scenario: Scenario, *deaths: Death, journal: Place | None = None) -> Run:
    """Run the scenario; the n-th incarnation dies at the point `deaths[n]`, the last one lives.

    `journal` says where it is kept; without it, where `stores.kept_in` says.
    """
    with (journal or stores.chosen())() as store:
        return run_virtually(_simulate(scenario, store, [*deaths, None]))


def cluster_of(scenario: Scenario) -> SimCluster:
    """The cluster at the beginning, with what will happen to it."""
    tokens = [{"id": TOKEN, "secret": SECRET}, {"id": KEEPER, "secret": KEEPER_SECRET}]
    cluster = SimCluster({"tokens": tokens, "users": ["agent@pve"], **scenario.spec}, seed=scenario.seed)
    for fault in scenario.faults:
        cluster.world.add_fault(fault)
    loop = asyncio.get_running_loop()
    for at, event in scenario.events:
        loop.call_later(at, lambda event=event: (event(cluster), cluster.poke()))
    return cluster


async def _simulate(scenario: Scenario, store: Store, deaths: Sequence[Death]) -> Run:
    cluster = cluster_of(scenario)
    if scenario.journaled is not None:
        before = Mortality()
        async with store.opened(before, SimClock(before, announced=False)) as journal:
            await scenario.journaled(journal)
    lives: list[Life] = []
    stage = Stage()
    left = list(deaths)
    number = -1
    while left:
        number += 1
        die_at = left.pop(0)
        if number and scenario.before_restart is not None:
            scenario.before_restart(cluster)
            cluster.poke()
        agent = Process(mortality=Mortality(die_at), seed=scenario.seed * 1000 + number)
        life = await live(scenario, cluster, store, agent, stage)
        lives.append(life)
        if number < MAX_LIVES and store.again(life.error):
            await asyncio.sleep(limits.STANDBY_LOOK_S)
            left = left or [None]
        elif scenario.patient and isinstance(life.error, KeeperFailed | ReadFailed) and number < MAX_LIVES:
            # The service manager starts it again.
            await asyncio.sleep(60.0)
            left = left or [None]
        elif life.error is not None or not life.mortality.dead.is_set():
            break
    return await run_of(cluster, store, lives, stage)


async def run_of(cluster: SimCluster, store: Store, lives: list[Life], stage: "Stage") -> Run:
    """What a story came to."""
    ops, records, verification = await store.outcome()
    signed = tuple(stage.signers.ids)
    return Run(cluster=cluster, lives=lives, ops=ops, verification=verification, records=records, signed=signed)


async def _patiently(recover: Callable[[], Awaitable[Report]], *, patient: bool) -> Report:
    """A start at which PVE cannot be reached is tried again, as the service manager would."""
    while True:
        try:
            return await recover()
        except ReadFailed:
            if not patient:
                raise
            await asyncio.sleep(30.0)


@dataclass
class Stage:
    """How far the story has come; it outlives every incarnation, like the files that people edit."""

    reached: bool = False
    signers: Signers = field(default_factory=Signers)


async def _agreed(view: OpView, observed: Observed) -> None:
    """A gate that has nothing against it."""


@dataclass(kw_only=True)
class Process:
    """Where an incarnation lives: when it ends, its chance, and its clocks (`SimClock`)."""

    mortality: Mortality
    seed: int
    offset_s: float = 0.0
    rate: float = 1.0

    def clock(self, *, announced: bool = True) -> SimClock:
        return SimClock(self.mortality, announced=announced, offset_s=self.offset_s, rate=self.rate)


async def live(scenario: Scenario, cluster: SimCluster, store: Store, process: Process, stage: Stage) -> Life:
    """One incarnation, from the moment in which it may write to its end."""
    mortality = process.mortality
    async with store.opened(mortality, process.clock(announced=False)) as journal:
        now_s = asyncio.get_running_loop().time()
        life = Life(mortality=mortality, mutations_before=len(cluster.world.mutations()), led_from=now_s)
        body = asyncio.ensure_future(_incarnation(scenario, cluster, journal, life, stage, process))
        death = asyncio.ensure_future(mortality.dead.wait())
        lost = store.beside(journal)
        if isinstance(mortality.die_at, AfterSeconds):
            asyncio.get_running_loop().call_later(mortality.die_at.seconds, mortality.kill)
        try:
            await asyncio.wait({body, death, *lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
            # The process is gone: whatever its coroutines still do on the way out meets dead ports.
            body.cancel()
            result = (await asyncio.gather(body, return_exceptions=True))[0]
            for one in lost:
                one.cancel()
            ends = await asyncio.gather(*lost, return_exceptions=True)
    if mortality.dead.is_set():
        return life
    for end in (*ends, result):
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            life.error = end
            break
    return life


async def _incarnation(
    scenario: Scenario, cluster: SimCluster, journal: Journal, life: Life, stage: Stage, process: Process
) -> None:
    mortality = life.mortality
    clock, entropy = process.clock(), SimEntropy(process.seed)

    def transport_of(token: TokenId, secret: str) -> SimTransport:
        return SimTransport(
            cluster,
            node=cluster.world.node_names()[0],
            authorization=f"PVEAPIToken={token}={secret}",
            mortality=mortality,
            monotonic=clock.monotonic,
        )

    async def open_pve(token: TokenId | None, secret: str) -> PveClient:
        name = token or TOKEN
        api = PveApi(transport=transport_of(name, secret or SECRET), clock=clock, endpoints=["https://pve1:8006"])
        return PveClient(api=api, token=name)

    incarnations = None
    if scenario.keeper:
        keeper_api = PveApi(transport=transport_of(KEEPER, KEEPER_SECRET), clock=clock, endpoints=["https://pve1:8006"])
        keeper = PveKeeper(api=keeper_api, user="agent@pve")
        incarnations = Incarnations(keeper=keeper, user="agent@pve", prefix="sim-")
    base = Foundation(
        journal=MortalPort(journal, "journal", mortality, doubled=("append", "take_epoch")),  # type: ignore[arg-type]
        open_pve=open_pve,
        clock=clock,
        entropy=entropy,
        reporter=Listener(notes=life.notes),
        holder="simulation",
        limits=scenario.limits,
        incarnations=incarnations,
    )
    agent = await Agent.begin(base)
    life.epoch = agent.deck.epoch
    if scenario.body is not None:
        await scenario.body(agent, life)
        return
    life.report = await _patiently(agent.recover, patient=scenario.patient)
    life.mutations_recovered = len(cluster.world.mutations())
    # Whoever signs has a connection of their own, which outlives the agent.
    signers_pve = PveClient(
        api=PveApi(
            transport=SimTransport(
                cluster,
                node=cluster.world.node_names()[0],
                authorization=f"PVEAPIToken={KEEPER}={KEEPER_SECRET}",
                mortality=Mortality(),
            ),
            clock=SimClock(Mortality()),
            endpoints=["https://pve1:8006"],
        ),
        token=KEEPER,
    )

    async def sign() -> bool:
        if scenario.asked is None or mortality.dead.is_set():
            return False
        return await stage.signers.sign(
            scenario.asked, cluster=cluster, pve=signers_pve, journal=journal, epoch=agent.deck.epoch
        )

    async with agent.reconciler(scenario.check or _agreed) as reconciler:

        async def apply(desired: Sequence[Desired]) -> None:
            while True:
                try:
                    life.converged = await agents.apply(reconciler, agent.deck, lambda: desired, once=False)
                    return
                except ReadFailed:
                    if not scenario.patient:
                        raise
                    await asyncio.sleep(30.0)

        if not stage.reached:
            await apply(scenario.desired)
            stage.reached = not mortality.dead.is_set()
            life.stage_at = len(mortality.passed)
            if scenario.between is not None and stage.reached:
                scenario.between(cluster)
                cluster.poke()
        wanted = scenario.desired if scenario.then is None else scenario.then
        if scenario.then is not None:
            await sign()
            await apply(wanted)
            while await sign():
                await apply(wanted)
        for pause_s in (scenario.later_s, scenario.later_again_s):
            if pause_s:
                await asyncio.sleep(pause_s)
                await apply(wanted)


__all__ = ["Died", "Life", "Run", "Scenario", "simulate"]
