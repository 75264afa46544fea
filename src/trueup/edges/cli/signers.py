"""Signing on the command line: the options that say with what, and the signature itself.

Rule kept here: a passphrase or a PIN is asked for on a terminal and nowhere else, and is never an option or a variable;
and people are told in plain words what they sign before they do.
"""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from trueup.adapters.file_names import shown
from trueup.adapters.signing import add_sshsig
from trueup.adapters.signing import sign as put_signature
from trueup.adapters.signing_keys import load_signer, public_line
from trueup.edges import statements
from trueup.edges.cli import gate_words
from trueup.edges.cli.asking import may_ask
from trueup.edges.cli.options import bundled
from trueup.edges.cli.output import say, warn
from trueup.edges.parts import Parts
from trueup.edges.statements import Draft
from trueup.model.errors import BadInput
from trueup.model.gate_answers import Envelope
from trueup.model.keyring import Keyring
from trueup.model.settings import DEFAULT_FILE, Settings


class Pen(msgspec.Struct, frozen=True, kw_only=True):
    """With what to sign: a key, or a signature that `ssh-keygen -Y sign` made."""

    key: str = ""
    ssh_signature: Path | None = None
    person: str = ""
    public: Path | None = None

    def check(self) -> None:
        """Raise BadInput unless it is exactly one of the two."""
        if bool(self.key) == (self.ssh_signature is not None):
            raise BadInput(
                what="give one key, or one signature",
                remedy="--key FILE or URI, or --ssh-signature FILE.sig made by `ssh-keygen -Y sign -n trueup`",
            )


def key_options(command: Callable[..., int]) -> Callable[..., int]:
    """`--key`, `--as` and `--public`; the command gets a `pen`."""
    return _options(command, "key", "person", "public")


def resolver_options(command: Callable[..., int]) -> Callable[..., int]:
    """The same where `--as` has another meaning: it is `--person` there."""
    return _options(command, "key", "person", "public", who="--person")


def pen_options(command: Callable[..., int]) -> Callable[..., int]:
    """`key_options`, and `--ssh-signature`."""
    return _options(command, "key", "ssh_signature", "person", "public")


def _options(command: Callable[..., int], *fields: str, who: str = "--as") -> Callable[..., int]:
    path = click.Path(path_type=Path, dir_okay=False)
    ssh = "What `ssh-keygen -Y sign -n trueup` made of the payload."
    options = {
        "public": click.option(
            "--public", type=path, metavar="FILE", help="The public half of a key that is named by a URI."
        ),
        "person": click.option(
            who, "person", default="", metavar="PERSON", help="Who signs, if the key does not tell."
        ),
        "ssh_signature": click.option("--ssh-signature", type=path, metavar="FILE", help=ssh),
        "key": click.option(
            "--key", default="", metavar="KEY", help="A private key's file, or a URI like hsm:… or awskms:…."
        ),
    }
    made = bundled("pen", Pen, *fields)(command)
    for name, option in options.items():
        made = option(made) if name in fields else made
    return made


def payload_option(command: Callable[..., int]) -> Callable[..., int]:
    """`--payload-out`."""
    return click.option(
        "--payload-out",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Sign nothing: write the bytes that `ssh-keygen -Y sign -n trueup` has to sign.",
    )(command)


def keyring_for(settings: Settings | None) -> Keyring | None:
    """The keyring; None where there is none. Raises BadInput: it is broken."""
    return statements.keyring_of(settings.gate.keyring) if settings else None


def settings_if_there(parts: Parts, config: Path) -> Settings | None:
    """The settings, or None where somebody signs on a machine that has none. Raises BadInput: they are wrong."""
    if config == Path(DEFAULT_FILE) and not config.exists():
        return None
    return parts.settings(config)


def signed(found: Draft, pen: Pen, keyring: Keyring | None) -> tuple[Envelope, str]:
    """One more signature, and who made it ('' = nobody of the keyring, or there is no keyring).

    A statement that nobody asks for yet is asked for by the first who signs it.

    Raises:
        BadInput: the key or the signature does not do. GateRefused: nobody would take the statement.
    """
    pen.check()
    if pen.ssh_signature is not None:
        return _with_ssh_signature(found, pen.ssh_signature, keyring)
    signer = load_signer(pen.key, _ask, _public_half(pen, keyring))
    owner = statements.holder(keyring, signer.public_key.keyid)
    who = owner.name if owner else pen.person
    if pen.person and owner is not None and owner.name != pen.person:
        raise BadInput(what=f"the key is {owner.name}'s, not {pen.person}'s", remedy="leave --as out")
    if keyring is not None and owner is None:
        warn("nobody of the keyring has this key: the gate will not count its signature (`trueup keys list`)")
    if not found.asker:
        if not who:
            raise BadInput(
                what="the request does not say who asks, and the key does not tell",
                remedy="give --as PERSON, as the keyring names you",
            )
        found = statements.asked_by(found, who)
    say(f"Signing {gate_words.statement(found.statement())}.")
    return put_signature(found.envelope, signer), who


def write_payload(found: Draft, path: Path) -> None:
    """Write the exact bytes to be signed. Raises BadInput, or GateRefused: nobody would take them."""
    if not found.asker:
        raise BadInput(
            what="the request does not say who asks", remedy="prepare it with `trueup request … --as PERSON`"
        )
    found.statement()
    statements.write(path, found.envelope.payload)
    say(f"Wrote {shown(path)}. Now: ssh-keygen -Y sign -n trueup -f KEY {shown(path)}")


def _with_ssh_signature(found: Draft, file: Path, keyring: Keyring | None) -> tuple[Envelope, str]:
    if not found.asker:
        raise BadInput(
            what="the request does not say who asks, so what was signed cannot be taken",
            remedy="prepare it with `trueup request … --as PERSON`",
        )
    found.statement()
    envelope = add_sshsig(found.envelope, statements.read(file))
    if envelope == found.envelope:
        return envelope, ""
    owner = statements.holder(keyring, envelope.signatures[-1].key_id)
    if keyring is not None and owner is None:
        warn("nobody of the keyring has this key: the gate will not count its signature (`trueup keys list`)")
    return envelope, owner.name if owner else ""


def _public_half(pen: Pen, keyring: Keyring | None) -> str | None:
    if pen.public is not None:
        try:
            return statements.read(pen.public).decode("ascii").strip()
        except UnicodeDecodeError:
            raise BadInput(what="no public key", where=shown(pen.public)) from None
    person = keyring.person(pen.person) if keyring and pen.person else None
    if person is None or Path(pen.key).exists():
        return None
    return public_line(statements.only_key(person))


def _ask(what: str) -> str | None:
    """Ask for a passphrase, on a terminal only."""
    if not may_ask():
        return None
    given: str = click.prompt(f"Passphrase of {what}", hide_input=True, err=True, default="", show_default=False)
    return given
