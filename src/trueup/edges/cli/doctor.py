"""`trueup doctor`: a check-up, and on request what makes the user, the rights and the tokens in PVE."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from trueup.adapters import pve_setup
from trueup.adapters.file_names import shown
from trueup.adapters.pve_http import Login
from trueup.adapters.pve_setup import Inspector, Step
from trueup.edges import doctor as checks
from trueup.edges import incarnation
from trueup.edges.cli.asking import Answer, ask, may_ask
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async, say, warn
from trueup.edges.doctor import Finding, Mark
from trueup.edges.parts import Parts
from trueup.edges.settings import read_secret
from trueup.model.errors import BadInput, PveError
from trueup.model.ids import TokenId
from trueup.model.settings import SecretSource, Settings

ADMIN_SECRET_VARIABLE: Final = "TRUEUP_ADMIN_SECRET"  # noqa: S105 - the name of a variable
_COLOR: Final = {Mark.OK: "green", Mark.WARNING: "yellow", Mark.PROBLEM: "red", Mark.UNKNOWN: "magenta"}


@click.command(context_settings=HELP)
@config_option
@click.option("--setup", is_flag=True, help="Make what is missing in PVE: roles, the user, its rights, its token.")
@click.option("--user", help="With --setup: the agent's user, if not that of the settings.")
@click.option("--keeper", is_flag=True, help="With --setup: the keeper of incarnation tokens, too.")
@click.option("--admin-token", metavar="ID", help="With --setup: the API token of an administrator, for these calls.")
@click.option(
    "--admin-secret-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"With --setup: where its secret is; or {ADMIN_SECRET_VARIABLE}.",
)
@click.option("--yes", is_flag=True, help="With --setup: do not ask.")
@json_option
@click.pass_obj
def doctor(parts: Parts, config: Path, **options: object) -> int:
    """Check all that trueup leans on; each finding says what to do. Exits 1 if there is a problem.

    With --setup, every call is shown before it is made, and nothing is ever taken away from anybody.
    """
    settings = parts.settings(config)
    if options["setup"]:
        incarnation.say(settings.warnings, warn)
        _setup(parts, settings, options)
    findings = run_async(checks.examine(parts, settings))
    fine = not any(finding.mark is Mark.PROBLEM for finding in findings)
    if options["as_json"]:
        print_json({"ok": fine, "findings": [_json(finding) for finding in findings]})
    else:
        _show(findings)
    return 0 if fine else 1


def _json(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "mark": finding.mark.value,
        "what": finding.what,
        "remedy": finding.remedy or None,
        "topic": finding.page() or None,
    }


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        mark = click.style(f"{finding.mark.value:<8}", fg=_COLOR[finding.mark])
        click.echo(f"{mark} {finding.check:<9} {finding.what}")
        if finding.remedy:
            click.echo(f"{'':<18} {click.style('do', dim=True)}  {finding.remedy}")
    pages = dict.fromkeys(finding.page() for finding in findings if finding.mark in {Mark.PROBLEM, Mark.WARNING})
    if pages:
        click.echo(f"More: {', '.join(f'`trueup explain {page}`' for page in pages)}.")
    problems = sum(1 for finding in findings if finding.mark is Mark.PROBLEM)
    words = {0: "No problems.", 1: "1 problem."}
    click.echo(words.get(problems, f"{problems} problems."))


# --- set-up -----------------------------------------------------------------------------------------------------------


def _setup(parts: Parts, settings: Settings, options: dict[str, object]) -> None:
    user, token = _agent(settings, options["user"])
    if options["keeper"] and settings.cluster.keeper is None:
        example = (
            f'keeper = {{token_id = "trueup-keeper@pve!keeper", token_secret_file = "keeper.secret", user = "{user}"'
        )
        raise BadInput(
            what="the settings name no keeper",
            where=shown(settings.file),
            remedy=f'write {example}, prefix = "agent-a-"}} into [cluster]',
        )
    admin = options["admin_token"]
    if not isinstance(admin, str):
        raise BadInput(what="--setup needs an administrator's token", remedy="give --admin-token and its secret")
    if not options["yes"] and not may_ask():
        raise BadInput(what="there is no terminal to ask on", remedy="give --yes")
    file = options["admin_secret_file"]
    source = SecretSource(file=file if isinstance(file, Path) else None, variable=ADMIN_SECRET_VARIABLE)
    secret = read_secret(source, os.environ, what="administrator's secret")
    cluster = settings.cluster
    login = Login(endpoints=cluster.endpoints, trust=cluster.trust, token=TokenId(admin), secret=secret.secret)
    run_async(
        _make(parts, settings, login, _Wish(user, token, keeper=bool(options["keeper"]), yes=bool(options["yes"])))
    )


class _Wish:
    """What is to be there afterwards."""

    def __init__(self, user: str, token: TokenId | None, *, keeper: bool, yes: bool) -> None:
        self.user = user
        self.token = token
        self.keeper = keeper
        self.yes = yes


def _agent(settings: Settings, given: object) -> tuple[str, TokenId | None]:
    """The agent's user and, unless a keeper makes its tokens, its token."""
    cluster = settings.cluster
    if cluster.token_id is not None:
        user, token = cluster.token_id.partition("!")[0], cluster.token_id
    else:
        user, token = (cluster.keeper.user if cluster.keeper else ""), None
    if isinstance(given, str) and given != user:
        what = f"the settings are for the user {user}, not for {given}"
        raise BadInput(what=what, where=shown(settings.file), remedy=f'write token_id = "{given}!agent" into [cluster]')
    return user, token


async def _make(parts: Parts, settings: Settings, login: Login, wish: _Wish) -> None:
    keeper = settings.cluster.keeper
    async with pve_setup.connect_inspector(login, parts.clock()) as inspector:
        users = [wish.user, *([keeper.token_id.partition("!")[0]] if keeper and wish.keeper else [])]
        known = await pve_setup.there(inspector, users)
        steps = list(pve_setup.agent_steps(wish.user, wish.token, known, checks.rights_wanted(parts, settings)))
        if keeper and wish.keeper:
            steps += pve_setup.keeper_steps(wish.user, keeper.token_id, known)
        targets = {step.makes_secret: _target(settings, step) for step in steps if step.makes_secret}
        for step in steps:
            say(f"  {step.method:<4} {step.path} {' '.join(f'{name}={value}' for name, value in step.params.items())}")
            say(f"       {click.style(step.command, dim=True)}")
        if not wish.yes and ask(f"Make these {len(steps)} calls?") is not Answer.YES:
            raise click.Abort
        for step in steps:
            await _do(inspector, step, targets.get(step.makes_secret))
    say("Made. Now the check-up:")


async def _do(inspector: Inspector, step: Step, target: Path | None) -> None:
    try:
        secret = await inspector.do(step)
    except PveError as error:
        remedy = f"as root on a node: {step.command}; then run it again, it goes on from there"
        raise BadInput(what=f"{step.method} {step.path} failed: {error.what}", remedy=remedy) from error
    if target is not None:
        _keep(secret, target)
        say(f"  the secret of the {step.makes_secret}'s token is in {shown(target)} (mode 0600)")


def _target(settings: Settings, step: Step) -> Path:
    """Where a new secret goes; said before anything is made, since PVE shows it only once."""
    keeper = settings.cluster.keeper
    source = settings.cluster.token_secret if keeper is None or step.makes_secret != "keeper" else keeper.secret  # noqa: S105 - a role
    if source.file is None:
        raise BadInput(
            what=f"the settings name no file for the {step.makes_secret}'s secret", remedy="set token_secret_file"
        )
    if source.file.exists():
        what = f"PVE has no token of this name, but {shown(source.file)} is there already"
        raise BadInput(what=what, remedy="move the old secret away: it is of a token that is gone")
    return source.file


def _keep(secret: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "delete the token in PVE and run it again once the file can be written"
        raise BadInput(what=f"cannot keep the secret: {error.strerror}", where=shown(target), remedy=remedy) from error
