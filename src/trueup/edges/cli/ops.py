"""`trueup ops`: operations, and the whole story of one. Reads the journal only, beside a running agent too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from trueup.edges import acts, incarnation
from trueup.edges.acts import Cancelled
from trueup.edges.cli import asked_for, op_ids, shapes
from trueup.edges.cli import story as stories
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import columns, dim, local, print_json, run_async, took
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.model.gate import RequestState, RequestView
from trueup.model.ids import Vmid
from trueup.model.ops import OpState, OpView, Record

UNRESOLVED: Final = "unresolved"
_STATES: Final = [*(state.value for state in OpState), UNRESOLVED]
_SHOWN: Final = 50

_COLOR: Final = {
    OpState.ACCEPTED: "cyan",
    OpState.STARTED: "yellow",
    OpState.TASK_RUNNING: "yellow",
    OpState.SUCCEEDED: "green",
    OpState.FAILED: "red",
}


_RESOLVE: Final = "resolve"


class _Ops(click.Group):
    """The commands of this file, and one whose signatures would make all of them slow to start."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return sorted([*super().list_commands(ctx), _RESOLVE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name == _RESOLVE:
            from trueup.edges.cli.ops_resolve import resolve

            return resolve
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Ops, context_settings=HELP)
def ops() -> None:
    """Operations, and the whole story of one."""


@ops.command("list", context_settings=HELP)
@config_option
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--vmid", type=click.IntRange(min=100), help="Only those of this guest.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help=f"How many; 0 is all ({_SHOWN} as text, all as JSON).")
@json_option
@click.pass_obj
def list_(parts: Parts, config: Path, *, state: str | None, vmid: int | None, limit: int | None, as_json: bool) -> int:
    """List operations, the newest first."""
    settings = parts.settings(config)
    count = limit if limit is not None else 0 if as_json else _SHOWN

    async def read() -> tuple[tuple[OpView, ...], tuple[asked_for.Known, ...]]:
        async with incarnation.journal_for_reading(parts, settings) as journal:
            pending = () if state else await asked_for.listed(journal, RequestState.PENDING, 0)
            wanted = tuple(one for one in pending if vmid in {None, one[0].request.target.vmid})
            return await _list(journal, state, Vmid(vmid) if vmid else None, count), wanted

    views, pending = run_async(read())
    if as_json:
        print_json({"ops": shapes.ops(views)})
        return 0
    for line in (*asked_for.table(pending), *table(views)):
        click.echo(line)
    if not (views or pending):
        click.echo("No operations.")
    return 0


async def _list(journal: LookingJournal, state: str | None, vmid: Vmid | None, limit: int) -> tuple[OpView, ...]:
    if state != UNRESOLVED:
        return await journal.ops(state=OpState(state) if state else None, vmid=vmid, limit=limit)
    found = [op for op in await journal.in_flight() if op.unresolved and vmid in {None, op.intent.vmid}]
    return tuple(reversed(found))[: limit or None]


def table(views: Sequence[OpView]) -> list[str]:
    """Operations as lines."""
    return columns([_row(view) for view in views])


def _row(view: OpView) -> Sequence[str]:
    state = click.style(view.state.value, fg=_COLOR[view.state])
    if view.unresolved is not None:
        state = click.style(UNRESOLVED, fg="magenta", bold=True)
    reason = f"{view.reason.value if view.reason else ''}{f' ({view.row.value})' if view.row else ''}"
    duration = took(view.ended_at_ms - view.started_at_ms) if view.ended_at_ms else ""
    return (
        local(view.started_at_ms),
        view.intent.kind.value,
        str(view.intent.vmid),
        view.intent.name,
        state,
        reason,
        duration,
        dim(view.op_id),
    )


@ops.command("show", context_settings=HELP)
@config_option
@click.argument("op_id", metavar="ID")
@json_option
@click.pass_obj
def show(parts: Parts, config: Path, op_id: str, *, as_json: bool) -> int:
    """Tell the whole story of one operation, or of a request for one. The beginning of its id is enough."""
    settings = parts.settings(config)

    async def read() -> tuple[OpView, tuple[Record, ...]] | RequestView:
        async with incarnation.journal_for_reading(parts, settings) as journal:
            asked = await asked_for.begins(journal, op_id)
            if len(asked) == 1 and await journal.op(asked[0].request_id) is None:
                return asked[0]
            view = await op_ids.find(journal, op_id)
            return view, await journal.records(op_id=view.op_id)

    found = run_async(read())
    if isinstance(found, RequestView):
        if as_json:
            print_json(asked_for.as_json((found, None)))
        else:
            asked_for.show(found)
        return 0
    view, records = found
    story = stories.tell(view, records, agent_lives=parts.journal_file.held(settings.store))
    if as_json:
        print_json({**shapes.op(view), **shapes.details(view), **stories.as_json(story)})
    else:
        _show(view, story)
    return 0


@ops.command("cancel", context_settings=HELP)
@config_option
@click.argument("op_id", metavar="ID")
@json_option
@click.pass_obj
def cancel(parts: Parts, config: Path, op_id: str, *, as_json: bool) -> int:
    """End an operation that was accepted but not sent yet; it fails with the reason `expired`.

    What may have reached PVE cannot be taken back. The beginning of its id is enough.
    """
    settings = parts.settings(config)

    async def end() -> Cancelled:
        async with incarnation.journal_for_reading(parts, settings) as journal:
            view = await op_ids.find(journal, op_id)
        acts.require_unsent(view, view.op_id)
        message = acts.Message(command=acts.CANCEL, by=acts.person(), op_id=view.op_id)
        return msgspec.json.decode(await acts.write_down(parts, settings, message), type=Cancelled)

    done = run_async(end())
    if as_json:
        print_json({"op_id": done.op_id, "state": done.state, "reason": done.reason})
    else:
        click.echo(f"{done.op_id} will not be sent: it failed ({done.reason}). A new request may ask for it again.")
    return 0


def _show(view: OpView, story: stories.Story) -> None:
    click.echo(f"{click.style(story.title, bold=True)}")
    color = "magenta" if view.unresolved else _COLOR[view.state]
    click.echo(f"{click.style(story.state, fg=color, bold=True)}")
    click.echo(dim(f"{view.op_id}, epoch {view.epoch}, journaled {local(view.started_at_ms)}"))
    _head("What happened")
    for moment in story.moments:
        click.echo(f"  {_clock(moment.at_ms)}  {moment.words} {dim(f'#{moment.seq}')}")
    _section("What is known for sure", story.known)
    if story.why:
        _section(f"Why it stands as it does: row {story.row} of the recovery table", (story.why,))
    _section("What is not known", story.unknown)
    _section("What settles it", (f"It is settled when {story.settles}.",) if story.settles else ())
    _section("What to do", story.to_do)


def _section(head: str, sentences: Sequence[str]) -> None:
    if sentences:
        _head(head)
        for sentence in sentences:
            click.echo(f"  {sentence}")


def _head(text: str) -> None:
    click.echo()
    click.echo(click.style(text, bold=True))


def _clock(at_ms: int) -> str:
    return f"{local(at_ms)}.{at_ms % 1000:03d}"
