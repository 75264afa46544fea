"""Requests as commands read them: found by the beginning of an id, listed, and each with who is missing."""

from collections.abc import Sequence

import click

from trueup.edges import incarnation
from trueup.edges.cli import gate_words
from trueup.edges.cli.output import Json, columns, dim, local
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.edges.web import asked
from trueup.model.errors import BadInput
from trueup.model.gate import RequestState, RequestView
from trueup.model.ids import OpId
from trueup.model.ops import OpView
from trueup.model.settings import Settings

_SHOWN = 5
_COLOR = {
    "pending": "yellow",
    "accepted": "cyan",
    "succeeded": "green",
    "failed": "red",
    "refused": "red",
    "vetoed": "magenta",
    "expired": "magenta",
}

Known = tuple[RequestView, OpView | None]
"""A request, and its operation once it was accepted."""


async def find(parts: Parts, settings: Settings, start: str) -> RequestView:
    """A request by its id or the beginning of it. Raises BadInput: none, or several."""
    async with incarnation.journal_for_reading(parts, settings) as journal:
        found = await begins(journal, start)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(what=f"no request's id begins with {start!r}", remedy="see `trueup requests`")
    some = ", ".join(view.request_id for view in found[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    raise BadInput(what=f"{len(found)} requests begin with {start!r}: {some}{more}", remedy="give more of the id")


async def begins(journal: LookingJournal, start: str) -> tuple[RequestView, ...]:
    """All requests whose id begins so; the one whose id it is alone, if there is one."""
    exact = await journal.request(OpId(start))
    if exact is not None:
        return (exact,)
    return tuple(view for view in await journal.requests() if view.request_id.startswith(start.lower()))


async def listed(journal: LookingJournal, state: RequestState | None, limit: int) -> tuple[Known, ...]:
    """Requests with their operations, newest first; limit 0 = all."""
    views = await journal.requests(state=state, limit=limit)
    return tuple([(view, await journal.op(view.request_id)) for view in views])


def as_json(known: Known) -> dict[str, Json]:
    """One request as data; `op_state` is its operation's."""
    view, op = known
    return {**asked.request(view), "op_state": op.state.value if op else None}


def table(requests: Sequence[Known]) -> list[str]:
    """Requests as lines."""
    return columns([_row(view, op) for view, op in requests])


def _row(view: RequestView, op: OpView | None) -> Sequence[str]:
    state = op.state.value if op else view.state.value
    request = view.request
    said = view.ruling.missing if view.state is RequestState.PENDING else ""
    return (
        local(view.requested_at_ms),
        request.kind,
        str(request.target.vmid),
        click.style(state, fg=_COLOR.get(state, "yellow")),
        f"asked for by {request.requested_by}",
        f"missing: {said}" if said else "",
        dim(view.request_id),
    )


def show(view: RequestView) -> None:
    """Everything about one request that never became an operation."""
    request = view.request
    target = request.target
    click.echo(click.style(gate_words.title(view), bold=True))
    click.echo(click.style(view.state.value, fg=_COLOR[view.state.value], bold=True))
    identity = target.identity
    who = identity.marker_uid or identity.smbios1_uuid or identity.rootfs
    params = ", ".join(f"{name}={value}" for name, value in request.params.items())
    lines = [
        ("asked for by", request.requested_by),
        ("reason", request.reason),
        ("guest", f"{target.vmid}, identity {who}, digest {target.digest}"),
        ("params", params),
        ("signatures until", local(request.approve_by_ms)),
        ("carried out until", local(request.execute_by_ms)),
        ("idempotency key", request.idempotency_key),
        ("payload", f"sha256 {view.payload_sha256}"),
        ("signed by", ", ".join(f"{one.person} ({one.key_id[:12]}…)" for one in view.approvals)),
        ("missing", view.ruling.missing if view.state is RequestState.PENDING else ""),
        ("ended because", ended_because(view)),
    ]
    for line in columns([(dim(name), text) for name, text in lines if text]):
        click.echo(f"  {line}")
    if view.state is RequestState.PENDING:
        click.echo(f"Sign it with `trueup approve {view.request_id} --key KEY`, or end it with `trueup veto`.")


def ended_because(view: RequestView) -> str:
    """Why it ended without being carried out; '' while it did not."""
    if view.vetoed is not None:
        return f"{view.vetoed.approval.person} vetoed it{f': {view.vetoed.reason}' if view.vetoed.reason else ''}"
    if view.lapsed is not None:
        return view.lapsed.text or view.lapsed.why.value
    return ""
