"""`trueup adopt`: take guests over that are there already, by writing our marker into their description."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from trueup.edges import acts, incarnation
from trueup.edges.acts import Acts, Adopting, Message
from trueup.edges.cli.asking import Answer, ask, may_ask
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import WORD_OF, Json, columns, dim, print_json, run_async, say, warn
from trueup.edges.parts import Parts
from trueup.edges.reporters import progress
from trueup.edges.stopping import Stopping
from trueup.engine import adoption
from trueup.engine.adoption import Adoption, Candidate, Refusal
from trueup.engine.surveyor import Surveyor
from trueup.model.errors import BadInput
from trueup.model.ids import Vmid
from trueup.model.settings import Settings
from trueup.ports import Journal

_DIFFS_SHOWN = 4


@click.command(context_settings=HELP)
@click.argument("vmids", metavar="[VMID]...", nargs=-1, type=click.IntRange(min=100))
@config_option
@click.option("--all", "everything", is_flag=True, help="All guests that a manifest declares and that are not ours.")
@click.option("--take-over", is_flag=True, help="Also those that another trueup, or an older guest, has a claim on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def adopt(parts: Parts, config: Path, vmids: tuple[int, ...], **options: bool) -> int:
    """Take declared guests over: show what is written, ask, and write our marker into their description.

    Nothing else of a guest is changed by it; what differs from its manifest is named, and is the next apply's work.
    Exits 1 if a guest could not be taken over.
    """
    if bool(vmids) == options["everything"]:
        raise click.UsageError("name guests, or give --all")
    if not options["yes"] and not may_ask():
        raise BadInput(what="there is no terminal to ask on", remedy="give --yes")
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    wanted = None if options["everything"] else [Vmid(vmid) for vmid in vmids]
    found = run_async(_consider(parts, settings, wanted, take_over=options["take_over"]))
    quiet = options["as_json"] and options["yes"]
    if not quiet:
        _show(found, err=options["as_json"])
    agreed = bool(found.candidates) and (options["yes"] or _agreed(found.candidates))
    done = Adopting(results=(), refusals=found.refusals)
    if agreed:
        done = run_async(_adopt(parts, settings, found, take_over=options["take_over"]))
    refusals = list((_by_vmid(found.refusals) | _by_vmid(done.refusals)).values())
    if options["as_json"]:
        print_json(_json(done, refusals))
    else:
        _show_end(done)
    failed = any(not result.adopted for result in done.results) or any(not refusal.ours for refusal in refusals)
    return 1 if failed or (found.candidates and not agreed) else 0


async def _consider(parts: Parts, settings: Settings, vmids: Sequence[Vmid] | None, *, take_over: bool) -> Adoption:
    """Look through ports that change nothing."""
    manifests = parts.manifests(settings.manifests.path)()
    async with (
        incarnation.journal_for_reading(parts, settings) as journal,
        incarnation.sight(parts, settings, journal, warn) as seen,
    ):
        surveyor = Surveyor(pve=seen.pve, journal=seen.journal, clock=parts.clock(), installation=seen.installation)
        return adoption.consider(await surveyor.survey(manifests.guests), manifests.guests, vmids, take_over=take_over)


async def _adopt(parts: Parts, settings: Settings, found: Adoption, *, take_over: bool) -> Adopting:
    """Do it, here or through the agent; everything is looked at once more there."""
    guests = tuple(str(candidate.seen.vmid) for candidate in found.candidates)
    message = Message(command=acts.ADOPT, by=acts.person(), guests=guests, take_over=take_over)

    async def here(journal: Journal) -> msgspec.Raw:
        reporter = progress(parts.clock(), say)
        with Stopping(reporter.say).listening():
            async with incarnation.incarnation(parts, settings, journal, reporter, warn) as agent:
                work = Acts(agent.deck, lambda: parts.manifests(settings.manifests.path)().guests)
                with reporter.drawing():
                    await agent.recover()
                    async with agent.reconciler() as reconciler:
                        with work.working(agent, reconciler):
                            return await work.do(message)

    return msgspec.json.decode(await acts.here_or_there(parts, settings, message, here), type=Adopting)


def _agreed(candidates: Sequence[Candidate]) -> bool:
    count = len(candidates)
    return ask(f"Take {'this guest' if count == 1 else f'these {count} guests'} over?") is Answer.YES


def _show(found: Adoption, *, err: bool) -> None:
    rows = [
        (
            click.style(one.seen.name, bold=True),
            f"{WORD_OF[one.seen.type]} {one.seen.vmid} on {one.seen.node}",
            "our marker, a comment that PVE's page does not show, goes into its description",
        )
        for one in found.candidates
    ]
    for line, one in zip(columns(rows), found.candidates, strict=True):
        click.echo(line, err=err)
        if one.claim:
            click.echo(f"    {click.style('taken over', fg='yellow')}  {one.claim}", err=err)
        for diff in one.diff[:_DIFFS_SHOWN]:
            click.echo(f"    {dim('then')}  {diff.key}: {diff.was or '-'} -> {diff.want or '-'}", err=err)
        if len(one.diff) > _DIFFS_SHOWN:
            click.echo(f"    {dim('then')}  and {len(one.diff) - _DIFFS_SHOWN} more (trueup plan)", err=err)
    for refusal in found.refusals:
        color = "green" if refusal.ours else "red"
        head = click.style("ours" if refusal.ours else "refused", fg=color)
        click.echo(f"{head}  {refusal.name or refusal.vmid} ({refusal.vmid}): {refusal.why}", err=err)
    if not found.candidates:
        click.echo("There is nothing to adopt.", err=err)


def _show_end(done: Adopting) -> None:
    for result in done.results:
        if not result.adopted:
            click.echo(f"{click.style('not adopted', fg='red')}  {result.name} ({result.vmid}): {result.why}")
    adopted = sum(1 for result in done.results if result.adopted)
    if done.results:
        click.echo(f"Adopted: {adopted} of {len(done.results)} guests.")


def _by_vmid(refusals: Sequence[Refusal]) -> dict[Vmid, Refusal]:
    return {refusal.vmid: refusal for refusal in refusals}


def _json(done: Adopting, refusals: Sequence[Refusal]) -> Json:
    return {
        "adopted": [
            {"vmid": result.vmid, "name": result.name, "op_id": result.op_id}
            for result in done.results
            if result.adopted
        ],
        "failed": [
            {"vmid": result.vmid, "name": result.name, "op_id": result.op_id or None, "why": result.why}
            for result in done.results
            if not result.adopted
        ],
        "refused": [
            {"vmid": refusal.vmid, "name": refusal.name, "why": refusal.why} for refusal in refusals if not refusal.ours
        ],
        "ours": [{"vmid": refusal.vmid, "name": refusal.name} for refusal in refusals if refusal.ours],
    }
