"""`trueup requests`: what people have asked for, who has agreed, and who is missing. Reads only."""

from pathlib import Path
from typing import Final

import click

from trueup.edges import incarnation
from trueup.edges.cli import asked_for
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async
from trueup.edges.parts import Parts
from trueup.model.gate import RequestState

_SHOWN: Final = 50


@click.command(context_settings=HELP)
@click.option("--state", type=click.Choice([one.value for one in RequestState]), help="Only those in this state.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help=f"How many; 0 is all ({_SHOWN} as text, all as JSON).")
@config_option
@json_option
@click.pass_obj
def requests(parts: Parts, config: Path, *, state: str | None, limit: int | None, as_json: bool) -> int:
    """List requests, the newest first, and who still has to sign them."""
    settings = parts.settings(config)
    count = limit if limit is not None else 0 if as_json else _SHOWN

    async def read() -> tuple[asked_for.Known, ...]:
        async with incarnation.journal_for_reading(parts, settings) as journal:
            return await asked_for.listed(journal, RequestState(state) if state else None, count)

    found = run_async(read())
    if as_json:
        print_json({"requests": [asked_for.as_json(one) for one in found]})
        return 0
    for line in asked_for.table(found):
        click.echo(line)
    if not found:
        click.echo("No requests.")
    return 0
