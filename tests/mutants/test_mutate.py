"""The maker of mistakes makes them, each one alone, and a test notices one that matters."""

import ast
import importlib

from tests.mutants import run
from tests.mutants.mutate import mutants
from trueup.core import windows


def test_each_mistake_is_one_change_of_the_module() -> None:
    source = run._source("windows")
    found = list(mutants(source, windows))
    assert len(found) > 10
    plain = ast.unparse(ast.parse(source))
    assert all(ast.unparse(one.tree) != plain for one in found)
    assert len({(one.where, one.change) for one in found}) == len(found)


def test_tables_at_module_level_are_mutated_too() -> None:
    recovery = importlib.import_module("trueup.core.recovery")
    places = {one.where for one in mutants(run._source("recovery"), recovery)}
    assert {"RULES", "_r6", "_r10_applies"} <= places


def test_every_module_that_is_named_is_there() -> None:
    for name, tests in run.TESTS.items():
        assert run._source(name)
        assert any((run.ROOT / "tests" / "core" / f"{test}.py").exists() for test in tests), name


def test_reasons_are_given() -> None:
    assert all(len(why) > 20 for why in run.listed().values())
