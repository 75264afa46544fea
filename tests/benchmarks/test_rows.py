"""Every row of the benchmarks still works: on a tiny size it yields numbers, and the table has them."""

import msgspec
import pytest

from benchmarks import report
from benchmarks.measure import Figure, Goal, Size
from benchmarks.one import measured
from benchmarks.rows import NAMES

ELSEWHERE = {"journal/dbos", "apply/ansible"}
"""Rows whose peers are in an environment of their own; what is ours in them is measured by the rows beside them."""


@pytest.mark.parametrize("name", NAMES)
def test_a_row_yields_numbers(name: str) -> None:
    figures = measured(name, Size.TINY)
    assert figures
    assert msgspec.json.decode(msgspec.json.encode(figures), type=list[Figure])
    for figure in figures:
        assert figure.goal is not None
        if figure.key in ELSEWHERE:
            assert figure.missing
        else:
            assert isinstance(figure.value, int | float), figure
    table = report.table(figures)
    assert all(figure.what in table for figure in figures)


@pytest.mark.parametrize(
    ("value", "missing", "ends"),
    [(1.0, "", "met"), (3.0, "", "MISSED"), (None, "no network", "NOT MEASURED: no network")],
)
def test_a_missed_goal_is_as_visible_as_a_missing_peer(value: float | None, missing: str, ends: str) -> None:
    figure = Figure(key="of/nothing", what="it", value=value, goal=Goal(bound=2), missing=missing)
    assert report.verdict(figure) == ends


def test_a_shortfall_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(report.REASONS, "of/nothing", "the disk")
    assert report.verdict(Figure(key="of/nothing", what="it", value=3.0, goal=Goal(bound=2))) == "SHORT: the disk"
