"""A plan as people read it: what differs, field by field, why it matters, what would be done, what is in the way."""

from collections.abc import Sequence
from typing import Final

import click

from trueup.core.planner import next_op
from trueup.edges.cli.output import WORD_OF, columns, dim
from trueup.model.ops import Kind
from trueup.model.plan import Bucket, Diff, GuestPlan, Plan, PlannedOp

_VALUE_MAX: Final = 64

_LOOK: Final = {
    Bucket.CREATE: ("+", "green", "create"),
    Bucket.UPDATE: ("~", "yellow", "update"),
    Bucket.POWER: ("^", "cyan", "power"),
    Bucket.NEEDS_APPROVAL: ("!", "magenta", "needs approval"),
    Bucket.BLOCKED: ("x", "red", "blocked"),
    Bucket.UNCHANGED: ("=", "white", "unchanged"),
}

_COUNTED: Final = (
    (Bucket.CREATE, "to create"),
    (Bucket.UPDATE, "to update"),
    (Bucket.POWER, "to start or stop"),
    (Bucket.NEEDS_APPROVAL, "waiting for an approval"),
    (Bucket.BLOCKED, "blocked"),
    (Bucket.UNCHANGED, "unchanged"),
)


def has_changes(plan: Plan) -> bool:
    """Whether anything differs."""
    return any(guest.bucket is not Bucket.UNCHANGED for guest in plan.guests)


def has_work(plan: Plan) -> bool:
    """Whether anything may be done about it now, without anybody's approval."""
    return any(next_op(guest) is not None for guest in plan.guests)


def show(plan: Plan) -> None:
    """Print the whole plan."""
    for guest in plan.guests:
        if guest.bucket is not Bucket.UNCHANGED:
            show_guest(guest)
            click.echo()
    for guest in plan.guests:
        if guest.unadopted:
            why = "; ".join(guest.notes) or "it does not carry our marker"
            click.echo(f"{click.style('x', fg='red')} {_title(guest)} is not adopted: {why}")
    for guest in plan.guests:
        if guest.bucket is Bucket.UNCHANGED:
            for offer in guest.approvals:
                click.echo(f"{dim('offer')}  {_title(guest)}: {offer.why}; {click.style(offer.command, bold=True)}")
    click.echo(summary(plan))


def summary(plan: Plan) -> str:
    """The last line: each guest is counted once."""
    if not plan.guests:
        return "No guests are declared, and none are managed."
    counts = [f"{plan.count(bucket)} {text}" for bucket, text in _COUNTED if plan.count(bucket)]
    head = "Plan" if has_changes(plan) else "No changes"
    return f"{click.style(head, bold=True)}: {', '.join(counts)}."


def show_guest(guest: GuestPlan) -> None:
    """Print one guest's part."""
    sign, color, word = _LOOK[guest.bucket]
    click.echo(f"{click.style(f'{sign} {word}', fg=color, bold=True)}  {_title(guest)} {dim(_where(guest))}")
    for line in columns([_diff(diff) for diff in guest.diff]):
        click.echo(f"    {line}")
    if guest.ops and guest.bucket is not Bucket.BLOCKED:
        click.echo(f"    {dim('does')}  {', then '.join(op_text(op) for op in guest.ops)}")
    for approval in guest.approvals:
        click.echo(f"    {approval.kind.value} is never done without signatures: {approval.why}")
        click.echo(f"    ask for it with  {click.style(approval.command, bold=True)}")
    if guest.blocked_by:
        click.echo(f"    {click.style('because', fg='red')}  {guest.blocked_by}")
    for note in (*guest.notes, *guest.unsupported):
        click.echo(f"    {dim('note')}  {note}")


def _title(guest: GuestPlan) -> str:
    return click.style(guest.name or str(guest.vmid), bold=True)


def _where(guest: GuestPlan) -> str:
    return f"{WORD_OF[guest.type]} {guest.vmid} on {guest.node}"


def _diff(diff: Diff) -> Sequence[str]:
    if not diff.was:
        sign = click.style("+", fg="green")
        change = click.style(_value(diff.want), fg="green")
    elif not diff.want:
        sign = click.style("-", fg="red")
        change = click.style(_value(diff.was), fg="red")
    else:
        sign = click.style("~", fg="yellow")
        change = f"{click.style(_value(diff.was), fg='red')} -> {click.style(_value(diff.want), fg='green')}"
    return (f"{sign} {diff.key}", change, dim(diff.why))


def _value(text: str) -> str:
    """One line, not too long; the whole is in the JSON."""
    line = text.encode("unicode_escape").decode() if any(c in text for c in "\r\n\t\x1b") else text
    return line if len(line) <= _VALUE_MAX else f"{line[: _VALUE_MAX - 3]}..."


def op_text(op: PlannedOp) -> str:
    """One operation in a few words."""
    if op.kind is Kind.CLONE and op.source is not None:
        return f"clone of {op.source}"
    if op.kind is Kind.GROW:
        return f"grow {op.params.get('disk', '')} to {op.params.get('size', '')}"
    if op.kind is Kind.CONFIGURE:
        return f"configure {', '.join(sorted(op.goal))}" if op.goal else "configure"
    return op.kind.value
