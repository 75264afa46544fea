"""`make mutants`: makes small mistakes in the pure core, one at a time, and demands that a test fails for each.

A mistake that no test notices has *survived*. Each survivor needs an entry in `survivors.toml` that says why it may;
one without an entry fails the run, and so does an entry whose mistake is noticed by now.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from tests.mutants.mutate import Mutant, mutants

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TESTS = {
    "recovery": ("test_evidence", "test_recovery_rows", "test_recovery_table", "test_rolled_back"),
    "lifecycle": ("test_lifecycle", "test_rolled_back"),
    "tasksearch": ("test_tasksearch",),
    "probes": ("test_evidence", "test_probes", "test_kinds"),
    "marker": ("test_marker",),
    "schedule": ("test_schedule",),
    "windows": ("test_windows",),
    "sighting": ("test_sighting",),
    "intents": ("test_intents", "test_kinds"),
    "answers": ("test_answers",),
    "obstacles": ("test_planner_blocked", "test_planner_update", "test_planner_power"),
    "ordering": ("test_planner_order", "test_planner_converges"),
    "planner": ("test_planner_blocked", "test_planner_update", "test_planner_create", "test_planner_converges"),
    "plan_power": ("test_planner_power", "test_planner_blocked"),
    "plan_place": ("test_planner_place", "test_planner_blocked"),
}
"""The modules, the weightiest first, and the tests of tests/core that speak about them."""
QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # what was imported once, for all children
PATIENCE_S = 90
"""A mistake that makes the tests hang counts as noticed."""


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


def noticed(module: str, tree: ast.Module, tests: Sequence[str]) -> bool:
    """Whether a test fails with this mistake. Each is tried in a process of its own, forked from this one."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) != 0
    code = 1
    try:
        signal.alarm(PATIENCE_S)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, _Finder(module, tree))
        import pytest

        files = [path for name in tests if Path(path := f"tests/core/{name}.py").exists()]
        code = int(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", *QUIET, *files]))
    finally:
        os._exit(code)


def _noticed_in(name: str, one: Mutant) -> bool:
    return noticed(f"trueup.core.{name}", one.tree, TESTS[name])


def _source(name: str) -> str:
    return (ROOT / "src" / "trueup" / "core" / f"{name}.py").read_text(encoding="utf-8")


def listed() -> dict[tuple[str, str, str], str]:
    """The survivors that have a reason, by module, place and change."""
    text = (HERE / "survivors.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text).get("survivor", [])
    return {(row["module"], row["where"], row["change"]): row["why"] for row in rows}


@contextlib.contextmanager
def _fresh() -> Iterator[None]:
    """Forget what was imported of the product, so that children import it with their mistake in it."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in {"trueup", "tests"}]:
        if not name.startswith("tests.mutants") and name != "tests":
            del sys.modules[name]


def main() -> int:
    """Try the mistakes of the modules that are asked for; 0 if each is noticed or has its reason."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--sample", type=int, default=0, help="so many of each module only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    os.environ["CI"] = "1"  # the same examples each time
    os.chdir(ROOT)
    import hypothesis  # noqa: F401 - once, for all children
    import pytest  # noqa: F401

    reasons, bad, total, survivors = listed(), 0, 0, 0
    for name in asked.modules:
        with _fresh():
            found = list(mutants(_source(name), importlib.import_module(f"trueup.core.{name}")))
        if noticed(f"trueup.core.{name}", ast.parse(_source(name)), TESTS[name]):
            print(f"{name}: its tests fail without any mistake, so they can notice none", flush=True)
            bad += 1
            continue
        if asked.sample:
            found = random.Random(asked.seed).sample(found, min(asked.sample, len(found)))
        began = time.monotonic()
        with ThreadPoolExecutor(asked.workers) as pool:
            verdicts = list(pool.map(partial(_noticed_in, name), found))
        alive = [one for one, was in zip(found, verdicts, strict=True) if not was]
        print(f"{name}: {len(found)} mistakes, {len(alive)} survived, {time.monotonic() - began:.0f} s", flush=True)
        total, survivors = total + len(found), survivors + len(alive)
        bad += _report(name, found, alive, reasons, whole=not asked.sample)
    print(f"mistakes: {total}\nsurvived: {survivors}\nwithout a reason or out of date: {bad}")
    return 1 if bad else 0


def _report(
    name: str,
    found: Sequence[Mutant],
    alive: Sequence[Mutant],
    reasons: dict[tuple[str, str, str], str],
    *,
    whole: bool,
) -> int:
    keys = {(name, one.where, one.change) for one in alive}
    unknown = [one for one in alive if (name, one.where, one.change) not in reasons]
    for one in unknown:
        print(f"  survived: core/{name}.py:{one.line} in {one.where}: {one.change}")
    tried = {(name, one.where, one.change) for one in found}
    stale = [key for key in reasons if key[0] == name and key not in keys and (key in tried or whole)]
    for _, where, change in stale:
        print(f"  listed in survivors.toml, but noticed or no longer there: core/{name}.py in {where}: {change}")
    return len(unknown) + len(stale)


if __name__ == "__main__":
    sys.exit(main())
