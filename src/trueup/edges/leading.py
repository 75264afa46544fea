"""Who leads: an agent waits for its turn, and stops at once when somebody else has taken it.

With SQLite there is no turn: the journal's lock is free, or the agent says who holds it and ends. With PostgreSQL an
agent stands by, serves what can be read, and leads when the lease is free; and one that has lost its lease stands by
again, with a new epoch and a recovery before it changes anything.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

from trueup.edges.log import Log
from trueup.edges.parts import Parts
from trueup.edges.systemd import Systemd
from trueup.edges.waiting_room import WaitingRoom
from trueup.edges.web.health import Health, Phase
from trueup.model.errors import JournalBusy, JournalFailed, Stale, TrueupError
from trueup.model.settings import Settings
from trueup.ports import Journal

ANEW: Final = (Stale, JournalFailed)
"""Errors after which an agent on PostgreSQL stands by again; on SQLite they end it."""


class Candidate:
    """An agent on its way to lead. Use `candidate`."""

    def __init__(self, parts: Parts, settings: Settings, log: Log, journal: Journal | None) -> None:
        """`journal` is there already where nobody else can lead."""
        self._parts = parts
        self._settings = settings
        self._log = log
        self._journal = journal

    @asynccontextmanager
    async def lead(self, health: Health, systemd: Systemd, room: WaitingRoom) -> AsyncGenerator[Journal]:
        """Wait until this agent leads, in the `room` while another one does; then the journal, until the end.

        Raises:
            Corrupt, BadInput: the journal cannot be written. JournalFailed: not for now.
        """
        if self._journal is not None:
            yield self._journal
            return
        async with AsyncExitStack() as stack:
            alive = asyncio.create_task(systemd.watchdog(self._parts.clock()))
            try:
                journal = await self._wait(stack, health, systemd, room)
            finally:
                alive.cancel()
            yield journal

    async def _wait(self, stack: AsyncExitStack, health: Health, systemd: Systemd, room: WaitingRoom) -> Journal:
        said = ""
        async with self._parts.standing_by(self._settings.store) as standby, AsyncExitStack() as meanwhile:
            while True:
                journal = self._parts.journal(self._settings.store)
                try:
                    await journal.enter()
                except JournalBusy as busy:
                    await journal.close()
                    leader = busy.what.partition(",")[0]
                    if health.phase is not Phase.STANDBY and standby is not None:
                        await meanwhile.enter_async_context(room.open(standby))
                    if health.phase is not Phase.STANDBY or leader != said:
                        self._log.info("standing_by", text=busy.what)
                        said = leader
                    health.phase, health.epoch = Phase.STANDBY, 0
                    systemd.ready()
                    systemd.status(f"standing by: {leader}")
                else:
                    stack.push_async_callback(journal.close)
                    health.phase = Phase.STARTING
                    self._log.info("lease_taken", text=self._settings.store.shown)
                    return journal
                if standby is not None:
                    while await standby.chance_to_lead() is not None:
                        pass


@asynccontextmanager
async def candidate(parts: Parts, settings: Settings, log: Log) -> AsyncGenerator[Candidate]:
    """Begin: with SQLite the lock is taken here, before anything is served. Raises JournalBusy, Corrupt or BadInput."""
    if settings.store.postgres is not None:
        async with parts.standing_by(settings.store):  # makes the journal, so that it can be read while nobody leads
            pass
        yield Candidate(parts, settings, log, None)
        return
    journal = await _opened(parts, settings)
    try:
        await journal.enter()
        yield Candidate(parts, settings, log, journal)
    finally:
        await journal.close()


async def _opened(parts: Parts, settings: Settings) -> Journal:
    """Open it in a thread: reading a long one takes a while, and the loop may have other clusters to serve."""
    opening = asyncio.ensure_future(asyncio.to_thread(parts.journal, settings.store))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()  # it holds its lock, and nobody else would let it go
        raise


def stands_by_again(settings: Settings, error: BaseException) -> TrueupError | None:
    """The error after which this agent stands by again; None if it ends the agent."""
    if settings.store.postgres is None:
        return None
    if isinstance(error, ANEW):
        return error
    if isinstance(error, BaseExceptionGroup):
        several = cast("BaseExceptionGroup[BaseException]", error)
        return next(filter(None, (stands_by_again(settings, one) for one in several.exceptions)), None)
    return None
