"""`trueup request`: prepare what people will sign, bound to the very guest as it is now. Reads only."""

from pathlib import Path

import click
import msgspec

from trueup.adapters.file_names import shown
from trueup.adapters.system import chance
from trueup.core import gate_form, gate_rules
from trueup.core.gate_prepare import Wish, prepare_request
from trueup.core.gate_rules import Facts
from trueup.edges import incarnation, statements
from trueup.edges.cli.options import HELP, bundled, config_option
from trueup.edges.cli.output import WORD_OF, iso, run_async, say, warn
from trueup.edges.parts import Parts
from trueup.engine.observer import Observer
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.gate_answers import GateRefused
from trueup.model.guests import Observed
from trueup.model.ids import VMID_MAX, VMID_MIN, Vmid
from trueup.model.policy import Policy
from trueup.model.settings import Settings

_NONCE_BYTES = limits.NONCE_BITS // 8
_NOBODY = "nobody"
"""Stands in while the form is checked; the first who signs takes its place."""


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """What the person said beside kind and guest."""

    given: tuple[str, ...]
    reason: str
    person: str
    idempotency_key: str


@click.command(context_settings=HELP)
@click.argument("kind", metavar="KIND")
@click.argument("vmid", metavar="VMID", type=click.IntRange(VMID_MIN, VMID_MAX))
@click.option("--param", "given", metavar="K=V", multiple=True, help="A parameter of the kind; may be given again.")
@click.option("--reason", default="", metavar="R", help="Why; those who sign read it.")
@click.option("--as", "person", default="", metavar="PERSON", help="Who asks; else the first who signs.")
@click.option("--idempotency-key", default="", metavar="KEY", help="Carried out once for all requests with this key.")
@bundled("words", _Words, "given", "reason", "person", "idempotency_key")
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@config_option
@click.pass_obj
def request(
    parts: Parts,
    config: Path,
    kind: str,
    vmid: int,
    *,
    words: _Words,
    output: Path | None,
) -> int:
    """Prepare a request for an operation of this KIND on this guest. Nobody has signed it yet.

    It is bound to the guest as it is now: if that is made anew, or changed, the request is worth nothing. It is good
    for an hour, or for as long as its rule in the policy allows if that is shorter. Without -o it is printed.
    """
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    wish = Wish(
        cluster=settings.cluster.name,
        kind=kind,
        params=_params(words.given),
        reason=words.reason,
        requested_by=words.person or _NOBODY,
        idempotency_key=words.idempotency_key,
    )
    policy = statements.policy_of(settings.gate.policy)
    _check_person(settings, words.person)
    guest, facts = run_async(_look(parts, settings, Vmid(vmid)))
    made = prepare_request(
        wish,
        guest,
        now_ms=parts.clock().now_ms(),
        chance=chance(_NONCE_BYTES),
        longest_s=_longest_s(policy, kind, facts),
    )
    payload = gate_form.render_request(made)
    content = payload if words.person else statements.unasked(payload)
    if output is None:
        click.echo(content.decode(), nl=False)
    else:
        statements.write(output, content)
    where = shown(output) if output else "FILE"
    say(f"{made.kind} of {WORD_OF[guest.type]} {guest.vmid} {guest.name}, to be done by {iso(made.execute_by_ms)}.")
    say(f"Next: trueup sign {where} --key KEY, by each who has to, then trueup submit {where}")
    return 0


async def _look(parts: Parts, settings: Settings, vmid: Vmid) -> tuple[Observed, Facts]:
    async with (
        incarnation.journal_for_reading(parts, settings) as journal,
        incarnation.sight(parts, settings, journal, warn) as seen,
    ):
        observer = Observer(seen.pve)
        row = (await observer.rows()).get(vmid)
        if row is None:
            remedy = "see `trueup status`"
            if not await seen.pve.sees_all_guests():
                remedy = "the token does not see all guests: it needs VM.Audit on /vms"
            raise BadInput(what=f"there is no guest {vmid}", remedy=remedy)
        guest = await observer.one(row)
        labels = (await journal.labels()).get(vmid, {})
        return guest, Facts(vmid=vmid, labels=labels, seen=guest)


def _params(given: tuple[str, ...]) -> dict[str, str]:
    params: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise BadInput(what=f"{one[:60]!r} is no parameter", remedy="write --param NAME=VALUE")
        if name in params:
            raise BadInput(what=f"the parameter {name[:60]!r} is given twice", remedy="give it once")
        params[name] = value
    return params


def _check_person(settings: Settings, person: str) -> None:
    keyring = statements.keyring_of(settings.gate.keyring)
    if person and keyring is not None and keyring.person(person) is None:
        raise BadInput(what=f"the keyring has nobody named {person[:60]!r}", remedy="see `trueup keys list`")


def _longest_s(policy: Policy | None, kind: str, facts: Facts) -> float:
    """How long the rule that decides allows; where none does, people hear of it now and not when they submit."""
    if policy is None:
        warn("there is no policy: the gate is closed, and nobody can submit this")
        return limits.RULE_LONGEST_S
    try:
        return gate_rules.deciding_rule(policy, kind, facts)[1].longest_s
    except GateRefused as no:
        warn(f"as the policy is now, this will be refused: {no.what}")
        return limits.RULE_LONGEST_S
