"""`trueup policy`: what keyring and policy say of a request, before anybody hands it in. Reads only."""

from collections.abc import Mapping
from pathlib import Path

import click

from trueup.adapters.file_names import shown
from trueup.adapters.signing import DsseVerifier
from trueup.core import gate_checks, gate_rules
from trueup.core.gate_checks import Allowed, Ask
from trueup.core.gate_rules import Facts, Files
from trueup.edges import incarnation, statements
from trueup.edges.cli.keys import COPY_POLICY, MAKE_KEYRING
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import Json, iso, local, print_json, run_async, warn
from trueup.edges.parts import Parts
from trueup.edges.statements import Draft
from trueup.engine.observer import Observer
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.gate import Approval, Request
from trueup.model.gate_answers import GateRefused
from trueup.model.guests import Observed
from trueup.model.ids import Vmid
from trueup.model.ops import OpView
from trueup.model.settings import Settings

_NOBODY = "nobody"
_NOTHING: Mapping[str, Json] = {
    "allowed": False,
    "rule": None,
    "people": None,
    "roles": [],
    "counted": [],
    "missing": None,
    "not_before": None,
    "refusal": None,
    "reason": None,
}
"""All keys of the answer."""


@click.group(context_settings=HELP)
def policy() -> None:
    """What keyring and policy say."""


@policy.command("test", context_settings=HELP)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
@click.pass_obj
def test(parts: Parts, config: Path, file: Path, *, as_json: bool) -> int:
    """Say which rule decides about a request, signed or not, and who is missing.

    Nothing is handed in. Exits 0 if the policy allows it once those who are missing have signed, 1 if it does not.
    """
    settings = parts.settings(config)
    found = statements.draft(statements.read(file))
    asked = (found if found.asker else statements.asked_by(found, _NOBODY)).statement()
    if not isinstance(asked, Request):
        raise BadInput(what="not a request", where=shown(file), remedy="vetoes and resolutions are just handed in")
    files = _files(settings)
    try:
        allowed = run_async(_ask(parts, settings, files, found, asked))
    except GateRefused as no:
        if as_json:
            print_json({**_NOTHING, "refusal": no.refusal.value, "reason": str(no)})
        else:
            click.echo(f"{click.style('refused', fg='red', bold=True)} [{no.refusal.value}]: {no}")
        return 1
    _show(files, allowed, as_json=as_json)
    return 0


def _show(files: Files, allowed: Allowed, *, as_json: bool) -> None:
    ruling = allowed.ruling
    rule = files.policy.rules[ruling.rule - 1]
    if as_json:
        print_json(
            {
                **_NOTHING,
                "allowed": True,
                "rule": ruling.rule,
                "people": ruling.people,
                "roles": sorted(rule.roles),
                "counted": list(ruling.counted),
                "missing": ruling.missing or None,
                "not_before": iso(allowed.run_from_ms),
            }
        )
        return
    roles = " or ".join(sorted(rule.roles))
    click.echo(f"rule {ruling.rule} decides: {ruling.people} with role {roles}")
    click.echo(f"agreed: {', '.join(ruling.counted) or 'nobody'}")
    click.echo(f"missing: {ruling.missing or 'nobody'}")
    if allowed.run_from_ms:
        click.echo(f"not carried out before {local(allowed.run_from_ms)}")


def _files(settings: Settings) -> Files:
    keyring, policy_ = statements.keyring_of(settings.gate.keyring), statements.policy_of(settings.gate.policy)
    if keyring is None or policy_ is None:
        path = settings.gate.keyring if keyring is None else settings.gate.policy
        remedy = MAKE_KEYRING if keyring is None else COPY_POLICY
        raise BadInput(what="there is no such file: the gate is closed", where=shown(path), remedy=remedy)
    return Files(keyring=keyring, policy=policy_)


async def _ask(parts: Parts, settings: Settings, files: Files, found: Draft, asked: Request) -> Allowed:
    now_ms = parts.clock().now_ms()
    valid: tuple[Approval, ...] = ()
    if found.envelope.signatures:
        checked = DsseVerifier(settings.http.relying_party).verify(found.envelope, files.keyring)
        for _, text in checked.problems:
            warn(text)
        valid = gate_rules.valid_at(files.keyring, checked.valid, now_ms)
    gate_checks.check_audience(settings.cluster.name, asked.cluster)
    gate_checks.check_times(asked.not_before_ms, asked.execute_by_ms, now_ms)
    vmid = asked.target.vmid
    since_ms = now_ms - int(gate_rules.longest_budget_s(files.policy) * 1000)
    async with incarnation.journal_for_reading(parts, settings) as journal:
        labels = (await journal.labels()).get(vmid, {})
        started: tuple[OpView, ...] = await journal.one_shots_since(since_ms)
        waiting = await journal.accepted()
        try:
            async with incarnation.sight(parts, settings, journal, warn) as seen:
                guest = await _guest(Observer(seen.pve), vmid)
        except ReadFailed as error:
            warn(f"the guest's tags and pool are not known: {error}")
            guest = None
    ask = Ask(
        files=files,
        facts=Facts(vmid=vmid, labels=labels, seen=guest),
        now_ms=now_ms,
        has_token=settings.cluster.keeper is not None,
        started=started,
        waiting=waiting,
    )
    return gate_checks.check_policy(asked, valid, ask)


async def _guest(observer: Observer, vmid: Vmid) -> Observed | None:
    row = (await observer.rows()).get(vmid)
    return None if row is None else await observer.one(row)
