"""`trueup plan`: what differs, and what would be done about it. It reads only, beside a running agent too."""

from pathlib import Path

import click

from trueup.adapters.manifests import refuse_emptied
from trueup.edges import incarnation, option_check
from trueup.edges.cli import plan_view, shapes
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async, warn
from trueup.edges.parts import Parts
from trueup.engine.surveyor import Surveyor
from trueup.model.plan import Plan
from trueup.model.settings import Settings

EXIT_CHANGES = 2


@click.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def plan(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Show what differs from the manifests, field by field, with the reason.

    Changes nothing. Exits 0 if nothing differs, 2 if something does, 1 on an error.
    """
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    found = run_async(_plan(parts, settings))
    if as_json:
        print_json(shapes.plan(found))
    else:
        plan_view.show(found)
    return EXIT_CHANGES if plan_view.has_changes(found) else 0


async def _plan(parts: Parts, settings: Settings) -> Plan:
    manifests = parts.manifests(settings.manifests.path)()
    async with incarnation.journal_for_reading(parts, settings) as journal:
        refuse_emptied(manifests, await journal.adopted())
        async with incarnation.sight(parts, settings, journal, warn, options=True) as seen:
            option_check.refuse(seen.options, manifests)
            surveyor = Surveyor(pve=seen.pve, journal=seen.journal, clock=parts.clock(), installation=seen.installation)
            return (await surveyor.survey(manifests.guests)).plan
