"""What happens next to each guest, and whether that needs a person: the one question that the first page answers.

Pure. The first that holds is told: an operation that nobody can settle comes before all that waits behind it.
"""

from collections.abc import Sequence

import msgspec

from trueup.edges import standing
from trueup.edges.cli import plan_view
from trueup.edges.standing import GuestStatus
from trueup.model.gate import RequestView
from trueup.model.ops import OpView
from trueup.model.plan import GuestPlan


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The next step of one guest. `person`: somebody has to do something, and nothing else on the page asks for it.

    `link` is a path of the page with more about it ('' = the guest's own says all), `link_text` what it is called.
    `command` is what to type. Commands inside of `text` stand between backticks.
    """

    text: str
    link: str = ""
    link_text: str = ""
    command: str = ""
    person: bool = False


def next_step(
    guest: GuestStatus,
    plan: GuestPlan | None,
    in_flight: Sequence[OpView],
    pending: Sequence[RequestView],
    *,
    observing: bool,
) -> Step:
    """What is next for this guest; `in_flight` and `pending` may be those of all guests."""
    for op in in_flight:
        if op.intent.vmid == guest.vmid:
            return _of_op(op)
    for view in pending:
        if view.request.target.vmid == guest.vmid:
            who = view.ruling.missing or "its rule decides anew"
            text = f"{view.request.kind} waits for signatures: {who}"
            return Step(text=text, link=f"/requests/{view.request_id}", link_text="approve or stop it")
    if guest.sync in {standing.BLOCKED, standing.UNKNOWN}:
        return Step(text=guest.blocked_by or "it could not be read", person=True)
    if plan is None:
        return Step(text="no manifest declares it: it is left alone" if guest.sync == standing.UNMANAGED else "")
    if plan.approvals:
        wanted = plan.approvals[0]
        text = f"{wanted.kind.value} needs signatures, and nobody has asked for it: {wanted.why}"
        return Step(text=text, command=wanted.command, person=True)
    return _of_plan(plan, observing=observing)


def _of_op(op: OpView) -> Step:
    link = f"/ops/{op.op_id}"
    if op.unresolved is not None:
        text = f"what became of its {op.intent.kind.value} is not known"
        return Step(text=text, link=link, link_text="see what settles it")
    return Step(text=f"{op.intent.kind.value} is at work", link=link, link_text="its story")


def _of_plan(plan: GuestPlan, *, observing: bool) -> Step:
    if plan.waits_for:
        return Step(text=f"it waits for {', '.join(plan.waits_for)}")
    if plan.ops:
        ops = ", then ".join(plan_view.op_text(op) for op in plan.ops)
        return Step(text=f"only observed; it would be: {ops}" if observing else f"the agent does: {ops}")
    if plan.unsupported:
        return Step(text="; ".join(plan.unsupported), person=True)
    return Step(text="; ".join(plan.notes) if plan.diff else "")
