"""`trueup approve`: sign a request that waits, as the journal holds it, and hand the signature in."""

import base64
from pathlib import Path

import click

from trueup.core.gate_envelope import render_envelope
from trueup.edges.cli import asked_for, handing, signers
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import run_async
from trueup.edges.cli.signers import Pen
from trueup.edges.parts import Parts
from trueup.edges.statements import Draft
from trueup.model.gate_answers import OPERATION_TYPE, Envelope


@click.command(context_settings=HELP)
@click.argument("request_id", metavar="ID")
@signers.pen_options
@signers.payload_option
@config_option
@json_option
@click.pass_obj
def approve(
    parts: Parts,
    config: Path,
    request_id: str,
    *,
    pen: Pen,
    payload_out: Path | None,
    as_json: bool,
) -> int:
    """Sign a request that waits for signatures. The beginning of its id is enough.

    What is signed are the very bytes that the others signed. Exits 0 for accepted and pending, 1 for refused.
    """
    settings = parts.settings(config)
    view = run_async(asked_for.find(parts, settings, request_id))
    envelope = Envelope(payload=base64.b64decode(view.payload), payload_type=OPERATION_TYPE, signatures=())
    found = Draft(envelope=envelope, asker=view.request.requested_by)
    if payload_out is not None:
        signers.write_payload(found, payload_out)
        return 0
    envelope, _ = signers.signed(found, pen, signers.keyring_for(settings))
    return handing.take_in(parts, settings, render_envelope(envelope), as_json=as_json, request_id=view.request_id)
