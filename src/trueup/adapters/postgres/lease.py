"""Who leads: a row with an end in the database's time, held by renewing it.

Rules kept here:
- The lease is taken only when it is free or has run out by the database's clock; whoever holds it knows its session,
  which nobody else does.
- The holder believes in less than it has: it counts from before it asked, on its own monotonic clock, and gives away a
  margin for clocks of different speed. Nothing is sent after that instant (`ports.Journal.lead_until`), so what the
  holder may still send is over when the lease can be taken by another.
- A lease that was lost is never taken back by the same hold: whoever held it must begin anew, with a new epoch.
"""

import asyncio
import contextlib
import math
from typing import Final

import msgspec

from trueup.adapters.postgres import server, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.server import Connection
from trueup.model import limits
from trueup.model.errors import JournalBusy, JournalFailed, Stale, TrueupError
from trueup.ports import Clock

CHANNEL: Final = "trueup_lease"
"""Told whenever a lease was given back, so that standbys do not wait for its end."""

_TAKE: Final = (
    "UPDATE trueup.lease SET session = gen_random_uuid()::text, holder = $2, role = 'leading', epoch = 0,"
    " lease_until = clock_timestamp() + make_interval(secs => $3)"
    " WHERE journal = $1 AND (session = '' OR lease_until <= clock_timestamp()) RETURNING session"
)
_RENEW: Final = (
    "UPDATE trueup.lease SET lease_until = clock_timestamp() + make_interval(secs => $3)"
    " WHERE journal = $1 AND session = $2"
)
_RELEASE: Final = (
    "UPDATE trueup.lease SET session = '', role = 'free', lease_until = clock_timestamp()"
    " WHERE journal = $1 AND session = $2"
)
_HELD: Final = "SELECT lease_until > clock_timestamp() FROM trueup.lease WHERE journal = $1 AND session = $2"
_LOOK: Final = (
    "SELECT holder, epoch, role, extract(epoch FROM lease_until - clock_timestamp())::float8 AS left_s,"
    " session <> '' AND lease_until > clock_timestamp() AS held FROM trueup.lease WHERE journal = $1"
)


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads now, with `left_s` seconds until the lease ends unless it is renewed; `epoch` 0 = none taken yet."""

    holder: str
    epoch: int
    left_s: float


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that was taken. `until` is on the taker's monotonic clock."""

    session: str
    until: float


async def take(connection: Connection, journal: int, holder: str, lease_s: float, clock: Clock, where: str) -> Hold:
    """Take the lease if nobody holds it. Raises JournalBusy, which names the holder, or asyncpg's errors."""
    before = clock.monotonic()
    session = await connection.fetchval(_TAKE, journal, holder, lease_s)
    if session is not None:
        return Hold(session=str(session), until=before + believed_s(lease_s))
    leader = await look(connection, journal)
    raise busy(leader, where)


async def give_back(connection: Connection, journal: int, session: str) -> None:
    """Let go of a hold, and tell those who stand by."""
    await connection.execute(_RELEASE, journal, session)
    await connection.execute(f"NOTIFY {CHANNEL}")


async def is_held(connection: Connection, journal: int, session: str) -> bool:
    """Whether this hold is still good, by the database's clock."""
    return bool(await connection.fetchval(_HELD, journal, session))


def busy(leader: Leader | None, where: str) -> JournalBusy:
    """What a writer hears that finds the lease held."""
    if leader is None:
        return JournalBusy(what="another trueup is about to lead", where=where, remedy="run the command again")
    return JournalBusy(
        what=f"{leader.holder} leads, with a lease for another {max(0, math.ceil(leader.left_s))} s",
        where=where,
        remedy="stop that agent",
    )


async def look(connection: Connection, journal: int) -> Leader | None:
    """Who leads now; None = nobody."""
    row = await connection.fetchrow(_LOOK, journal)
    if row is None or not row["held"]:
        return None
    return Leader(holder=str(row["holder"]), epoch=int(row["epoch"]), left_s=float(row["left_s"]))


def believed_s(lease_s: float) -> float:
    """How long a holder believes in a lease of this length, from before it asked for it."""
    return lease_s - max(limits.LEASE_MARGIN_S, lease_s * limits.LEASE_DRIFT)


def renew_s(lease_s: float) -> float:
    """Seconds between two renewals: three may fail before the lease ends."""
    return min(limits.LEASE_RENEW_S, lease_s / 4)


def idle_s(lease_s: float) -> float:
    """How long a writer may leave a transaction lying, with the head locked: half a lease, so nobody waits for it.

    A leader that stands still in the middle of an append holds the lock that its successor begins with.
    """
    return min(limits.POSTGRES_IDLE_S, lease_s / 2)


class Keeping:
    """Renews a lease until it is let go or lost, on a connection of its own, so that appends do not hold it up."""

    def __init__(self, address: Address, journal: int, lease_s: float, hold: Hold, clock: Clock) -> None:
        """Keep `hold`; `start` begins."""
        self._address = address
        self._journal = journal
        self._lease_s = lease_s
        self._session = hold.session
        self._until = hold.until
        self._clock = clock
        self._connection: Connection | None = None
        self._lost: TrueupError | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        """The hold's name, which every append compares."""
        return self._session

    @property
    def idle_s(self) -> float:
        """See `idle_s` of this module."""
        return idle_s(self._lease_s)

    def start(self) -> None:
        """Renew from now on."""
        self._task = asyncio.create_task(self._keep(), name="journal-lease")

    def until(self) -> float:
        """Until when nobody else leads, on the monotonic clock; in the past once the lease is lost."""
        return -math.inf if self._lost else self._until

    def lose(self, why: TrueupError) -> None:
        """Somebody found out that the lease is lost, or that the journal cannot be written."""
        if self._lost is None:
            self._lost = why
            self._over.set()

    async def lost(self) -> TrueupError:
        """Wait until the lease is lost, and return why."""
        await self._over.wait()
        return self._lost or JournalFailed(what="the journal is closed", where=self._address.shown)

    async def let_go(self) -> None:
        """Stop renewing and give the lease back, if the database answers. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            if self._lost is None:
                await self._release()
        self._until = -math.inf
        self._over.set()
        connection, self._connection = self._connection, None
        await server.hang_up(connection)

    async def _release(self) -> None:
        """A lease that cannot be given back runs out by itself."""
        with contextlib.suppress(*trouble.Foreign, TimeoutError):
            async with asyncio.timeout(limits.POSTGRES_CONNECT_S):
                await give_back(await self._connected(), self._journal, self._session)

    async def _keep(self) -> None:
        pause_s = renew_s(self._lease_s)
        why = ""
        while self._lost is None:
            await self._clock.sleep(max(0.0, min(pause_s, self._until - self._clock.monotonic())))
            before = self._clock.monotonic()
            try:
                async with asyncio.timeout(pause_s):
                    connection = await self._connected()
                    done = await connection.execute(_RENEW, self._journal, self._session, self._lease_s)
            except (*trouble.Foreign, TimeoutError) as error:
                why = trouble.means(error, self._address.shown).what
                await self._drop()
            else:
                if done != "UPDATE 1":
                    self.lose(taken_over(self._address.shown))
                elif before <= self._until:
                    self._until = before + believed_s(self._lease_s)
            if self._clock.monotonic() >= self._until:  # at that very instant too, or it would be tried without a pause
                self.lose(self._ran_out(why))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await server.connect(self._address, target="read-write")
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _ran_out(self, why: str) -> TrueupError:
        what = f"the lease ran out: {why}" if why else "the lease ran out: this process stood still"
        return JournalFailed(what=what, where=self._address.shown, remedy="it is asked for anew")


def taken_over(where: str) -> Stale:
    """What a former leader hears."""
    return Stale(what="another agent leads by now", where=where, remedy="this one must stop, and may stand by")
