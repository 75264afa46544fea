"""What messages call a file. A name may hold anything but a slash; a message is one printable line."""

import os
from pathlib import Path


def shown(path: Path) -> str:
    """Short if the file is below the working folder; what cannot be printed is escaped."""
    here = Path.cwd()
    short = path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path
    return _printable(os.fspath(short))


def shown_in(folder: str, name: str) -> str:
    """The same for a file of a folder that is shown as `folder`: thousands of files have it in common."""
    if folder == ".":
        return _printable(name)
    return f"{folder.removesuffix('/')}/{_printable(name)}"


def _printable(name: str) -> str:
    if name.isprintable():  # then it has no bytes in it that are no text, either
        return name
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
