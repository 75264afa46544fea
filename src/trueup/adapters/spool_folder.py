"""A folder into which people drop signed requests, as files.

The sender writes another name and renames it to `NAME.json`; what came of it stands in `NAME.answer.json` beside it,
and the request itself is moved to `done/` or `refused/`. Rules kept here: nothing outside the folder is ever opened (a
link is not followed, a device or a pipe not read), no file is read further than any request can be long, and an answer
is whole or not there.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.file_names import shown
from trueup.model import limits
from trueup.model.errors import BadInput

SUFFIX: Final = ".json"
ANSWER: Final = ".answer.json"
DONE, REFUSED = "done", "refused"
_COPIES_MAX: Final = 1_000

Mark = tuple[int, int, int]
"""What changes when a file does: inode, size, time of change."""


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """A file that waits. `plain` is false for what is no file of its own: a link, a folder, a pipe."""

    name: str
    mark: Mark
    plain: bool


class SpoolFolder:
    """The folder. It is made when it is first looked at."""

    def __init__(self, folder: Path) -> None:
        """Name it; nothing is opened."""
        self._folder = folder

    def waiting(self, most: int) -> tuple[Dropped, ...]:
        """The files that wait, by name, at most so many.

        Raises:
            BadInput: the folder cannot be made or read.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.scandir(self._folder) as entries:
                names = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.endswith(SUFFIX) and not entry.name.endswith(ANSWER) and entry.name[0] != "."
                )
        except OSError as error:
            remedy = "make it a folder that the user who runs trueup may write, or name another in [gate] spool"
            raise BadInput(what=f"cannot be read: {error.strerror}", where=shown(self._folder), remedy=remedy) from None
        found: list[Dropped] = []
        for name in names[:most]:
            try:
                state = (self._folder / name).lstat()
            except OSError:
                continue  # it was taken back
            mark = (state.st_ino, state.st_size, state.st_mtime_ns)
            found.append(Dropped(name=name, mark=mark, plain=stat.S_ISREG(state.st_mode)))
        return tuple(found)

    def read(self, name: str) -> bytes | None:
        """The content of one, cut just behind what any request can be long; None: it was taken back.

        Raises:
            BadInput: it cannot be read, or is no plain file.
        """
        where = shown(self._folder / name)
        try:
            opened = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadInput(what="it is a link", where=where, remedy="drop the file itself") from None
            remedy = "let the user who runs trueup read it"
            raise BadInput(what=f"it cannot be read: {error.strerror}", where=where, remedy=remedy) from None
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise BadInput(what="it is no plain file", where=where, remedy="drop a file")
        with os.fdopen(opened, "rb") as source:
            try:
                return source.read(limits.REQUEST_MAX_BYTES + 1)
            except OSError as error:
                raise BadInput(what=f"it cannot be read: {error.strerror}", where=where) from None

    def answer(self, name: str, content: bytes) -> None:
        """Write the answer beside a request, whole or not at all. Raises BadInput: no room, no right."""
        target = self._folder / f"{name.removesuffix(SUFFIX)}{ANSWER}"
        beside = self._folder / f".{target.name}.new"
        try:
            beside.unlink(missing_ok=True)  # of a life before; a link there is not followed either
            with beside.open("xb") as written:
                written.write(content)
                written.flush()
                os.fsync(written.fileno())
            beside.replace(target)
        except OSError as error:
            beside_gone(beside)
            what = f"the answer cannot be written: {error.strerror}"
            raise BadInput(what=what, where=shown(target), remedy="make room, or give the right to write") from None

    def put_away(self, name: str, place: str) -> None:
        """Move a request to `done` or `refused`; one that is there under this name already is kept.

        Raises:
            BadInput: it cannot be moved.
        """
        folder = self._folder / place
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / name).rename(_free(folder, name))
        except FileNotFoundError:
            return  # its sender took it back
        except OSError as error:
            remedy = "move it away by hand"
            what = f"cannot be moved to {place}/: {error.strerror}"
            raise BadInput(what=what, where=shown(self._folder / name), remedy=remedy) from None


def beside_gone(path: Path) -> None:
    """Remove what is left of an answer that could not be written; what cannot be removed is overwritten next time."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _free(folder: Path, name: str) -> Path:
    stem = name.removesuffix(SUFFIX)
    candidates = (folder / (name if not n else f"{stem}.{n}{SUFFIX}") for n in range(_COPIES_MAX))
    return next((path for path in candidates if not os.path.lexists(path)), folder / name)
