"""`make mutants`: makes small mistakes in the pure core, one at a time, and demands that a test fails for each.

A mistake that no test notices has *survived*. Each survivor needs an entry in `survivors.toml` that says why it may;
one without an entry fails the run, and so does an entry whose mistake is noticed by now.

The work is done on a copy of the tree. One run of the tests finds out which of them run which function. Then each
mistake is tried in a fork: in one that has imported all tests already where this is sound (`warm.py`), else in one that
has imported nothing of the product (`cold.py`).
"""

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.mutants import choice, cold, reach, tree, warm
from tests.mutants.mutate import Mutant, mutants
from tests.mutants.pool import in_children

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIRST = ("recovery", "lifecycle", "tasksearch", "probes", "marker", "schedule", "sighting", "intents", "answers")
"""The weightiest modules, tried before the others."""
NOTHING_TO_TRY = ("__init__", "plan_part")
"""They hold no decision: no mistake can be made in them."""
NEAR = ("tests/core", "tests/model", "tests/gate", "tests/manifests/test_guest_keys.py", "tests/pve/test_schema.py")
"""The tests that speak about the core by themselves."""
WIDE = ("tests/simulation/test_rows.py", "tests/simulation/test_every_kind.py", "tests/simulation/test_signed.py")
"""What is tried besides against what survives those: the whole agent, as many stories as fit into the time."""
LEFT_OUT = (
    "tests/gate/test_hsm.py",
    "tests/gate/test_signing.py",
    "tests/gate/test_files.py",
    "tests/core/test_lifecycle.py::test_the_page_shows_the_tables_as_they_are",
)
"""They try other things, with programs of their own."""
WIDE_S = 5.0


Key = tuple[str, str, str]
"""How a mistake is named: module, place and change."""


@dataclass
class Module:
    """One module of the core, its mistakes, and what became of each so far."""

    name: str
    found: list[Mutant]
    asked: list[int]
    noticed: dict[int, str] = field(default_factory=dict)
    """By number: the test that noticed it, or how else it came out."""

    def key(self, number: int) -> Key:
        """How a survivor is named in `survivors.toml`."""
        return self.name, self.found[number].where, self.found[number].change

    def alive(self) -> list[int]:
        """The numbers of those that nothing has noticed."""
        return [number for number in self.asked if number not in self.noticed]


def listed() -> dict[Key, str]:
    """The survivors that have a reason, by module, place and change."""
    return {key_of(row): row["why"] for row in rows()}


def rows() -> list[dict[str, str]]:
    """The entries of `survivors.toml`."""
    return tomllib.loads((HERE / "survivors.toml").read_text(encoding="utf-8")).get("survivor", [])


def key_of(row: Mapping[str, str]) -> Key:
    """What an entry is about: module, place and change."""
    return row["module"], row["where"], row["change"]


def modules() -> list[str]:
    """All modules of the core that decide something, the weightiest first."""
    there = {file.stem for file in (ROOT / "src" / "trueup" / "core").glob("*.py")} - set(NOTHING_TO_TRY)
    return [*FIRST, *sorted(there - set(FIRST))]


def source_of(name: str) -> str:
    """The text of a module of the core."""
    return (ROOT / "src" / "trueup" / "core" / f"{name}.py").read_text(encoding="utf-8")


def main() -> int:
    """Try the mistakes of the modules that are asked for; 0 if each is noticed or has its reason."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=modules())
    parser.add_argument("--sample", type=int, default=0, help="so many of each module only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="only what runs at the import, as tables do")
    parser.add_argument("--short", action="store_true", help="try what survives by no more tests; it is only told")
    parser.add_argument("--again", type=Path, help="only what survived in an earlier run, by its --out")
    parser.add_argument("--out", type=Path, help="write here what noticed each mistake, as JSON")
    parser.add_argument("--copied", action="store_true", help="this tree is the copy already")
    asked = parser.parse_args()
    if asked.copied:
        before = json.loads(asked.again.read_text(encoding="utf-8")) if asked.again else {}
        run = _Run(asked.workers, before, tables=asked.tables, short=asked.short)
        return run.run(asked.modules, asked.sample, asked.seed, asked.out)
    paths = {"--out": asked.out, "--again": asked.again}
    out = [word for name, path in paths.items() if path for word in (name, str(path.resolve()))]
    with tree.copied(ROOT) as copy:
        (copy / "tmp").mkdir()
        words = [sys.executable, "-m", "tests.mutants.run", "--copied", *sys.argv[1:], *out]
        return subprocess.run(words, cwd=copy, env=tree.environment(copy), check=False).returncode


@dataclass(frozen=True)
class _Cold:
    """One mistake that is tried in the cold way, and the tests for it."""

    module: Module
    number: int
    choice: choice.Choice


class _Run:
    def __init__(self, workers: int, before: dict[str, dict[str, str]], *, tables: bool, short: bool) -> None:
        self._workers, self._before, self._tables, self._short = workers, before, tables, short
        self._work = Path(os.environ["TMPDIR"])
        self._began = time.monotonic()
        self._killers: dict[str, Counter[str]] = {}

    def run(self, names: Sequence[str], sample: int, seed: int, out: Path | None) -> int:
        near = self._reach("near", NEAR)
        todo = [_module(name, sample, seed) for name in names]
        for one in todo:
            if self._tables:
                one.asked = [number for number in one.asked if _at_import(one, number, near)]
            before = self._before.get(one.name, {})
            known = {number: before.get("/".join(one.key(number)[1:]), "") for number in one.asked}
            one.noticed.update({number: test for number, test in known.items() if test})
        self._tell(f"{sum(len(one.alive()) for one in todo)} mistakes in {len(todo)} modules")
        tried = self._warm(todo, near, NEAR, choice.ENOUGH_S, lambda _: True)
        self._tell(f"{len(tried)} in functions are tried")
        cold.prepare(_foreign())
        self._cold(todo, near, tried)
        self._tell("those in tables are tried")
        reasons = listed()
        if not self._short:
            self._rest(todo, near, tried, reasons)
            self._tell("what survived and has no reason is tried by every test that runs it")
        if not self._short and any(one.key(number) not in reasons for one in todo for number in one.alive()):
            self._warm(todo, self._reach("wide", WIDE), WIDE, WIDE_S, lambda key: key not in reasons)
            self._tell("what survived is tried in whole stories")
        if out:
            told = {one.name: {"/".join(one.key(n)[1:]): one.noticed.get(n, "") for n in one.asked} for one in todo}
            out.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        return _report(todo, reasons, whole=not sample and not self._tables)

    def _tell(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:4.0f} s] {text}", flush=True)

    def _reach(self, name: str, paths: Sequence[str]) -> reach.Reach:
        """Run the tests once as they are, and hear which functions they run."""
        if self._pytest(name, "reach", paths).wait():
            raise SystemExit(f"the tests fail without any mistake:\n{(self._work / f'{name}.log').read_text()}")
        known = reach.read(self._work / f"{name}.json")
        self._tell(f"{len(known.seconds)} tests have run without a mistake, {sum(known.seconds.values()):.0f} s of CPU")
        return known

    def _pytest(self, name: str, plugin: str, paths: Sequence[str]) -> subprocess.Popen[bytes]:
        """pytest with one of the plugins of this folder; what it says goes to a file."""
        words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", f"tests.mutants.{plugin}"]
        words += [*cold.PLUGINS, "--hypothesis-profile=mutants"]
        words += [f"--deselect={path}" if "::" in path else f"--ignore={path}" for path in LEFT_OUT]
        variables = {
            **os.environ,
            "TRUEUP_MUTANTS_REACH": str(self._work / f"{name}.json"),
            "TRUEUP_MUTANTS_JOBS": str(self._work / f"{name}.jobs"),
        }
        with (self._work / f"{name}.log").open("wb") as log:
            return subprocess.Popen([*words, *paths], env=variables, stdout=log, stderr=log)

    def _rest(
        self, todo: Sequence[Module], near: reach.Reach, tried: set[tuple[str, int]], reasons: Mapping[Key, str]
    ) -> None:
        """What nobody has listed gets all the time that there is, the slow tests included."""
        self._warm(todo, near, NEAR, choice.WITHOUT_END_S, lambda key: key not in reasons)
        every = choice.Choice(tuple(dict.fromkeys(map(cold.whole, near.seconds))), sum(near.seconds.values()))
        jobs = [
            _Cold(one, number, every)
            for one in todo
            for number in one.alive()
            if (one.name, number) not in tried and one.key(number) not in reasons
        ]
        self._cold_jobs(jobs)

    def _warm(
        self,
        todo: Sequence[Module],
        known: reach.Reach,
        paths: Sequence[str],
        enough_s: float,
        wanted: Callable[[Key], bool],
    ) -> set[tuple[str, int]]:
        """Try what is in functions that nothing runs at the import, in one warm process; what was tried so."""
        jobs: list[warm.Job] = []
        chosen: dict[str, choice.Choice] = {}
        for one in todo:
            for number in one.alive():
                function = f"{one.name}:{one.found[number].function}"
                if _at_import(one, number, known) or not wanted(one.key(number)):
                    continue
                if function not in chosen:
                    chosen[function] = choice.warm(known, function, enough_s)
                tests = chosen[function]
                if tests.tests:
                    jobs.append(warm.Job(one.name, number, list(tests.tests), tests.cpu_s))
        if not jobs:
            return set()
        file, out = self._work / "warm.jobs", self._work / "warm.out"
        file.write_bytes(msgspec.json.encode(warm.Jobs(jobs, self._workers, str(out))))
        process = self._pytest("warm", "warm", paths)
        if process.wait():
            raise SystemExit(f"the mistakes could not be tried:\n{(self._work / 'warm.log').read_text()}")
        by_name = {one.name: one for one in todo}
        verdicts = [msgspec.json.decode(line, type=warm.Verdict) for line in out.read_bytes().splitlines()]
        for verdict in verdicts:
            if verdict.code not in {0, warm.CANNOT}:
                _broken(verdict.code, verdict.test, verdict.module)
                by_name[verdict.module].noticed[verdict.number] = verdict.test or f"ended with {verdict.code}"
        return {(one.module, one.number) for one in verdicts if one.code != warm.CANNOT}

    def _cold(self, todo: Sequence[Module], known: reach.Reach, tried: set[tuple[str, int]]) -> None:
        """Try what is left and was not tried in the warm process."""
        chosen = {one.name: choice.cold(known, one.name, ROOT) for one in todo}
        for far in (False, True):
            jobs = [
                _Cold(one, number, chosen[one.name][far])
                for one in todo
                for number in one.alive()
                if (one.name, number) not in tried
            ]
            self._cold_jobs(jobs)

    def _cold_jobs(self, jobs: Sequence["_Cold"]) -> None:
        tried = in_children(jobs, self._cold_work, self._workers, lambda job: job.choice.cpu_s)
        for number, (job, said) in enumerate(tried, start=1):
            if number % 100 == 0:
                self._tell(f"  {number} of {len(jobs)}")
            _broken(said.code, said.test, job.module.name)
            if said.code:
                job.module.noticed[job.number] = said.test or f"ended with {said.code}"
            if said.test:
                self._killers.setdefault(job.module.name, Counter())[cold.whole(said.test)] += 1

    def _cold_work(self, job: "_Cold", say: Callable[[str], None]) -> int:
        """What has noticed other mistakes of the module goes first."""
        killers = self._killers.get(job.module.name, Counter()).most_common(6)
        likely = [test for test, _ in killers if test in job.choice.tests]
        tests = list(dict.fromkeys([*likely, *job.choice.tests]))
        return cold.run(job.module.name, job.module.found[job.number].tree, tests, say)


def _at_import(one: Module, number: int, known: reach.Reach) -> bool:
    """Whether a mistake is in what runs when the module or a test is imported."""
    function = one.found[number].function
    return not function or f"{one.name}:{function}" in known.at_import


def _broken(code: int, test: str, module: str) -> None:
    """A child that did not get as far as the tests proves nothing."""
    if code in {3, 5, 70} and not test:
        raise SystemExit(f"core/{module}.py: a child ended with {code} before any test")


def _module(name: str, sample: int, seed: int) -> Module:
    found = list(mutants(source_of(name), importlib.import_module(f"trueup.core.{name}")))
    numbers = list(range(len(found)))
    if sample:
        numbers = sorted(random.Random(seed).sample(numbers, min(sample, len(numbers))))
    return Module(name, found, numbers)


def _foreign() -> list[str]:
    """What the tests import that is not ours."""
    script = "import sys, pytest, hypothesis, tests.conftest, tests.gate.world\n"
    script += "print('\\n'.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return [name for name in told.stdout.split() if name.partition(".")[0] not in {*cold.OURS, "__main__"}]


def _report(todo: Sequence[Module], reasons: dict[Key, str], *, whole: bool) -> int:
    bad = 0
    print("module              mistakes  noticed  listed  unknown")
    for one in todo:
        alive = {one.key(number) for number in one.alive()}
        unknown = [number for number in one.alive() if one.key(number) not in reasons]
        tried = {one.key(number) for number in one.asked}
        stale = [key for key in reasons if key[0] == one.name and key not in alive and (key in tried or whole)]
        counts = len(one.asked), len(one.noticed), len(alive) - len(unknown), len(unknown)
        print(f"{one.name:<18}" + "".join(f"{count:>10}" for count in counts))
        for number in unknown:
            _, where, change = one.key(number)
            print(f"  survived: core/{one.name}.py:{one.found[number].line} in {where}: {change}")
        for _, where, change in stale:
            print(f"  listed in survivors.toml, but noticed or not there: core/{one.name}.py in {where}: {change}")
        bad += len(unknown) + len(stale)
    total, alive = sum(len(one.asked) for one in todo), sum(len(one.alive()) for one in todo)
    print(f"mistakes: {total}\nnoticed: {total - alive}\nsurvived with a reason or without: {alive}")
    print(f"without a reason or out of date: {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
