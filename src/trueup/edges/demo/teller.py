"""How the story is told: as plain lines here, for pipes, files and terminals that cannot draw; `screen` draws it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from typing import Final, Protocol

import msgspec

from trueup.edges.demo.claims import Claim
from trueup.edges.demo.findings import Finding, name_of
from trueup.edges.demo.sight import Seen
from trueup.model.ops import OpView

INTRO: Final = (
    "Three simulated Proxmox VE nodes, eight guests that are declared and do not exist, and an agent that is killed "
    "with SIGKILL again and again."
)


class Phase(Enum):
    """What the agent is doing."""

    RECOVERING = auto()
    WORKING = auto()
    DEAD = auto()
    DONE = auto()


class Player(msgspec.Struct, frozen=True, kw_only=True):
    """The agent as it is now; `pid` 0 while there is none."""

    pid: int
    phase: Phase


class Teller(Protocol):
    """Whoever tells it."""

    def playing(self) -> AbstractContextManager[None]:
        """The live picture, if there is one, is shown while this is open."""
        ...

    def act(self, number: int, title: str, text: str) -> None:
        """A new act begins."""
        ...

    def say(self, text: str) -> None:
        """Say a sentence."""
        ...

    def heard(self, line: str) -> None:
        """The agent said something."""
        ...

    def look(self, seen: Seen, player: Player) -> None:
        """See how things are now."""
        ...

    def killed(self, pid: int, why: str, in_flight: Sequence[OpView]) -> None:
        """The agent was killed, and this is what it had in flight."""
        ...

    def found(self, findings: Sequence[Finding], counts: Mapping[str, int]) -> None:
        """Its successor has found out what became of that."""
        ...

    def end(self, claims: Sequence[Claim], seconds: float) -> None:
        """What was claimed, and whether it held."""
        ...


class PlainTeller:
    """A line for everything."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Speak through `say`."""
        self._say = say

    def playing(self) -> AbstractContextManager[None]:
        """Nothing is drawn."""
        return nullcontext()

    def act(self, number: int, title: str, text: str) -> None:
        """See `Teller`."""
        self._say("")
        self._say(f"{number}. {title}" if number else title)
        self._say(f"   {text}")

    def say(self, text: str) -> None:
        """See `Teller`."""
        self._say(f"   {text}")

    def heard(self, line: str) -> None:
        """See `Teller`."""
        self._say(f"     | {line}")

    def look(self, seen: Seen, player: Player) -> None:
        """Nothing is drawn."""

    def killed(self, pid: int, why: str, in_flight: Sequence[OpView]) -> None:
        """See `Teller`."""
        self._say(f"   SIGKILL to the agent (pid {pid}), {why}. In flight:")
        for op in in_flight:
            self._say(f"     ? {name_of(op)}")

    def found(self, findings: Sequence[Finding], counts: Mapping[str, int]) -> None:
        """See `Teller`."""
        self._say(f"   Recovery: {counts_line(counts)}")
        for one in findings:
            self._say(f"     {one.verdict}: {one.name}; {one.left}; {one.found} [{one.row}: {one.why}]")

    def end(self, claims: Sequence[Claim], seconds: float) -> None:
        """See `Teller`."""
        self._say("")
        for claim in claims:
            detail = f" ({claim.detail})" if claim.detail else ""
            self._say(f"  {'ok    ' if claim.held else 'FAILED'} {claim.text}{detail}")
        held = all(claim.held for claim in claims)
        self._say(f"{'All of it held' if held else 'IT DID NOT HOLD'}, after {seconds:.0f} s.")


_COUNT_WORDS: Final = (
    ("resumed", "took effect"),
    ("failed", "failed"),
    ("rolled_back", "never took effect"),
    ("still_running", "still at work"),
    ("unresolved", "unresolved"),
)


def counts_line(counts: Mapping[str, int]) -> str:
    """The counts of one recovery in a line."""
    parts = [f"{counts[name]} {text}" for name, text in _COUNT_WORDS if counts[name]]
    found = f"; {counts['adopted']} found by searching PVE's task lists" if counts["adopted"] else ""
    presumed = f" ({counts['presumed']} by time alone)" if counts["presumed"] else ""
    return f"{counts['examined']} examined: {', '.join(parts) or 'nothing was in flight'}{presumed}{found}"
