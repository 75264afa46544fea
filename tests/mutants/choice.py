"""Which tests are tried against which mistake, and in which order: those that run the function, the likeliest first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.cold import whole
from tests.mutants.reach import Reach

SLOW_S, FAST_S = 0.5, 0.05
ENOUGH_S = 3.0
"""No more seconds of tests than this are spent on one mistake; the quickest tests come first."""
WITHOUT_END_S = 1e6
FIRST_FILES = 3


@dataclass(frozen=True)
class Choice:
    """The tests for one mistake, in their order, and what they take together without one."""

    tests: tuple[str, ...]
    seconds: float

    @property
    def cpu_s(self) -> float:
        """How long a child may work: generous, since a mistake may make tests slower; who needs longer hangs."""
        return 10 + 4 * self.seconds


def warm(reach: Reach, function: str, enough_s: float = ENOUGH_S) -> Choice:
    """The tests that run this function."""
    return _bounded(_ordered(reach.tests_of(function), reach.seconds), reach.seconds, enough_s)


def cold(reach: Reach, module: str, root: Path, enough_s: float = ENOUGH_S) -> tuple[Choice, Choice]:
    """For what runs at the import: first the tests of the files that speak about the module most, then all others."""
    files = _files(reach, module, root)
    first = [test for test in reach.seconds if _file(test) in files[:FIRST_FILES]]
    ordered = sorted(_ordered(first, reach.seconds), key=lambda test: reach.seconds[test] > SLOW_S)
    near = _bounded(ordered, reach.seconds, enough_s / 2)
    others = [test for test in _ordered(reach.seconds, reach.seconds) if test not in set(near.tests)]
    rank = {file: number for number, file in enumerate(files)}
    others.sort(key=lambda test: (_bucket(reach.seconds[test]), rank.get(_file(test), len(rank))))
    far = _bounded(others, reach.seconds, enough_s)
    return _functions(near), _functions(far)


def _functions(choice: Choice) -> Choice:
    return Choice(tuple(dict.fromkeys(whole(test) for test in choice.tests)), choice.seconds)


def _files(reach: Reach, module: str, root: Path) -> list[str]:
    """The files of tests, those first that import the module, then by how many of its functions they run."""
    ran: dict[str, set[str]] = {_file(test): set() for test in reach.seconds}
    for test, functions in reach.runs.items():
        ran[_file(test)] |= {one for one in functions if one.partition(":")[0] == module}
    names = {file: _imports(root / file, module) for file in ran}
    return sorted(ran, key=lambda file: (-names[file], -len(ran[file])))


def _imports(file: Path, module: str) -> bool:
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "import" in line]
    return any(f"core.{module} " in line or ("trueup.core import" in line and module in line) for line in lines)


def _ordered(tests: Iterable[str], seconds: Mapping[str, float]) -> list[str]:
    """The quick ones first; of many cases of one test a few, then a few of the next test, and so on."""
    number: dict[str, int] = {}
    keys: dict[str, tuple[int, int]] = {}
    for test in tests:
        number[whole(test)] = nth = number.get(whole(test), -1) + 1
        keys[test] = _bucket(seconds[test]), nth // 3
    return sorted(keys, key=keys.__getitem__)


def _bucket(seconds: float) -> int:
    return 0 if seconds < FAST_S else 1 if seconds < SLOW_S else 2


def _bounded(tests: Sequence[str], seconds: Mapping[str, float], enough_s: float) -> Choice:
    chosen: list[str] = []
    total = 0.0
    for test in tests:
        if total + seconds[test] <= enough_s or not chosen:
            chosen.append(test)
            total += seconds[test]
    return Choice(tuple(chosen), total)


def _file(test: str) -> str:
    return test.partition("::")[0]
