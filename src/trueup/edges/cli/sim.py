"""`trueup sim`: the PVE simulator, a program of its own; this process becomes it."""

import os
import sys
from pathlib import Path

import click

from trueup.edges.cli.options import HELP, debug_option
from trueup.model.errors import TrueupError


@click.command(context_settings=HELP)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--guests", type=click.Path(path_type=Path), help="Guests to begin with, a JSON file.")
@click.option("--time-scale", type=click.FloatRange(min=0), help="Factor on the durations of tasks, like 0.1.")
@click.option("--faults", type=click.Path(path_type=Path), help="Faults, one JSON object a line.")
@click.option("--seed", type=int, help="Seed of everything that is left to chance.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once it listens.")
@debug_option
def sim(*, as_json: bool, **options: object) -> int:
    """Run a simulated PVE cluster over HTTPS, until Ctrl-C."""
    arguments = [sys.executable, "-m", "pvesim"]
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    if as_json:
        arguments.append("--json")
    sys.stdout.flush()
    try:
        os.execv(sys.executable, arguments)  # noqa: S606 - our own simulator, no shell
    except OSError as error:
        raise TrueupError(what=f"the simulator cannot be started: {error.strerror}", where=sys.executable) from error
