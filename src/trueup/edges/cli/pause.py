"""`trueup pause`: leave guests alone, until they are resumed. Recovery and reads go on."""

from pathlib import Path

import click
import msgspec

from trueup.edges import acts
from trueup.edges.acts import Message, Pausing
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async
from trueup.edges.parts import Parts


@click.command(context_settings=HELP)
@click.argument("guests", metavar="[GUEST]...", nargs=-1)
@config_option
@json_option
@click.pass_obj
def pause(parts: Parts, config: Path, guests: tuple[str, ...], *, as_json: bool) -> int:
    """Leave guests alone, by name or vmid; without any, everything. What is on its way goes on to its end."""
    found = change(parts, config, acts.PAUSE, guests)
    if as_json:
        print_json({"paused": list(found.paused)})
    else:
        click.echo(f"Paused: {said(found)}. `trueup resume` takes up again.")
    return 0


def change(parts: Parts, config: Path, command: str, guests: tuple[str, ...]) -> Pausing:
    """Pause or resume, here or through the agent."""
    message = Message(command=command, by=acts.person(), guests=guests)
    answer = run_async(acts.write_down(parts, parts.settings(config), message))
    return msgspec.json.decode(answer, type=Pausing)


def said(found: Pausing) -> str:
    """What is paused, in words."""
    if "*" in found.paused:
        return "everything"
    return ", ".join(found.paused) or "nothing"
