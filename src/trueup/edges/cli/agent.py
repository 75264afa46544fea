"""`trueup agent`: the daemon. It recovers, then keeps the guests at their manifests until it is told to stop."""

from pathlib import Path

import click

from trueup.edges import daemon, fleet
from trueup.edges.cli.options import HELP, config_option
from trueup.edges.cli.output import run_async
from trueup.edges.hosting import Alone
from trueup.edges.log import open_log
from trueup.edges.parts import Parts


@click.command(context_settings=HELP)
@config_option
@click.pass_obj
def agent(parts: Parts, config: Path) -> int:
    """Recover, then keep the guests at their manifests, until SIGTERM or Ctrl-C.

    Manifests are watched, and read anew on each pass; while they are broken, nothing is changed and the log says so.
    With `[reconcile] mode = "observe"` it looks and tells, and changes nothing. SIGHUP reads the settings anew.

    It serves all clusters of the settings, or the one that `--cluster` names; none of them waits for another.
    """
    several = parts.clusters(config)
    first = several[0]
    log = open_log(first.log, parts.clock())
    if len(several) > 1:
        return run_async(fleet.serve(parts, several, log))
    host = Alone(first.http, log, parts.clock())
    return run_async(daemon.serve(parts, first, log, host))
