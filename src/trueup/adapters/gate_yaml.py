"""The two files of the gate, read strictly: every complaint names its line, and nothing unknown is passed over.

A rule whose misspelt key is ignored may allow what nobody meant to allow.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from trueup.adapters.yaml_positions import ListNode, MapNode, Node, Scalar, is_null, place, read_documents
from trueup.model.errors import BadInput, ManyProblems

Read = TypeVar("Read")
_TRUTHS: Final = {"true": True, "false": False}


class Reading:
    """One file being read: the complaints so far, and readers for values of each form.

    A reader tells what is wrong and returns its fallback, so that all complaints of a file are told at once.
    """

    def __init__(self, shown: str) -> None:
        """`shown` is what messages call the file."""
        self.shown = shown
        self.problems: list[BadInput] = []

    def root(self, text: str) -> MapNode | None:
        """The one map that the file is; None for an empty file. Raises BadInput: it is no YAML, or no map."""
        documents = read_documents(text, self.shown)
        self.problems.extend(documents.problems)
        self.done()
        if len(documents.roots) > 1:
            self.tell(documents.roots[1], "a second document", "write one document")
        root = documents.roots[0] if documents.roots else None
        if root is not None and not isinstance(root, MapNode):
            self.tell(root, "the file must be a map", "write `key: value` lines")
        self.done()
        return root if isinstance(root, MapNode) else None

    def done(self) -> None:
        """Raise what was found: BadInput, or ManyProblems."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise ManyProblems(problems=self.problems)

    def tell(self, node: Node, what: str, remedy: str = "") -> None:
        """Note a complaint about a place."""
        self.problems.append(BadInput(what=what, where=place(self.shown, node), remedy=remedy))

    def map(self, node: Node | None, what: str, known: tuple[str, ...] | None = None) -> Mapping[str, Node]:
        """A map's values by key; with `known`, other keys are complained of."""
        if node is None:
            return {}
        if not isinstance(node, MapNode):
            self.tell(node, f"{what} must be a map", "write {key: value}")
            return {}
        if known is not None:
            for key, _ in node.entries:
                if key.text not in known:
                    self.tell(key, f"unknown key {key.text[:60]!r}", f"known here: {', '.join(known)}")
        return {key.text: value for key, value in node.entries}

    def list(self, node: Node | None, what: str) -> tuple[Node, ...]:
        """A list's items."""
        if node is None:
            return ()
        if not isinstance(node, ListNode):
            self.tell(node, f"{what} must be a list", "write [one, two]")
            return ()
        return node.items

    def text(self, node: Node | None, what: str, fallback: str = "") -> str:
        """A text that is not empty."""
        if node is None:
            return fallback
        if not isinstance(node, Scalar) or is_null(node) or not node.text:
            self.tell(node, f"{what} must be a text")
            return fallback
        return node.text

    def number(self, node: Node | None, what: str, fallback: int, *, least: int = 1, most: int = 1_000) -> int:
        """A whole number between two bounds."""
        if node is None:
            return fallback
        text = node.text if isinstance(node, Scalar) and node.plain else ""
        if not (text.isascii() and text.isdigit() and len(text) < len(str(most)) + 1 and least <= int(text) <= most):
            self.tell(node, f"{what} must be a whole number from {least} to {most}")
            return fallback
        return int(text)

    def truth(self, node: Node | None, what: str, *, fallback: bool) -> bool:
        """True or false."""
        if node is None:
            return fallback
        if not isinstance(node, Scalar) or not node.plain or node.text not in _TRUTHS:
            self.tell(node, f"{what} must be true or false")
            return fallback
        return _TRUTHS[node.text]

    def parsed(self, node: Node, parse: Callable[[str], Read], what: str) -> Read | None:
        """A text that a parser of ours takes; what it raises (BadInput, ValueError) is told at the text's place."""
        text = self.text(node, what)
        if not text:
            return None
        try:
            return parse(text)
        except BadInput as error:
            self.tell(node, error.what, error.remedy)
        except ValueError:
            self.tell(node, f"{what} is not of its form")
        return None
