"""The pages of ways out of trouble: which one is about what, and their texts without a network.

Every reason, every refusal and every check of the doctor leads to a page of `docs/trouble`; tests hold it. People are
given the topic's name: `trueup explain TOPIC` prints the page wherever trueup is installed.
"""

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from trueup.model.errors import BadInput
from trueup.model.gate import Refusal
from trueup.model.ops import Reason

INDEX: Final = "README"
UNRESOLVED: Final = "unresolved"
ENDED: Final = "ended"
HALF_MADE: Final = "half-made-guest"
_OPEN: Final = tuple(Reason)[tuple(Reason).index(Reason.TASK_UNKNOWN) :]

OF_REASON: Final[Mapping[Reason, str]] = {
    **{reason: UNRESOLVED if reason in _OPEN else ENDED for reason in Reason},
    Reason.PRESUMED_NOT_STARTED: "contradicted",
    Reason.LOCK_HELD: "leftover-lock",
}
"""The page that helps most; `unresolved` and `ended` have a line for every reason."""

OF_REFUSAL: Final[Mapping[Refusal, str]] = {
    **dict.fromkeys(Refusal, "request-refused"),
    Refusal.NO_KEYRING: "gate-closed",
    Refusal.CLOCK: "clock-off",
    Refusal.BLOCKED: UNRESOLVED,
}

OF_CHECK: Final[Mapping[str, str]] = {
    "settings": "no-connection",
    "store": "journal-damaged",
    "manifests": "manifests-refused",
    "gate": "gate-closed",
    "token": "token-revoked",
    "endpoint": "no-connection",
    "version": "no-connection",
    "clock": "clock-off",
    "rights": "rights-missing",
    "quorum": "quorum-lost",
    "node": "node-down",
    "cluster": "no-connection",
    "keeper": "token-revoked",
    "notify": "notifications",
}
"""By the name of the doctor's check."""

_NAME: Final = re.compile(r"[a-z][a-z-]*")
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CHECKOUT: Final = Path(__file__).parents[3] / "docs" / "trouble"


def more(topic: str) -> str:
    """Where to read on, as a sentence without its full stop."""
    return f"`trueup explain {topic}` says more"


def names() -> dict[str, str]:
    """Every topic with the headline of its page, in the order of the index."""
    listed = re.findall(r"\]\(([a-z-]+)\.md\)", _text(INDEX))
    return {name: _text(name).partition("\n")[0].removeprefix("# ") for name in dict.fromkeys(listed)}


def page(topic: str) -> str:
    """A page as plain text: links become words, marks for tests are gone.

    Raises:
        BadInput: there is no such topic.
    """
    if _NAME.fullmatch(topic) is None or topic not in names():
        raise BadInput(what=f"there is no topic {topic[:60]!r}", remedy="`trueup explain` lists them")
    lines = [line for line in _text(topic).split("\n") if not line.startswith(("<!--", "```"))]
    return _LINK.sub(_words, "\n".join(lines))


def _words(link: re.Match[str]) -> str:
    text, target = link[1], link[2]
    name = target.removesuffix(".md")
    if target.startswith("https://"):
        return f"{text} ({target})"
    return name if _NAME.fullmatch(name) else f"{text} (docs/{target.removeprefix('../').partition('#')[0]})"


def _text(name: str) -> str:
    return (_folder() / f"{name}.md").read_text(encoding="utf-8")


def _folder() -> Traversable:
    """Where the pages are: in the installed package, or in the checkout that an editable install runs from."""
    installed = resources.files("trueup") / "trouble"
    return installed if installed.is_dir() else _CHECKOUT
