"""A real PostgreSQL in simulated time: the shipped journal adapter speaks to it, and no answer takes any time.

The driver (`asyncpg.connect`, `asyncpg.create_pool`) is replaced by one that hands each call to a thread with an
ordinary loop, where real connections live, and stands still until it is answered. Why that is sound:

- While a call is under way nothing else of the simulation runs, so it is as if it had been answered in the same
  instant, which real time allows. Before each call others get a turn, so calls of several tasks and agents mingle.
- Nothing of the journal's meaning hangs on real time. The server's `clock_timestamp()` is shadowed by a function that
  tells the simulation's time, so leases run out there; sessions that leave a transaction lying are cut off when that
  time has come, as the server would have done.
- A call that waits for a lock would wait for ever, since whoever holds the lock stands still too. The server is asked
  (`pg_blocking_pids`), and while it says so, the simulation goes on and looks again.

Sessions are real, with their transactions and locks, and are used again after a reset, since logging in costs more
than a whole story. A connection that is lost, or whose process dies, is rolled back by its server at once (a process)
or when the server tires of it (a machine): `Host.lingering` says which.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg

from tests.simulation.cluster import START_S
from tests.simulation.deaths import Died, Mortality
from trueup.adapters.postgres import server, tables
from trueup.adapters.postgres.address import Address

T = TypeVar("T")
Session = Any
"""`asyncpg.Connection`, with the parts that our stubs leave out."""

GLANCE_S = 0.05
"""Real seconds before the server is asked whether a call waits for a lock."""
STUCK_S = 60.0
"""Real seconds after which an answer is missed, and simulated ones after which a lock is."""
TICK_S = 0.25
SHADOW = """
CREATE SCHEMA sim;
CREATE SEQUENCE sim.ticks;
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.to_timestamp((SELECT last_value FROM sim.ticks) / 1e6)';
"""


WHATS = ("before", "after", "late", "frozen")


@dataclass(frozen=True)
class Accident:
    """What becomes of the database at the n-th COMMIT of a story's journal, counted from 1.

    before: it dies, and the COMMIT was not heard. after: it dies with the COMMIT on its disk and the answer unsent.
    late: the connection is lost, and the COMMIT arrives `seconds` later. frozen: the COMMIT never arrives, and the
    connection stands. After the first two it is down for `seconds`.
    """

    commit: int
    what: str
    seconds: float = 5.0


class Host:
    """One database on a real server, seen from simulated time. For one story at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.offset_s = 0.0
        self.lingering = False
        self.accidents: list[Accident] = []
        self.struck: list[Accident] = []
        self.commits = 0
        self.down_until = 0.0
        self.adrift: set[Session] = set()
        self._wires: list[Wire] = []
        self._sessions: list[Session] = []
        self._connect = asyncpg.connect
        self._told = -1
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="database")
        self._thread.start()
        self._admin: Session = self.do(self._connect(url, server_settings={"synchronous_commit": "off"}))
        self.do(self._admin.execute(SHADOW))
        self.do(server.migrate(self._admin, url))

    def close(self) -> None:
        """Hang up, and end the thread."""
        for session in (*self._sessions, self._admin):
            self.do(session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def found(self, address: Address) -> None:
        """Make a journal, with its empty tables made as they are made when it is first led."""

        async def founded() -> None:
            number = await server.found(self._admin, address.journal)
            sql = "UPDATE trueup.head SET derived_version = $2 WHERE journal = $1"
            await self._admin.execute(sql, number, tables.DERIVED_VERSION)

        self.do(founded())

    def led_for_s(self, address: Address) -> float:
        """For how many seconds somebody leads this journal; 0 = nobody does."""

        async def look() -> float:
            number = await server.number_of(self._admin, address.journal)
            sql = (
                "SELECT extract(epoch FROM lease_until - sim.clock_timestamp())::float8 FROM trueup.lease"
                " WHERE journal = $1 AND session <> ''"
            )
            return max(0.0, await self._admin.fetchval(sql, number) or 0.0)

        self.tell_time()
        return self.do(look())

    def expire(self, address: Address) -> None:
        """The lease of this journal is over."""
        sql = (
            "UPDATE trueup.lease SET lease_until = '-infinity'"
            " WHERE journal = (SELECT journal FROM trueup.journals WHERE name = $1)"
        )
        self.do(self._admin.execute(sql, address.journal))

    def begin(self, *, offset_s: float = 0.0, lingering: bool = False, accidents: Sequence[Accident] = ()) -> None:
        """A new story: `offset_s` is how far the server's clock is off."""
        self.offset_s, self.lingering, self.accidents = offset_s, lingering, list(accidents)
        self.commits, self.down_until, self._told = 0, 0.0, -1
        self.struck.clear()

    def end(self) -> None:
        """The story is over: whatever its processes left behind is rolled back."""
        for wire in self._wires:
            wire.lose(lingering=False)
        self._wires.clear()
        while self.adrift:
            self.give_back(self.adrift.pop())

    # -- real time -----------------------------------------------------------------------------------------------------

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done while the simulation stands still."""
        return self.start(work).result(STUCK_S)

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def settled(self, call: "Future[T]", session: Session, *, known_to_wait: bool) -> bool:
        """Whether it is answered; False = it waits for a lock that somebody holds."""
        if not known_to_wait:
            with_patience(call, GLANCE_S)
        for _ in range(int(STUCK_S / GLANCE_S)):
            if call.done():
                return True
            waits = self._admin.fetchval("SELECT pg_blocking_pids($1) <> '{}'", session.get_server_pid())
            if self.do(waits):
                return False
            with_patience(call, GLANCE_S)
        raise TimeoutError("the database does not answer")

    # -- sessions ------------------------------------------------------------------------------------------------------

    def session(self, settings: Mapping[str, str]) -> Session:
        """A session as a new connection finds it. Raises OSError while the database is down."""
        if asyncio.get_running_loop().time() < self.down_until:
            raise ConnectionRefusedError("the database is down")
        if self._sessions:
            return self._sessions.pop()
        assert settings["search_path"] == "pg_catalog"
        ours = {**settings, "search_path": "sim, pg_catalog", "idle_in_transaction_session_timeout": "0"}
        return self.do(self._connect(self.url, server_settings=ours))

    def give_back(self, session: Session) -> None:
        """Its client is gone: the server rolls back what it left."""
        if session.is_closed():
            return
        self.do(self._reset(session))
        self._sessions.append(session)

    async def _reset(self, session: Session) -> None:
        if session.is_in_transaction():
            await session.execute("ROLLBACK")
            session._top_xact = None
        await session.execute("RESET ALL")

    def tell_time(self) -> None:
        """Let the server know what time it is."""
        now_us = int((START_S + asyncio.get_running_loop().time() + self.offset_s) * 1e6)
        if now_us != self._told:
            self._told = now_us
            self.do(self._admin.execute(f"SELECT setval('sim.ticks', {now_us})"))

    def wire(self, mortality: Mortality) -> "Wire":
        """The way to the database of one process."""
        wire = Wire(self, mortality)
        self._wires.append(wire)
        return wire

    # -- accidents -----------------------------------------------------------------------------------------------------

    def accident(self) -> Accident | None:
        """A COMMIT comes: what becomes of it."""
        self.commits += 1
        self.struck += [one for one in self.accidents if one.commit == self.commits]
        for one in self.accidents:
            if one.commit == self.commits:
                return one
        return None

    def cut(self, mortality: Mortality, seconds: float) -> None:
        """The network between this process and the server is down for so long."""
        for wire in self._wires:
            if wire.mortality is mortality:
                wire.cut(seconds)

    def dies(self, seconds: float) -> None:
        """The server is gone with all connections, and comes back after so long."""
        self.down_until = asyncio.get_running_loop().time() + seconds
        for wire in self._wires:
            wire.cut()


def with_patience(call: "Future[Any]", seconds: float) -> None:
    with suppress(NotYet):
        call.exception(seconds)


CALLER: ContextVar["Wire | None"] = ContextVar("CALLER", default=None)
"""The wire of the process that is running now; tasks inherit it."""


@dataclass(eq=False)
class Wire:
    """One process's connections; they end with it."""

    host: Host
    mortality: Mortality
    connections: "list[Line]" = field(default_factory=list)
    cut_until: float = 0.0

    async def connect(self, settings: Mapping[str, str]) -> "Line":
        await self.turn()
        if asyncio.get_running_loop().time() < self.cut_until:
            raise ConnectionRefusedError("the network is down")
        line = Line(self, self.host.session(settings), settings)
        self.connections.append(line)
        return line

    async def turn(self) -> None:
        """Let others come first; nothing is done by the dead, and nothing yet by who stands still."""
        await asyncio.sleep(0)
        await self.mortality.stand_still()
        if self.mortality.dead.is_set():
            raise Died

    def cut(self, seconds: float = 0.0) -> None:
        """All its connections are lost; for so long none can be made."""
        self.cut_until = asyncio.get_running_loop().time() + seconds
        for line in list(self.connections):
            line.lose(lingering=False)

    def lose(self, *, lingering: bool) -> None:
        """The process is gone."""
        for line in list(self.connections):
            line.lose(lingering=lingering)


class Line:
    """`asyncpg.Connection`, as far as the adapter uses it."""

    def __init__(self, wire: Wire, session: Session, settings: Mapping[str, str]) -> None:
        self._wire = wire
        self._host = wire.host
        self._session = session
        self._lost = asyncio.Event()
        self._idle_s = int(settings["idle_in_transaction_session_timeout"]) / 1000
        self._idle: asyncio.TimerHandle | None = None
        self._call: Future[Any] | None = None

    # -- what the adapter calls ----------------------------------------------------------------------------------------

    async def execute(self, sql: str, *values: object) -> str:
        if sql.startswith("SET idle_in_transaction_session_timeout = "):
            self._idle_s = int(sql.rpartition(" ")[2]) / 1000
            return "SET"
        if sql == "COMMIT":
            return await self._commit()
        return await self._ask(sql, lambda: self._session.execute(sql, *values))

    async def executemany(self, sql: str, values: Sequence[Sequence[object]]) -> None:
        await self._ask(sql, lambda: self._session.executemany(sql, values))

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        return await self._ask(sql, lambda: self._session.fetch(sql, *values))

    async def fetchrow(self, sql: str, *values: object) -> asyncpg.Record | None:
        return await self._ask(sql, lambda: self._session.fetchrow(sql, *values))

    async def fetchval(self, sql: str, *values: object) -> Any:
        return await self._ask(sql, lambda: self._session.fetchval(sql, *values))

    async def cursor(self, sql: str, *values: object) -> "Cursor":
        return Cursor(self, await self._ask(sql, lambda: _awaited(self._session.cursor(sql, *values))))

    @asynccontextmanager
    async def transaction(self, **how: Any) -> AsyncGenerator[None]:
        transaction = self._session.transaction(**how)
        await self._ask("BEGIN", transaction.start)
        try:
            yield
        except BaseException:
            if not self._lost.is_set():
                await self._ask("ROLLBACK", transaction.rollback)
            raise
        await self._ask("COMMIT", transaction.commit)

    def is_closed(self) -> bool:
        return self._lost.is_set()

    def get_server_version(self) -> Any:
        return self._session.get_server_version()

    def terminate(self) -> None:
        if not self._wire.mortality.dead.is_set():  # the dead hang up no more: how they are lost is said elsewhere
            self.lose(lingering=False)

    async def close(self, *, timeout: float | None = None) -> None:
        self.terminate()

    # -- what becomes of it --------------------------------------------------------------------------------------------

    async def _commit(self) -> str:
        """The commit point of an append."""
        self._wire.mortality.point("database COMMIT before")
        await self._turn()
        accident = self._host.accident()
        if accident is not None:
            await self._befalls(accident)
        done = await self._ask("COMMIT", lambda: self._session.execute("COMMIT"))
        self._wire.mortality.point("database COMMIT after")
        await self._wire.mortality.stand_still()
        return done

    async def _befalls(self, accident: Accident) -> None:
        session, loop = self._session, asyncio.get_running_loop()
        match accident.what:
            case "before":
                self._host.dies(accident.seconds)
            case "after":
                self._host.do(session.execute("COMMIT"))
                self._host.dies(accident.seconds)
            case "late":
                self._leave()
                self._host.adrift.add(session)

                def arrives() -> None:
                    self._host.do(session.execute("COMMIT"))
                    self._host.adrift.discard(session)
                    self._host.give_back(session)

                loop.call_later(accident.seconds, arrives)
            case _:
                self._watch_idle()
                await self._lost.wait()
        raise _gone()

    async def _ask(self, sql: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await self._turn()
        if "clock_timestamp" in sql:
            self._host.tell_time()
        call = self._call = self._host.start(work())
        waits, since = False, asyncio.get_running_loop().time()
        while not self._host.settled(call, self._session, known_to_wait=waits):
            waits = True
            assert asyncio.get_running_loop().time() < since + STUCK_S, f"a lock was never let go: {sql}"
            await asyncio.sleep(TICK_S)
            if self._lost.is_set():
                raise _gone()
        self._call = None
        try:
            return call.result()
        finally:
            self._watch_idle()

    async def _turn(self) -> None:
        await self._wire.turn()
        if self._lost.is_set():
            raise _gone()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _watch_idle(self) -> None:
        """The server tires of a session that leaves a transaction lying."""
        if self._idle_s and not self._lost.is_set() and self._session.is_in_transaction():
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_s, lambda: self.lose(lingering=False))

    def lose(self, *, lingering: bool) -> None:
        """The connection is gone. Its server hears of it at once, or finds out when it tires of a transaction."""
        if self._lost.is_set():
            return
        if lingering and self._idle is not None:
            return
        self._leave()
        if self._call is not None and not self._call.done():
            # It waits for a lock. The server finds out when it has got it, and rolls back.
            self._host._loop.call_soon_threadsafe(self._session.terminate)
            return
        self._host.give_back(self._session)

    def _leave(self) -> None:
        self._lost.set()
        if self._idle is not None:
            self._idle.cancel()
        if self in self._wire.connections:
            self._wire.connections.remove(self)


@dataclass(frozen=True)
class Cursor:
    """A cursor of asyncpg."""

    line: Line
    inner: Any

    async def fetch(self, count: int) -> list[asyncpg.Record]:
        return await self.line._ask("FETCH", lambda: self.inner.fetch(count))


class Pool:
    """`asyncpg.Pool`, as far as the adapter uses it."""

    def __init__(self, wire: Wire, size: int, settings: Mapping[str, str]) -> None:
        self._wire = wire
        self._settings = settings
        self._free: list[Line] = []
        self._used: list[Line] = []
        self._room = asyncio.Semaphore(size)

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncGenerator[Line]:
        async with self._room:
            self._free = [line for line in self._free if not line.is_closed()]
            line = self._free.pop() if self._free else await self._wire.connect(self._settings)
            self._used.append(line)
            try:
                yield line
            finally:
                self._used.remove(line)
                self._free.append(line)

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        for line in (*self._free, *self._used):
            line.terminate()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _gone() -> Exception:
    return asyncpg.InterfaceError("connection was closed in the middle of operation")


@contextmanager
def driver_replaced() -> Iterator[None]:
    """Let whoever has a wire (`CALLER`) connect by it."""
    connect, create_pool = asyncpg.connect, asyncpg.create_pool

    async def connect_by_wire(dsn: str, **named: Any) -> Any:
        wire = CALLER.get()
        return await (connect(dsn, **named) if wire is None else wire.connect(named["server_settings"]))

    async def create_pool_by_wire(dsn: str, **named: Any) -> Any:
        wire = CALLER.get()
        if wire is None:
            return await create_pool(dsn, **named)
        return Pool(wire, named["max_size"], named["server_settings"])

    asyncpg.connect, asyncpg.create_pool = connect_by_wire, create_pool_by_wire  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncpg.connect, asyncpg.create_pool = connect, create_pool
