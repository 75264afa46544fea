"""`trueup recover`: what became of everything that was in flight when the last run ended."""

import asyncio
from pathlib import Path

import click

from trueup.edges import incarnation
from trueup.edges.cli import recovery_view, shapes
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async, say, warn
from trueup.edges.parts import Parts
from trueup.edges.reporters import Lines, progress
from trueup.edges.stopping import Stopping
from trueup.engine.deck import Deck
from trueup.engine.recoverer import Recoverer, Report
from trueup.model.errors import BadInput
from trueup.model.ids import Epoch
from trueup.model.settings import Settings

EXIT_OPEN = 2


@click.command(context_settings=HELP)
@config_option
@click.option("--dry-run", is_flag=True, help="Look once and say what would be recorded; write and fence nothing.")
@json_option
@click.pass_obj
def recover(parts: Parts, config: Path, *, dry_run: bool, as_json: bool) -> int:
    """Find out what became of everything that was in flight, and record it. Nothing is sent again.

    Exits 0 if nothing is open afterwards, 2 if something is, 1 on an error.
    """
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    report = run_async(_dry(parts, settings) if dry_run else _recover(parts, settings))
    if as_json:
        print_json(shapes.recovery(report))
    else:
        recovery_view.show(report, dry=dry_run)
    return EXIT_OPEN if report.left_open else 0


async def _recover(parts: Parts, settings: Settings) -> Report:
    reporter = progress(parts.clock(), say)
    with Stopping(reporter.say).listening():
        async with (
            incarnation.journal_for_work(parts, settings) as journal,
            incarnation.incarnation(parts, settings, journal, reporter, warn) as agent,
        ):
            with reporter.drawing():
                report = await agent.recover()
            for doubt in await journal.doubts():
                remedy = "compare guests with manifests, then `trueup journal acknowledge`"
                raise BadInput(what=f"nothing is recorded: {doubt}", remedy=remedy)
            return report


async def _dry(parts: Parts, settings: Settings) -> Report:
    """Look through ports that cannot change anything; a live agent is not disturbed."""
    async with (
        incarnation.journal_for_reading(parts, settings) as journal,
        incarnation.sight(parts, settings, journal, warn) as seen,
    ):
        deck = Deck(
            journal=seen.journal,
            pve=seen.pve,
            clock=parts.clock(),
            entropy=parts.entropy(),
            reporter=Lines(say),
            epoch=Epoch(0),
            installation=seen.installation,
            limits=settings.limits,
        )
        ops = await asyncio.gather(journal.in_flight(), journal.accepted())
        return await Recoverer(deck).recover([*ops[0], *ops[1]], dry=True)
