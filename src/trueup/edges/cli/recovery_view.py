"""What a recovery found, as people read it: one line each, with the row that decided and why that row is right."""

from typing import Final

import click

from trueup.core.recovery import RULES, Again, Close, Open, Requeue, Watch
from trueup.edges.cli.output import WORD_OF, dim
from trueup.engine.recoverer import Judged, Report
from trueup.model.ops import Reason, Row, Succeeded

_SHOWN: Final = 100
"""Operations that are told one by one; after a crash of a large cluster's agent there may be thousands."""

WHY: Final = {rule.row: rule.why for rule in RULES}


def show(report: Report, *, dry: bool = False) -> None:
    """Print the report."""
    for line in lines(report):
        click.echo(line)
    click.echo(summary(report, dry=dry))


def summary(report: Report, *, dry: bool = False) -> str:
    """All of it in one line."""
    if not report.examined:
        return "Recovery: nothing was in flight."
    parts = [
        (report.resumed, "took effect"),
        (report.failed, "failed"),
        (report.rolled_back, "never took effect"),
        (report.still_running, "still at work"),
        (report.unresolved, "would need a fence, a wait or a person" if dry else "unresolved"),
    ]
    text = ", ".join(f"{count} {what}" for count, what in parts if count)
    extra = f" ({report.presumed} by time alone, and watched)" if report.presumed else ""
    found = f"; {report.adopted} found by searching PVE's task lists" if report.adopted else ""
    head = "Recovery (dry run)" if dry else "Recovery"
    return f"{click.style(head, bold=True)}: {report.examined} examined: {text}{extra}{found}."


def lines(report: Report) -> list[str]:
    """A line for each operation, what is open first."""
    ordered = sorted(report.judged, key=lambda one: (not isinstance(one.verdict, Open), one.view.started_at_ms))
    more = [f"  and {len(ordered) - _SHOWN} more; see `trueup ops list`"] if len(ordered) > _SHOWN else []
    return [_line(one) for one in ordered[:_SHOWN]] + more


def _line(one: Judged) -> str:
    intent = one.view.intent
    name = f"{intent.kind.value} of {WORD_OF[intent.type]} {intent.vmid}" + (f" {intent.name}" if intent.name else "")
    return f"  {_word(one)}  {name} {dim(f'[{one.verdict.row.value}] {explain(one.verdict.row)} {one.view.op_id}')}"


def explain(row: Row) -> str:
    """Why the row decides as it does."""
    return WHY[row]


def _word(one: Judged) -> str:
    match one.verdict:
        case Close(event=Succeeded()):
            return click.style("took effect      ", fg="green")
        case Close(event=event) if event.reason in {Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED}:
            return click.style("never took effect", fg="cyan")
        case Close():
            return click.style("failed           ", fg="red")
        case Watch():
            return click.style("still at work    ", fg="yellow")
        case Open():
            return click.style("unresolved       ", fg="magenta", bold=True)
        case Again():
            return click.style("not decided yet  ", fg="yellow")
        case Requeue():
            return click.style("queued again     ", fg="cyan")
