"""`trueup status`: how guests are, what is in flight, what is unresolved, who leads. Reads only.

What the journal knows is shown even if the cluster or the manifests cannot be read: that is when it is needed most.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from trueup.adapters.manifests import Manifests, refuse_emptied
from trueup.edges import incarnation
from trueup.edges.cli import shapes
from trueup.edges.cli import story as stories
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import Json, columns, dim, local, print_json, run_async, warn
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.engine.observer import World
from trueup.engine.surveyor import Survey, Surveyor
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.guests import Power
from trueup.model.ids import Vmid
from trueup.model.ops import EpochTaken, OpView
from trueup.model.plan import Bucket, GuestPlan
from trueup.model.settings import Mode, Settings

EXIT_NOT_IN_SYNC: Final = 2

IN_SYNC, DRIFTED, BLOCKED, UNMANAGED, UNKNOWN = "in_sync", "drifted", "blocked", "unmanaged", "unknown"
_COLOR: Final = {IN_SYNC: "green", DRIFTED: "yellow", BLOCKED: "red", UNMANAGED: "white", UNKNOWN: "magenta"}
_HEALTH: Final = {"running": "green", "locked": "yellow", "absent": "red"}


class GuestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One guest: whether it is as its manifest says, and how it does."""

    vmid: Vmid
    name: str
    sync: str
    health: str
    blocked_by: str = ""


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """Who took the last epoch, and whether somebody holds the journal now."""

    epoch: int
    holder: str
    alive: bool


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `problems` say what could not be read."""

    guests: tuple[GuestStatus, ...]
    in_flight: tuple[OpView, ...]
    leader: Leader | None
    paused: tuple[str, ...]
    mode: str = Mode.ENFORCE.value
    problems: tuple[str, ...] = ()

    @property
    def unresolved(self) -> tuple[OpView, ...]:
        """Those of `in_flight` that recovery could not settle."""
        return tuple(op for op in self.in_flight if op.unresolved is not None)


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
        print_json(_json(found))
    else:
        _show(found)
    fine = all(guest.sync in {IN_SYNC, UNMANAGED} for guest in found.guests)
    return 0 if fine and not found.unresolved and not found.problems else EXIT_NOT_IN_SYNC


async def _status(parts: Parts, settings: Settings) -> Status:
    async with incarnation.journal_for_reading(parts, settings) as journal:
        epochs = await journal.epochs()
        in_flight = await journal.in_flight()
        guests, problems = await _guests(parts, settings, journal)
        return Status(
            guests=tuple(sorted(guests, key=lambda guest: guest.vmid)),
            in_flight=tuple(sorted(in_flight, key=lambda op: (op.unresolved is None, op.started_at_ms))),
            leader=_leader(parts, settings, epochs),
            paused=tuple(sorted(await journal.paused())),
            mode=settings.reconcile.mode.value,
            problems=problems,
        )


def _leader(parts: Parts, settings: Settings, epochs: Sequence[EpochTaken]) -> Leader | None:
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
        return [_unknown(vmid, "", "the manifests cannot be used") for vmid in adopted], tuple(text.splitlines())
    try:
        survey = await _survey(parts, settings, journal, manifests)
    except ReadFailed as error:
        names = {want.vmid: want.name for want in manifests.guests}
        vmids = sorted({*names, *adopted})
        why = "the cluster cannot be read"
        return [_unknown(vmid, names.get(vmid, ""), why) for vmid in vmids], (f"{why}: {error}",)
    return _seen(survey), ()


async def _survey(parts: Parts, settings: Settings, journal: LookingJournal, manifests: Manifests) -> Survey:
    async with incarnation.sight(parts, settings, journal, warn) as seen:
        surveyor = Surveyor(pve=seen.pve, journal=seen.journal, clock=parts.clock(), installation=seen.installation)
        return await surveyor.survey(manifests.guests)


def _seen(survey: Survey) -> list[GuestStatus]:
    planned = [_planned(guest, survey) for guest in survey.plan.guests]
    known = {guest.vmid for guest in planned}
    others = [
        GuestStatus(vmid=row.vmid, name=row.name, sync=UNMANAGED, health=_health(row.vmid, survey.world))
        for row in survey.world.rows.values()
        if row.vmid not in known
    ]
    return [*planned, *others]


def _planned(guest: GuestPlan, survey: Survey) -> GuestStatus:
    sync = {Bucket.UNCHANGED: IN_SYNC, Bucket.BLOCKED: BLOCKED}.get(guest.bucket, DRIFTED)
    blocked_by = guest.blocked_by
    if guest.vmid in survey.world.unread:
        sync = UNKNOWN
    elif guest.unadopted:
        sync, blocked_by = BLOCKED, "; ".join(guest.notes) or "it does not carry our marker"
    return GuestStatus(
        vmid=guest.vmid,
        name=guest.name,
        sync=sync,
        health=_health(guest.vmid, survey.world),
        blocked_by=blocked_by,
    )


def _health(vmid: Vmid, world: World) -> str:
    row = world.rows.get(vmid)
    if row is None:
        return "absent"
    if vmid in world.unread:
        return "unknown"
    if row.lock:
        return "locked"
    seen = world.guests.get(vmid)
    power = seen.status if seen is not None and seen.status is not Power.UNKNOWN else row.status
    return power.value if power in {Power.RUNNING, Power.STOPPED} else "unknown"


def _unknown(vmid: Vmid, name: str, why: str) -> GuestStatus:
    return GuestStatus(vmid=vmid, name=name, sync=UNKNOWN, health="unknown", blocked_by=why)


def _json(found: Status) -> Json:
    leader = found.leader
    return {
        "guests": [
            {
                "vmid": guest.vmid,
                "name": guest.name,
                "sync": guest.sync,
                "health": guest.health,
                "blocked_by": guest.blocked_by or None,
            }
            for guest in found.guests
        ],
        "in_flight": shapes.ops(found.in_flight),
        "unresolved": shapes.ops(found.unresolved),
        "leader": {"epoch": leader.epoch, "holder": leader.holder, "alive": leader.alive} if leader else None,
        "paused": list(found.paused),
        "mode": found.mode,
        "problems": list(found.problems),
    }


def _show(found: Status) -> None:
    for op in found.unresolved:
        head = click.style("UNRESOLVED", fg="magenta", bold=True)
        settles = op.unresolved.settles_by if op.unresolved else ""
        click.echo(f"{head}  {stories.title(op)}, since {local(op.started_at_ms)}")
        click.echo(f"    settled when {settles}; the whole story: trueup ops show {op.op_id}")
    for op in found.in_flight:
        if op.unresolved is None:
            head = click.style("in flight", fg="yellow")
            click.echo(f"{head}  {stories.title(op)}, since {local(op.started_at_ms)} {dim(op.op_id)}")
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
    if leader.alive:
        return f"Leader: {leader.holder}, epoch {leader.epoch}."
    return f"Nobody holds the journal now; the last was {leader.holder}, epoch {leader.epoch}."
