"""Whether the files that are open still are the ones under their names.

A file that is removed or replaced stays open, and takes every record to the grave with its last user. So it is looked
at before each commit, and a record goes only where the next start will read it.
"""

from pathlib import Path

_Identity = tuple[int, int]


class InUse:
    """The journal and its log, as they were when they were opened."""

    def __init__(self, path: Path) -> None:
        """Note the journal, which is open by now; its log is made by the first commit."""
        self._known: dict[Path, _Identity] = {}
        self._files = (path, path.with_name(f"{path.name}-wal"))
        self.note()

    def note(self) -> None:
        """Note what is there for the first time."""
        for file in self._files:
            if file not in self._known and (found := _identity(file)) is not None:
                self._known[file] = found

    def gone(self) -> str:
        """The name of the first one that is another file by now, or none; '' if all is well."""
        return next((file.name for file, known in self._known.items() if _identity(file) != known), "")


def _identity(file: Path) -> _Identity | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
