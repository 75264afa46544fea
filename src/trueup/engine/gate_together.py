"""Work that is done for everybody who waits for it: whoever has the turn does it for all, in the order of arrival.

While one batch is being worked on, the next one gathers. There is no task of its own: the turn is a lock, and who holds
it works in their own name. If they are cancelled, those whose matter is open are taken up by the next in line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Matter(Protocol):
    """What somebody waits for."""

    def is_settled(self) -> bool:
        """Whether there is an answer."""
        ...


M = TypeVar("M", bound=Matter)

Settle = Callable[[Sequence[M]], Awaitable[None]]
"""Settles matters that are handed over in order, at least the first of them; what it raises is heard by all of them."""


class Together(Generic[M]):
    """A queue of matters, and the turn to settle them."""

    def __init__(self, settle: Settle[M], turn: asyncio.Lock, *, most: int) -> None:
        """At most `most` are settled at once. Whoever else takes `turn` has the room for themselves."""
        self._settle = settle
        self._turn = turn
        self._most = most
        self._waiting: list[M] = []

    async def through(self, matter: M) -> None:
        """Wait until it is settled, or settle it. Raises what settling raises."""
        self._waiting.append(matter)
        try:
            async with self._turn:
                while not matter.is_settled():
                    await self._settle(self._waiting[: self._most])
                    self._waiting = [one for one in self._waiting if not one.is_settled()]
        finally:
            if matter in self._waiting:
                self._waiting.remove(matter)
