"""The story: start the agent, kill it at the moment of each blow, start it again, and see what it found out."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from trueup.adapters.sim_control import Mutation
from trueup.edges.demo import claims, findings, signed
from trueup.edges.demo.blows import BLOWS, LATE_MOST_S, LATE_S, LATE_STARTS, SIGNED, Blow
from trueup.edges.demo.cast import CAST
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.findings import Finding
from trueup.edges.demo.sight import Seen
from trueup.edges.demo.signed import Deed
from trueup.edges.demo.stage import Agent, Stage
from trueup.edges.demo.teller import INTRO, Phase, Player, Teller
from trueup.model.errors import TrueupError
from trueup.model.ops import Kind, OpView

T = TypeVar("T")

SIGKILLED: Final = -9
_PACE_S: Final = 0.1
_FAST_S: Final = 0.02
_SLICE_S: Final = 0.004
_DEAD_S: Final = 2.0
"""The agent stays dead at least so long: long enough to see that PVE works on without it."""

_PATIENCE_S: Final = 120.0
_REFUSED_S: Final = 2.0
"""After so long, a request that has no task has been refused at once."""


class DemoFailed(TrueupError):
    """The story could not be told to its end."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. `deliveries` are of the request that two people signed, `destroyed` how often it was done."""

    kills: int
    recovery: Mapping[str, int]
    final_changes: int
    journal_ok: bool
    duplicates: int
    deliveries: int
    destroyed: int
    claims: tuple[Claim, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """All of it."""
        return all(claim.held for claim in self.claims)


class _Late(msgspec.Struct, kw_only=True):
    """The request that is late: its operation, by how much, how it was judged, and its arrival.

    `since_s` is when it was sent, `first_s` when its row was first seen; `row` is set once its outcome shows.
    """

    op: OpView
    late_s: float
    since_s: float
    verdict: str = ""
    first_s: float = 0.0
    row: Mutation | None = None


class Story:
    """Plays on a stage, and has it told."""

    def __init__(self, stage: Stage, teller: Teller) -> None:
        """Nothing has happened yet."""
        self._stage = stage
        self._teller = teller
        self._agent: Agent | None = None
        self._idle = Phase.DEAD
        self._aim = 0
        self._late_s = LATE_S
        self._codes: list[int] = []
        self._lost: list[int] = []
        self._counts: list[Mapping[str, int]] = []
        self._late: _Late | None = None
        self._deed = Deed(deliveries=[])

    async def play(self) -> Outcome:
        """Tell it from the beginning to the end.

        Raises:
            DemoFailed: a moment did not come, or a process did not do its part.
        """
        began = self._stage.clock.monotonic()
        self._teller.act(0, "trueup demo", INTRO)
        with self._teller.playing():
            agent = await self._begin(BLOWS[0], ())
            for number, blow in enumerate(BLOWS, start=1):
                self._teller.act(number, blow.title, blow.text)
                left = await self._strike(agent, blow)
                await self._dead(blow, left)
                following = BLOWS[number] if number < len(BLOWS) else None
                agent = await self._begin(following, left)
            self._teller.act(len(BLOWS) + 1, "Left alone at last", "The agent finishes what the manifests want.")
            await self._finish(agent)
            self._teller.act(len(BLOWS) + 2, SIGNED.title, SIGNED.text)
            await self._destroy()
            await self._late_arrives()
        outcome = await self._outcome(began)
        self._teller.end(outcome.claims, outcome.seconds)
        return outcome

    # -- killing ---------------------------------------------------------------------------------------------------

    async def _strike(self, agent: Agent, blow: Blow) -> list[OpView]:
        """Kill the agent at the moment of this blow; what it had in flight."""
        vmid = await self._moment(agent, blow)
        code = await agent.kill()
        self._agent = None
        self._codes.append(code)
        seen = await self._look()
        left = seen.in_flight()
        self._lost.append(len(left))
        if blow.is_late:
            op = next(op for op in left if op.intent.kind is Kind.CONFIGURE and op.intent.vmid == vmid)
            self._late = _Late(op=op, late_s=self._late_s, since_s=seen.at_s)
        self._teller.killed(agent.pid, blow.why, left)
        return left

    async def _moment(self, agent: Agent, blow: Blow) -> int:
        """Watch until the moment has come for one of the guests aimed at; the agent is then stopped."""
        deadline = self._stage.clock.monotonic() + _PATIENCE_S
        vmid = self._aim
        while self._stage.clock.monotonic() < deadline:
            seen = await self._look()
            if blow.near(seen, vmid) or blow.now(seen, vmid):
                if await self._slow_motion(agent, blow, vmid, deadline):
                    return vmid
            elif blow.accident and blow.fault not in seen.pending:
                self._teller.say("That time the agent found out while it lived. Once more.")
                vmid = await self._order(blow, seen, vmid)
            self._must_live(agent)
            await self._stage.clock.sleep(_FAST_S if blow.accident else _PACE_S)
        raise DemoFailed(what=f"the moment of {blow.title!r} did not come")

    async def _order(self, blow: Blow, seen: Seen, tried: int = 0) -> int:
        """Order the accident of a blow for the next guest that it may be about."""
        if blow.accident is None:
            return 0
        vmid = blow.aim(seen, tried)
        if vmid is None:
            raise DemoFailed(what=f"the agent was too quick for {blow.title!r}")
        await self._stage.sim.arrange(**blow.accident(vmid, self._late_s))
        return vmid

    async def _slow_motion(self, agent: Agent, blow: Blow, vmid: int, deadline: float) -> bool:
        """Let the agent go on in slices, and look in between; whether the moment came. The agent is then stopped."""
        while self._stage.clock.monotonic() < deadline:
            agent.halt()
            try:
                seen = await self._stage.sight.look()
            except TrueupError:
                seen = None  # it was stopped in the middle of a write; look again a little later
            if seen is not None and blow.now(seen, vmid):
                return True
            agent.go_on()
            if seen is not None and not blow.near(seen, vmid):
                return False
            await self._stage.clock.sleep(_SLICE_S)
            self._must_live(agent)
        return False

    async def _dead(self, blow: Blow, left: Sequence[OpView]) -> None:
        """Nobody is there. PVE works on."""
        at_least = self._stage.clock.monotonic() + _DEAD_S

        def over(seen: Seen) -> bool:
            return seen.at_s >= at_least and blow.dead_until(seen, left)

        await self._until(over, "PVE did not go on")

    # -- beginning again -------------------------------------------------------------------------------------------

    async def _begin(self, blow: Blow | None, left: Sequence[OpView]) -> Agent:
        """Start an agent that will meet this blow, and tell what it finds out about what was left in flight."""
        if blow is not None:
            self._aim = await self._order(blow, await self._look())
        began = self._stage.clock.monotonic()
        agent = await self._stage.agent(self._teller.heard)
        self._agent = agent
        while not agent.recovered.is_set():
            self._must_live(agent)
            await self._look()
            await self._stage.clock.sleep(_FAST_S if blow and blow.accident else _PACE_S)
        if not left:
            came_up_s = self._stage.clock.monotonic() - began
            self._late_s = min(LATE_MOST_S, max(LATE_S, LATE_STARTS * came_up_s))
        else:
            found = await self._findings(left)
            self._counts.append(findings.counted(found))
            self._teller.found(found, self._counts[-1])
        return agent

    async def _findings(self, left: Sequence[OpView]) -> list[Finding]:
        seen = await self._look()
        after = {op.op_id: op for op in seen.ops}
        found: list[Finding] = []
        for op in left:
            events = await self._stage.sight.events(op.op_id)
            one = findings.finding(op, after[op.op_id], events)
            found.append(one)
            if self._late is not None and self._late.op.op_id == op.op_id:
                self._late.verdict = one.count
        return found

    async def _finish(self, agent: Agent) -> None:
        """Let the agent come to its end."""
        await self._until(lambda _: agent.exit_code is not None, "the agent did not come to its end")
        code = await agent.ended()
        self._agent, self._idle = None, Phase.DONE
        if code:
            raise DemoFailed(what=f"`trueup apply` ended with {code}: {' / '.join(agent.last)}")

    async def _late_arrives(self) -> None:
        """Let the late request arrive."""
        if self._late is not None and self._late.row is None:
            self._teller.say(
                "Done. Waiting for the request of the agent that died in act 2, which is still on its way."
            )
        await self._until(lambda _: self._late is None or self._late.row is not None, "the late request never came")

    # -- what people signed ----------------------------------------------------------------------------------------

    async def _destroy(self) -> None:
        """Have a guest destroyed by a signed request; the agent dies in the middle, and the request comes again."""
        await self._beside(signed.sign(self._stage))
        self._teller.say(f"{' and '.join(signed.PEOPLE)} have signed the request.")
        await self._deliver("It is handed in")
        self._idle = Phase.DEAD
        agent = await self._begin(SIGNED, ())
        left = await self._strike(agent, SIGNED)
        await self._deliver("Nobody hears an answer, so it is handed in again: known by its nonce, not done again")
        await self._dead(SIGNED, left)
        await self._finish(await self._begin(None, left))
        await self._deliver("And once more, now that it is done: answered from the journal")

    async def _deliver(self, how: str) -> None:
        answer = await self._beside(signed.deliver(self._stage, self._deed))
        self._teller.say(f"{how}. `trueup submit` says: {answer.state}.")

    async def _beside(self, work: Coroutine[object, object, T]) -> T:
        """Do something while the picture goes on."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self._look()
                await self._stage.clock.sleep(_PACE_S)
        finally:
            task.cancel()
        return await task

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> Seen:
        await self._stage.open_journal()
        seen = await self._stage.sight.look()
        if self._late is not None and self._late.row is None and seen.at_s > self._late.since_s + self._late.late_s / 2:
            await self._arrival(self._late, seen)
        self._teller.look(seen, self._player())
        return seen

    def _player(self) -> Player:
        agent = self._agent
        if agent is None:
            return Player(pid=0, phase=self._idle)
        return Player(pid=agent.pid, phase=Phase.WORKING if agent.recovered.is_set() else Phase.RECOVERING)

    async def _arrival(self, late: _Late, seen: Seen) -> None:
        """Whether the late request has arrived, and what came of it."""
        row = _row_of(late.op, await self._stage.sight.mutations())
        if row is None:
            return
        late.first_s = late.first_s or seen.at_s
        if row.upid not in seen.ended and seen.at_s - late.first_s < _REFUSED_S:
            return  # PVE is at work on it; what is refused at once never gets a task
        late.row = row
        came = "and changed the guest" if row.effect else "and PVE refused it: the fence stands"
        self._teller.say(f"The late request of act 2 ({findings.name_of(late.op)}) arrived only now, {came}.")

    async def _until(self, done: Callable[[Seen], bool], otherwise: str) -> None:
        deadline = self._stage.clock.monotonic() + _PATIENCE_S
        while not done(await self._look()):
            if self._stage.clock.monotonic() > deadline:
                raise DemoFailed(what=otherwise)
            await self._stage.clock.sleep(_PACE_S)

    def _must_live(self, agent: Agent) -> None:
        if agent.exit_code is not None:
            raise DemoFailed(what=f"the agent ended by itself with {agent.exit_code}: {' / '.join(agent.last)}")

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _outcome(self, began: float) -> Outcome:
        (code, changes), (journal_ok, records) = await asyncio.gather(self._changes(), self._verified())
        seen = await self._stage.sight.look()
        mutations = await self._stage.sight.mutations()
        doubled = claims.doubled(mutations)
        recovery = findings.added(self._counts)
        sentences = (
            _as_declared(code, changes),
            _killed(self._codes, self._lost),
            _nothing_twice(mutations, doubled),
            _nothing_forgotten(mutations, seen, recovery),
            _recovery_first(claims.sent_too_early(await self._stage.sight.records())),
            Claim(
                text="A task whose id was never heard was found, and counted as its operation's",
                held=recovery["adopted"] > 0,
                detail=f"{recovery['adopted']} found by searching",
            ),
            _late_one(self._late, mutations),
            signed.claim(self._deed, mutations),
            Claim(text="The journal is sound", held=journal_ok, detail=f"{records} records, all hashes right"),
        )
        return Outcome(
            kills=len(self._codes),
            recovery=recovery,
            final_changes=changes,
            journal_ok=journal_ok,
            duplicates=sum(doubled.values()),
            deliveries=len(self._deed.deliveries),
            destroyed=signed.executed(mutations),
            claims=sentences,
            seconds=self._stage.clock.monotonic() - began,
        )

    async def _changes(self) -> tuple[int, int]:
        code, out = await self._stage.ask("plan", "--json")
        summary = _parsed(out, "plan").get("summary", {})
        return code, sum(count for bucket, count in summary.items() if bucket != "unchanged")

    async def _verified(self) -> tuple[bool, int]:
        code, out = await self._stage.ask("journal", "verify", "--json")
        found = _parsed(out, "journal verify")
        return code == 0 and found.get("ok") is True, int(found.get("records", 0))


def _row_of(op: OpView, mutations: Sequence[Mutation]) -> Mutation | None:
    """The request of this config write, which its digest tells from all others."""
    intent = op.intent
    for row in mutations:
        same = row.path == intent.path and row.params.get("digest") == intent.digest
        if same and row.method == intent.method:
            return row
    return None


def _parsed(out: str, what: str) -> dict[str, Any]:
    try:
        return json.loads(out)
    except ValueError:
        raise DemoFailed(what=f"`trueup {what}` did not answer") from None


def _as_declared(code: int, changes: int) -> Claim:
    return Claim(
        text=f"The {len(CAST) - 1} guests that are left are as their manifests say: no changes",
        held=code == 0 and changes == 0,
        detail=f"`trueup plan` exits {code}",
    )


def _killed(codes: Sequence[int], lost: Sequence[int]) -> Claim:
    return Claim(
        text=f"The agent was killed {len(codes)} times with operations in flight",
        held=len(codes) == len(BLOWS) + 1 and all(code == SIGKILLED for code in codes) and all(lost),
        detail=f"{' + '.join(map(str, lost))} of them",
    )


def _nothing_twice(mutations: Sequence[Mutation], doubled: Mapping[str, int]) -> Claim:
    effects = sum(1 for mutation in mutations if mutation.effect)
    detail = f"{effects} changes in PVE, none of them doubled"
    if doubled:
        detail = ", ".join(f"{what}: {count} too often" for what, count in doubled.items())
    return Claim(text="Nothing was done twice", held=not doubled, detail=detail)


def _nothing_forgotten(mutations: Sequence[Mutation], seen: Seen, recovery: Mapping[str, int]) -> Claim:
    unknown = claims.unaccounted(mutations, seen.ops)
    open_ = seen.in_flight()
    whole = recovery["examined"] == sum(recovery[name] for name in findings.PARTS)
    return Claim(
        text="Nothing was forgotten: each task that changed something is one operation's of the journal, none is open",
        held=not unknown and not open_ and whole,
        detail=f"{len(seen.ops)} operations" if not unknown else f"not in the journal: {', '.join(unknown)}",
    )


def _recovery_first(early: Sequence[str]) -> Claim:
    return Claim(
        text="Recovery came first: no agent sent anything before it knew what had become of what was left",
        held=not early,
        detail=f"too early: {', '.join(early)}" if early else "",
    )


def _late_one(late: _Late | None, mutations: Sequence[Mutation]) -> Claim:
    row = _row_of(late.op, mutations) if late else None
    if late is None or row is None:
        return Claim(text="A request arrived after its sender's death", held=False, detail="it did not")
    if late.verdict == "resumed":
        return Claim(text="A late request arrived before its fence, and was counted as done", held=row.effect is True)
    return Claim(
        text=f"A request that arrived {late.late_s:.0f} s late, after its operation was closed, changed nothing",
        held=not row.effect and late.verdict == "rolled_back",
        detail="PVE itself refused it",
    )
