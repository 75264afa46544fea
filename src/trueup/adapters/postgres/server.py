"""Connecting: settings that durability rests on, the schema, and the journal's own number in the database.

Settings are read back after they were asked for. `fsync` off or a `synchronous_commit` that does not wait would make
every promise of the journal hollow, so a writer refuses the one and raises the other for its own session.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Final, Literal, TypeVar

import asyncpg

from trueup.adapters.postgres import trouble
from trueup.adapters.postgres.address import Address
from trueup.core import codec
from trueup.model import limits
from trueup.model.errors import BadInput, JournalFailed

T = TypeVar("T")
Connection = asyncpg.Connection
Pool = asyncpg.Pool
Target = Literal["any", "read-write"]

OLDEST_VERSION: Final = 14
_MIGRATING: Final = 5_427_913_284_417  # an advisory lock's name: ours alone in this database
_NOT_DURABLE: Final = frozenset({"off", "local"})
"""Values of `synchronous_commit` that do not wait: for the disk, or for the standby that was asked to."""


async def connect(address: Address, *, target: Target) -> Connection:
    """Connect to the database; of several hosts, to one that takes writes if `target` says so.

    Raises asyncpg's errors and OSError.
    """
    return await asyncpg.connect(
        address.url.reveal(),
        timeout=limits.POSTGRES_CONNECT_S,
        target_session_attrs=target,
        server_settings=session_settings(),
    )


async def let_idle(connection: Connection, seconds: float) -> None:
    """Let the server cut this session off when it leaves a transaction lying for so long."""
    await connection.execute(f"SET idle_in_transaction_session_timeout = {int(seconds * 1000)}")


def session_settings() -> dict[str, str]:
    """What every session of ours asks the server for."""
    return {
        "application_name": "trueup",
        "search_path": "pg_catalog",
        # A writer that is cut off in mid-transaction lets go of the head, so that others learn what became of it.
        "idle_in_transaction_session_timeout": str(int(limits.POSTGRES_IDLE_S * 1000)),
        "lock_timeout": str(int(limits.POSTGRES_LOCK_S * 1000)),
        # Never: it would end the wait for a synchronous standby and report success all the same.
        "statement_timeout": "0",
    }


async def in_time(connection: Connection, work: Coroutine[object, object, T], seconds: float) -> T:
    """Wait for an answer so long, then cut the connection.

    Never by a cancel request: a COMMIT that waits for a synchronous standby would take it for leave to report success.

    Raises TimeoutError, asyncpg's errors and OSError.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        connection.terminate()
        await asyncio.gather(task, return_exceptions=True)
        raise
    if not done:
        connection.terminate()
        await asyncio.gather(task, return_exceptions=True)
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


async def hang_up(connection: Connection | None) -> None:
    """Close a connection, soon; one that does not answer is cut off."""
    if connection is None:
        return
    try:
        await connection.close(timeout=limits.POSTGRES_HANG_UP_S)
    except (*trouble.Foreign, TimeoutError):
        connection.terminate()
    except asyncio.CancelledError:
        connection.terminate()
        raise


@asynccontextmanager
async def connected(address: Address, *, target: Target = "any") -> AsyncGenerator[Connection]:
    """One connection for a piece of work. Raises BadInput, Corrupt or JournalFailed."""
    with trouble.mapped(address.shown):
        connection = await connect(address, target=target)
        try:
            yield connection
        finally:
            await hang_up(connection)


async def require_durable(connection: Connection, where: str) -> None:
    """Refuse a server that may lose what it committed, and make this session wait for the disk and for standbys.

    Raises:
        BadInput: the server is too old.
        JournalFailed: it runs without `fsync`, or does not wait.
    """
    if connection.get_server_version().major < OLDEST_VERSION:
        what = f"PostgreSQL {connection.get_server_version().major} is too old for the journal"
        raise BadInput(what=what, where=where, remedy=f"use PostgreSQL {OLDEST_VERSION} or newer")
    settings = await durability(connection)
    if settings["fsync"] != "on":
        remedy = "set fsync = on in postgresql.conf"
        raise JournalFailed(
            what="PostgreSQL runs with fsync off: it forgets what it committed", where=where, remedy=remedy
        )
    if settings["synchronous_commit"] in _NOT_DURABLE:
        await connection.execute("SET synchronous_commit = on")
        if (await durability(connection))["synchronous_commit"] != "on":
            raise JournalFailed(what="PostgreSQL does not wait for the disk when it commits", where=where)


async def durability(connection: Connection) -> Mapping[str, str]:
    """The settings that durability rests on, as this session has them."""
    names = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")
    return {name: str(await connection.fetchval(f"SHOW {name}")) for name in names}


# --- The schema -------------------------------------------------------------------------------------------------------


@cache
def migrations() -> tuple[str, ...]:
    """Return the SQL that leads from schema n to n + 1, in order: the files `migrations/NNNN_name.sql`, from 1."""
    folder = resources.files("trueup.adapters.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(f.read_text(encoding="utf-8") for f in files)


async def schema_version(connection: Connection) -> int:
    """The version of the schema; 0 = there is none."""
    # Not to_regclass: it may answer from a cache that has not heard yet what another session has made.
    there = await connection.fetchval(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'trueup' AND c.relname = 'schema_version'"
    )
    if there is None:
        return 0
    return int(await connection.fetchval("SELECT version FROM trueup.schema_version"))


async def migrate(connection: Connection, where: str) -> None:
    """Bring the schema up to date, in one transaction; agents that start together wait for each other.

    Raises:
        BadInput: the schema is of a newer trueup.
    """
    if require_known(await schema_version(connection), where) == len(migrations()):
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        version = require_known(await schema_version(connection), where)
        if version == 0:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS trueup")
            await connection.execute("CREATE TABLE trueup.schema_version (version integer NOT NULL)")
            await connection.execute("INSERT INTO trueup.schema_version VALUES (0)")
        for sql in migrations()[version:]:
            await connection.execute(sql)
        await connection.execute("UPDATE trueup.schema_version SET version = $1", len(migrations()))


def require_known(version: int, where: str) -> int:
    """Raise BadInput if the schema is of a newer trueup."""
    if version > len(migrations()):
        what = f"the journal is of a newer trueup (schema {version}; this one knows {len(migrations())})"
        raise BadInput(what=what, where=where, remedy=codec.UPGRADE)
    return version


async def found(connection: Connection, name: str) -> int:
    """Make the journal of this name if there is none, and return its number."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        number = await number_of(connection, name)
        if number is None:
            number = int(
                await connection.fetchval("INSERT INTO trueup.journals (name) VALUES ($1) RETURNING journal", name)
            )
            await connection.execute("INSERT INTO trueup.head VALUES ($1, 0, 0, $2, 0)", number, codec.GENESIS)
            await connection.execute(
                "INSERT INTO trueup.lease VALUES ($1, '', 0, '', 'free', clock_timestamp())", number
            )
        return number


async def number_of(connection: Connection, name: str) -> int | None:
    """The number of the journal of this name; None = there is none."""
    found_one = await connection.fetchval("SELECT journal FROM trueup.journals WHERE name = $1", name)
    return None if found_one is None else int(found_one)


async def require_number(connection: Connection, address: Address) -> int:
    """The journal's number, for those who only read.

    Raises:
        BadInput: there is no journal, or it is of another version of trueup.
    """
    version = require_known(await schema_version(connection), address.shown)
    number = await number_of(connection, address.journal) if version else None
    if number is None:
        what = f"there is no journal of {address.journal}"
        raise BadInput(what=what, where=address.shown, remedy="`trueup apply` or `trueup agent` makes it")
    if version < len(migrations()):
        raise BadInput(
            what=f"the journal is of an older trueup (schema {version})",
            where=address.shown,
            remedy="start `trueup agent` once: it brings the journal up to date",
        )
    return number
