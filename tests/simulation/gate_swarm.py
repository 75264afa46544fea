"""Random stories of the gate: several requests, people who sign, veto and redeliver, accidents, and deaths.

As in `swarm`: each run leaves some kinds of accident out, and the same number gives the same story.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache

from pvesim.wire import Failure
from tests.simulation import gate_invariants
from tests.simulation.cluster import SimCluster
from tests.simulation.deaths import Death
from tests.simulation.gate_harness import FOREIGN, OURS, GateRun, GateStory, Handed, Post, play, spec_of
from tests.simulation.gate_people import other_reason
from tests.simulation.gate_stories import CASES, Case, snapshot, story_of
from tests.simulation.swarm import _MAKERS, Happening, _death
from trueup.model.gate import Refusal
from trueup.model.gate_answers import Answer, ResolvedAs
from trueup.model.guests import Desired
from trueup.model.ids import GuestType, NodeName, Vmid
from trueup.model.ops import Reason, Started

FAULTS = (
    "request_lost", "reply_lost", "late", "error_500_worker_runs", "error_596_work_continues", "error_595",
    "unauthorized", "task_fails", "task_killed", "task_unlisted", "task_log_gone",
)  # fmt: skip
METHODS = ("DELETE", "PUT", "POST")
BOUND_S = 3 * 3600.0
KINDS: Mapping[str, Mapping[str, str]] = {
    "destroy": {},
    "rollback": {"snapshot": "before"},
    "disk-remove": {"disk": "scsi1"},
    "stop": {},
    "start": {},
}
WAYS = ("spool", "http", "socket")
STAYS_OPEN = frozenset(
    {
        Reason.TASK_UNKNOWN,
        Reason.GOAL_NOT_REACHED,
        Reason.CHILDREN_MAY_LIVE,
        Reason.LATE_REQUEST_POSSIBLE,
        Reason.PARTIAL,
        Reason.UNKNOWABLE,
        Reason.NOT_ATTRIBUTABLE,
        Reason.FENCE_IMPOSSIBLE,
        Reason.LOCK_HELD,
    }
)
"""Why an operation may be open when its people have given up waiting; then one of them says how it ended."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request and what its people do with it; times are seconds of the story."""

    case: Case
    at_s: float
    vmid: int
    key: str
    valid_s: float
    second_at_s: float
    veto_at_s: float = 0.0
    every_s: float = 5.0
    ways: tuple[str, str] = ("spool", "http")
    tampered: bool = False

    def tell(self) -> str:
        veto = f", vetoed at {self.veto_at_s:.2f}" if self.veto_at_s else ""
        return (
            f"{self.case.kind} {self.vmid} key {self.key} signed at {self.at_s:.2f}, by the second at "
            f"{self.second_at_s:.2f}{veto}, good for {self.valid_s:.0f} s"
        )


@dataclass(frozen=True, kw_only=True)
class Tale:
    """One random story; parts can be left out."""

    number: int
    spec: Mapping[str, object]
    asked: Sequence[Asked]
    faults: Sequence[dict[str, object]]
    happenings: Sequence[Happening]
    people_change: Sequence[tuple[float, str]]
    clock_steps: Sequence[tuple[float, float]]
    deaths: Sequence[Death]
    keeper: bool

    def run(self) -> GateRun:
        by_hand = [(one.at_s, one.do) for one in self.happenings]
        story = GateStory(
            spec=self.spec,
            people=self._people,
            set_up=snapshot,
            faults=self.faults,
            events=by_hand,
            clock_steps=self.clock_steps,
            keeper=self.keeper,
            seed=self.number % 100_000,
            bound_s=BOUND_S,
        )
        return play(story, *self.deaths)

    def check(self, told: GateRun) -> None:
        """All invariants."""
        gate_invariants.check(told, same_guests=not self.made_anew, open_for=STAYS_OPEN)

    @property
    def made_anew(self) -> bool:
        """Whether somebody took the vmid away."""
        return any("anew" in one.what for one in self.happenings)

    def tell(self) -> str:
        """The story in words."""
        lines = [f"  {one.tell()}" for one in self.asked]
        lines += [f"  fault {fault}" for fault in self.faults]
        lines += [f"  at {one.at_s:.2f} s: {one.what}" for one in self.happenings]
        lines += [f"  at {at_s:.2f} s: {what}" for at_s, what in self.people_change]
        lines += [f"  at {at_s:.2f} s: the agent's clock is off by {offset_s} s" for at_s, offset_s in self.clock_steps]
        lines += [f"  life {number} dies at point {death}" for number, death in enumerate(self.deaths)]
        return "\n".join([*lines, f"  incarnation tokens: {self.keeper}"])

    def shorter(self) -> list["Tale"]:
        """The same story with one part left out."""
        found: list[Tale] = []
        for name in ("deaths", "happenings", "faults", "people_change", "clock_steps", "asked"):
            parts = list(getattr(self, name))
            for index in range(len(parts)):
                fewer = parts[:index] + parts[index + 1 :]
                if fewer or name != "asked":
                    found.append(replace(self, **{name: fewer}))  # type: ignore[arg-type]
        return found

    async def _people(self, post: Post) -> None:
        async with asyncio.TaskGroup() as group:
            for one in self.asked:
                group.create_task(_ask(post, one))
            for at_s, what in self.people_change:
                group.create_task(_change(post, at_s, what))


async def _ask(post: Post, one: Asked) -> None:
    await post.at(one.at_s)
    assert post.cluster is not None
    if not post.cluster.has(one.vmid):
        return
    try:
        paper = await post.prepare(one.case.kind, one.vmid, one.key, one.valid_s, params=one.case.params)
    except KeyError:
        return  # the guest was taken away while they looked
    both = paper.by("alice", "bob")
    first = await post.hand_in(paper.by("alice", "alice2"), one.ways[0])
    veto = asyncio.ensure_future(_veto(post, one, first)) if one.veto_at_s and first.request else None
    await post.at(one.second_at_s)
    # By two ways at once, again and again.
    await asyncio.gather(*(post.hand_in(both, way) for way in one.ways))
    answer = await _to_its_end(post, both, one)
    if one.tampered:
        await post.hand_in(post.rewritten(paper, other_reason(paper.payload)).by("alice", "bob"), one.ways[1])
    if veto is not None:
        await veto
    if answer.op and not await post.ended(answer.op):
        gone = one.case.ends_the_guest and not post.cluster.has(one.vmid)
        word = ResolvedAs.SUCCEEDED if gone else ResolvedAs.FAILED
        await post.hand_in(post.resolution(answer.op, word), one.ways[0])


async def _to_its_end(post: Post, both: Handed, one: Asked) -> Answer:
    """Redeliver until it ended, or is refused for good, or has been open for very long."""
    end = post.now_s + BOUND_S / 2
    every_s = one.every_s
    while True:
        answer = await post.hand_in(both, one.ways[1])
        passes = answer.refusal in {Refusal.CLOCK, Refusal.UNREADABLE, Refusal.BLOCKED}
        if (answer.state in gate_invariants.ENDS and not passes) or post.now_s > end:
            return answer
        await asyncio.sleep(every_s)
        every_s = min(every_s * 2, 600.0)


async def _veto(post: Post, one: Asked, first: Answer) -> None:
    await post.at(one.veto_at_s)
    await post.hand_in(post.veto(first.request), one.ways[0])


async def _change(post: Post, at_s: float, what: str) -> None:
    await post.at(at_s)
    if what == "the policy is closed":
        post.people.forbid(post.now_ms)
    else:
        post.people.revoke(what.partition(" ")[0], post.now_ms)


def tale(number: int) -> Tale:
    """The story with this number."""
    chance = random.Random(f"gate {number}")
    guest = chance.choice(list(GuestType))
    config = {("scsi1" if guest is GuestType.QEMU else "unused0"): "local-lvm:vm-301-disk-1,size=1G"}
    if chance.random() < 0.4:
        config["protection"] = "1"
    kinds = chance.sample(list(KINDS), 2)
    enabled = [fault for fault in FAULTS if chance.random() < 0.4]
    return Tale(
        number=number,
        spec=spec_of(guest, config, "running" if "stop" in kinds else "stopped"),
        asked=[_asked(chance, guest, chance.choice(kinds)) for _ in range(chance.choice([1, 1, 2, 3]))],
        faults=[_fault(chance, enabled) for _ in range(chance.randrange(3))] if enabled else [],
        happenings=_happenings(chance, guest),
        people_change=_people_change(chance),
        clock_steps=_clock_steps(chance),
        deaths=[_death(chance) for _ in range(chance.randrange(4))],
        keeper=chance.random() < 0.3,
    )


def _asked(chance: random.Random, guest: GuestType, kind: str) -> Asked:
    at_s = chance.uniform(4.0, 12.0)
    foreign = chance.random() < 0.1
    second_at_s = at_s + chance.choice([0.0, 0.0, 1.0, 30.0, 5000.0])
    case = Case(kind=kind, guest=guest, params=KINDS[kind])
    if kind == "disk-remove" and guest is GuestType.LXC:
        case = replace(case, params={"disk": "unused0"})
    return Asked(
        case=Case(kind="destroy", guest=GuestType.QEMU) if foreign else case,
        at_s=at_s,
        vmid=FOREIGN if foreign else OURS,
        key=chance.choice(["", "one", "one", "other"]),
        valid_s=chance.choice([30.0, 600.0, 3600.0]),
        second_at_s=second_at_s,
        veto_at_s=second_at_s + chance.uniform(-0.5, 2.0) if chance.random() < 0.25 else 0.0,
        every_s=chance.choice([0.3, 2.0, 15.0]),
        ways=(chance.choice(WAYS), chance.choice(WAYS)),
        tampered=chance.random() < 0.3,
    )


def _fault(chance: random.Random, enabled: Sequence[str]) -> dict[str, object]:
    fault: dict[str, object] = {
        "fault": chance.choice(enabled),
        "method": chance.choice(METHODS),
        "path": "/(qemu|lxc)/",
        "nth": chance.choice([1, 1, 2]),
        "times": chance.choice([1, 1, 2]),
    }
    if fault["fault"] == "late":
        fault["delay_s"] = chance.choice([0.3, 2.0, 30.0, 1800.0])
    if fault["fault"] == "task_killed":
        fault["at"] = chance.random()
    return fault


def _people_change(chance: random.Random) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    if chance.random() < 0.2:
        found.append((chance.uniform(3.0, 16.0), f"{chance.choice(['alice2', 'bob', 'alice'])} is revoked"))
    if chance.random() < 0.05:
        found.append((chance.uniform(3.0, 16.0), "the policy is closed"))
    return found


def _clock_steps(chance: random.Random) -> list[tuple[float, float]]:
    if chance.random() < 0.8:
        return []
    at_s = chance.uniform(2.0, 14.0)
    return [(at_s, chance.choice([-30.0, -600.0, -90_000.0])), (at_s + 1200.0, 0.0)]


def edited(cluster: SimCluster, vmid: int = OURS) -> None:
    """Somebody changes a value."""
    if cluster.has(vmid):
        with suppress(Failure):
            cluster.put({"vmid": vmid, "config": {"memory": 640}})


def made_anew(cluster: SimCluster) -> None:
    """The vmid is somebody else's by now, who took over all that the description said."""
    guests = cluster.world.state()["guests"]
    guest = next((one for one in guests if one["vmid"] == OURS), None)  # type: ignore[union-attr, index, call-overload]
    if guest is None:
        return
    kept = {key: value for key, value in dict(guest["config"]).items() if key not in {"smbios1", "meta", "vmgenid"}}  # type: ignore[index, call-overload, arg-type]
    with suppress(Failure):
        cluster.put({"vmid": OURS, "deleted": True})
        config = {**kept, "description": "mine"}
        cluster.put({"vmid": OURS, "type": guest["type"], "node": "pve1", "config": config})  # type: ignore[index, call-overload]


def _happenings(chance: random.Random, guest: GuestType) -> list[Happening]:
    found: list[Happening] = []
    stand_in = Desired(type=guest, name="ours", vmid=Vmid(OURS), node=NodeName("pve1"), origin="gate")
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        at_s = chance.uniform(4.0, 20.0)
        until_s = at_s + chance.choice([1.0, 12.0, 45.0, 300.0])
        if chance.random() < 0.3:
            what, do = chance.choice(_BY_HAND)
            found.append(Happening(at_s=at_s, what=what, do=do))
        else:
            chance.choice(_MAKERS)(found, at_s, until_s, "pve1", stand_in.vmid)
    return sorted(found, key=lambda one: one.at_s)


_BY_HAND: Sequence[tuple[str, Callable[[SimCluster], None]]] = (
    ("somebody changes the guest", edited),
    ("somebody makes the vmid anew", made_anew),
)


@dataclass
class Figures:
    """What the gate was asked in many stories, and what it said."""

    delivered: int = 0
    redelivered: int = 0
    unheard: int = 0
    requests: int = 0
    started: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, told: GateRun) -> None:
        """Count one run."""
        seen: set[str] = set()
        for one in told.post.deliveries:
            self.delivered += 1
            self.redelivered += one.sha256 in seen
            self.unheard += one.answer is None
            seen.add(one.sha256)
        ops = [op for op in told.run.ops if op.intent.one_shot]
        self.requests += len(seen)
        events = [record.event for record in told.run.records]
        self.started += sum(1 for event in events if isinstance(event, Started) and event.intent.one_shot)
        self.ends.update(f"{op.state.value} {op.reason.value if op.reason else ''}".strip() for op in ops)
        self.refused.update(gate_invariants.refusals(told))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The ordinary story of one kind, with a death at one of its points: numbers in a row go through all of them."""

    number: int
    name: str
    deaths: Sequence[Death]

    def run(self) -> GateRun:
        return play(story_of(CASES[self.name]), *self.deaths)

    def check(self, told: GateRun) -> None:
        """All invariants, and nothing stays open."""
        gate_invariants.check(told)

    def tell(self) -> str:
        """The story in words."""
        return f"  {self.name}, the ordinary story, dies at {list(self.deaths)}"

    def shorter(self) -> list["Sweep"]:
        """It is as short as can be."""
        return []


def sweep(number: int) -> Sweep:
    """The case and the point with this number."""
    name = list(CASES)[number % len(CASES)]
    first, points = _length(name)
    return Sweep(number=number, name=name, deaths=(first + number // len(CASES) % points,))


@cache
def _length(name: str) -> tuple[int, int]:
    """The point at which the first paper arrives, and how many follow."""
    told = play(story_of(CASES[name]))
    return told.post.first_at, len(told.run.lives[0].mortality.passed) - told.post.first_at
