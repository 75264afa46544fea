"""What is done to a journal in PostgreSQL as a whole: copies, pruning, and what is saved of a damaged one.

Each of them works on a copy (`scratch`), where the rules are SQLite's own, and takes over what came of it in one
transaction that holds the head's lock. Those that write hold the lease as well, so no agent is under way; it is renewed
beside the work, and asked for once more before the transaction ends.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from trueup.adapters import sqlite
from trueup.adapters.postgres import audit, lease, scratch, server, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.lease import Keeping
from trueup.adapters.postgres.scratch import Scratch
from trueup.adapters.postgres.server import Connection, connected
from trueup.adapters.sqlite.audit import Verification
from trueup.adapters.sqlite.copies import Copied, Salvage
from trueup.adapters.sqlite.retention import Clerk, Pruning
from trueup.model import limits
from trueup.model.errors import BadInput, Corrupt, JournalFailed, require
from trueup.ports import Clock

_LEASE_S: Final = limits.LEASE_S
"""Renewed for as long as the work takes. Whoever kills it in the middle waits so long at most."""

_LOOK_S: Final = 0.05
"""Between two looks of the thread that renews at whether the work is over."""


async def backup(address: Address, target: Path) -> Copied:
    """Copy the journal as of one moment into a SQLite file, and verify the copy.

    Raises:
        BadInput: there is no journal, or the target is there already or cannot be written.
        Corrupt: the journal is damaged; there is no copy.
    """
    async with connected(address) as connection:
        journal = await server.require_number(connection, address)
        async with (
            connection.transaction(isolation="repeatable_read", readonly=True),
            scratch.copied(connection, journal) as copy,
        ):
            _require_sound(copy.found, address)
            return sqlite.backup(copy.path, target)


async def import_lines(address: Address, lines: Iterable[bytes]) -> Copied:
    """Make a journal of an export's lines, byte for byte; the same hashes are in it.

    Raises:
        BadInput: there is a journal already.
        Corrupt: a line is damaged, or does not follow the one before it; nothing was made.
    """
    with TemporaryDirectory(prefix="trueup-") as folder:
        path = Path(folder) / "journal.db"
        made = sqlite.import_lines(lines, path)
        copy = Scratch(path, sqlite.verify(path))
        async with connected(address, target="read-write") as connection:
            await server.require_durable(connection, address.shown)
            await server.migrate(connection, address.shown)
            journal = await server.found(connection, address.journal)
            async with connection.transaction():
                if await _locked_seq(connection, journal):
                    raise BadInput(
                        what="there is a journal already", where=address.shown, remedy="give it another name"
                    )
                await scratch.add_records(connection, journal, copy, 0)
                await scratch.put_back(connection, journal, copy)
        return made


async def prune(address: Address, before_ms: int, clerk: Clerk, clock: Clock, *, dry: bool) -> Pruning:
    """Remove the records of operations that ended before this instant. Needs the lease, unless `dry`.

    Raises:
        BadInput: there is no journal, or the instant is too near.
        JournalBusy: an agent leads.
        Corrupt: it is damaged; nothing was removed.
    """
    if dry:
        async with connected(address) as connection:
            journal = await server.require_number(connection, address)
            async with (
                connection.transaction(isolation="repeatable_read", readonly=True),
                scratch.copied(connection, journal) as copy,
            ):
                _require_sound(copy.found, address)
                return sqlite.prune(copy.path, before_ms=before_ms, clerk=clerk, dry=True)
    async with _alone(address, clerk.holder, clock) as (connection, journal):
        last = await _locked_seq(connection, journal)
        async with scratch.copied(connection, journal) as copy:
            _require_sound(copy.found, address)
            done = sqlite.prune(copy.path, before_ms=before_ms, clerk=clerk, dry=False)
            if done.records:
                await scratch.add_records(connection, journal, copy, last)
                await scratch.put_back(connection, journal, copy)  # the gaps too, without which nothing can be removed
                sql = "DELETE FROM trueup.records WHERE journal = $1 AND seq <> ALL($2::bigint[])"
                gone = await connection.execute(sql, journal, copy.ask(scratch.seqs))
                require(gone == f"DELETE {done.records}", f"{gone} is what was to be pruned")
            return done


async def rebuild(address: Address, holder: str, clock: Clock) -> Verification:
    """Make the derived tables anew from the records. Raises BadInput, JournalBusy, Corrupt or JournalFailed."""
    async with _alone(address, holder, clock) as (connection, journal):
        found = await audit.rebuild(connection, journal)
    _require_sound(found, address)
    return found


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """When something was put aside, as part of a name, and the record that tells of it."""

    text: str
    record_id: str
    at_ms: int


async def quarantine(address: Address, folder: Path, holder: str, clock: Clock, stamp: Stamp) -> Salvage:
    """Give a damaged journal another name, and start a new one with all that could be read, in doubt.

    What is there of the damaged one is also written into `folder`, as SQLite has it and as lines.

    Raises:
        BadInput: there is no journal, or it is sound.
        JournalBusy: an agent leads.
    """
    async with _alone(address, holder, clock) as (connection, journal):
        await _locked_seq(connection, journal)
        async with scratch.copied(connection, journal) as copy:
            saved = sqlite.quarantine(copy.path, stamp=stamp.text, record_id=stamp.record_id, at_ms=stamp.at_ms)
            aside = folder / f"{address.journal}.quarantined-{stamp.text}"
            exported = aside.with_name(f"{aside.name}.jsonl")
            _keep({saved.aside: aside, saved.exported: exported})
            await connection.execute("UPDATE trueup.journals SET name = $2 WHERE journal = $1", journal, aside.name)
            anew = await server.found(connection, address.journal)
            made = Scratch(copy.path, sqlite.verify(copy.path))
            await scratch.add_records(connection, anew, made, 0)
            await scratch.put_back(connection, anew, made)
    return Salvage(
        aside=aside,
        exported=exported,
        kept=saved.kept,
        left_out=saved.left_out,
        same_installation=saved.same_installation,
    )


def _keep(files: Mapping[Path, Path]) -> None:
    """Copy files out of a scratch folder, for us alone. Raises BadInput."""
    for from_, to in files.items():
        try:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with to.open("xb") as target:
                to.chmod(0o600)
                target.write(from_.read_bytes())
        except OSError as error:
            raise BadInput(what=f"cannot write: {error.strerror}", where=str(to)) from error


@asynccontextmanager
async def _alone(address: Address, holder: str, clock: Clock) -> AsyncGenerator[tuple[Connection, int]]:
    """A transaction and the journal's number, with the lease held meanwhile.

    Raises:
        BadInput: there is no journal. JournalBusy: an agent leads.
        JournalFailed: the lease was lost while the work went on; nothing was changed.
    """
    async with connected(address, target="read-write") as connection:
        journal = await server.require_number(connection, address)
        await server.require_durable(connection, address.shown)
        await connection.execute("SET idle_in_transaction_session_timeout = 0")  # a copy takes its time
        hold = await lease.take(connection, journal, holder, _LEASE_S, clock, address.shown)
        keeping = Keeping(address, journal, _LEASE_S, hold, clock)
        async with renewed(keeping), connection.transaction():
            yield connection, journal
            if not await lease.is_held(connection, journal, hold.session):
                what = "the lease was lost while the work went on; nothing was changed"
                raise JournalFailed(what=what, where=address.shown, remedy="run the command again")


@asynccontextmanager
async def renewed(keeping: Keeping) -> AsyncGenerator[None]:
    """Keep a lease while this is open, and give it back.

    A thread of its own does it: the work on a copy goes on for long without letting anything else run.
    """
    over = threading.Event()

    async def keep() -> None:
        keeping.start()
        try:
            while not over.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(_LOOK_S)
        finally:
            await keeping.let_go()

    thread = threading.Thread(target=lambda: asyncio.run(keep()), name="journal-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        await asyncio.to_thread(thread.join)


async def _locked_seq(connection: Connection, journal: int) -> int:
    """Lock the head, and return where the chain ends."""
    return int(await connection.fetchval("SELECT seq FROM trueup.head WHERE journal = $1 FOR UPDATE", journal))


def _require_sound(found: Verification, address: Address) -> None:
    if not found.ok:
        first_bad = found.first_bad or 0
        raise Corrupt(what=found.what, first_bad=first_bad, where=address.shown, remedy=trouble.RESTORE)
