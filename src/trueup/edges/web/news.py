"""News for whoever listens over HTTP: what the engine tells, and where the journal's chain ends.

Rule kept here: the agent never waits for a reader. All readers share one bounded stretch of the newest events; each has
its own place in it, and a reader that falls behind its beginning has lost events and is told how many. Readers are
woken together and seldom, so that a thousand of them cost little.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from trueup.edges.cli.output import Json
from trueup.model import limits

_WAKE_S: Final = 0.1
"""Between two wakings of readers, if they are few."""

_WAKE_PER_READER_S: Final = 0.001
"""With many, so much longer for each: the agent writes to a thousand of them a second, and no more."""

_HEARTBEAT: Final = b": heartbeat\n\n"


class News:
    """The newest events, and those who read them."""

    def __init__(self, *, wake_s: float = _WAKE_S) -> None:
        """Nothing was told yet. `wake_s` is the least time between two wakings."""
        self._wake_s = wake_s
        self._events: deque[bytes] = deque(maxlen=limits.EVENTS_KEPT)
        self._next = 0
        self._more = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self.readers = 0
        self.lost = 0
        """Events that readers lost, all together."""

    def publish(self, event: str, data: Json) -> None:
        """Tell everybody; returns at once."""
        self._events.append(encoded(event, data, self._next))
        self._next += 1
        if self._timer is None and self.readers:
            wait_s = max(self._wake_s, self.readers * _WAKE_PER_READER_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def publish_once(self, event: str, data: Json) -> None:
        """Tell everybody, unless the same is about to be told anyway."""
        if self._timer is None:
            self.publish(event, data)

    def end(self) -> None:
        """The agent stops: let every reader go."""
        self._ended = True
        self._more.set()

    def _wake(self) -> None:
        self._timer = None
        self._more.set()
        self._more = asyncio.Event()

    async def read(self, first: bytes) -> AsyncGenerator[bytes]:
        """What one reader gets: `first`, then all news from now on, and a heartbeat where there are none."""
        self.readers += 1
        place = self._next
        try:
            yield first
            while not self._ended:
                more = self._more
                if place == self._next:
                    if not await _happens(more, limits.HEARTBEAT_S):
                        yield _HEARTBEAT
                    continue
                oldest = self._next - len(self._events)
                lost, place = max(0, oldest - place), max(place, oldest)
                chunk = b"".join(self._events[at - oldest] for at in range(place, self._next))
                place = self._next
                if lost:
                    self.lost += lost
                    yield encoded("lost", {"events": lost})
                yield chunk
        finally:
            self.readers -= 1


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def encoded(event: str, data: Json, number: int | None = None) -> bytes:
    """One event as it goes over the wire (HTML standard, server-sent events); JSON has no line breaks."""
    head = b"" if number is None else b"id: %d\n" % number
    return head + b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))
