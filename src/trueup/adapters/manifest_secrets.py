"""Secrets that manifests name by their files, read anew at every load.

Rule kept here: a manifest reads nothing but files beside it. Whoever may write a manifest may not thereby read the
agent's own files into a guest. What is read stands in no journal and in no message.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from trueup.adapters.manifest_defaults import SecretPlace
from trueup.adapters.manifest_document import ParsedGuest
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.guests import Desired


class WithSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """The guests with their secrets, and what was wrong with these."""

    guests: tuple[Desired, ...]
    problems: tuple[BadInput, ...]


def with_secrets(folder: Path, parsed: Sequence[ParsedGuest]) -> WithSecrets:
    """Put the secrets into the guests that name them. A guest without any stays the value that it was."""
    guests: list[Desired] = []
    problems: dict[str, BadInput] = {}
    for guest in parsed:
        desired = guest.desired
        for key, secret in guest.secrets.items():
            try:
                value = _read(folder, secret)
            except BadInput as problem:
                problems.setdefault(problem.where, problem)
                continue
            desired = msgspec.structs.replace(desired, config={**desired.config, key: value})
        guests.append(desired)
    return WithSecrets(guests=tuple(guests), problems=tuple(problems.values()))


def _read(folder: Path, secret: SecretPlace) -> str:
    """One secret, without the newline at its end.

    Raises:
        BadInput: it may not be read, or is no secret.
    """
    try:
        path = (secret.folder / secret.name).resolve()
        inside = any(path.is_relative_to(top.resolve()) for top in (folder, secret.folder))
        if Path(secret.name).is_absolute() or not inside:
            raise _wrong(secret, "is outside of the manifest folder", "put the file beside the manifest, or below")
        with path.open("rb") as source:
            content = source.read(limits.SECRET_MAX_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "not a file"
        raise _wrong(secret, f"cannot be read: {why}", "make the file, readable for the agent's user only") from error
    except ValueError as error:
        raise _wrong(secret, "is no text in UTF-8", "write the secret into it, and nothing else") from error
    if not text or "\n" in text or len(content) > limits.SECRET_MAX_BYTES:
        raise _wrong(secret, "does not hold one line with a secret", "write the secret into it, and nothing else")
    return text


def _wrong(secret: SecretPlace, what: str, remedy: str) -> BadInput:
    return BadInput(what=f"secret file {secret.name!r} {what}", where=secret.where, remedy=remedy)
