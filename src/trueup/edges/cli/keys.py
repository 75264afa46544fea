"""`trueup keys`: who may sign, with which keys. Private keys are made here, and read by nothing but a signer."""

import os
from pathlib import Path
from typing import Final

import click

from trueup.adapters.file_names import shown
from trueup.adapters.keyring_edit import write_key
from trueup.adapters.signing_keys import new_private, read_public
from trueup.core import gate_rules, gate_sense, gate_webauthn
from trueup.core.gate_rules import Files
from trueup.edges import statements
from trueup.edges.cli.asking import may_ask
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import Json, columns, dim, iso, print_json, say, warn
from trueup.edges.parts import Parts
from trueup.model.errors import BadInput
from trueup.model.keyring import Keyring, Person, PublicKey
from trueup.model.policy import Policy

MAKE_KEYRING: Final = "`trueup keys new PERSON -o FILE --role ROLE` makes one"
COPY_POLICY: Final = "`trueup init DIR` has one to copy; docs/gate.md explains it"
"""Remedies where one of the gate's two files is not there."""

_PRIVATE_MODE: Final = 0o600


@click.group(context_settings=HELP)
def keys() -> None:
    """Who may sign, with which keys."""


@keys.command("new", context_settings=HELP)
@click.argument("person", metavar="PERSON")
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The private key's file; it must not be there yet.",
)
@click.option("--role", "roles", metavar="ROLE", multiple=True, help="A role of a new person; may be given again.")
@config_option
@click.pass_obj
def new(parts: Parts, config: Path, person: str, *, output: Path, roles: tuple[str, ...]) -> int:
    """Make a key for somebody: the private half goes into FILE (mode 0600), the public half into the keyring.

    The rest of the keyring stays as it is. On a terminal a passphrase is asked for; without one the key has none.
    """
    settings = parts.settings(config)
    private, public = new_private(_passphrase(output))
    _write_private(output, private)
    try:
        write_key(settings.gate.keyring, person, public, roles)
    except BaseException:
        output.unlink(missing_ok=True)  # a key that nobody knows would only be in the way
        raise
    click.echo(f"wrote {shown(output)} and {shown(settings.gate.keyring)}: {person} has the key {public.key_id}")
    return 0


@keys.command("add", context_settings=HELP)
@click.argument("person", metavar="PERSON")
@click.argument("line", metavar="KEY…", nargs=-1, required=True)
@click.option("--role", "roles", metavar="ROLE", multiple=True, help="A role of a new person; may be given again.")
@config_option
@click.pass_obj
def add(parts: Parts, config: Path, person: str, *, line: tuple[str, ...], roles: tuple[str, ...]) -> int:
    """Put somebody's public key into the keyring: an SSH line, or the line that the page shows for a security key.

    The rest of the keyring stays as it is. Whoever gave you the line may have swapped it on the way: compare the key's
    id with what PERSON sees.
    """
    settings = parts.settings(config)
    public = read_public(" ".join(line))
    write_key(settings.gate.keyring, person, public, roles)
    click.echo(f"wrote {shown(settings.gate.keyring)}: {person} has the key {public.key_id} ({public.algorithm})")
    say(f"Ask {person} whether that is the id of their key; it counts from now on.")
    for text in gate_webauthn.unusable(_only(public, person), settings.http.relying_party):
        warn(text)
    return 0


@keys.command("list", context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def list_(parts: Parts, config: Path, *, as_json: bool) -> int:
    """List people, their roles and their keys."""
    settings = parts.settings(config)
    keyring = _keyring(settings.gate.keyring)
    now_ms = parts.clock().now_ms()
    if as_json:
        print_json({"people": [_person_json(one, keyring, now_ms) for one in keyring.people]})
        return 0
    rows = [_row(one, key, keyring, now_ms) for one in keyring.people for key in one.keys]
    rows += [(one.name, ", ".join(sorted(one.roles)), "no key", "", "") for one in keyring.people if not one.keys]
    for line in columns(rows):
        click.echo(line)
    if not rows:
        click.echo("Nobody may sign yet: `trueup keys new PERSON -o FILE --role ROLE` makes a key.")
    return 0


@keys.command("check", context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def check(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Check keyring and policy, and whether each rule has people who can satisfy it. Exits 1 if something is wrong."""
    settings = parts.settings(config)
    keyring = _keyring(settings.gate.keyring)
    policy = _policy(settings.gate.policy)
    found = (
        *gate_sense.findings(Files(keyring=keyring, policy=policy), parts.clock().now_ms()),
        *gate_webauthn.unusable(keyring, settings.http.relying_party),
    )
    if as_json:
        print_json({"people": len(keyring.people), "rules": len(policy.rules), "findings": list(found)})
        return 1 if found else 0
    for text in found:
        click.echo(f"{click.style('wrong', fg='red', bold=True)}  {text}")
    if not found:
        click.echo(f"In order: {len(keyring.people)} people, {len(policy.rules)} rules.")
    return 1 if found else 0


def _keyring(path: Path) -> Keyring:
    found = statements.keyring_of(path)
    if found is None:
        raise BadInput(what="there is no keyring", where=shown(path), remedy=MAKE_KEYRING)
    return found


def _only(key: PublicKey, person: str) -> Keyring:
    return Keyring(people=(Person(name=person, keys=(key,)),))


def _policy(path: Path) -> Policy:
    found = statements.policy_of(path)
    if found is None:
        raise BadInput(what="there is no policy", where=shown(path), remedy=COPY_POLICY)
    return found


def _row(person: Person, key: PublicKey, keyring: Keyring, now_ms: int) -> tuple[str, ...]:
    revoked = gate_rules.revoked_from(keyring, key.key_id)
    state = ""
    if revoked:
        word = "revoked" if gate_rules.is_revoked(keyring, key.key_id, now_ms) else "will be revoked"
        state = click.style(f"{word} {iso(revoked)}", fg="red")
    roles = ", ".join(sorted(person.roles))
    return (
        click.style(person.name, bold=True),
        roles,
        key.algorithm,
        key.key_id,
        f"{dim(key.comment)} {state}".strip(),
    )


def _person_json(person: Person, keyring: Keyring, now_ms: int) -> dict[str, Json]:
    return {
        "person": person.name,
        "roles": sorted(person.roles),
        "counts_as": keyring.hand(person.name),
        "keys": [
            {
                "key_id": key.key_id,
                "algorithm": key.algorithm,
                "comment": key.comment or None,
                "revoked_from": iso(gate_rules.revoked_from(keyring, key.key_id)),
                "revoked": gate_rules.is_revoked(keyring, key.key_id, now_ms),
            }
            for key in person.keys
        ],
    }


def _passphrase(file: Path) -> str | None:
    if not may_ask():
        say("There is no terminal to ask for a passphrase on: the key has none.")
        return None
    given: str = click.prompt(
        f"Passphrase for {shown(file)} (empty for none)",
        hide_input=True,
        confirmation_prompt=True,
        err=True,
        default="",
        show_default=False,
    )
    return given or None


def _write_private(path: Path, content: bytes) -> None:
    """A new file that is our own user's alone from its first moment on. Raises BadInput."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_MODE)
    except FileExistsError:
        raise BadInput(what="there is a file already", where=shown(path), remedy="name a new one") from None
    except OSError as error:
        raise BadInput(what=f"cannot be written: {error.strerror}", where=shown(path)) from None
    try:
        with os.fdopen(opened, "wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise BadInput(what=f"cannot be written: {error.strerror}", where=shown(path)) from None
