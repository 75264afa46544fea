"""`trueup ops resolve`: a signed statement of how an unresolved operation ended, where nothing in PVE can tell."""

from pathlib import Path

import click
import msgspec

from trueup.adapters.system import chance
from trueup.core import gate_form
from trueup.core.gate_prepare import Word, prepare_resolution
from trueup.edges import incarnation, statements
from trueup.edges.cli import handing, op_ids, signers
from trueup.edges.cli.handing import Out
from trueup.edges.cli.options import HELP, bundled, config_option
from trueup.edges.cli.output import run_async
from trueup.edges.cli.signers import Pen
from trueup.edges.parts import Parts
from trueup.model import limits
from trueup.model.gate_answers import ResolvedAs
from trueup.model.ops import OpView
from trueup.model.settings import Settings

_NOBODY = "nobody"


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the person says."""

    resolved_as: str
    reason: str


@click.command("resolve", context_settings=HELP)
@click.argument("op_id", metavar="ID")
@click.option(
    "--as",
    "resolved_as",
    type=click.Choice([one.value for one in ResolvedAs]),
    required=True,
    help="How it ended, as you have seen for yourself.",
)
@click.option("--reason", required=True, metavar="R", help="How you know; it stands in the journal for good.")
@bundled("word", _Said, "resolved_as", "reason")
@signers.resolver_options
@handing.out_options
@config_option
@click.pass_obj
def resolve(
    parts: Parts,
    config: Path,
    op_id: str,
    *,
    word: _Said,
    pen: Pen,
    out: Out,
) -> int:
    """Close an unresolved operation by your word, signed. The beginning of its id is enough.

    The journal says for good that it rests on a person. The policy's rule for the kind `resolve` says who may. Exits 1
    if it is refused: an operation that trueup can still settle by itself cannot be closed so.
    """
    settings = parts.settings(config)
    view = run_async(_find(parts, settings, op_id))
    statement = Word(
        cluster=settings.cluster.name,
        op_id=view.op_id,
        resolved_as=ResolvedAs(word.resolved_as),
        reason=word.reason,
        by=pen.person or _NOBODY,
    )
    made = prepare_resolution(statement, now_ms=parts.clock().now_ms(), chance=chance(limits.NONCE_BITS // 8))
    payload = gate_form.render_resolution(made)
    content = payload if pen.person else statements.unasked(payload)
    return handing.signed_or_written(parts, settings, content, pen, out)


async def _find(parts: Parts, settings: Settings, op_id: str) -> OpView:
    async with incarnation.journal_for_reading(parts, settings) as journal:
        return await op_ids.find(journal, op_id)
