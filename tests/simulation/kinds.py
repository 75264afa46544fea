"""Each kind that is carried out, for both types of guest, and the points at which a death makes a difference there.

What people sign for is done as a one-shot; what the loop may do as well, in both ways.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.simulation import invariants
from tests.simulation.deaths import turning_points
from tests.simulation.examples import EXAMPLES, SIGNED
from tests.simulation.harness import Run, Scenario, simulate
from tests.simulation.stories import ops
from trueup.core.gate_params import PARAMS
from trueup.core.kinds import KINDS, Fence, Tier
from trueup.model.ids import GuestType
from trueup.model.ops import Kind, Reason

_CARRIED_OUT = {kind: spec for kind, spec in KINDS.items() if spec.carried_out}
_WAYS = {
    "loop": (EXAMPLES, [kind for kind, spec in _CARRIED_OUT.items() if spec.tier is not Tier.DESTRUCTIVE]),
    "signed": (SIGNED, [kind for kind in _CARRIED_OUT if kind in PARAMS]),
}


@dataclass(frozen=True)
class Example:
    """A kind in one of the ways in which it comes about."""

    name: str
    kind: Kind
    scenario: Scenario

    def deaths(self) -> list[int]:
        """The points that make a difference, in a life where nothing goes wrong."""
        return deaths_in(self.scenario)

    def check(self, run: Run) -> None:
        """What must hold after deaths: all is done, or people have to look, since nothing could ever tell."""
        if unresolved(run, self.kind) == {Reason.UNKNOWABLE}:
            invariants.check(run)
        else:
            invariants.converged(run)


@cache
def every() -> tuple[Example, ...]:
    """All of them; a new kind is among them by its example alone."""
    return tuple(
        Example(f"{guest.value}-{kind.value}-{way}", kind, table[guest][kind])
        for guest in GuestType
        for way, (table, kinds) in _WAYS.items()
        for kind in kinds
    )


def deaths_in(scenario: Scenario) -> list[int]:
    """The points of a life that make a difference, without those before what the story is about.

    Those are the creation of its guest.
    """
    life = simulate(scenario).lives[0]
    return turning_points(life.mortality.passed, life.stage_at if scenario.then is not None else 0)


def unresolved(run: Run, kind: Kind) -> set[Reason | None]:
    """Why operations of this kind stay open, if nothing but time and their task could ever speak for them."""
    return {op.reason for op in ops(run, kind) if op.unresolved and KINDS[kind].fence_for(op.intent) is Fence.TOKEN}


@dataclass(frozen=True)
class Fatal:
    """An example with a death at one of its points, for `make simulate`."""

    example: Example
    point: int

    @property
    def number(self) -> str:
        return f"{self.example.name} at {self.point}"

    def run(self) -> Run:
        return simulate(self.example.scenario, self.point)

    def check(self, run: Run) -> None:
        self.example.check(run)

    def tell(self) -> str:
        return f"  {self.example.name} dies at point {self.point}"

    def shorter(self) -> "list[Fatal]":
        return []


def fatal() -> Iterator[Fatal]:
    """Every kind with a death at every point that makes a difference."""
    for example in every():
        for point in example.deaths():
            yield Fatal(example, point)
