"""One writer per journal, held by the kernel: the lock dies with its holder, however that dies.

The lock is on a file of its own beside the journal, which is never removed: removing it would let two holders lock two
files of one name. What stands in it is the holder's pid, for the message only.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Self

from trueup.model.errors import BadInput, JournalBusy, JournalFailed

_PID_CHARS: Final = 20


class WriterLock:
    """The right to write one journal, until `release` or the end of this process."""

    def __init__(self, descriptor: int) -> None:
        """Keep the locked file open; closing it lets go."""
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, journal: Path) -> Self:
        """Take the lock of the journal at `journal` (its real path).

        Raises:
            JournalBusy: another process, or another journal object of this one, holds it.
            BadInput: the lock file cannot be opened.
            JournalFailed: there is no space for it.
        """
        path = journal.with_name(journal.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _open_error(error, path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _holder(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise BadInput(what=f"cannot lock: {error.strerror}", where=str(path)) from error
            raise JournalBusy(
                what=f"another trueup{f' (pid {pid})' if pid else ''} writes this journal",
                where=str(journal),
                remedy="stop it or point [store] url elsewhere",
            ) from error
        with contextlib.suppress(OSError):  # a full disk does not loosen the lock; only the message knows less
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_error(error: OSError, path: Path) -> BadInput | JournalFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFailed(
            what="the disk is full", where=str(path), remedy=f"free space on {path.parent}, then restart"
        )
    remedy = "trueup needs to read and write this file, and to write in its folder"
    return BadInput(what=f"cannot open the journal's lock: {error.strerror}", where=str(path), remedy=remedy)


def _holder(descriptor: int) -> str:
    """Return the pid that the holder wrote, or ''."""
    with contextlib.suppress(OSError):
        text = os.pread(descriptor, _PID_CHARS, 0).decode("ascii", "replace").strip()
        return text if text.isdigit() else ""
    return ""


def is_held(journal: Path) -> bool:
    """Whether somebody holds the journal's lock now, without ever taking it from anybody who lives.

    Asking the kernel means to try a shared lock, which could turn away a writer that starts at this very moment; so it
    is only tried where the process that last held it is alive.
    """
    path = journal.absolute().resolve()
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        pid = _holder(descriptor)
        if not pid or not _lives(int(pid)):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    else:
        return False
    finally:
        os.close(descriptor)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
