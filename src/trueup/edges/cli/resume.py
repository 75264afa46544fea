"""`trueup resume`: the opposite of `trueup pause`."""

from pathlib import Path

import click

from trueup.edges import acts
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, warn
from trueup.edges.cli.pause import change, said
from trueup.edges.parts import Parts


@click.command(context_settings=HELP)
@click.argument("guests", metavar="[GUEST]...", nargs=-1)
@config_option
@json_option
@click.pass_obj
def resume(parts: Parts, config: Path, guests: tuple[str, ...], *, as_json: bool) -> int:
    """Take guests up again, by name or vmid; without any, everything that is paused."""
    found = change(parts, config, acts.RESUME, guests)
    if guests and "*" in found.paused:
        warn("everything is still paused (`trueup resume` without names takes it up again)")
    if as_json:
        print_json({"paused": list(found.paused)})
    else:
        click.echo(f"Still paused: {said(found)}.")
    return 0
