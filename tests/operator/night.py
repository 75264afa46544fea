"""A night on virtual time: an agent with its gate, and a person who reads `trueup ops show` and does what it says.

The agent's loop, its recovery and its gate are the real ones, and so is the text of `ops show`; what the person does is
done at PVE's API as root, or to a machine.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from pvesim.access import ALL_PRIVILEGES
from pvesim.world import Request
from tests.simulation.cluster import SimCluster
from tests.simulation.gate_harness import OURS, GateRun, GateStory, Paper, Post, play, spec_of
from tests.simulation.harness import KEEPER, KEEPER_SECRET, SECRET, TOKEN
from trueup.edges.cli import story
from trueup.model.gate_answers import ResolvedAs
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, OpState, OpView

QEMU, LXC = GuestType.QEMU, GuestType.LXC
LOOK_S = 5.0
LONG_S = 3 * 3600.0
ROLE = "Agents"
TERMINAL = {OpState.SUCCEEDED, OpState.FAILED}


class Person:
    """Somebody at a terminal, with root's rights on the cluster."""

    def __init__(self, post: Post) -> None:
        assert post.cluster is not None
        self.post = post
        self.cluster: SimCluster = post.cluster

    # -- reading -----------------------------------------------------------------------------------------------------

    async def ops(self, kind: Kind) -> list[OpView]:
        """Oldest first."""
        journal = self.post._journal
        assert journal is not None
        return [op for op in reversed(await journal.ops()) if op.intent.kind is kind]

    async def story(self, op: OpView) -> story.Story:
        """What `trueup ops show` tells."""
        records = [one for one in await self.post.records() if one.op_id == op.op_id]
        return story.tell(op, records, agent_lives=True)

    async def until(self, kind: Kind, is_so: Callable[[OpView], Awaitable[bool]], every_s: float = LOOK_S) -> OpView:
        """Wait until this holds for an operation of this kind."""
        end_s = self.post.now_s + LONG_S
        while self.post.now_s < end_s:
            for op in await self.ops(kind):
                if await is_so(op):
                    return op
            await asyncio.sleep(every_s)
        found = [(op.state, op.reason, op.exit_status, (await self.story(op)).to_do) for op in await self.ops(kind)]
        raise AssertionError(found)

    async def reads(self, kind: Kind, *remedies: str) -> OpView:
        """Wait until `ops show` of an operation of this kind says all of these."""

        async def says(op: OpView) -> bool:
            return set(remedies) <= set((await self.story(op)).to_do)

        return await self.until(kind, says)

    async def under_way(self, kind: Kind, state: OpState = OpState.STARTED) -> OpView:
        """Wait until one was sent, and its answer is not there; or its task is. It is seen at once."""

        async def sent(op: OpView) -> bool:
            return op.state is state

        return await self.until(kind, sent, every_s=0.02)

    async def ended(self, op: OpView) -> OpView:
        """Wait for the end of an operation that is open."""

        async def over(now: OpView) -> bool:
            return now.op_id == op.op_id and now.state in TERMINAL

        return await self.until(op.intent.kind, over)

    async def succeeds(self, kind: Kind, after: OpView) -> OpView:
        """Wait until a later operation of this kind has succeeded, as a pass would plan it."""

        async def there(op: OpView) -> bool:
            return op.op_id > after.op_id and op.state is OpState.SUCCEEDED

        return await self.until(kind, there)

    # -- doing -------------------------------------------------------------------------------------------------------

    async def api(self, method: str, path: str, *, waits: bool = True, **params: str) -> object:
        """Root's own call, by `pvesh` or in PVE's page; waits for its task."""
        by = f"PVEAPIToken={KEEPER}={KEEPER_SECRET}"
        ticket = self.cluster.submit(Request(node="pve1", method=method, path=path, params=params, authorization=by))
        answer = await self.cluster.answer(ticket)
        self.cluster.gone(ticket)
        assert answer.status == 200, (answer.status, answer.reason, answer.body)
        data = json.loads(answer.body)["data"]
        while waits and isinstance(data, str) and data.startswith("UPID:") and await self._runs(data):
            await asyncio.sleep(1.0)
        return data

    async def _runs(self, upid: str) -> bool:
        state = await self.api("GET", f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status")
        assert isinstance(state, dict)
        return state["status"] == "running"

    async def log(self, op: OpView) -> str:
        """The log of its task, by the command that `ops show` prints."""
        told = (await self.story(op)).to_do
        (path,) = [found[1] for line in told if (found := re.search(r"The task's log: pvesh get (\S+)", line))]
        rows = await self.api("GET", path)
        assert isinstance(rows, list)
        return "\n".join(row["t"] for row in rows)

    def act(self, **action: object) -> None:
        """Something is done to a machine."""
        self.cluster.act(action)

    async def give(self, *privileges: str) -> None:
        """The agent's role has these from now on."""
        await self.api("PUT", f"/access/roles/{ROLE}", privs=",".join(privileges))

    def guest(self, vmid: int = OURS) -> dict[str, object]:
        """It as it is; a `pvesh get` shows the same."""
        guests = self.cluster.world.state()["guests"]
        return next(guest for guest in guests if guest["vmid"] == vmid)  # type: ignore[union-attr, index, call-overload, return-value]

    # -- signing -----------------------------------------------------------------------------------------------------

    async def asks(self, kind: str, **params: str) -> Paper:
        """Have it signed by enough people, and hand it in."""
        await self.post.at(5.0)
        paper = await self.post.prepare(kind, params=params)
        await self.post.hand_in(paper.by("alice", "bob"), "http")
        return paper

    async def anew(self, before: Paper) -> None:
        """Make a new request for the same, have it signed, hand it in; it is carried out."""
        assert before.request is not None
        asked = before.request
        paper = await self.post.prepare(asked.kind, asked.target.vmid, params=asked.params)
        answer = await self.post.until_ended(paper.by("alice", "bob"), "http", every_s=LOOK_S)
        assert answer.state == "succeeded", answer

    async def resolves(self, op: OpView, ended: ResolvedAs) -> None:
        """Sign how it ended, as `trueup ops resolve` does."""
        await self.post.hand_in(self.post.resolution(op.op_id, ended), "http")
        closed = await self.ended(op)
        assert closed.state.value == ended.value


Doing = Callable[[Person], Awaitable[None]]


def lived(doing: Doing, *, dies_at: str = "", **more: object) -> GateRun:
    """Live through it. The person came to their end, and nothing is open then.

    `dies_at`: the agent dies once, at the first point that matches, and is started again.
    """
    done: list[bool] = []

    async def people(post: Post) -> None:
        await doing(Person(post))
        done.append(True)

    async def nobody(_: Post) -> None:
        await asyncio.sleep(60.0)

    fields: dict[str, object] = {"spec": spec_of(QEMU, {}), "people": people, **more}
    tale = GateStory(**fields)  # type: ignore[arg-type]
    deaths: list[int] = []
    if dies_at:
        passed = play(replace(tale, people=nobody, bound_s=60.0)).run.lives[0].mortality.passed
        deaths = [next(number for number, name in enumerate(passed) if re.search(dies_at, name))]
    run = play(tale, *deaths)
    assert done, "the night was too short"
    assert not [op for op in run.run.ops if op.state not in TERMINAL]
    assert run.run.verification.ok
    return run


def limited(spec: dict[str, object], *without: str) -> dict[str, object]:
    """The agent's user has a role with all privileges but these; it may read the cluster's own state in any case."""
    return {
        **spec,
        "tokens": [{"id": TOKEN, "secret": SECRET}, {"id": KEEPER, "secret": KEEPER_SECRET}],
        "roles": {ROLE: all_but(*without), "Sight": ["Sys.Audit"]},
        "acl": [
            {"path": "/", "user": TOKEN.partition("!")[0], "role": ROLE},
            {"path": "/", "user": TOKEN.partition("!")[0], "role": "Sight", "propagate": 0},
        ],
    }


def all_but(*without: str) -> Sequence[str]:
    """All privileges of PVE but these."""
    return [one for one in ALL_PRIVILEGES if one not in without]
