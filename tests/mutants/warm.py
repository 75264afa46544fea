"""The warm way: all tests are imported and collected once; each mistake is planted in a fork of that, and tried there.

Only for mistakes in functions that nothing runs while tests are imported: whatever else was imported with them could
have been worked out without the mistake. The code of the function is exchanged in place, so everybody who holds the
function has the mistake.

A plugin: `pytest -p tests.mutants.warm`, with TRUEUP_MUTANTS_JOBS naming a file of jobs; it runs no tests of its own.
"""

import gc
import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

import msgspec
import pytest

from tests.mutants.mutate import Mutant, mutants
from tests.mutants.pool import in_children

CORE = Path(__file__).parents[2] / "src" / "trueup" / "core"
CANNOT = 90
"""The child's exit code where the code cannot be exchanged; such a mistake is tried in the cold way."""


class Job(msgspec.Struct, frozen=True):
    """A mistake, by its number in its module, and the tests to try, the likeliest first."""

    module: str
    number: int
    tests: list[str]
    cpu_s: float


class Jobs(msgspec.Struct, frozen=True):
    """All that is to be tried."""

    jobs: list[Job]
    workers: int
    out: str


class Verdict(msgspec.Struct, frozen=True):
    """What came of one: the child's exit code, and the test that noticed it."""

    module: str
    number: int
    code: int
    test: str


def pytest_runtestloop(session: pytest.Session) -> bool:
    asked = msgspec.json.decode(Path(os.environ["TRUEUP_MUTANTS_JOBS"]).read_bytes(), type=Jobs)
    tried = _Tried(session)
    tried.read(job.module for job in asked.jobs)
    gc.collect()
    gc.freeze()
    with Path(asked.out).open("wb") as out:
        for job, said in in_children(asked.jobs, tried.work, asked.workers, lambda job: job.cpu_s):
            tried.learn(job, said.code, said.test)
            out.write(msgspec.json.encode(Verdict(job.module, job.number, said.code, said.test)) + b"\n")
            out.flush()
    return True


@dataclass(frozen=True)
class _Text:
    """A module as it is written: its file, its mistakes, and the code of its functions by their first lines."""

    file: str
    found: list[Mutant]
    code: dict[int, CodeType]


class _Tried:
    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        self._modules: dict[str, _Text] = {}
        self._functions = _functions()
        self._killers: dict[str, list[str]] = {}
        self._last = ""

    def learn(self, job: Job, code: int, test: str) -> None:
        """What has noticed one mistake of a function is likely to notice the next."""
        if code and test:
            killers = self._killers.setdefault(job.module, [])
            if test in killers:
                killers.remove(test)
            killers.insert(0, test)
            del killers[20:]

    def read(self, names: Iterable[str]) -> None:
        """Find the mistakes of these modules, once for all children."""
        for name in sorted(set(names)):
            file = CORE / f"{name}.py"
            source = file.read_text(encoding="utf-8")
            code = {one.co_firstlineno: one for one in _codes(compile(source, str(file), "exec"))}
            found = list(mutants(source, importlib.import_module(f"trueup.core.{name}")))
            self._modules[name] = _Text(str(file), found, code)

    def work(self, job: Job, say: Callable[[str], None]) -> int:
        gc.disable()
        if not self._plant(job):
            return CANNOT
        asked = set(job.tests)
        first = [test for test in self._killers.get(job.module, []) if test in asked]
        names = [*first, *(test for test in job.tests if test not in first)]
        items = [self._items[name] for name in names]
        for item, behind in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=behind)
            if self._session.testsfailed:
                say(item.nodeid)
                return 1
        return 0

    def _plant(self, job: Job) -> bool:
        text = self._modules[job.module]
        one = text.found[job.number]
        right = text.code.get(one.function)
        wrong = next((code for code in _codes(compile(one.tree, text.file, "exec")) if _same(code, right)), None)
        if right is None or wrong is None:
            return False
        held = self._functions.get((text.file, right.co_firstlineno, right.co_name), [])
        if len({function.__code__ for function in held}) != 1:
            return False
        try:
            for function in held:
                function.__code__ = wrong
        except ValueError:  # it closes over other names than before
            return False
        return True


def _functions() -> dict[tuple[str, int, str], list[FunctionType]]:
    """Every function of the core that is alive, by where it was written."""
    found: dict[tuple[str, int, str], list[FunctionType]] = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(str(CORE)):
            code = thing.__code__
            found.setdefault((code.co_filename, code.co_firstlineno, code.co_name), []).append(thing)
    return found


def _same(one: CodeType, other: CodeType | None) -> bool:
    return other is not None and (one.co_firstlineno, one.co_name) == (other.co_firstlineno, other.co_name)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of the outermost functions: those of the module and of its classes."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_flags & inspect.CO_NEWLOCALS:  # a function; the body of a class does not have this
                if not const.co_name.startswith("<"):
                    yield const
            else:
                yield from _codes(const)
