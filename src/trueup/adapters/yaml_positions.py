"""YAML in which every value knows its line and column, read from the parser's events.

The parser's own loader is not used: it keeps the last of two equal keys in silence, follows aliases without a limit,
and recurses in C, so that a deep enough file ends the process. Here depth and the number of values are bounded while
events arrive, and nothing is resolved: a scalar stays the text that was written, with the note whether it was quoted.
What a text means is decided by who asks for it.
"""

from collections.abc import Callable, Iterable
from sys import intern
from typing import Any, Final, cast

import msgspec
import yaml

from trueup.model import limits
from trueup.model.errors import BadInput

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS: Final = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
MERGE: Final = "<<"
_COMMON_CHARS: Final = 24
"""Texts up to this length are mostly keys, numbers and words that thousands of files share: one copy is kept."""

_TAB: Final = "indent with spaces; YAML allows no tabs there"
_SYNTAX: Final = "check the indentation, the quotes and the colons of this line and of the one above"


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """A text as it was written. `plain` = without quotes: then YAML may read a number or a truth value from it."""

    text: str
    plain: bool
    line: int
    column: int
    size: int = 1
    height: int = 0


class ListNode(msgspec.Struct, frozen=True, kw_only=True):
    """A list. `size` counts all values below it, aliases followed; `height` the levels."""

    items: "tuple[Node, ...]"
    line: int
    column: int
    size: int
    height: int


class MapNode(msgspec.Struct, frozen=True, kw_only=True):
    """A map in the order of the file, without repeated keys; merge keys are worked in."""

    entries: "tuple[tuple[Scalar, Node], ...]"
    line: int
    column: int
    size: int
    height: int

    def key(self, name: str) -> Scalar | None:
        """Find a key by its text."""
        return next((key for key, _ in self.entries if key.text == name), None)

    def get(self, name: str) -> "Node | None":
        """Find a value by its key's text."""
        return next((value for key, value in self.entries if key.text == name), None)


Node = Scalar | ListNode | MapNode


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of one file that are not empty, and what was wrong with it; what could be read is there even so."""

    roots: tuple[Node, ...]
    problems: tuple[BadInput, ...]


def read_documents(text: str, shown: str) -> Documents:
    """Read all documents of a text; `shown` is what messages call its file. It never raises for what the text says."""
    composer = _Composer(shown)
    try:
        for event in cast("Iterable[Any]", yaml.parse(text, Loader=_LOADER)):
            composer.take(event)
            if composer.full:
                break
    except yaml.YAMLError as error:
        composer.problems.append(_problem(error, text, shown))
    return Documents(roots=tuple(composer.roots), problems=tuple(composer.problems))


def place(shown: str, node: Node | Scalar) -> str:
    """file:line:column."""
    return f"{shown}:{node.line}:{node.column}"


class _Frame:
    """A map or a list that is still open."""

    __slots__ = ("anchor", "column", "entries", "height", "is_map", "items", "key", "line", "lines", "size")

    def __init__(self, event: Any, *, is_map: bool) -> None:
        self.is_map = is_map
        self.anchor = cast("str | None", event.anchor)
        self.line, self.column = _position(event)
        self.items: list[Node] = []
        self.entries: list[tuple[Scalar, Node]] = []
        self.key: Scalar | None = None
        self.lines: dict[str, int] = {}  # of the keys, to tell of the first of two
        self.size = 1
        self.height = 0


class _Composer:
    """Builds documents from events. `full` ends the reading: a limit was met."""

    def __init__(self, shown: str) -> None:
        self.roots: list[Node] = []
        self.problems: list[BadInput] = []
        self.full = False
        self._shown = shown
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}  # None = still open
        self._documents = 0
        self._values = 0
        self._take: dict[type[Any], Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._open_map,
            yaml.SequenceStartEvent: self._open_list,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.DocumentStartEvent: self._document,
        }

    def take(self, event: Any) -> None:
        """Work in the next event; stream events and the ends of documents say nothing new."""
        act = self._take.get(cast("type[Any]", type(event)))
        if act is not None:
            act(event)

    def _document(self, event: Any) -> None:
        self._anchors.clear()
        self._documents += 1
        if self._documents > limits.MANIFEST_DOCUMENTS_MAX:
            self._stop(_position(event), f"more than {limits.MANIFEST_DOCUMENTS_MAX} documents in one file")

    def _scalar(self, event: Any) -> None:
        at = line, column = _position(event)
        self._check_tag(event.tag, at)
        self._charge(1, at)
        plain = event.tag is None and bool(event.implicit[0])
        text = cast("str", event.value)
        text = intern(text) if len(text) <= _COMMON_CHARS else text
        self._add(Scalar(text=text, plain=plain, line=line, column=column), event.anchor)

    def _alias(self, event: Any) -> None:
        at = line, column = _position(event)
        name = cast("str", event.anchor)
        node = self._anchors.get(name)
        if node is None:
            why = "stands inside its own anchor" if name in self._anchors else "has no anchor"
            self._tell(at, f"alias *{_cut(name)} {why}", f"write &{_cut(name)} before it, in the same document")
            node = Scalar(text="", plain=False, line=line, column=column)
        self._check_depth(node.height, at)
        self._charge(node.size, at)
        self._add(node, None)

    def _open_map(self, event: Any) -> None:
        self._open(_Frame(event, is_map=True), event.tag)

    def _open_list(self, event: Any) -> None:
        self._open(_Frame(event, is_map=False), event.tag)

    def _open(self, frame: _Frame, tag: str | None) -> None:
        at = frame.line, frame.column
        self._check_tag(tag, at)
        self._charge(1, at)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = None
        self._frames.append(frame)
        self._check_depth(0, at)

    def _close(self, event: Any) -> None:
        del event
        frame = self._frames.pop()
        entries = self._merged(frame.entries) if frame.is_map else ()
        place_and_size = {"line": frame.line, "column": frame.column, "size": frame.size, "height": frame.height}
        node = (
            MapNode(entries=entries, **place_and_size)
            if frame.is_map
            else ListNode(items=tuple(frame.items), **place_and_size)
        )
        self._add(node, frame.anchor)

    def _add(self, node: Node, anchor: str | None) -> None:
        """Put a finished value where it belongs, and remember its anchor."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._frames:
            if not (isinstance(node, Scalar) and is_null(node)):
                self.roots.append(node)
            return
        frame = self._frames[-1]
        frame.size += node.size
        frame.height = max(frame.height, node.height + 1)
        if not frame.is_map:
            frame.items.append(node)
        elif frame.key is None:
            frame.key = self._key(node)
        else:
            self._entry(frame, frame.key, node)
            frame.key = None

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self._tell((node.line, node.column), "a key must be a text, not a map or a list", "write `key: value`")
        return Scalar(text="", plain=False, line=node.line, column=node.column)

    def _entry(self, frame: _Frame, key: Scalar, node: Node) -> None:
        if key.text in frame.lines:
            first = frame.lines[key.text]
            self._tell((key.line, key.column), f"duplicate key {_cut(key.text)!r}", f"the first is in line {first}")
            return
        frame.lines[key.text] = key.line
        frame.entries.append((key, node))

    def _merged(self, entries: list[tuple[Scalar, Node]]) -> tuple[tuple[Scalar, Node], ...]:
        """Work in `<<`: what is written in the map itself goes before it, and an earlier map before a later one."""
        merge = next((entry for entry in entries if entry[0].plain and entry[0].text == MERGE), None)
        if merge is None:
            return tuple(entries)
        known = {key.text: (key, value) for key, value in entries if (key, value) != merge}
        source = merge[1]
        for part in source.items if isinstance(source, ListNode) else (source,):
            if isinstance(part, MapNode):
                for key, value in part.entries:
                    known.setdefault(key.text, (key, value))
            else:
                self._tell((part.line, part.column), "`<<` takes a map, or a list of maps", "write `<<: *anchor`")
        return tuple(known.values())

    def _check_tag(self, tag: str | None, at: tuple[int, int]) -> None:
        if tag not in _PLAIN_TAGS:
            self._tell(
                at, f"tag {_cut(tag or '')!r} is not understood", "leave it out; a manifest has no types of its own"
            )

    def _check_depth(self, more: int, at: tuple[int, int]) -> None:
        if len(self._frames) + more > limits.MANIFEST_DEPTH_MAX:
            self._stop(at, f"nested deeper than {limits.MANIFEST_DEPTH_MAX} levels")

    def _charge(self, values: int, at: tuple[int, int]) -> None:
        self._values += values
        if self._values > limits.MANIFEST_NODES_MAX:
            self._stop(at, f"more than {limits.MANIFEST_NODES_MAX} values in one file, with its aliases followed")

    def _stop(self, at: tuple[int, int], what: str) -> None:
        if not self.full:
            self._tell(at, what, "split or simplify the file; the rest of it was not read")
        self.full = True

    def _tell(self, at: tuple[int, int], what: str, remedy: str) -> None:
        self.problems.append(BadInput(what=what, where=f"{self._shown}:{at[0]}:{at[1]}", remedy=remedy))


def is_null(node: Scalar) -> bool:
    """Whether YAML reads nothing from this text."""
    return node.plain and node.text in {"", "~", "null", "Null", "NULL"}


def _position(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return cast("int", mark.line) + 1, cast("int", mark.column) + 1


def _problem(error: yaml.YAMLError, text: str, shown: str) -> BadInput:
    """What the parser said, at the place that it means."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        there = "".join(text.split("\n")[line - 1 : line])[column - 1 : column]
        remedy = _TAB if there == "\t" or "\\t" in said or "tab" in said else ""
    else:
        before = text.encode()[: cast("int", getattr(error, "position", 0))].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        said, remedy = cast("str", getattr(error, "reason", "")) or str(error).partition("\n")[0], ""
    return BadInput(what=f"not YAML: {_cut(said, 200)}", where=f"{shown}:{line}:{column}", remedy=remedy or _SYNTAX)


def _cut(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[:longest] + "…"
