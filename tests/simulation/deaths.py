"""Where an incarnation of the agent may die, and what death means.

Every port call announces the points around it. At the chosen one the incarnation is dead: this call and every later
one of any of its ports raises `Died`, because Python would still run `finally` blocks, and a real crash does not.
"""

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.sampling import EVERYTHING


class Died(BaseException):
    """This incarnation is dead. No handler of the agent may catch it."""


@dataclass(frozen=True)
class AtWrite:
    """Death at the n-th point around a mutation or an append, which are rare among all points."""

    number: int

    @staticmethod
    def counts(name: str) -> bool:
        return name.startswith(("POST", "PUT", "DELETE", "journal.append", "database COMMIT"))


def turning_points(passed: Sequence[str], begin: int = 0) -> list[int]:
    """The numbers of the points from `begin` on at which a death differs from one at the point before.

    Those are the points around writes, and of the waits between two of them the middle one; a death at a read is one at
    whatever comes next, and so is one right after a write, if the next call is a write. With TRUEUP_EVERY_POINT set,
    all points.
    """
    if EVERYTHING:
        return list(range(begin, len(passed)))
    found: list[int] = []
    waits: list[int] = []
    for number in range(begin, len(passed)):
        if AtWrite.counts(passed[number]):
            found += _middle(waits)
            if number == begin or not same_moment(passed, number):
                found.append(number)
            waits = []
        elif passed[number].startswith("clock.sleep"):
            waits.append(number)
    return [*found, *_middle(waits)]


def same_moment(passed: Sequence[str], number: int) -> bool:
    """Whether a point is where the one before it was: one call has returned, the next has done nothing yet."""
    return number > 0 and passed[number].endswith(" before") and passed[number - 1].endswith((" after", " reply"))


def _middle(waits: Sequence[int]) -> list[int]:
    return [waits[len(waits) // 2]] if waits else []


@dataclass(frozen=True)
class AfterSeconds:
    """Death by the clock, wherever the incarnation is then."""

    seconds: float


@dataclass(frozen=True)
class Halt:
    """The whole process stands still (SIGSTOP) at the n-th point whose name matches, for so long."""

    at: str
    seconds: float
    nth: int = 1


Death = int | AtWrite | AfterSeconds | None
"""The n-th point of all, or of those that write, or a time; None = it lives."""


class Mortality:
    """Counts the points that one incarnation passes, and kills it at one of them."""

    def __init__(self, die_at: Death = None, halts: Sequence[Halt] = ()) -> None:
        self.die_at = die_at
        self.passed: list[str] = []
        self.sent: list[tuple[float, str]] = []
        """The mutations that left, with their second of the simulation."""
        self.halted: list[Halt] = []
        self.dead = asyncio.Event()
        self._halts = tuple(halts)
        self._met: Counter[Halt] = Counter()
        self._still_until = 0.0
        self._writes = 0

    def point(self, name: str) -> None:
        """Announce a point; raises `Died` at the chosen one and ever after."""
        if self.dead.is_set():
            raise Died
        self.passed.append(name)
        self._writes += AtWrite.counts(name)
        if isinstance(self.die_at, AtWrite):
            now = AtWrite.counts(name) and self._writes - 1 == self.die_at.number
        else:
            now = len(self.passed) - 1 == self.die_at
        if now:
            self.dead.set()
            raise Died
        for halt in [one for one in self._halts if re.search(one.at, name)]:
            self._met[halt] += 1
            if self._met[halt] == halt.nth:
                self.halted.append(halt)
                self._still_until = asyncio.get_running_loop().time() + halt.seconds

    async def stand_still(self) -> None:
        """Wait until the process goes on, if it was stopped; ports do so wherever something could leave or arrive."""
        while (left_s := self._still_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left_s)

    def kill(self) -> None:
        """It is dead from now on."""
        self.passed.append("killed from outside")
        self.dead.set()

    @property
    def where(self) -> str:
        """The point at which it died, in words."""
        return self.passed[-1] if self.dead.is_set() else "alive"


class MortalPort:
    """A port of one incarnation: announces each call, and for those that write (`doubled`) also their return.

    Dying after a read is dying before whatever comes next, so one point does for it.
    """

    def __init__(self, port: object, name: str, mortality: Mortality, *, doubled: tuple[str, ...]) -> None:
        self._port = port
        self._name = name
        self._mortality = mortality
        self._doubled = doubled

    def __getattr__(self, attribute: str) -> Any:
        found: Any = getattr(self._port, attribute)
        if not inspect.iscoroutinefunction(found):
            return found
        before, doubled = f"{self._name}.{attribute} before", attribute in self._doubled

        async def call(*args: Any, **named: Any) -> Any:
            self._mortality.point(before)
            await self._mortality.stand_still()
            answer: Any = await found(*args, **named)
            if doubled:
                self._mortality.point(f"{self._name}.{attribute} after")
                await self._mortality.stand_still()
            elif self._mortality.dead.is_set():
                raise Died
            return answer

        setattr(self, attribute, call)  # the next one finds it at once
        return call
