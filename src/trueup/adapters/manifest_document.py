"""From a file's YAML to the guests that it declares and to its folder's defaults, or to complaints at their places."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeGuard, TypeVar, cast

import msgspec
from pydantic import BaseModel, ValidationError

from trueup.adapters.complaints import Complaint, Wanted, complaints
from trueup.adapters.complaints import Path as KeyPath
from trueup.adapters.config_values import REFUSED, TRUTHS, Config, read_config
from trueup.adapters.manifest_defaults import (
    KIND,
    NONE,
    Defaults,
    SecretPlace,
    for_guest,
    handed_down,
    merged,
    merged_config,
    merged_secrets,
    outside,
    parse_ranges,
)
from trueup.adapters.manifest_files import Found
from trueup.adapters.manifest_form import (
    KNOWN,
    KNOWN_IN_DEFAULTS,
    NEVER_DEFAULTS,
    DefaultsForm,
    ManifestForm,
    SourceForm,
    WindowForm,
)
from trueup.adapters.manifest_sharing import Places
from trueup.adapters.yaml_positions import Documents, ListNode, MapNode, Node, Scalar, is_null, place, read_documents
from trueup.model.errors import BadInput
from trueup.model.guests import (
    Archive,
    BackupPolicy,
    Clone,
    ContainerTemplate,
    Desired,
    Empty,
    Power,
    SnapshotPolicy,
    Source,
)
from trueup.model.ids import VMID_MAX, VMID_MIN, GuestType, NodeName, Vmid

Form = TypeVar("Form", bound=BaseModel)

_TYPES: Final = {"VirtualMachine": GuestType.QEMU, "Container": GuestType.LXC}
_INT_DIGITS_MAX: Final = 18
_EMPTY: Final = Empty()
_PVE_KEYS: Final = frozenset(
    {"cores", "memory", "sockets", "cpu", "onboot", "tags", "description", "ostype", "bios", "machine", "agent", "boot"}
    | {"balloon", "scsihw", "vga", "rootfs", "swap", "unprivileged", "features", "nameserver", "ciuser", "protection"}
)
"""Keys of PVE that people write one level too high; numbered ones are told by their form."""


class ParsedGuest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A guest with the places of its keys ('' = the guest itself; config's are `config.net0`) and of its `after`.

    `inherited` are the places of keys that the folder's defaults give. `secrets` are config keys whose value is in a
    file, which is read at every load.
    """

    desired: Desired
    file: str
    positions: Places
    after: tuple[tuple[str, int, int], ...]
    inherited: Mapping[str, str] = {}
    secrets: Mapping[str, SecretPlace] = {}

    def at(self, key: str) -> str:
        """file:line:column of a key."""
        line, column = self.place(key) or self.place("") or (1, 1)
        return f"{self.file}:{line}:{column}"

    def place(self, key: str) -> tuple[int, int] | None:
        """Line and column of a key that stands in the guest's own document."""
        return self.positions.get(key)


class ParsedFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one file says."""

    guests: tuple[ParsedGuest, ...]
    problems: tuple[BadInput, ...]


def parse_file(text: str, shown: str) -> ParsedFile:
    """Read one file's text by itself, without any folder's defaults; `shown` is what messages call it."""
    return parse_guests(read_documents(text, shown), Found(name=shown, folder=Path(shown).parent, shown=shown), NONE)


def defaults_in(documents: Documents) -> tuple[MapNode, ...]:
    """The documents that are defaults of their folder."""
    return tuple(root for root in documents.roots if _is_defaults(root))


def parse_defaults(
    root: MapNode, found: Found, above: Defaults, digest: bytes
) -> tuple[Defaults, tuple[BadInput, ...]]:
    """Read a folder's defaults, with those of the folders above worked in. Never raises for what the text says."""
    problems: list[BadInput] = []
    return _Document(root, found, above, problems).read_defaults(digest), tuple(problems)


def parse_guests(documents: Documents, found: Found, defaults: Defaults) -> ParsedFile:
    """Read one file's guests. Never raises for what the text says."""
    problems = list(documents.problems)
    guests: list[ParsedGuest] = []
    for root in documents.roots:
        if _is_defaults(root):
            continue
        guest = _Document(root, found, defaults, problems).read_guest()
        if guest is not None:
            guests.append(guest)
    return ParsedFile(guests=tuple(guests), problems=tuple(sorted(problems, key=line_and_column)))


def line_and_column(problem: BadInput) -> tuple[int, int]:
    """Where in its file a problem is."""
    _, line, column = problem.where.rsplit(":", 2)
    return int(line), int(column)


def may_have_defaults(content: bytes) -> bool:
    """Whether there may be defaults in a file; no other one need be read before all guests are.

    The word stands there as it is, or is spelled with an escape: YAML has no third way.
    """
    return KIND.encode() in content or b"\\" in content


def _is_defaults(root: Node) -> TypeGuard[MapNode]:
    kind = root.get("kind") if isinstance(root, MapNode) else None
    return isinstance(kind, Scalar) and kind.text == KIND


class _Document:
    """One document; complaints go to the file's list."""

    def __init__(self, root: Node, found: Found, above: Defaults, problems: list[BadInput]) -> None:
        self._root = root
        self._found = found
        self._shown = found.shown
        self._above = above
        self._problems = problems

    def read_guest(self) -> ParsedGuest | None:
        """The guest, unless something is wrong with it."""
        before = len(self._problems)
        root = self._root
        if not isinstance(root, MapNode):
            self._tell(root, "a manifest must be a map", "write kind, name, vmid and node, each as `key: value`")
            return None
        form = self._form(ManifestForm, root, for_guest(self._above, _plain_map(root)), KNOWN)
        own = self._config(root)
        if form is None or len(self._problems) > before:
            return None
        self._check_vmid(root, Vmid(form.vmid))
        config = merged_config(self._above.config, own)
        return ParsedGuest(
            desired=_desired(form, config, f"{self._shown}:{root.line}"),
            file=self._shown,
            positions=Places.of(_positions(root)),
            after=_after(root),
            inherited=self._above.places,
            secrets=merged_secrets(self._above.secrets, self._secrets(own), config),
        )

    def read_defaults(self, digest: bytes) -> Defaults:
        """The defaults, as far as they are understood."""
        root = self._root
        if not isinstance(root, MapNode):
            return self._above
        above, own = self._above, self._config(root)
        plain = merged(above.plain, _plain_map(root))
        form = self._form(DefaultsForm, root, plain, KNOWN_IN_DEFAULTS)
        vmids = self._vmids(root, above) if form is not None else ()
        config = merged_config(above.config, own)
        return Defaults(
            plain=handed_down(plain) if form is not None else {},
            config=config,
            secrets=merged_secrets(above.secrets, self._secrets(own), config),
            places={
                **above.places,
                **{key: f"{self._shown}:{at[0]}:{at[1]}" for key, at in _positions(root).items() if key},
            },
            vmids=vmids,
            digest=sha256(above.digest + digest).digest(),
        )

    def _vmids(self, root: MapNode, above: Defaults) -> tuple[tuple[int, int], ...]:
        node = root.get("vmids")
        if node is None:
            return above.vmids
        ranges = parse_ranges(_plain(node))
        if ranges is None:
            what = "'vmids' must be ranges of vmids"
            self._tell(node, what, f'write "200-299" or "200-299,400", within {VMID_MIN} and {VMID_MAX}')
        return ranges or ()

    def _check_vmid(self, root: MapNode, vmid: Vmid) -> None:
        ranges = outside(self._above, vmid)
        if ranges:
            where = self._above.places.get("vmids", "")
            what = f"vmid {vmid} is outside of this folder's {ranges}, set at {where}"
            self._tell(root.get("vmid") or root, what, "choose another vmid, or move the manifest")

    def _form(
        self, form: type[Form], root: MapNode, plain: Mapping[str, Any], known: Mapping[KeyPath, tuple[str, ...]]
    ) -> Form | None:
        try:
            return form.model_validate(plain)
        except ValidationError as error:
            for complaint in complaints(error, known):
                node = _find(root, complaint)
                self._tell(node, complaint.what, _trap(node, complaint.wanted) or _remedy(complaint, form))
            return None

    def _config(self, root: MapNode) -> Config:
        node = root.get("config")
        return read_config(node, self._tell) if isinstance(node, MapNode) else Config(values={}, description=None)

    def _secrets(self, config: Config) -> dict[str, SecretPlace]:
        folder = self._found.folder
        return {
            key: SecretPlace(folder=folder, name=secret.name, where=f"{self._shown}:{secret.line}:{secret.column}")
            for key, secret in config.secrets.items()
        }

    def _tell(self, node: Node, what: str, remedy: str) -> None:
        self._problems.append(BadInput(what=what, where=place(self._shown, node), remedy=remedy))


def _desired(form: ManifestForm, config: Config, origin: str) -> Desired:
    restart = form.disruption.restart
    return Desired(
        type=_TYPES[form.kind],
        name=form.name,
        vmid=Vmid(form.vmid),
        node=NodeName(form.node),
        power=Power.STOPPED if form.template else Power(form.power),
        source=_source(form.source),
        config=config.values,
        description=config.description,
        labels=cast("dict[str, str]", form.labels),
        restart=restart.window if isinstance(restart, WindowForm) else restart,
        after=tuple(dict.fromkeys(form.after)),
        template=form.template,
        pool=form.pool or "",
        snapshots=None if form.snapshots is None else SnapshotPolicy(**form.snapshots.model_dump()),
        backups=None if form.backups is None else BackupPolicy(**form.backups.model_dump()),
        ignore=tuple(dict.fromkeys(form.ignore)),
        origin=origin,
    )


def _source(form: SourceForm | None) -> Source:
    if form is None:
        return _EMPTY
    if form.clone is not None:
        return Clone(source=Vmid(form.clone), full=form.full is not False)
    if form.template is not None:
        return ContainerTemplate(volume=form.template)
    if form.archive is not None:
        return Archive(volume=form.archive)
    return _EMPTY


def _plain_map(node: MapNode) -> dict[str, Any]:
    """As pydantic takes it. What stands under `config` has a reader of its own and stays outside."""
    plain = {key.text: _plain(value) for key, value in node.entries if key.text != "config"}
    config = node.get("config")
    if config is not None:
        plain["config"] = {} if isinstance(config, MapNode) else _plain(config)
    return plain


def _plain(node: Node) -> Any:
    if isinstance(node, MapNode):
        return {key.text: _plain(value) for key, value in node.entries}
    if isinstance(node, ListNode):
        return [_plain(item) for item in node.items]
    return _scalar(node)


def _scalar(node: Scalar) -> str | int | bool | None:
    """A number only where nobody can read another one from it; `0101`, `1:30` and `1_000` stay texts."""
    text = node.text
    if not node.plain:
        return text
    if text in TRUTHS:
        return TRUTHS[text]
    if is_null(node):
        return None
    digits = text.removeprefix("-")
    canonical = digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")
    return int(text) if canonical and len(digits) <= _INT_DIGITS_MAX else text


def _find(root: MapNode, complaint: Complaint) -> Node:
    """The place a complaint is about: as deep as its path leads (pydantic adds steps that no file has)."""
    node: Node = root
    path: KeyPath = complaint.path
    for index, step in enumerate(path):
        if isinstance(node, MapNode) and isinstance(step, str):
            key, value = node.key(step), node.get(step)
            if key is not None and value is not None:
                node = key if complaint.at_key and index == len(path) - 1 else value
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
    return node


def _trap(node: Node, wanted: Wanted) -> str:
    """What YAML 1.1 makes of an unquoted text, where that is why it does not fit."""
    if not isinstance(node, Scalar) or not node.plain:
        return "write a number without quotes" if isinstance(node, Scalar) and wanted is Wanted.NUMBER else ""
    text = node.text[:40]
    if is_null(node) and wanted is not Wanted.OTHER:
        return "nothing stands there: give it a value, or leave the key out"
    if wanted is Wanted.TEXT and text in TRUTHS:
        return f'YAML reads {text} as a truth value: put it in quotes, "{text}"'
    if wanted is Wanted.TEXT and isinstance(_scalar(node), int):
        return f'YAML reads {text} as a number: put it in quotes, "{text}"'
    if wanted is not Wanted.NUMBER or not text[:1].isdigit():
        return ""
    if ":" in text:
        return f"YAML 1.1 reads {text} as a number of base 60: write the plain number"
    if text.startswith("0") and text.isdigit():
        return f"the leading zero makes {text} octal in YAML 1.1: write {text.lstrip('0') or '0'}"
    return "write it in decimal digits, without separators"


def _remedy(complaint: Complaint, form: type[BaseModel]) -> str:
    name = complaint.path[-1] if complaint.path else ""
    if form is DefaultsForm and len(complaint.path) == 1 and name in NEVER_DEFAULTS:
        return "it tells one guest from another: write it in each manifest"
    if not complaint.at_key or len(complaint.path) != 1 or not isinstance(name, str):
        return complaint.remedy
    if name in _PVE_KEYS or (name[-1:].isdigit() and name.rstrip("0123456789").isalpha()):
        return f"PVE's own keys stand under config: write config: {{{name}: …}}"
    if name == "hostname":
        return REFUSED["hostname"]
    return complaint.remedy


def _positions(root: MapNode) -> dict[str, tuple[int, int]]:
    positions = {"": (root.line, root.column)} | {key.text: (key.line, key.column) for key, _ in root.entries}
    config = root.get("config")
    if isinstance(config, MapNode):
        positions |= {f"config.{key.text}": (key.line, key.column) for key, _ in config.entries}
    return positions


def _after(root: MapNode) -> tuple[tuple[str, int, int], ...]:
    node = root.get("after")
    items = node.items if isinstance(node, ListNode) else ()
    return tuple((item.text, item.line, item.column) for item in items if isinstance(item, Scalar))
