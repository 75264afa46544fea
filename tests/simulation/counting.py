"""Counts the schedules that a run of the tests lives through, and how many of them differ.

A plugin: `.venv/bin/python -m pytest -p tests.simulation.counting tests/simulation`. Two schedules are the same if
every incarnation passed the same points in the same order and the operations came to the same ends.
"""

import hashlib
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.simulation import harness

_seen: set[bytes] = set()
_lived = 0
_run = harness.run_virtually


def _counted(main: Coroutine[Any, Any, Any]) -> Any:
    global _lived  # noqa: PLW0603 - a plugin is a module, and this is its state
    story = _run(main)
    _lived += 1
    trace = [life.mortality.passed for life in story.lives], [(op.intent.kind, op.state, op.row) for op in story.ops]
    _seen.add(hashlib.sha256(repr(trace).encode()).digest())
    return story


harness.run_virtually = _counted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"schedules: {_lived}, distinct: {len(_seen)}")
