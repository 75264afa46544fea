"""The command line. `run` is all that the outside needs; commands are imported when they are called."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trueup.edges.parts import Parts


def run(parts: "Callable[[], Parts]", arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors are told in one line on standard error.

    `parts` is asked for the command's parts once it is known which command that is.
    """
    from trueup.edges.cli.root import run as run_root

    return run_root(parts, arguments)
