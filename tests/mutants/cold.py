"""The cold way: each mistake is tried in a fork of a process that has imported pytest and every foreign library, but
nothing of the product. It imports the product with the mistake in it, so this holds for tables at module level too.
"""

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

OURS = {"trueup", "pvesim", "tests", "conftest"}
PLUGINS = (
    "-p",
    "pytest_timeout",
    "-p",
    "_hypothesis_pytestplugin",
    "-p",
    "tests.mutants.quick",
    "-p",
    "no:cacheprovider",
)
"""Those that are needed, by name: looking for all that are installed takes longer than the tests."""
OPTIONS = ("-x", "-q", "--tb=no", *PLUGINS, "--hypothesis-profile=mutants")
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # what was imported once, for all children


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with a mistake in it; nothing is written to disk."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name = name
        self._code = compile(tree, f"<mutant of {name}>", "exec")

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - the module's own code


class _Listener:
    """Hears which test fails first."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._said:
            self._said = True
            self._say(report.nodeid)


def prepare(foreign: Iterable[str]) -> None:
    """Import these modules now, once for all children, and forget what is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in foreign:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    forget()


def forget() -> None:
    """Forget what was imported of the product, so that children import it with their mistake in it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        if not name.startswith("tests.mutants") and name != "tests":
            del sys.modules[name]


def run(module: str, tree: ast.Module | None, tests: Sequence[str], say: Callable[[str], None]) -> int:
    """In a child: import the product with the mistake in `core/<module>.py` (None: without one), and run the tests."""
    if tree is not None:
        sys.meta_path.insert(0, _Finder(f"trueup.core.{module}", tree))
    return int(pytest.main([*OPTIONS, *QUIET, *tests], plugins=[_Listener(say)]))


def whole(test: str) -> str:
    """A test without its parameters: their names may come out of what is mutated."""
    return test.partition("[")[0]
