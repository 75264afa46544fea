"""`trueup status`: how guests are, what is in flight, what is unresolved, who leads. Reads only.

What the journal knows is shown even if the cluster or the manifests cannot be read: that is when it is needed most.
"""

from pathlib import Path
from typing import Final

import click

from trueup.adapters.manifests import Manifests, refuse_emptied
from trueup.edges import incarnation, standing
from trueup.edges.cli import gate_words
from trueup.edges.cli import story as stories
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import columns, dim, local, print_json, run_async, warn
from trueup.edges.journal_head import newest_record
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.edges.standing import BLOCKED, DRIFTED, IN_SYNC, UNKNOWN, UNMANAGED, GuestStatus, Leader, Status
from trueup.engine.surveyor import Survey, Surveyor
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.gate import RequestState
from trueup.model.settings import Mode, Settings

EXIT_NOT_IN_SYNC: Final = 2

_COLOR: Final = {IN_SYNC: "green", DRIFTED: "yellow", BLOCKED: "red", UNMANAGED: "white", UNKNOWN: "magenta"}
_HEALTH: Final = {"running": "green", "locked": "yellow", "absent": "red"}


@click.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def status(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Show guests, operations in flight (unresolved ones first), and who leads.

    Exits 0 if every declared guest is in sync and nothing is unresolved, 2 otherwise.
    """
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    found = run_async(_status(parts, settings))
    for problem in found.problems:
        warn(problem)
    if as_json:
        print_json(standing.as_json(found))
    else:
        _show(found)
    fine = all(guest.sync in {IN_SYNC, UNMANAGED} for guest in found.guests)
    return 0 if fine and not (found.unresolved or found.problems or found.doubts) else EXIT_NOT_IN_SYNC


async def _status(parts: Parts, settings: Settings) -> Status:
    async with incarnation.journal_for_reading(parts, settings) as journal:
        in_flight = await journal.in_flight()
        guests, problems = await _guests(parts, settings, journal)
        return Status(
            guests=tuple(sorted(guests, key=lambda guest: guest.vmid)),
            in_flight=standing.unresolved_first(in_flight),
            leader=await _leader(parts, settings, journal),
            paused=tuple(sorted(await journal.paused())),
            mode=settings.reconcile.mode.value,
            doubts=await journal.doubts(),
            head=await newest_record(journal),
            problems=problems,
            pending=await journal.requests(state=RequestState.PENDING),
        )


async def _leader(parts: Parts, settings: Settings, journal: LookingJournal) -> Leader | None:
    epochs = await journal.epochs()
    if settings.store.postgres is not None:
        return await standing.leader_of(journal, epochs)
    if not epochs:
        return None
    alive = parts.journal_file.held(settings.store)
    return Leader(epoch=epochs[-1].epoch, holder=epochs[-1].holder, alive=alive)


async def _guests(
    parts: Parts, settings: Settings, journal: LookingJournal
) -> tuple[list[GuestStatus], tuple[str, ...]]:
    adopted = await journal.adopted()
    try:
        manifests = parts.manifests(settings.manifests.path)()
        refuse_emptied(manifests, adopted)
    except BadInput as error:
        text = str(error)
        return [standing.unknown(vmid, "", "the manifests cannot be used") for vmid in adopted], tuple(
            text.splitlines()
        )
    try:
        survey = await _survey(parts, settings, journal, manifests)
    except ReadFailed as error:
        names = {want.vmid: want.name for want in manifests.guests}
        vmids = sorted({*names, *adopted})
        why = "the cluster cannot be read"
        return [standing.unknown(vmid, names.get(vmid, ""), why) for vmid in vmids], (f"{why}: {error}",)
    return standing.seen(survey), ()


async def _survey(parts: Parts, settings: Settings, journal: LookingJournal, manifests: Manifests) -> Survey:
    async with incarnation.sight(parts, settings, journal, warn) as seen:
        surveyor = Surveyor(pve=seen.pve, journal=seen.journal, clock=parts.clock(), installation=seen.installation)
        return await surveyor.survey(manifests.guests)


def _show(found: Status) -> None:
    for doubt in found.doubts:
        head = click.style("IN DOUBT", fg="magenta", bold=True)
        click.echo(f"{head}  {doubt}")
        click.echo("    nothing is changed; compare guests with manifests, then `trueup journal acknowledge`")
    for op in found.unresolved:
        head = click.style("UNRESOLVED", fg="magenta", bold=True)
        settles = op.unresolved.settles_by if op.unresolved else ""
        click.echo(f"{head}  {stories.title(op)}, since {local(op.started_at_ms)}")
        click.echo(f"    settled when {settles}; the whole story: trueup ops show {op.op_id}")
    for op in found.in_flight:
        if op.unresolved is None:
            head = click.style("in flight", fg="yellow")
            click.echo(f"{head}  {stories.title(op)}, since {local(op.started_at_ms)} {dim(op.op_id)}")
    for request in found.pending:
        head = click.style("pending", fg="yellow")
        click.echo(f"{head}  {gate_words.title(request)}, asked for by {request.request.requested_by}")
        click.echo(f"    missing: {request.ruling.missing}; trueup approve {request.request_id} --key KEY")
    rows = [
        (
            click.style(guest.name or "-", bold=True),
            str(guest.vmid),
            click.style(guest.sync, fg=_COLOR[guest.sync]),
            click.style(guest.health, fg=_HEALTH.get(guest.health)),
            guest.blocked_by,
        )
        for guest in found.guests
    ]
    for line in columns(rows):
        click.echo(line)
    counts = [(name, sum(1 for guest in found.guests if guest.sync == name)) for name in _COLOR]
    click.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts if count) or "no guests")
    click.echo(_leader_line(found.leader))
    if found.mode == Mode.OBSERVE.value:
        click.echo(
            f"{click.style('Observe mode', fg='cyan', bold=True)}: the agent shows differences, changes nothing."
        )
    if found.paused:
        click.echo(f"Paused: {'everything' if '*' in found.paused else ', '.join(found.paused)}")


def _leader_line(leader: Leader | None) -> str:
    if leader is None:
        return "Nothing has been done yet: there is no journal."
    if leader.alive and not leader.epoch:
        return f"Leader: {leader.holder}, which is about to begin."
    if leader.alive:
        return f"Leader: {leader.holder}, epoch {leader.epoch}."
    return f"Nobody holds the journal now; the last was {leader.holder}, epoch {leader.epoch}."
