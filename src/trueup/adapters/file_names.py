"""What messages call a file. A name may hold anything but a slash; a message is one printable line."""

import os
from pathlib import Path


def shown(path: Path) -> str:
    """Short if the file is below the working folder; what cannot be printed is escaped."""
    here = Path.cwd()
    short = path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path
    text = os.fsencode(short).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
