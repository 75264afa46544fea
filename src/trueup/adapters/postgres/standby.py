"""Standing by: a journal that is read, and a lease that is waited for."""

import asyncio
import contextlib
from typing import Self

from trueup.adapters.postgres import inbox, lease, server, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.lease import Leader
from trueup.adapters.postgres.reader import Reader, open_pool
from trueup.model import limits
from trueup.model.errors import TrueupError
from trueup.ports import Clock


class Standby(Reader):
    """`ports.JournalReader` for an agent that does not lead, with the inbox for what it is asked to do."""

    @classmethod
    async def open_beside(cls, address: Address, clock: Clock) -> Self:
        """Make the journal if there is none, and open it for reading.

        Raises BadInput or JournalFailed.
        """
        with trouble.mapped(address.shown):
            pool = await open_pool(address, target="read-write")
            try:
                async with pool.acquire() as connection:
                    await server.migrate(connection, address.shown)
                    journal = await server.found(connection, address.journal)
            except BaseException:
                pool.terminate()
                raise
        standby = cls(address, clock)
        standby.attach(journal, pool)
        return standby

    async def inbox_put(self, request: bytes, via: str) -> int:
        """Hand a request to the leader, whoever that is; returns its number in the inbox. The sender hears "pending".

        Raises:
            BadInput: it is too large, or too many wait already.
            JournalFailed: it is not known to be there; handing it over again does no harm, since its nonce counts once.
        """
        return await self._ask(lambda connection: inbox.put(connection, self._journal, request, via))

    async def chance_to_lead(self) -> Leader | None:
        """Wait until the lease is free, has run out, or a while has passed. Returns who leads then; None = nobody."""
        leader: Leader | None = None
        with contextlib.suppress(TrueupError):
            leader = await self.leader()
            if leader is None:
                return None
        left_s = leader.left_s if leader else limits.STANDBY_LOOK_S
        await self._freed(min(limits.STANDBY_LOOK_S, max(limits.POSTGRES_AGAIN_S, left_s)))
        return leader

    async def _freed(self, seconds: float) -> None:
        """Wait so long, or until somebody gives the lease back."""
        told = asyncio.Event()
        with contextlib.suppress(TimeoutError, *trouble.Foreign):
            async with asyncio.timeout(seconds):
                try:
                    connection = await server.connect(self._address, target="read-write")
                except trouble.Foreign:
                    await self._clock.sleep(seconds)
                    return
                try:
                    await connection.add_listener(lease.CHANNEL, lambda *_: told.set())
                    await told.wait()
                finally:
                    connection.terminate()
