"""Which tests run which function of the core, and how long each takes.

A plugin: `pytest -p tests.mutants.reach` with TRUEUP_MUTANTS_REACH=FILE writes it to that file. What runs while the
tests are imported and collected is told apart: a mistake in that cannot be planted afterwards.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from tests.mutants.mutate import functions

CORE = Path(__file__).parents[2] / "src" / "trueup" / "core"


class Reach(msgspec.Struct, frozen=True):
    """What a run of the tests reached; functions are written as `module:first line`."""

    at_import: list[str]
    seconds: dict[str, float]
    """By test, in the order of the run."""
    runs: dict[str, list[str]]
    """By test: the functions that it ran."""

    def tests_of(self, function: str) -> list[str]:
        """The tests that run a function."""
        return [test for test, ran in self.runs.items() if function in ran]


def read(file: Path) -> Reach:
    """What a run has written."""
    return msgspec.json.decode(file.read_bytes(), type=Reach)


@dataclass
class _Recorder:
    ran: set[str]
    lines: dict[str, dict[int, str]]

    def trace(self, frame: FrameType, event: str, arg: object) -> None:
        del event, arg
        code = frame.f_code
        lines = self.lines.get(code.co_filename)
        if lines is not None and (function := lines.get(code.co_firstlineno)):
            self.ran.add(function)


def _lines() -> dict[str, dict[int, str]]:
    """By file and line: the outermost function that the line is in."""
    found: dict[str, dict[int, str]] = {}
    for file in CORE.glob("*.py"):
        spans = functions(file.read_text(encoding="utf-8"))
        found[str(file)] = {
            line: f"{file.stem}:{first}" for first, (last, _) in spans.items() for line in range(first, last + 1)
        }
    return found


_recorder = _Recorder(set(), _lines())
_at_import: list[str] = []
_seconds: dict[str, float] = {}
_runs: dict[str, list[str]] = {}


def pytest_configure() -> None:
    sys.settrace(_recorder.trace)
    threading.settrace(_recorder.trace)


def pytest_collection_finish() -> None:
    _at_import.extend(sorted(_recorder.ran))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _recorder.ran = set()
    sys.settrace(_recorder.trace)
    began = time.process_time()
    told = yield
    _seconds[item.nodeid] = round(time.process_time() - began, 4)
    _runs[item.nodeid] = sorted(_recorder.ran)
    return told


def pytest_sessionfinish() -> None:
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    written = {"at_import": _at_import, "seconds": _seconds, "runs": _runs}
    Path(os.environ["TRUEUP_MUTANTS_REACH"]).write_text(json.dumps(written), encoding="utf-8")
