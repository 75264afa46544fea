"""Figures, and what is claimed of them.

Pairs are measured in turn within one run, so that whatever else the machine does falls on both; medians are compared.
Absolute figures belong to the machine, ratios travel.
"""

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Self

import msgspec


class Size(StrEnum):
    """How much is measured: TINY only proves that a row still works, QUICK takes minutes, FULL is what is claimed."""

    TINY = "tiny"
    QUICK = "quick"
    FULL = "full"

    def of(self, tiny: int, quick: int, full: int) -> int:
        """The number for this size."""
        return {Size.TINY: tiny, Size.QUICK: quick, Size.FULL: full}[self]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Repeated measurements of one thing."""

    name: str
    values: Sequence[float]
    unit: str = "s"

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def shown(self) -> str:
        """Median, and the spread where there is one."""
        spread = f" ({number(min(self.values))}–{number(max(self.values))})" if len(self.values) > 1 else ""
        return f"{number(self.median)} {self.unit}{spread}"


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure is to be: at most, or at least, `bound`."""

    bound: float
    least: bool = False
    unit: str = "×"

    def met(self, value: float) -> bool:
        """Whether the figure is good enough."""
        return value >= self.bound if self.least else value <= self.bound

    def shown(self) -> str:
        """As in a table."""
        return f"{'≥' if self.least else '≤'} {number(self.bound)} {self.unit}".rstrip()


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    `value` is what the goal is about: the ratio of ours to the peer's median, or a count. `missing` says why there is
    no value; it is as visible as a missed goal.
    """

    key: str
    what: str
    value: float | None = None
    goal: Goal | None = None
    ours: Sample | None = None
    peer: Sample | None = None
    notes: dict[str, Any] = {}
    missing: str = ""


def compared(
    key: str, what: str, ours: Sample, peer: Sample, goal: Goal, notes: dict[str, Any] | None = None
) -> Figure:
    """A row about how many times as large ours is as the peer's."""
    return Figure(
        key=key, what=what, value=ours.median / peer.median, goal=goal, ours=ours, peer=peer, notes=notes or {}
    )


async def in_turn(times: int, *sides: Callable[[], Awaitable[float]]) -> list[list[float]]:
    """Measure each side in turn, so many times; each returns its own figure."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(times):
        for values, side in zip(taken, sides, strict=True):
            gc.collect()
            values.append(await side())
    return taken


class Stopwatch:
    """Wall and CPU time of a block, in seconds; the CPU time is this process's alone."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_error: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu


def number(value: float) -> str:
    """Three figures that count, without powers of ten."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2g}"
