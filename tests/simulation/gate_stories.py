"""What people do at the gate, told once for all kinds: sign one by one, hand in twice at once, and again and again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.world import Request
from tests.simulation.cluster import SimCluster
from tests.simulation.gate_harness import OURS, GateStory, Paper, Post, spec_of
from tests.simulation.gate_people import PEOPLE, other_reason
from tests.simulation.harness import KEEPER, KEEPER_SECRET
from trueup.model import limits
from trueup.model.gate import Refusal
from trueup.model.gate_answers import Answer, Outcome
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC
SIGNED_AT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A guest and what is asked for it."""

    kind: str
    guest: GuestType
    config: Mapping[str, str] = field(default_factory=dict)
    status: str = "stopped"
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def ends_the_guest(self) -> bool:
        return self.kind == "destroy"


def snapshot(cluster: SimCluster) -> None:
    """Somebody takes one by hand, before anything is signed."""
    by = f"PVEAPIToken={KEEPER}={KEEPER_SECRET}"
    path = f"/nodes/pve1/{cluster.kind(OURS)}/{OURS}/snapshot"
    cluster.submit(Request(node="pve1", method="POST", path=path, params={"snapname": "before"}, authorization=by))


CASES = {
    "destroy-qemu": Case(kind="destroy", guest=QEMU, config={"protection": "1"}),
    "destroy-lxc": Case(kind="destroy", guest=LXC, config={"protection": "1"}),
    "rollback": Case(kind="rollback", guest=QEMU, params={"snapshot": "before"}),
    "disk-remove": Case(
        kind="disk-remove",
        guest=QEMU,
        config={"scsi1": "local-lvm:vm-301-disk-1,size=1G"},
        params={"disk": "scsi1"},
    ),
    "stop": Case(kind="stop", guest=QEMU, status="running"),
}


async def ordinary(post: Post, case: Case) -> None:
    """Signatures come one by one, then by two ways at once; it is redelivered until it ended, and after that."""
    await post.at(SIGNED_AT_S)
    paper = await post.prepare(case.kind, params=case.params, key="the-key")
    both = paper.by("alice", "bob")
    if PEOPLE[case.kind] > 1:
        await post.hand_in(paper.by("alice"), "spool")
    await asyncio.gather(post.hand_in(both, "spool"), post.hand_in(both, "http"))
    answer = await post.until_ended(both, "http", every_s=2.0)
    again = await post.hand_in(both, "spool")
    assert (again.outcome, again.state) == (Outcome.REPETITION, answer.state), again
    changed = post.rewritten(paper, other_reason(paper.payload)).by("alice", "bob")
    refused = await post.hand_in(changed, "http")
    assert refused.refusal is Refusal.REPLAY, refused
    await again_with_its_key(post, case, paper, answer)


async def again_with_its_key(post: Post, case: Case, before: Paper, first: Answer) -> Answer | None:
    """After a success the key tells of it, and nothing happens; after a failure people may sign anew."""
    assert post.cluster is not None
    if not post.cluster.has(OURS):
        return None
    if first.state == "failed" and case.guest is LXC:
        # Its failed task must lie clearly before the new signing, or the container may have been made anew.
        await asyncio.sleep(2 * limits.CLOCK_DIFFERENCE_S)
    paper = await post.prepare(case.kind, params=case.params, key="the-key")
    both = paper.by("alice", "bob")
    answer = await post.hand_in(both, "spool")
    if before.request is not None and paper.request is not None:
        another = before.request.target.identity != paper.request.target.identity
        if another:  # a rollback gives a guest another generation: a key of before is one for something else
            assert answer.refusal is Refusal.KEY_DIFFERS, answer
            return None
    if first.state == "succeeded":
        assert (answer.outcome, answer.state) == (Outcome.REPETITION, "succeeded"), answer
        return answer
    if first.state in {"failed", "vetoed", "expired"}:
        assert answer.refusal in {None, Refusal.UNREADABLE, Refusal.BLOCKED}, answer
        assert answer.outcome is not Outcome.REPETITION or answer.request != first.request, answer
        return await post.until_ended(both, "spool", every_s=5.0)
    return answer


def story_of(case: Case, **more: object) -> GateStory:
    """The ordinary story of a case."""

    async def people(post: Post) -> None:
        await ordinary(post, case)

    fields: dict[str, object] = {
        "spec": spec_of(case.guest, case.config, case.status),
        "people": people,
        "set_up": snapshot if case.kind == "rollback" else None,
    }
    return GateStory(**{**fields, **more})  # type: ignore[arg-type]
