"""The maker of mistakes makes them, each one alone; nothing of the core is left out; reasons name what is there."""

import ast
import importlib
from collections import Counter

import pytest

from tests.mutants import choice, run
from tests.mutants.mutate import Mutant, functions, mutants
from tests.mutants.reach import Reach
from trueup.core import windows

TEXT = '''
import functools

LIMIT = 3
TABLE = {1: lambda n: n > 4}

class Box:
    size: int = 5

    @property
    @functools.cache
    def full(self, most=6):
        """Not 7."""
        inner = lambda n: n > 8
        return inner(9) and 0 < most < 10
'''


def made(name: str) -> list[Mutant]:
    return list(mutants(run.source_of(name), importlib.import_module(f"trueup.core.{name}")))


def test_each_mistake_is_one_change_of_the_module() -> None:
    found = made("windows")
    assert len(found) > 10
    plain = ast.unparse(ast.parse(run.source_of("windows")))
    assert all(ast.unparse(one.tree) != plain for one in found)
    assert len({(one.where, one.change) for one in found}) == len(found)


def test_tables_at_module_level_are_mutated_too() -> None:
    assert {"RULES", "_r6", "_r10_applies"} <= {one.where for one in made("recovery")}


def test_a_mistake_knows_the_function_that_runs_it_and_what_runs_at_the_import_has_none() -> None:
    found = {one.change: one.function for one in mutants(TEXT, windows)}
    start = TEXT.splitlines().index("    @property") + 1
    assert {change: where for change, where in found.items() if where} == {
        "n > 8 -> n >= 8": start,
        "8 -> 9": start,
        "9 -> 10": start,
        "inner(9) and 0 < most < 10 -> inner(9) or 0 < most < 10": start,
        "inner(9) and 0 < most < 10 -> 0 < most < 10": start,
        "inner(9) and 0 < most < 10 -> inner(9)": start,
        "0 < most < 10 -> 0 <= most < 10": start,
        "0 < most < 10 -> 0 < most <= 10": start,
        "0 -> 1": start,
        "10 -> 11": start,
    }
    assert {change for change, where in found.items() if not where} == {
        "3 -> 4", "1 -> 2", "n > 4 -> n >= 4", "4 -> 5", "5 -> 6", "6 -> 7",
    }  # fmt: skip
    assert functions(TEXT) == {start: (len(TEXT.splitlines()), "full")}


@pytest.mark.parametrize("name", run.NOTHING_TO_TRY)
def test_where_nothing_is_tried_nothing_can_be_mistaken(name: str) -> None:
    assert not list(mutants(run.source_of(name), windows))
    assert name not in run.modules()


REACH = Reach(
    at_import=["m:1"],
    seconds={"a.py::slow": 3.0, "a.py::t[1]": 0.01, "a.py::t[2]": 0.01, "b.py::u": 0.2, "a.py::other": 0.01},
    runs={
        "a.py::slow": ["m:5"],
        "a.py::t[1]": ["m:5", "m:9"],
        "a.py::t[2]": ["m:5"],
        "b.py::u": ["m:5"],
        "a.py::other": ["m:9"],
    },
)


def test_the_tests_that_run_a_function_are_tried_the_quick_ones_first() -> None:
    assert choice.warm(REACH, "m:5", 9).tests == ("a.py::t[1]", "a.py::t[2]", "b.py::u", "a.py::slow")
    assert choice.warm(REACH, "m:9", 9).tests == ("a.py::t[1]", "a.py::other")
    assert choice.warm(REACH, "m:7", 9).tests == ()


def test_no_more_seconds_are_spent_than_were_given() -> None:
    few = choice.warm(REACH, "m:5", 1)
    assert few.tests == ("a.py::t[1]", "a.py::t[2]", "b.py::u")
    assert few.seconds == pytest.approx(0.22)


def test_every_reason_is_given_once_and_is_about_a_mistake_that_can_be_made() -> None:
    rows = run.rows()
    assert all(len(row["why"]) > 20 for row in rows)
    assert not [key for key, count in Counter(map(run.key_of, rows)).items() if count > 1]
    there = {(name, one.where, one.change) for name in {row["module"] for row in rows} for one in made(name)}
    assert {run.key_of(row) for row in rows} <= there
