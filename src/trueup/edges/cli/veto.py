"""`trueup veto`: a signed no to a request that was not carried out yet."""

from pathlib import Path

import click

from trueup.adapters.system import chance
from trueup.core import gate_form
from trueup.core.gate_prepare import No, prepare_veto
from trueup.edges import statements
from trueup.edges.cli import asked_for, handing, signers
from trueup.edges.cli.handing import Out
from trueup.edges.cli.options import HELP, config_option
from trueup.edges.cli.output import run_async
from trueup.edges.cli.signers import Pen
from trueup.edges.parts import Parts
from trueup.model import limits

_NOBODY = "nobody"


@click.command(context_settings=HELP)
@click.argument("request_id", metavar="ID")
@click.option("--reason", default="", metavar="R", help="Why not.")
@signers.key_options
@handing.out_options
@config_option
@click.pass_obj
def veto(
    parts: Parts,
    config: Path,
    request_id: str,
    *,
    reason: str,
    pen: Pen,
    out: Out,
) -> int:
    """End a request that is pending, or accepted and not sent yet. The beginning of its id is enough.

    One veto is enough, by somebody with a role of the rule that decides, or by who asked. What PVE may have received
    cannot be taken back any more.
    """
    settings = parts.settings(config)
    view = run_async(asked_for.find(parts, settings, request_id))
    no = No(cluster=settings.cluster.name, request_id=view.request_id, reason=reason, by=pen.person or _NOBODY)
    made = prepare_veto(no, now_ms=parts.clock().now_ms(), chance=chance(limits.NONCE_BITS // 8))
    payload = gate_form.render_veto(made)
    content = payload if pen.person else statements.unasked(payload)
    return handing.signed_or_written(parts, settings, content, pen, out)
