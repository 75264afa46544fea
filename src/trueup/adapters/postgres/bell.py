"""A bell: told by NOTIFY that something is new, on a connection of its own.

It only saves waiting. A word that was missed, or a connection that broke, costs the rest of the wait and no more, so
whoever waits looks by itself as well.
"""

import asyncio
import contextlib

from trueup.adapters.postgres import server, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.server import Connection
from trueup.ports import Clock


class Bell:
    """Rings when `channel` is notified."""

    def __init__(self, address: Address, channel: str, clock: Clock) -> None:
        """Nothing is connected before the first wait."""
        self._address = address
        self._channel = channel
        self._clock = clock
        self._rung = asyncio.Event()
        self._connection: Connection | None = None

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until it rings; it may have rung since the last wait."""
        try:
            await self._listen()
        except (*trouble.Foreign, TimeoutError):
            await self._clock.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()

    async def close(self) -> None:
        """Hang up. Safe to call twice."""
        connection, self._connection = self._connection, None
        await server.hang_up(connection)

    async def _listen(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await server.connect(self._address, target="read-write")
        try:
            await connection.add_listener(self._channel, lambda *_: self._rung.set())
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._rung.set()  # whatever came while nobody listened
