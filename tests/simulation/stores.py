"""Where the journal of a story is: in a file, or in a database on a real server.

A store outlives the incarnations, as disks do. What an incarnation holds of it is let go of as its end has it: closed,
or left as a dead process leaves it.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from tests.simulation.database import CALLER, Accident, Host, driver_replaced
from tests.simulation.deaths import Mortality
from trueup.adapters import sqlite
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.journal import PostgresJournal
from trueup.adapters.postgres.reader import Reader
from trueup.adapters.system import SystemClock
from trueup.model import limits
from trueup.model.errors import JournalBusy, JournalFailed, Stale
from trueup.model.ops import OpView, Record
from trueup.ports import Clock, Journal

TURNS_MAX = 2_000
"""So often somebody asks for the lease; more is a mistake of the simulation."""

Outcome = tuple[Sequence[OpView], Sequence[Record], sqlite.Verification]


class Store(Protocol):
    """The journal's place."""

    def opened(self, mortality: Mortality, clock: Clock) -> AbstractAsyncContextManager[Journal]:
        """The journal of one incarnation, as soon as it may write; in the end closed, or left as the dead leave it."""
        ...

    def beside(self, journal: Journal) -> "Sequence[asyncio.Future[None]]":
        """Futures of which one fails when the incarnation no longer leads."""
        ...

    def again(self, error: BaseException | None) -> bool:
        """Whether an agent that ended so stands by, and leads again when it is its turn."""
        ...

    async def outcome(self) -> Outcome:
        """What is in it after the story: operations (newest first), records, and whether it verifies."""
        ...


Place = Callable[[], AbstractContextManager[Store]]
"""Makes an empty store for one story, and clears it away afterwards."""


class File:
    """SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def opened(self, mortality: Mortality, clock: Clock) -> AsyncGenerator[Journal]:
        journal = sqlite.open_journal(self._path, inline=True)
        try:
            yield journal
        finally:
            await journal.close()

    def beside(self, journal: Journal) -> "Sequence[asyncio.Future[None]]":
        return ()

    def again(self, error: BaseException | None) -> bool:
        return False

    async def outcome(self) -> Outcome:
        reader = sqlite.open_reader(self._path)
        ops, records = await reader.ops(), await reader.records()
        await reader.close()
        return ops, records, sqlite.verify(self._path)


class Database:
    """PostgreSQL. `lease_s` is that of its leaders; without `waits`, it is over once its holder is dead.

    So the next incarnation finds the world as early as it would with a file, when least has come to its end.
    """

    _numbers = itertools.count(1)

    def __init__(self, host: Host, *, lease_s: float = limits.LEASE_S, waits: bool = False) -> None:
        self.host = host
        self._waits = waits
        self._lease_s = lease_s
        self._address = parse(host.url, f"story-{next(self._numbers)}")
        host.found(self._address)

    @asynccontextmanager
    async def opened(self, mortality: Mortality, clock: Clock) -> AsyncGenerator[PostgresJournal]:
        wire = self.host.wire(mortality)
        caller = CALLER.set(wire)
        try:
            journal = await self._in_turn(clock)
            try:
                yield journal
            finally:
                if mortality.dead.is_set():
                    wire.lose(lingering=self.host.lingering)
                    await _forgotten(journal)
                    if not self._waits:
                        self.host.expire(self._address)
                else:
                    await journal.close()
        finally:
            CALLER.reset(caller)

    async def _in_turn(self, clock: Clock) -> PostgresJournal:
        """Look now and then whether the lease is free, as a standby does, and take it."""
        for _ in range(TURNS_MAX):
            if not (left_s := self.host.led_for_s(self._address)):
                journal = PostgresJournal(self._address, holder="simulation", lease_s=self._lease_s, clock=clock)
                try:
                    await journal.enter()
                except (JournalBusy, JournalFailed):
                    await journal.close()
                else:
                    return journal
            await clock.sleep(max(limits.STANDBY_LOOK_S, left_s / 2))
        raise AssertionError("it never came to lead")

    def cut(self, mortality: Mortality, seconds: float) -> None:
        """The way of this process to the database is cut for so long."""
        self.host.cut(mortality, seconds)

    def beside(self, journal: Journal) -> "Sequence[asyncio.Future[None]]":
        return (asyncio.ensure_future(journal.led()),)

    def again(self, error: BaseException | None) -> bool:
        return isinstance(error, Stale | JournalFailed)

    async def outcome(self) -> Outcome:
        self.host.down_until = 0.0
        caller = CALLER.set(self.host.wire(Mortality()))
        try:
            reader = await Reader.open(self._address, SystemClock())
            ops, records = await reader.ops(), await reader.records()
            await reader.close()
            return ops, records, await audit.verify(self._address)
        finally:
            CALLER.reset(caller)


async def _forgotten(journal: PostgresJournal) -> None:
    """The tasks of a dead process are no more; they never learn how their last call ended."""
    tasks = [task for task in (journal._keeping._task, journal._writer._task) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- Which one is used ------------------------------------------------------------------------------------------------


@contextmanager
def file() -> Iterator[Store]:
    """A new file, in memory where that can be had: what a disk does is tried elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        yield File(folder / "journal.db")
    finally:
        shutil.rmtree(folder)


def database(
    host: Host,
    *,
    lease_s: float = limits.LEASE_S,
    waits: bool = False,
    offset_s: float = 0.0,
    lingering: bool = False,
    accidents: Sequence[Accident] = (),
) -> Place:
    """Journals in this database; see `Database` and `Host.begin`."""

    @contextmanager
    def place() -> Iterator[Store]:
        host.begin(offset_s=offset_s, lingering=lingering, accidents=accidents)
        with driver_replaced():
            try:
                yield Database(host, lease_s=lease_s, waits=waits)
            finally:
                host.end()

    return place


_chosen: list[Place] = [file]


def chosen() -> Place:
    """Where journals are that nobody gave a place."""
    return _chosen[-1]


@contextmanager
def kept_in(place: Place) -> Iterator[None]:
    """Meanwhile, journals are there."""
    _chosen.append(place)
    try:
        yield
    finally:
        _chosen.pop()
