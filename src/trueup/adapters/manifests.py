"""Manifests: a folder of YAML files, read as a whole or not at all.

A guest whose manifest is not seen looks like one that nobody wants any more, so a load either knows every guest of the
folder or raises. It raises with *all* problems of all files, each with file, line and column, since mending a folder
one error at a time is nobody's idea of an afternoon.
"""

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from trueup.adapters.file_names import shown
from trueup.adapters.manifest_defaults import NONE, Defaults, SecretPlace
from trueup.adapters.manifest_document import (
    ParsedFile,
    ParsedGuest,
    defaults_in,
    line_and_column,
    may_have_defaults,
    parse_defaults,
    parse_guests,
)
from trueup.adapters.manifest_files import Found, decode, find_manifests, read_bytes
from trueup.adapters.manifest_form import manifest_schema
from trueup.adapters.manifest_secrets import with_secrets
from trueup.adapters.manifest_sharing import Sharing
from trueup.adapters.yaml_positions import Documents, MapNode, place, read_documents
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.guests import Desired
from trueup.model.ids import Vmid

__all__ = ["ManifestCache", "ManifestFile", "Manifests", "load", "manifest_schema", "refuse_emptied"]


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file that was read: its name with the path, the SHA-256 of its bytes, and how many guests it declares."""

    name: str
    digest: bytes
    guests: int


class Manifests(msgspec.Struct, frozen=True, kw_only=True):
    """All that a folder declares. Guests come in the order of files (by path) and of documents in them."""

    folder: Path
    guests: tuple[Desired, ...]
    files: tuple[ManifestFile, ...]
    places: Mapping[Vmid, ParsedGuest]

    def where(self, vmid: Vmid, key: str = "") -> str:
        """Where a guest's key stands (`power`, `config.net0` or `net0`), else the guest itself; '' = no such guest."""
        found = self.places.get(vmid)
        if found is None:
            return ""
        for named in (key, f"config.{key}"):
            if found.place(named) is not None:
                return found.at(named)
        return found.inherited.get(key) or found.inherited.get(f"config.{key}") or found.at("")


class _File:
    """What one file's bytes say; the guests under the defaults that they were read with."""

    __slots__ = ("defaults", "digest", "entry", "parsed", "under")

    def __init__(self, digest: bytes, defaults: tuple[MapNode, ...]) -> None:
        self.digest = digest
        self.defaults = defaults
        self.entry: ManifestFile | None = None
        self.parsed: ParsedFile | None = None
        self.under = b""


class ManifestCache:
    """What the files said when they were last read, by path and content; unchanged files are not parsed again.

    It lives in memory and belongs to one loader at a time.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._files: dict[str, _File] = {}

    def known(self, file: Found, digest: bytes) -> _File | None:
        """What is known of the file, if its bytes are these and it was understood."""
        known = self._files.get(file.name)
        return known if known is not None and known.digest == digest and known.parsed is not None else None

    def keep(self, file: Found, content: _File) -> None:
        """Remember it for the next load."""
        self._files[file.name] = content

    def keep_only(self, names: Collection[str]) -> None:
        """Forget files that are gone."""
        for name in self._files.keys() - set(names):
            del self._files[name]


class _Load:
    """One load, in two turns: every folder's defaults have to be known before its guests can be read.

    What only this load needs goes with it: bytes and documents of a file until its guests are read. The second turn
    reads one file after the other and keeps no document of any, so that the room for one is the room for all.
    """

    def __init__(self, cache: ManifestCache) -> None:
        self._cache = cache
        self._contents: dict[str, bytes] = {}
        self._documents: dict[str, Documents] = {}
        self._sharing = Sharing()

    def opened(self, file: Found) -> _File:
        """The file, with its defaults if it has any. Raises BadInput if it cannot be read, or is no text."""
        content = read_bytes(file)
        digest = sha256(content).digest()
        known = self._cache.known(file, digest)
        if known is not None:
            return known
        defaults: tuple[MapNode, ...] = ()
        if may_have_defaults(content):
            documents = self._documents[file.name] = read_documents(decode(content, file), file.shown)
            defaults = defaults_in(documents)
        self._contents[file.name] = content
        return _File(digest, defaults)

    def guests(self, file: Found, opened: _File, defaults: Defaults) -> tuple[ParsedFile, ManifestFile]:
        """What the opened file says under these defaults. Raises BadInput if it is no text."""
        if opened.parsed is None or opened.entry is None or opened.under != defaults.digest:
            content = self._contents.pop(file.name, None)
            content = _same_again(file, opened.digest) if content is None else content
            documents = self._documents.pop(file.name, None)
            if documents is None:
                documents = read_documents(decode(content, file), file.shown)
            opened.parsed = self._shared(parse_guests(documents, file, defaults))
            opened.entry = ManifestFile(name=file.name, digest=opened.digest, guests=len(opened.parsed.guests))
            opened.under = defaults.digest
        self._cache.keep(file, opened)
        return opened.parsed, opened.entry

    def _shared(self, parsed: ParsedFile) -> ParsedFile:
        share = self._sharing
        guests = [
            replace(
                guest,
                desired=share.desired(guest.desired),
                positions=share.places(guest.positions),
                secrets=guest.secrets or _NO_SECRETS,
            )
            for guest in parsed.guests
        ]
        return ParsedFile(guests=tuple(guests), problems=parsed.problems)


_NO_SECRETS: Final[Mapping[str, SecretPlace]] = {}


def _same_again(file: Found, digest: bytes) -> bytes:
    """The bytes of a file whose folder's defaults are others by now, while it is as it was. Raises BadInput."""
    content = read_bytes(file)
    if sha256(content).digest() != digest:
        what, remedy = "the file changed while the folder was read", "nothing is to be done: it is read again"
        raise BadInput(what=what, where=f"{file.shown}:1:1", remedy=remedy)
    return content


def load(folder: Path, *, cache: ManifestCache | None = None) -> Manifests:
    """Read all manifests below a folder.

    An empty file, and an empty folder, mean no guests; whether that may be is asked by `refuse_emptied`.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are. Nothing was changed.
    """
    cache = ManifestCache() if cache is None else cache
    found, problems = find_manifests(folder)
    told: dict[str, list[BadInput]] = {}
    reading = _Load(cache)
    opened: list[tuple[Found, _File]] = []
    for file in found:
        try:
            opened.append((file, reading.opened(file)))
        except BadInput as problem:
            told.setdefault(file.name, []).append(problem)
    defaults = _Inheritance(folder, opened, told)
    parsed: list[ParsedGuest] = []
    files: list[ManifestFile] = []
    for file, content in opened:
        try:
            said, entry = reading.guests(file, content, defaults.of(file.folder))
        except BadInput as problem:
            told.setdefault(file.name, []).append(problem)
            continue
        if said.problems:
            told.setdefault(file.name, []).extend(said.problems)
        parsed.extend(said.guests)
        files.append(entry)
    cache.keep_only([file.name for file in found])
    secrets = with_secrets(folder, parsed)
    problems = [*problems, *_in_order(found, told), *secrets.problems, *_repeated(parsed)]
    problems.extend([] if problems else _order_problems(parsed))
    if len(parsed) > limits.GUESTS_MAX:
        problems.append(BadInput(what=f"more than {limits.GUESTS_MAX} guests", where=shown(folder)))
    _raise(problems)
    places = {guest.desired.vmid: guest for guest in parsed}
    return Manifests(folder=folder, guests=secrets.guests, files=tuple(files), places=places)


class _Inheritance:
    """The defaults of each folder, worked out from the top."""

    def __init__(self, folder: Path, files: Sequence[tuple[Found, _File]], told: dict[str, list[BadInput]]) -> None:
        self._top = folder
        self._told = told
        self._own: dict[Path, tuple[Found, _File, MapNode]] = {}
        self._known: dict[Path, Defaults] = {}
        for file, content in files:
            for root in content.defaults:
                self._add(file, content, root)

    def _add(self, file: Found, content: _File, root: MapNode) -> None:
        first = self._own.setdefault(file.folder, (file, content, root))
        if first[2] is not root:
            what = f"this folder has its defaults at {place(first[0].shown, first[2])} already"
            problem = BadInput(what=what, where=place(file.shown, root), remedy="write them into one document")
            self._told.setdefault(file.name, []).append(problem)

    def of(self, folder: Path) -> Defaults:
        """What guests in this folder inherit."""
        known = self._known.get(folder)
        if known is None:
            above = NONE if folder in {self._top, folder.parent} else self.of(folder.parent)
            known = self._known[folder] = self._read(folder, above)
        return known

    def _read(self, folder: Path, above: Defaults) -> Defaults:
        own = self._own.get(folder)
        if own is None:
            return above
        file, content, root = own
        found, problems = parse_defaults(root, file, above, content.digest)
        self._told.setdefault(file.name, []).extend(problems)
        return found


def _in_order(found: Sequence[Found], told: Mapping[str, list[BadInput]]) -> list[BadInput]:
    """Problems by file and place; one that several guests inherit is told once."""
    problems = [problem for file in found for problem in sorted(told.get(file.name, []), key=line_and_column)]
    return list({str(problem): problem for problem in problems}.values())


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
