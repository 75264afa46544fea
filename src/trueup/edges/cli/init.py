"""`trueup init`: a starter configuration that says itself what to do next."""

from pathlib import Path

import click

from trueup.edges.cli.options import HELP, debug_option
from trueup.edges.parts import Parts


@click.command(context_settings=HELP)
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=".", required=False)
@debug_option
@click.pass_obj
def init(_parts: Parts, folder: Path) -> int:
    """Write a starter configuration into DIR (here, if it is left out): settings, example manifest, gate files."""
    from trueup.edges.starter import write_starter

    for written in write_starter(folder):
        click.echo(f"wrote {written}")
    place = "" if folder == Path() else f"cd {folder}, "
    click.echo(f"Next: {place}fill in trueup.toml and the manifests, then run `trueup plan`. README.txt says how.")
    return 0
