"""The gate inside the simulated agent, and people outside of it who hand in what they signed, again and again.

Each incarnation has a real gate with the real verifier; the gate is open from its first moment on, also while recovery
works. People outlive every incarnation: a story is what they do, told as one coroutine. What they hand in, when, and
what they heard is kept, so that it can be compared with the journal.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.simulation.cluster import SimCluster, SimTransport
from tests.simulation.deaths import Death, Died, Mortality
from tests.simulation.gate_people import People, signed
from tests.simulation.harness import KEEPER, KEEPER_SECRET, Life, Run, Scenario, SimClock, simulate
from tests.simulation.invariants import Wrong
from tests.simulation.invariants import story as words
from tests.simulation.scenarios import SPEC
from trueup.adapters import sqlite
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.signing import DsseVerifier
from trueup.core import marker as markers
from trueup.core.gate_form import render_request, render_resolution, render_veto
from trueup.core.gate_prepare import No, Wish, Word, prepare_request, prepare_resolution, prepare_veto
from trueup.engine import agent as agents
from trueup.engine.agent import Agent, Pace
from trueup.engine.gate import Gate
from trueup.engine.observer import Observer
from trueup.engine.reconciler import Reconciler
from trueup.model.errors import ReadFailed, TrueupError
from trueup.model.gate import Request, RequestState
from trueup.model.gate_answers import OPERATION_TYPE, RESOLUTION_TYPE, VETO_TYPE, Answer, Outcome, ResolvedAs
from trueup.model.guests import Desired, Marker
from trueup.model.ids import GuestType, OpId, TokenId, Vmid
from trueup.model.ops import Adopted, Draft, Failed, Record, Succeeded

INSTALLATION = "install-1"
OURS, BYSTANDER, FOREIGN = 301, 302, 777
PASS_S = 60.0
AGAIN_S = 0.5
"""Between two tries of a sender whose answer was lost."""


def marked(vmid: int) -> str:
    """Our marker, as an earlier operation would have written it."""
    mark = Marker(uid=f"uid-{vmid}", installation=INSTALLATION, vmid=Vmid(vmid), op_id=OpId("op-0"), counter=1)
    return markers.render("", mark)


def spec_of(guest: GuestType, config: Mapping[str, str], status: str = "stopped") -> dict[str, object]:
    """A cluster with a guest that people sign for, another one of ours, and one of somebody else's."""
    plain = {
        GuestType.QEMU: {"cores": 1, "memory": 512, "scsi0": "local-lvm:vm-301-disk-0,size=1G"},
        GuestType.LXC: {
            "memory": 512,
            "rootfs": "local-lvm:vm-301-disk-0,size=1G",
            "net0": "name=eth0,bridge=vmbr0,hwaddr=AA:BB:CC:00:00:01",
        },
    }
    first = {
        "type": guest.value,
        "vmid": OURS,
        "node": "pve1",
        "name": "ours",
        "status": status,
        "config": {**plain[guest], "description": marked(OURS), **config},
    }
    other = {"type": "qemu", "node": "pve1", "config": {"cores": 1, "memory": 128}}
    marked_config = {"cores": 1, "memory": 128, "description": marked(BYSTANDER)}
    more = [
        {**other, "vmid": BYSTANDER, "name": "bystander", "config": marked_config},
        {**other, "vmid": FOREIGN, "name": "foreign"},
    ]
    return {**SPEC, "guests": [first, *more]}


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One handing-in. `answer` None = it was never heard. Sequence numbers are the journal's head before and after."""

    at_s: float
    via: str
    life: int
    payload_type: str
    sha256: str
    request: Request | None
    before: int
    after: int
    answer: Answer | None


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Something to be signed: the very bytes."""

    payload: bytes
    payload_type: str
    request: Request | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()

    def by(self, *signers: str) -> "Handed":
        return Handed(paper=self, content=signed(self.payload, self.payload_type, signers))


@dataclass(frozen=True, kw_only=True)
class Handed:
    """A signed paper."""

    paper: Paper
    content: bytes


class Post:
    """What people have: eyes of their own on the cluster, pens, and ways to the agent, whichever one is alive."""

    def __init__(self, seed: int) -> None:
        self.people = People()
        self.deliveries: list[Delivery] = []
        self.papers: dict[str, Paper] = {}
        self.cluster: SimCluster | None = None
        self.life: Life | None = None
        self.lives = 0
        self.offset_ms = 0
        self.first_at = 0
        """The number of the first life's point at which the first paper arrived."""
        self.touched_by_hand: set[str] = set()
        self._chance = random.Random(seed)
        self._gate: Gate | None = None
        self._wake: Callable[[], None] | None = None
        self._journal: sqlite.SqliteJournal | None = None
        self._opened = asyncio.Event()

    # -- the agent comes and goes ----------------------------------------------------------------------------------

    def enter(self, agent: Agent, life: Life, gate: Gate) -> None:
        """An incarnation has begun."""
        self.life, self._gate, self._wake = life, gate, None
        self._journal = agent.deck.journal._port  # type: ignore[attr-defined]
        self.lives += 1
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()

    def awake(self, reconciler: Reconciler) -> None:
        """Its loop has begun."""
        self._wake = reconciler.look_now

    @property
    def alive(self) -> bool:
        return self.life is not None and not self.life.mortality.dead.is_set()

    @property
    def _head(self) -> int:
        return self._journal.head.seq if self._journal is not None else 0

    # -- looking and signing ---------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def now_ms(self) -> int:
        assert self.cluster is not None
        return int(self.cluster.now * 1000)

    async def at(self, second: float) -> None:
        """Wait until this second of the story."""
        await asyncio.sleep(max(0.0, second - self.now_s))

    async def prepare(
        self,
        kind: str,
        vmid: int = OURS,
        key: str = "",
        valid_s: float = 3600.0,
        by: str = "alice",
        params: Mapping[str, str] | None = None,
    ) -> Paper:
        """Look at a guest and write a request for it, as `trueup request` does."""
        pve = self._eyes()
        while True:
            try:
                row = (await Observer(pve).rows())[Vmid(vmid)]
                seen = await Observer(pve).one(row)
                break
            except ReadFailed:
                await asyncio.sleep(5.0)
        wish = Wish(
            cluster="sim", kind=kind, params=params or {}, reason="a test", requested_by=by, idempotency_key=key
        )
        request = prepare_request(
            wish, seen, now_ms=self.now_ms, chance=self._chance.randbytes(16), longest_s=min(valid_s, 3600.0)
        )
        return self._paper(render_request(request), OPERATION_TYPE, request)

    def veto(self, request_id: str, by: str = "bob") -> Handed:
        """A signed no."""
        no = No(cluster="sim", request_id=request_id, reason="not today", by=by)
        paper = render_veto(prepare_veto(no, now_ms=self.now_ms, chance=self._chance.randbytes(16)))
        return self._paper(paper, VETO_TYPE).by(by)

    def resolution(self, op_id: str, resolved_as: ResolvedAs, by: str = "carol") -> Handed:
        """A signed word about an operation that stays open."""
        word = Word(cluster="sim", op_id=op_id, resolved_as=resolved_as, reason="looked at it", by=by)
        paper = render_resolution(prepare_resolution(word, now_ms=self.now_ms, chance=self._chance.randbytes(16)))
        return self._paper(paper, RESOLUTION_TYPE).by(by)

    def rewritten(self, paper: Paper, payload: bytes) -> Paper:
        """Other bytes with the same nonce."""
        return self._paper(payload, paper.payload_type, paper.request)

    # -- handing in ------------------------------------------------------------------------------------------------

    async def once(self, handed: Handed, via: str) -> Answer | None:
        """Hand it in once; None if nobody was there, or the answer was lost."""
        gate, life, number = self._gate, self.life, self.lives
        if gate is None or life is None or not self.alive:
            return None
        before = self._head
        self.first_at = self.first_at or len(life.mortality.passed)
        dead = asyncio.ensure_future(life.mortality.dead.wait())
        work = asyncio.ensure_future(_submitted(gate, handed.content, via))
        try:
            await asyncio.wait({dead, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dead.cancel()
        answer: Answer | None = None
        if work.done() and not life.mortality.dead.is_set():
            answer = work.result()
        else:
            work.cancel()
        paper = handed.paper
        self.deliveries.append(
            Delivery(
                at_s=self.now_s,
                via=via,
                life=number,
                payload_type=paper.payload_type,
                sha256=paper.sha256,
                request=paper.request,
                before=before,
                after=self._head,
                answer=answer,
            )
        )
        if answer is not None and answer.outcome in {Outcome.ACCEPTED, Outcome.PENDING} and self._wake is not None:
            self._wake()
        return answer

    async def hand_in(self, handed: Handed, via: str) -> Answer:
        """Hand it in until an answer is heard, as a spool folder or a patient client does."""
        while (answer := await self.once(handed, via)) is None:
            await self._until_there()
        return answer

    async def until_ended(self, handed: Handed, via: str, *, every_s: float, bound_s: float = 7200.0) -> Answer:
        """Redeliver: every few seconds, and at once when an agent is back, until the answer tells of an end."""
        end = self.now_s + bound_s
        while True:
            answer = await self.once(handed, via)
            if answer is not None and answer.state in {"succeeded", "failed", "vetoed", "expired"}:
                return answer
            if self.now_s > end and answer is not None:
                return answer
            if answer is None:
                await self._until_there()
            else:
                await self._or_opened(every_s)
                every_s = min(every_s * 1.5, 120.0)

    async def _until_there(self) -> None:
        if self.alive:
            await self._or_opened(AGAIN_S)
        else:
            await self._opened.wait()

    async def _or_opened(self, seconds: float) -> None:
        opened = asyncio.ensure_future(self._opened.wait())
        try:
            await asyncio.wait({opened}, timeout=seconds)
        finally:
            opened.cancel()

    async def quiet(self) -> bool:
        """Whether nothing is open in the journal."""
        journal = self._journal
        if journal is None or not self.alive:
            return False
        if await journal.in_flight() or await journal.accepted():
            return False
        return not await journal.requests(state=RequestState.PENDING)

    async def records(self) -> Sequence[Record]:
        """The journal as it is now."""
        assert self._journal is not None
        return await self._journal.records()

    async def ended(self, op_id: str) -> bool:
        """Whether an operation has its terminal record."""
        return any(isinstance(one.event, Succeeded | Failed) for one in await self.records() if one.op_id == op_id)

    def _paper(self, payload: bytes, payload_type: str, request: Request | None = None) -> Paper:
        paper = Paper(payload=payload, payload_type=payload_type, request=request)
        self.papers[paper.sha256] = paper
        return paper

    def _eyes(self) -> PveClient:
        assert self.cluster is not None
        transport = SimTransport(
            self.cluster,
            node="pve1",
            authorization=f"PVEAPIToken={KEEPER}={KEEPER_SECRET}",
            mortality=Mortality(),
        )
        api = PveApi(transport=transport, clock=SimClock(Mortality()), endpoints=["https://pve1:8006"])
        return PveClient(api=api, token=KEEPER)


async def _submitted(gate: Gate, content: bytes, via: str) -> Answer | None:
    try:
        return await gate.submit(content, via)
    except Died:
        return None
    except TrueupError:
        return None  # the journal refused: the agent is about to stop


@dataclass(frozen=True, kw_only=True)
class GateStory:
    """What people do, to which guest, and what else happens. `bound_s` is when the story ends at the latest.

    `down_s` is how long nobody starts a dead agent again.
    """

    spec: Mapping[str, object]
    people: Callable[[Post], Awaitable[None]]
    set_up: Callable[[SimCluster], None] | None = None
    desired: Sequence[Desired] = ()
    faults: Sequence[Mapping[str, object]] = ()
    events: Sequence[tuple[float, Callable[[SimCluster], None]]] = ()
    clock_steps: Sequence[tuple[float, float]] = ()
    keeper: bool = False
    seed: int = 1
    bound_s: float = 4 * 3600.0


@dataclass(frozen=True, kw_only=True)
class GateRun:
    """A run with what people did in it."""

    run: Run
    post: Post
    story: GateStory


def play(story: GateStory, *deaths: Death) -> GateRun:
    """Run a story; the n-th incarnation dies at `deaths[n]`, the last one lives. What people insist on must hold."""
    stage = _Stage(story)
    scenario = Scenario(
        spec=story.spec,
        desired=(),
        faults=story.faults,
        events=[(0.0, stage.begin), *story.events],
        seed=story.seed,
        keeper=story.keeper,
        patient=True,
        body=stage.body,
        journaled=stage.journaled,
    )
    run = simulate(scenario, *deaths)
    if isinstance(stage.failure, AssertionError):
        raise Wrong(f"{stage.failure!r}\n{words(run)}") from stage.failure
    if stage.failure is not None:
        raise stage.failure
    return GateRun(run=run, post=stage.post, story=story)


@dataclass
class _Stage:
    """What outlives the incarnations of one run."""

    story: GateStory
    post: Post = field(init=False)
    failure: BaseException | None = None
    _people: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.post = Post(self.story.seed)

    def begin(self, cluster: SimCluster) -> None:
        if self.story.set_up is not None:
            self.story.set_up(cluster)
        loop = asyncio.get_running_loop()
        for at_s, offset_s in self.story.clock_steps:
            loop.call_at(at_s, setattr, self.post, "offset_ms", int(offset_s * 1000))
        self.post.cluster = cluster

    async def journaled(self, journal: sqlite.SqliteJournal) -> None:
        at_ms = 1_799_990_000_000
        epoch = await journal.take_epoch(holder="before", token=TokenId(""), record_id=INSTALLATION, at_ms=at_ms)
        adopted = [Adopted(vmid=Vmid(vmid), uid=f"uid-{vmid}") for vmid in (OURS, BYSTANDER)]
        await journal.append(
            epoch,
            [
                Draft(record_id=f"adopted-{number}", at_ms=at_ms, op_id=OpId(""), event=event)
                for number, event in enumerate(adopted)
            ],
        )

    async def body(self, agent: Agent, life: Life) -> None:
        while self.post.cluster is None:
            await asyncio.sleep(0)
        post, deck = self.post, agent.deck
        clock = deck.clock
        now_ms = clock.now_ms
        clock.now_ms = lambda: now_ms() + post.offset_ms  # type: ignore[method-assign]
        has_token = agent.own_token
        gate = Gate(deck, cluster="sim", files=post.people, verifier=DsseVerifier(), has_token=lambda: has_token)
        post.enter(agent, life, gate)
        assert post.cluster is not None
        if self._people is None:
            self._people = asyncio.ensure_future(self._tell())
        while life.report is None:
            try:
                life.report = await agent.recover()
            except ReadFailed:
                await clock.sleep(30.0)
        life.mutations_recovered = len(post.cluster.world.mutations())
        async with agent.reconciler(gate.check_again) as reconciler:
            post.awake(reconciler)
            beside = [asyncio.ensure_future(self._end(reconciler)), asyncio.ensure_future(_lapses(gate, clock.sleep))]
            try:
                await agents.run(
                    reconciler,
                    deck,
                    lambda: self.story.desired,
                    pace=lambda: Pace(interval_s=PASS_S, enforce=True),
                    own_token=agent.own_token,
                )
            finally:
                for task in beside:
                    task.cancel()

    async def _tell(self) -> None:
        try:
            await self.story.people(self.post)
        except asyncio.CancelledError:
            raise
        except BaseException as failure:  # noqa: BLE001 - it is raised once the run is over
            self.failure = failure

    async def _end(self, reconciler: Reconciler) -> None:
        """Stop the agent once people are done and nothing is open, or when the story has lasted long enough."""
        pause_s = 0.25
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 30.0)
            told = self._people is not None and self._people.done()
            if self.post.now_s > self.story.bound_s or (told and await self.post.quiet()):
                reconciler.wind_down()
                if self._people is not None:
                    self._people.cancel()
                return


async def _lapses(gate: Gate, sleep: Callable[[float], Awaitable[None]]) -> None:
    while True:
        await sleep(PASS_S)
        try:
            await gate.lapse()
        except (Died, TrueupError):
            return


__all__ = ["GateRun", "GateStory", "Handed", "Paper", "Post", "play", "replace"]
