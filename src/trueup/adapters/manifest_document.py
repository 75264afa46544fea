"""From one file's YAML to the guests that it declares, or to complaints at their places."""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from pydantic import ValidationError

from trueup.adapters.complaints import Complaint, Wanted, complaints
from trueup.adapters.complaints import Path as KeyPath
from trueup.adapters.config_values import REFUSED, TRUTHS, Config, read_config
from trueup.adapters.manifest_form import KNOWN, ManifestForm, SourceForm, WindowForm
from trueup.adapters.yaml_positions import ListNode, MapNode, Node, Scalar, is_null, place, read_documents
from trueup.model.errors import BadInput
from trueup.model.guests import Archive, Clone, ContainerTemplate, Desired, Empty, Power, Source
from trueup.model.ids import GuestType, NodeName, Vmid

_TYPES: Final = {"VirtualMachine": GuestType.QEMU, "Container": GuestType.LXC}
_INT_DIGITS_MAX: Final = 18
_PVE_KEYS: Final = frozenset(
    {"cores", "memory", "sockets", "cpu", "onboot", "tags", "description", "ostype", "bios", "machine", "agent", "boot"}
    | {"balloon", "scsihw", "vga", "rootfs", "swap", "unprivileged", "features", "nameserver", "ciuser", "protection"}
)
"""Keys of PVE that people write one level too high; numbered ones are told by their form."""


class ParsedGuest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest with the places of its keys ('' = the guest itself; config's are `config.net0`) and of its `after`."""

    desired: Desired
    file: str
    positions: Mapping[str, tuple[int, int]]
    after: tuple[tuple[str, int, int], ...]

    def at(self, key: str) -> str:
        """file:line:column of a key."""
        line, column = self.positions.get(key) or self.positions[""]
        return f"{self.file}:{line}:{column}"


class ParsedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What one file says."""

    guests: tuple[ParsedGuest, ...]
    problems: tuple[BadInput, ...]


def parse_file(text: str, shown: str) -> ParsedFile:
    """Read one file's text; `shown` is what messages call it. Never raises for what the text says."""
    documents = read_documents(text, shown)
    problems = list(documents.problems)
    guests: list[ParsedGuest] = []
    for root in documents.roots:
        reader = _Document(root, shown, problems)
        guest = reader.read()
        if guest is not None:
            guests.append(guest)
    return ParsedFile(guests=tuple(guests), problems=tuple(sorted(problems, key=_line_and_column)))


def _line_and_column(problem: BadInput) -> tuple[int, int]:
    _, line, column = problem.where.rsplit(":", 2)
    return int(line), int(column)


class _Document:
    """One document; complaints go to the file's list."""

    def __init__(self, root: Node, shown: str, problems: list[BadInput]) -> None:
        self._root = root
        self._shown = shown
        self._problems = problems

    def read(self) -> ParsedGuest | None:
        """The guest, unless something is wrong with it."""
        before = len(self._problems)
        root = self._root
        if not isinstance(root, MapNode):
            self._tell(root, "a manifest must be a map", "write kind, name, vmid and node, each as `key: value`")
            return None
        form = self._form(root)
        config = self._config(root)
        if form is None or len(self._problems) > before:
            return None
        return ParsedGuest(
            desired=_desired(form, config, f"{self._shown}:{root.line}"),
            file=self._shown,
            positions=_positions(root),
            after=_after(root),
        )

    def _form(self, root: MapNode) -> ManifestForm | None:
        try:
            return ManifestForm.model_validate(_plain_map(root))
        except ValidationError as error:
            for complaint in complaints(error, KNOWN):
                node = _find(root, complaint)
                self._tell(node, complaint.what, _trap(node, complaint.wanted) or _remedy(complaint))
            return None

    def _config(self, root: MapNode) -> Config:
        node = root.get("config")
        return read_config(node, self._tell) if isinstance(node, MapNode) else Config(values={}, description=None)

    def _tell(self, node: Node, what: str, remedy: str) -> None:
        self._problems.append(BadInput(what=what, where=place(self._shown, node), remedy=remedy))


def _desired(form: ManifestForm, config: Config, origin: str) -> Desired:
    restart = form.disruption.restart
    return Desired(
        type=_TYPES[form.kind],
        name=form.name,
        vmid=Vmid(form.vmid),
        node=NodeName(form.node),
        power=Power(form.power),
        source=_source(form.source),
        config=config.values,
        description=config.description,
        labels=cast("dict[str, str]", form.labels),
        restart=restart.window if isinstance(restart, WindowForm) else restart,
        after=tuple(dict.fromkeys(form.after)),
        origin=origin,
    )


def _source(form: SourceForm | None) -> Source:
    if form is None:
        return Empty()
    if form.clone is not None:
        return Clone(source=Vmid(form.clone), full=form.full is not False)
    if form.template is not None:
        return ContainerTemplate(volume=form.template)
    if form.archive is not None:
        return Archive(volume=form.archive)
    return Empty()


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


def _remedy(complaint: Complaint) -> str:
    name = complaint.path[-1] if complaint.path else ""
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
