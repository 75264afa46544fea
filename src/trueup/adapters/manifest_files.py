"""Which files are manifests, and their text. What cannot be read is a complaint, never a folder with less in it.

A guest whose manifest is not seen looks like one whose manifest was removed. So a folder without permission, a broken
link, or a file in another encoding stops the load.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.file_names import shown, shown_in
from trueup.model import limits
from trueup.model.errors import BadInput

_ENDINGS: Final = (".yaml", ".yml")
_BOM: Final = b"\xef\xbb\xbf"


class Found(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file: its path, the folder that it is in, and what messages call it.

    The path is a plain text, as a `Path` takes five times as much of memory, and there are thousands.
    """

    name: str
    folder: Path
    shown: str


def find_manifests(folder: Path) -> tuple[tuple[Found, ...], tuple[BadInput, ...]]:
    """All manifest files below a folder, sorted by path; names with a leading dot are passed over, links followed.

    Raises:
        BadInput: the folder does not exist or is none, or there are too many files.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BadInput(
            what=f"the manifest folder {what}",
            where=shown(folder),
            remedy="make it (an empty one means no guests), or set path under [manifests]",
        )
    problems: list[BadInput] = []
    files: list[Found] = []
    for file in _walk(folder, problems):
        files.append(file)
        if len(files) > limits.MANIFEST_FILES_MAX:
            raise BadInput(what=f"more than {limits.MANIFEST_FILES_MAX} manifest files", where=shown(folder))
    return tuple(sorted(files, key=lambda file: file.name.replace("/", "\0"))), tuple(problems)


def read_bytes(file: Found) -> bytes:
    """The content of a manifest file.

    Raises:
        BadInput: it cannot be read, or is too large.
    """
    try:
        with open(file.name, "rb") as source:  # noqa: PTH123 - a `Path` for each of thousands of files costs more
            content = source.read(limits.MANIFEST_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(file.shown, error) from error
    if len(content) > limits.MANIFEST_MAX_BYTES:
        kib = limits.MANIFEST_MAX_BYTES // 1024
        raise BadInput(what=f"the file is larger than {kib} KiB", where=f"{file.shown}:1:1", remedy="split it")
    return content


def decode(content: bytes, file: Found) -> str:
    """The text of a manifest file.

    Raises:
        BadInput: it is not UTF-8.
    """
    try:
        return content.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        where = f"{file.shown}:{line}:{column}"
        raise BadInput(what="the file is not in UTF-8", where=where, remedy="save it as UTF-8") from error


def _walk(folder: Path, problems: list[BadInput]) -> Iterator[Found]:
    """Folders still to be read go with the identities of those above them, so that a link back is noticed."""
    todo: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while todo:
        current, above = todo.pop()
        called = shown(current)
        try:
            state = current.stat()
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            problems.append(_unreadable(called, error))
            continue
        identity = (state.st_dev, state.st_ino)
        if identity in above:
            remedy = "remove the link"
            problems.append(
                BadInput(what="a link leads back to a folder above it", where=f"{called}:1:1", remedy=remedy)
            )
            continue
        if len(above) > limits.MANIFEST_FOLDERS_DEEP:
            what = f"more than {limits.MANIFEST_FOLDERS_DEEP} folders inside each other"
            problems.append(BadInput(what=what, where=f"{called}:1:1", remedy="move the files up"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_manifest, name = entry.name.lower().endswith(_ENDINGS), shown_in(called, entry.name)
            mode = _mode(entry, name, problems if is_manifest else None)
            if stat.S_ISDIR(mode):
                todo.append((current / entry.name, (*above, identity)))
            elif is_manifest and stat.S_ISREG(mode):
                yield Found(name=entry.path, folder=current, shown=name)
            elif is_manifest and mode:
                problems.append(BadInput(what="not a regular file", where=f"{name}:1:1", remedy="remove it"))


def _mode(entry: os.DirEntry[str], name: str, problems: list[BadInput] | None) -> int:
    """The kind of file behind a name, links followed; 0 if that cannot be told."""
    try:
        return entry.stat().st_mode
    except OSError as error:
        if problems is not None:
            problems.append(_unreadable(name, error))
        return 0


def _unreadable(where: str, error: OSError) -> BadInput:
    if isinstance(error, PermissionError):
        remedy = "give the user that runs trueup the right to read it"
    elif isinstance(error, FileNotFoundError):
        remedy = "the link leads nowhere, or the file was just removed"
    else:
        remedy = "remove it, or mend the link"
    return BadInput(
        what=f"cannot be read: {error.strerror or type(error).__name__}", where=f"{where}:1:1", remedy=remedy
    )
