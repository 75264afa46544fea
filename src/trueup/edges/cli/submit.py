"""`trueup submit`: hand a signed file in. The gate decides; this only carries the bytes and tells the answer."""

import sys
from pathlib import Path

import click

from trueup.edges import statements
from trueup.edges.cli import handing
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.parts import Parts
from trueup.model import limits

STDIN = "-"


@click.command(context_settings=HELP)
@click.argument("file", metavar="FILE")
@config_option
@json_option
@click.pass_obj
def submit(parts: Parts, config: Path, file: str, *, as_json: bool) -> int:
    """Hand a signed request in; `-` is standard input. A veto or a resolution in a file is taken too.

    A request that waits for signatures takes the new ones of a file that is handed in again; one that is known is not
    carried out twice, and answered with how it stands. Exits 0 for accepted, pending and known ones, 1 for refused.
    """
    settings = parts.settings(config)
    if file == STDIN:
        content, via = sys.stdin.buffer.read(limits.REQUEST_MAX_BYTES + 1), "stdin"
    else:
        content, via = statements.read(Path(file)), handing.COMMAND
    return handing.take_in(parts, settings, content, as_json=as_json, via=via)
