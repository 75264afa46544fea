"""Watching a folder of manifests for change.

Names, sizes and times are looked at, not contents: it costs 45 ms for a thousand files, and works where the
kernel's notices do not (NFS, bind mounts, folders that are replaced as a whole by a link, as git-sync does). What
changed is read and hashed by whoever loads the manifests.
"""

import asyncio
import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from trueup.adapters.manifest_files import find_manifests
from trueup.model.errors import BadInput
from trueup.ports import Clock

LOOK_S: Final = 1.0
"""Between two looks; a person who saves a file and looks up sees it."""

SHARE: Final = 20
"""A look that takes long is made so much more seldom than it takes."""

Marks = bytes | str
"""A hash of all names, sizes and times: ten thousand of them take too much room to be kept."""


async def changed(folder: Path, clock: Clock, before: Marks | None = None) -> Marks:
    """Wait until the folder differs from `before` (None: from what it is now) and stays as it is for one look."""
    known, began = before, clock.monotonic()
    seen = await asyncio.to_thread(marks, folder)
    known = seen if known is None else known
    while True:
        took_s = clock.monotonic() - began
        await clock.sleep(max(LOOK_S, SHARE * took_s))
        began, last = clock.monotonic(), seen
        seen = await asyncio.to_thread(marks, folder)
        if seen != known and seen == last:
            return seen


def marks(folder: Path) -> Marks:
    """What a change of any manifest below the folder changes; a folder that cannot be read has its complaint."""
    try:
        files, problems = find_manifests(folder)
    except BadInput as problem:
        return str(problem)
    found = sha256()
    for problem in problems:
        found.update(f"{problem}\n".encode(errors="surrogateescape"))
    for file in files:
        try:
            state = os.stat(file.name)  # noqa: PTH116 - a method call less for each of thousands of files
        except OSError:
            continue
        mark = f"{file.name}\0{state.st_ino} {state.st_size} {state.st_mtime_ns}\n"
        found.update(mark.encode(errors="surrogateescape"))
    return found.digest()
