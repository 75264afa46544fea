"""Finding a point to die at by its name, and reading what became of an operation."""

import re
from dataclasses import replace

from tests.simulation.harness import Run, Scenario, simulate
from trueup.model.ops import Kind, OpView


def points(scenario: Scenario, pattern: str) -> list[int]:
    """The numbers of the points whose name matches, in a life that is not cut short."""
    passed = simulate(replace(scenario, later_s=0.0)).lives[0].mortality.passed
    found = [number for number, name in enumerate(passed) if re.search(pattern, name)]
    assert found, f"no point matches {pattern!r}: {sorted(set(passed))}"
    return found


def die(scenario: Scenario, pattern: str) -> Run:
    """Die at the first point that matches, and live on after it."""
    return simulate(scenario, points(scenario, pattern)[0])


def ops(run: Run, kind: Kind) -> list[OpView]:
    """The operations of this kind, oldest first."""
    return [op for op in reversed(run.ops) if op.intent.kind is kind]


def ending(op: OpView) -> tuple[str, str, str]:
    """State, reason and row, as plain words."""
    return op.state.value, op.reason.value if op.reason else "", op.row.value if op.row else ""
