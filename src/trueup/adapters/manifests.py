"""Manifests: a folder of YAML files, read as a whole or not at all.

A guest whose manifest is not seen looks like one that nobody wants any more, so a load either knows every guest of the
folder or raises. It raises with *all* problems of all files, each with file, line and column, since mending a folder
one error at a time is nobody's idea of an afternoon.
"""

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.file_names import shown
from trueup.adapters.manifest_document import ParsedFile, ParsedGuest, parse_file
from trueup.adapters.manifest_files import Found, decode, find_manifests, read_bytes
from trueup.adapters.manifest_form import manifest_schema
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.guests import Desired
from trueup.model.ids import Vmid

__all__ = ["ManifestCache", "ManifestFile", "Manifests", "load", "manifest_schema", "refuse_emptied"]


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read: its path, the SHA-256 of its bytes, and how many guests it declares."""

    path: Path
    sha256: str
    guests: int


class Manifests(msgspec.Struct, frozen=True, kw_only=True):
    """All that a folder declares. Guests come in the order of files (by path) and of documents in them."""

    folder: Path
    guests: tuple[Desired, ...]
    files: tuple[ManifestFile, ...]
    places: Mapping[Vmid, tuple[str, Mapping[str, tuple[int, int]]]]

    def where(self, vmid: Vmid, key: str = "") -> str:
        """Where a guest's key stands (`power`, `config.net0` or `net0`), else the guest itself; '' = no such guest."""
        found = self.places.get(vmid)
        if found is None:
            return ""
        file, positions = found
        line, column = positions.get(key) or positions.get(f"config.{key}") or positions[""]
        return f"{file}:{line}:{column}"


class ManifestCache:
    """What the files said when they were last read, by path and content; unchanged files are not parsed again.

    It lives in memory and belongs to one loader at a time.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._files: dict[Path, tuple[bytes, ParsedFile]] = {}

    def parsed(self, file: Found, content: bytes) -> tuple[bytes, ParsedFile]:
        """The digest of these bytes, and what they say."""
        digest = sha256(content).digest()
        known = self._files.get(file.path)
        if known is None or known[0] != digest:
            known = (digest, parse_file(decode(content, file), file.shown))
            self._files[file.path] = known
        return known

    def keep_only(self, paths: Collection[Path]) -> None:
        """Forget files that are gone."""
        for path in self._files.keys() - set(paths):
            del self._files[path]


def load(folder: Path, *, cache: ManifestCache | None = None) -> Manifests:
    """Read all manifests below a folder.

    An empty file, and an empty folder, mean no guests; whether that may be is asked by `refuse_emptied`.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are. Nothing was changed.
    """
    cache = ManifestCache() if cache is None else cache
    found, problems = find_manifests(folder)
    problems = list(problems)
    parsed: list[ParsedGuest] = []
    files: list[ManifestFile] = []
    for file in found:
        try:
            digest, content = cache.parsed(file, read_bytes(file))
        except BadInput as problem:
            problems.append(problem)
            continue
        problems.extend(content.problems)
        parsed.extend(content.guests)
        files.append(ManifestFile(path=file.path, sha256=digest.hex(), guests=len(content.guests)))
    cache.keep_only([file.path for file in found])
    problems.extend(_repeated(parsed))
    problems.extend([] if problems else _order_problems(parsed))
    if len(parsed) > limits.GUESTS_MAX:
        problems.append(BadInput(what=f"more than {limits.GUESTS_MAX} guests", where=shown(folder)))
    _raise(problems)
    return Manifests(
        folder=folder,
        guests=tuple(guest.desired for guest in parsed),
        files=tuple(files),
        places={guest.desired.vmid: (guest.file, guest.positions) for guest in parsed},
    )


def refuse_emptied(manifests: Manifests, managed: Collection[Vmid]) -> None:
    """Stop where all manifests are gone: an unmounted folder is likelier than the wish to be rid of everything.

    `managed` are the guests known as ours.

    Raises:
        BadInput: no guest is declared, but some are managed.
    """
    if manifests.guests or not managed:
        return
    count = f"{len(managed)} guests are" if len(managed) > 1 else "1 guest is"
    raise BadInput(
        what=f"manifest folder {shown(manifests.folder)} is empty, but {count} managed: refusing to act on that",
        remedy="mount or restore the folder; to give guests up, leave one manifest or request their destruction",
    )


def _repeated(guests: list[ParsedGuest]) -> list[BadInput]:
    """Two guests with one vmid or one name (names of hosts do not tell cases apart)."""
    problems: list[BadInput] = []
    vmids: dict[Vmid, ParsedGuest] = {}
    names: dict[str, ParsedGuest] = {}
    for guest in guests:
        first = vmids.setdefault(guest.desired.vmid, guest)
        if first is not guest:
            what = f"vmid {guest.desired.vmid} is already that of {first.desired.name!r} at {first.at('vmid')}"
            problems.append(BadInput(what=what, where=guest.at("vmid"), remedy="give each guest a vmid of its own"))
        first = names.setdefault(guest.desired.name.lower(), guest)
        if first is not guest:
            what = f"name {guest.desired.name!r} is already that of guest {first.desired.vmid} at {first.at('name')}"
            problems.append(BadInput(what=what, where=guest.at("name"), remedy="give each guest a name of its own"))
    return problems


_AFTER: Final = "write the names of other guests, as in their manifests"


def _order_problems(guests: list[ParsedGuest]) -> list[BadInput]:
    """Names in `after` that nobody has, and circles."""
    known = {guest.desired.name for guest in guests}
    problems: list[BadInput] = []
    for guest in guests:
        for name, line, column in guest.after:
            if name not in known:
                where = f"{guest.file}:{line}:{column}"
                problems.append(
                    BadInput(what=f"'after' names {name!r}, which no manifest declares", where=where, remedy=_AFTER)
                )
    return problems or _circle(guests)


def _circle(guests: list[ParsedGuest]) -> list[BadInput]:
    """The first circle: the later ones cannot be told from it before it is broken up."""
    try:
        TopologicalSorter({guest.desired.name: guest.desired.after for guest in guests}).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]  # each one stands before the one that waits for it
        waiting = list(reversed(circle))
        guest = next(guest for guest in guests if guest.desired.name == waiting[0])
        line, column = next((line, column) for name, line, column in guest.after if name == waiting[1])
        what = f"'after' goes in a circle: {' waits for '.join(waiting)}"
        return [BadInput(what=what, where=f"{guest.file}:{line}:{column}", remedy="take one of them out")]
    return []


def _raise(problems: list[BadInput]) -> None:
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    told = problems[: limits.PROBLEMS_MAX]
    if len(problems) > len(told):
        told.append(BadInput(what=f"and {len(problems) - len(told)} more problems"))
    raise ManyProblems(problems=told)
