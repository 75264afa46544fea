"""The first page's answer for each guest: what is next, and whether that needs a person."""

from types import SimpleNamespace
from typing import Any

import pytest

from trueup.core.kinds import KINDS, Tier
from trueup.edges import standing
from trueup.edges.standing import GuestStatus
from trueup.edges.web.next_steps import Step, next_step
from trueup.edges.web.rendering import MEANS, coded
from trueup.model.guests import GuestType
from trueup.model.ids import NodeName, Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Approval, Bucket, Diff, GuestPlan, PlannedOp

HERE, OTHER = Vmid(101), Vmid(102)


def guest(sync: str, blocked_by: str = "") -> GuestStatus:
    return GuestStatus(vmid=HERE, name="web-1", sync=sync, health="stopped", blocked_by=blocked_by)


def plan(**more: Any) -> GuestPlan:
    fields: dict[str, Any] = {"vmid": HERE, "name": "web-1", "type": GuestType.QEMU, "node": NodeName("pve1")}
    return GuestPlan(**{**fields, "bucket": Bucket.UNCHANGED, **more})


def op(vmid: Vmid = HERE, *, unresolved: bool = False) -> Any:
    return SimpleNamespace(
        op_id="op-1", intent=SimpleNamespace(vmid=vmid, kind=Kind.START), unresolved=object() if unresolved else None
    )


def asked(vmid: Vmid = HERE) -> Any:
    request = SimpleNamespace(kind="destroy", target=SimpleNamespace(vmid=vmid))
    return SimpleNamespace(request_id="r-1", request=request, ruling=SimpleNamespace(missing="1 more: bob"))


def step(status: GuestStatus, planned: GuestPlan | None = None, *, ops=(), pending=(), observing=False) -> Step:
    return next_step(status, planned, ops, pending, observing=observing)


DESTROY = Approval(kind=Kind.DESTROY, why="its manifest is gone", command="trueup request destroy 101")
START = PlannedOp(kind=Kind.START, vmid=HERE, type=GuestType.QEMU, node=NodeName("pve1"), name="web-1")

DIFF = Diff(key="cores", was="1", want="2", why="")


def test_what_comes_first_is_told() -> None:
    blocked = guest(standing.BLOCKED, "it is in flight (see `trueup ops show op-1`)")
    needs = plan(bucket=Bucket.NEEDS_APPROVAL, approvals=(DESTROY,))
    unresolved = step(blocked, needs, ops=[op(OTHER), op(unresolved=True)], pending=[asked()])
    assert (unresolved.link, unresolved.person) == ("/ops/op-1", False)  # it stands in a list of its own
    assert "not known" in unresolved.text
    assert step(blocked, needs, ops=[op()]).text == "start is at work"
    waiting = step(guest(standing.DRIFTED), needs, ops=[op(OTHER)], pending=[asked(OTHER), asked()])
    assert (waiting.link, waiting.person) == ("/requests/r-1", False)
    assert "1 more: bob" in waiting.text
    assert step(blocked, needs) == Step(text=blocked.blocked_by, person=True)
    assert step(guest(standing.UNKNOWN)).person


def test_what_nobody_has_asked_for_needs_a_person() -> None:
    found = step(
        guest(standing.DRIFTED), plan(bucket=Bucket.NEEDS_APPROVAL, approvals=(DESTROY,)), pending=[asked(OTHER)]
    )
    assert (found.command, found.person) == (DESTROY.command, True)
    assert found.text == "destroy needs signatures, and nobody has asked for it: its manifest is gone"


@pytest.mark.parametrize(
    ("planned", "observing", "text"),
    [
        (plan(bucket=Bucket.UPDATE, ops=(START,)), False, "the agent does: start"),
        (plan(bucket=Bucket.UPDATE, ops=(START,)), True, "only observed; it would be: start"),
        (plan(bucket=Bucket.UPDATE, ops=(START,), waits_for=("db-1",)), False, "it waits for db-1"),
        (plan(bucket=Bucket.UPDATE, diff=(DIFF,), notes=("at the next restart",)), False, "at the next restart"),
        (plan(notes=("by the way",)), False, ""),
    ],
)  # fmt: skip
def test_what_the_agent_does_by_itself_needs_nobody(planned: GuestPlan, observing: bool, text: str) -> None:
    assert step(guest(standing.DRIFTED), planned, observing=observing) == Step(text=text)


def test_what_this_version_cannot_do_is_for_a_person() -> None:
    assert step(guest(standing.DRIFTED), plan(unsupported=("move it by hand",))) == Step(
        text="move it by hand", person=True
    )
    assert "left alone" in step(guest(standing.UNMANAGED)).text
    assert step(guest(standing.IN_SYNC)).text == ""


def test_each_kind_that_destroys_says_what_would_be_lost() -> None:
    assert {kind.value for kind, entry in KINDS.items() if entry.tier is Tier.DESTRUCTIVE} <= MEANS.keys()
    assert MEANS.keys() <= {kind.value for kind in Kind}


def test_commands_in_sentences_are_marked_and_everything_else_is_escaped() -> None:
    assert coded("see `trueup ops <b>` & <i>") == "see <code>trueup ops &lt;b&gt;</code> &amp; &lt;i&gt;"
    assert coded("one ` alone") == "one ` alone"
