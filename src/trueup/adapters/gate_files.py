"""Keyring and policy as they hold now: read again when they change, and the last good ones kept when one is broken.

A half-written or misspelt file must neither open the gate nor throw away a revocation that was read before. What is
wrong is said again and again until it is mended.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from trueup.adapters.file_names import shown
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.policy_file import parse_policy
from trueup.core.gate_rules import Files
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.keyring import Keyring
from trueup.model.policy import Policy

Value = TypeVar("Value")
_Stat = tuple[tuple[int, int, int, int], ...]
_GONE: Final[tuple[int, int, int, int]] = (0, 0, 0, 0)


class _Kept(Generic[Value]):
    """One file: its last good value, and what is wrong with it now ('' = nothing)."""

    def __init__(self, file: Path, parse: Callable[[str, str, str], Value]) -> None:
        self.file = file
        self.value: Value | None = None
        self.problem = ""
        self._parse = parse
        self._seen: _Stat | None = None

    def refresh(self, others: tuple[Path, ...] = ()) -> None:
        """Read the file if it, or one that it names, looks different from the last time."""
        now = tuple(_stat(path) for path in (self.file, *others))
        if now == self._seen and not self.problem:
            return
        self._seen = now
        try:
            content = self._read()
            if content is None:
                self.value, self.problem = None, ""  # taking the file away closes the gate, at once
                return
            self.value = self._parse(content.decode(), shown(self.file), hashlib.sha256(content).hexdigest())
            self.problem = ""
        except UnicodeDecodeError:
            self.problem = f"{shown(self.file)} is not in UTF-8"
        except BadInput as error:
            self.problem = str(error)
        if self.problem and self.value is not None:
            self.problem += " (the last good version still holds)"

    def _read(self) -> bytes | None:
        """None: there is no such file."""
        try:
            with self.file.open("rb") as source:
                content = source.read(limits.GATE_FILE_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            remedy = "give the user that runs trueup the right to read it"
            raise BadInput(what=f"cannot be read: {error.strerror}", where=shown(self.file), remedy=remedy) from None
        if len(content) > limits.GATE_FILE_MAX_BYTES:
            raise BadInput(what="the file is too large", where=shown(self.file))
        return content


class GateFiles:
    """See `trueup.engine.gate_ports.GateFiles`. Reading is cheap where nothing changed: one stat of each file."""

    def __init__(self, keyring: Path, policy: Path) -> None:
        """Name the files; nothing is read before `current`."""
        self._keyring: _Kept[Keyring] = _Kept(
            keyring, lambda text, name, digest: parse_keyring(text, name, keyring.parent, digest)
        )
        self._policy: _Kept[Policy] = _Kept(policy, parse_policy)
        self._named: tuple[Keyring | None, tuple[Path, ...]] = (None, ())  # what the keyring calls its keys

    def current(self) -> Files | None:
        """What holds now; None: the gate is closed, since one of the two was never there, or never good."""
        self._keyring.refresh(self._key_files())
        self._policy.refresh()
        keyring, policy = self._keyring.value, self._policy.value
        return None if keyring is None or policy is None else Files(keyring=keyring, policy=policy)

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files as they are, and what their keeper should know; as of the last `current`."""
        keyring = self._keyring.value
        warnings = keyring.warnings if keyring is not None else ()
        return (*(kept.problem for kept in (self._keyring, self._policy) if kept.problem), *warnings)

    def closed(self) -> str:
        """Why the gate is closed, '' if it is open; as of the last `current`."""
        for kept, what in ((self._keyring, "keyring"), (self._policy, "policy")):
            if kept.value is None:
                return kept.problem or f"there is no {what} ({shown(kept.file)})"
        return ""

    def _key_files(self) -> tuple[Path, ...]:
        """Files that the keyring names; a key that is exchanged there counts as a change of the keyring."""
        keyring = self._keyring.value
        if keyring is None:
            return ()
        if self._named[0] is not keyring:
            names = [key.comment for person in keyring.people for key in person.keys]
            folder = self._keyring.file.parent
            self._named = keyring, tuple(folder / name for name in names if name and " " not in name)
        return tuple([path for path in self._named[1] if os.path.lexists(path)])


def _stat(path: Path) -> tuple[int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return _GONE
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
