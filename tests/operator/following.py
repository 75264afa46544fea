"""To follow what a message says: it goes wrong, the remedy is taken out of the error, done, and then it works."""

import re
from collections.abc import Callable, Iterator

import pytest

from trueup.model.errors import ManyProblems, TrueupError

Follow = Callable[[str], object]
"""Does what the remedy says; its argument is the remedy as it was printed."""


def printed(error: TrueupError) -> Iterator[str]:
    """The remedies of an error, without what is wrong and where."""
    if isinstance(error, ManyProblems):
        for one in error.problems:
            yield from printed(one)
    else:
        yield error.remedy


def fits(template: str, text: str) -> bool:
    """Whether a text is this remedy, whole; what was put in at run time is `{}` in it."""
    return re.fullmatch(".+".join(re.escape(part) for part in re.split(r"\{\}", template)), text) is not None


def followed(remedy: str, attempt: Callable[[], object], follow: Follow) -> None:
    """It fails with this remedy, which is followed, and the same works."""
    with pytest.raises(TrueupError) as caught:
        attempt()
    texts = [text for text in printed(caught.value) if fits(remedy, text)]
    assert texts, f"{remedy!r} is not what {caught.value!r} says"
    follow(texts[0])
    attempt()


def quoted(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)
