"""What each commit tries, and what only a thorough run does: with TRUEUP_EVERY_POINT=1 set, everything."""

import os
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

R = TypeVar("R")
C = TypeVar("C")

EVERYTHING: Final = bool(os.environ.get("TRUEUP_EVERY_POINT"))


def sampled(cases: Iterable[C], every: int) -> list[C]:
    """Every n-th of these cases."""
    return list(cases)[:: 1 if EVERYTHING else every]


def crossed(rows: Sequence[R], columns: Sequence[C], every: int) -> list[tuple[R, C]]:
    """Pairs of the two, so spread that each row and each column is among them: every n-th of all pairs."""
    every = 1 if EVERYTHING else every
    return [(row, column) for i, row in enumerate(rows) for j, column in enumerate(columns) if (i + j) % every == 0]


def times(commit: int, thorough: int) -> int:
    """How often something is tried that chance varies."""
    return thorough if EVERYTHING else commit
