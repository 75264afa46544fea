"""`trueup sign`: one more signature, into the file itself. It needs no cluster and no journal."""

from pathlib import Path

import click

from trueup.adapters.file_names import shown
from trueup.edges import statements
from trueup.edges.cli import signers
from trueup.edges.cli.options import HELP, config_option
from trueup.edges.cli.output import say, warn
from trueup.edges.cli.signers import Pen
from trueup.edges.parts import Parts
from trueup.model.gate import Request


@click.command(context_settings=HELP)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@signers.pen_options
@signers.payload_option
@config_option
@click.pass_obj
def sign(
    parts: Parts,
    config: Path,
    file: Path,
    *,
    pen: Pen,
    payload_out: Path | None,
) -> int:
    """Add a signature to FILE, in place. An unsigned request becomes an envelope.

    The key is a private key's file (OpenSSH or PEM), or the URI of a hardware key or a key service. Keys in an agent
    and FIDO keys sign by `ssh-keygen -Y sign -n trueup`: --payload-out writes what it has to sign, --ssh-signature
    takes what it made. On a machine without settings nobody is looked up: then say --as PERSON.
    """
    keyring = signers.keyring_for(signers.settings_if_there(parts, config))
    found = statements.draft(statements.read(file))
    if payload_out is not None:
        signers.write_payload(found, payload_out)
        return 0
    envelope, who = signers.signed(found, pen, keyring)
    statements.write_envelope(file, envelope)
    asked = statements.parse(envelope)
    if isinstance(asked, Request) and parts.clock().now_ms() >= asked.approve_by_ms:
        warn("its approve_by is over: the gate will refuse it; prepare a new one")
    count = len(envelope.signatures)
    by = f" by {who}" if who else ""
    say(f"Signed{by}: {shown(file)} has {count} signature{'s' if count > 1 else ''} now.")
    return 0
