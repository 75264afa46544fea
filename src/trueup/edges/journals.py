"""The journal of a settings file, wherever it is: in SQLite on this machine, or in PostgreSQL for several agents.

Everything of an adapter is imported when it is used, so that commands pay for one store only.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trueup.adapters.sqlite import Stats, Verification
    from trueup.adapters.sqlite.copies import Copied, Salvage
    from trueup.adapters.sqlite.retention import Clerk, Pruning
    from trueup.edges.standing_by import StandingBy
    from trueup.model.settings import StoreSettings
    from trueup.ports import Clock, Journal, JournalReader


class Journals:
    """Opens journals, and asks about them as a whole. `holder` is this process, for those who find the lease taken."""

    def __init__(self, clock: "Callable[[], Clock]", holder: Callable[[], str]) -> None:
        """Measure leases with `clock`; both are asked for when they are needed."""
        self._clock = clock
        self._holder = holder

    def journal(self, store: "StoreSettings") -> "Journal":
        """The journal for writing; its lock or lease is held from `enter` to `close`."""
        if store.postgres is None:
            from trueup.adapters import sqlite

            return sqlite.open_journal(store.path)
        from trueup.adapters.postgres.journal import PostgresJournal
        from trueup.model.errors import BadInput

        try:  # for the control socket and what is kept of the cluster's schema
            store.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(what=f"cannot make the folder: {error.strerror}", where=str(store.path.parent)) from error
        return PostgresJournal(store.postgres, holder=self._holder(), lease_s=store.lease_s, clock=self._clock())

    @asynccontextmanager
    async def reader(self, store: "StoreSettings") -> "AsyncGenerator[JournalReader]":
        """The journal for reading. Raises BadInput if there is none, Corrupt or JournalFailed."""
        if store.postgres is None:
            from trueup.adapters import sqlite

            reader = sqlite.open_reader(store.path)
        else:
            from trueup.adapters.postgres.reader import Reader

            reader = await Reader.open(store.postgres, self._clock())
        try:
            yield reader
        finally:
            await reader.close()

    @asynccontextmanager
    async def standing_by(self, store: "StoreSettings") -> "AsyncGenerator[StandingBy | None]":
        """What an agent waits with until it leads; None where nobody else can. Raises BadInput or JournalFailed."""
        if store.postgres is None:
            yield None
            return
        from trueup.adapters.postgres.standby import Standby

        standby = await Standby.open_beside(store.postgres, self._clock())
        try:
            yield standby
        finally:
            await standby.close()

    # -- as a whole ----------------------------------------------------------------------------------------------------

    def exists(self, store: "StoreSettings") -> bool:
        """Whether there is one."""
        if (address := store.postgres) is None:
            return store.path.exists()
        from trueup.adapters.postgres import apart, audit

        return apart.run(lambda: audit.exists(address))

    def held(self, store: "StoreSettings") -> bool:
        """Whether somebody holds its lock or lease now."""
        if (address := store.postgres) is None:
            from trueup.adapters.sqlite.lock import is_held

            return is_held(store.path)
        from trueup.adapters.postgres import apart, audit

        return apart.run(lambda: audit.leader(address)) is not None

    def verify(self, store: "StoreSettings") -> "Verification":
        """Read and check all of it."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.verify(store.path)
        from trueup.adapters.postgres import apart, audit

        return apart.run(lambda: audit.verify(address))

    def export(self, store: "StoreSettings") -> Iterator[str]:
        """Every record's line."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.export(store.path)
        from trueup.adapters.postgres import apart, audit

        return apart.each(lambda: audit.export(address))

    def stats(self, store: "StoreSettings") -> "Stats":
        """Count what is in it."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.stats(store.path)
        from trueup.adapters.postgres import apart, audit

        return apart.run(lambda: audit.stats(address))

    def durability(self, store: "StoreSettings") -> str:
        """What is wrong with how it is kept; '' = nothing."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.durability(store.path)
        from trueup.adapters.postgres import apart, audit

        return audit.weakness(apart.run(lambda: audit.settings(address)))

    def described(self, store: "StoreSettings") -> str:
        """What keeps it, in a line."""
        if (address := store.postgres) is None:
            return "a SQLite file"
        from trueup.adapters.postgres import apart, audit

        return audit.described(apart.run(lambda: audit.settings(address)))

    # -- upkeep --------------------------------------------------------------------------------------------------------

    def backup(self, store: "StoreSettings", target: Path) -> "Copied":
        """Copy it into a SQLite file, beside its writer, and verify the copy."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.backup(store.path, target)
        from trueup.adapters.postgres import apart, upkeep

        return apart.run(lambda: upkeep.backup(address, target))

    def import_lines(self, store: "StoreSettings", lines: Iterable[bytes]) -> "Copied":
        """Make it of an export's lines; there is none yet."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.import_lines(lines, store.path)
        from trueup.adapters.postgres import apart, upkeep

        return apart.run(lambda: upkeep.import_lines(address, lines))

    def prune(self, store: "StoreSettings", before_ms: int, clerk: "Clerk", *, dry: bool) -> "Pruning":
        """Remove the records of operations that ended before this instant."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.prune(store.path, before_ms=before_ms, clerk=clerk, dry=dry)
        from trueup.adapters.postgres import apart, upkeep

        return apart.run(lambda: upkeep.prune(address, before_ms, clerk, self._clock(), dry=dry))

    def quarantine(self, store: "StoreSettings", stamp: str, record_id: str, at_ms: int) -> "Salvage":
        """Put a damaged one aside and start anew with what could be read."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.quarantine(store.path, stamp=stamp, record_id=record_id, at_ms=at_ms)
        from trueup.adapters.postgres import apart, upkeep

        doubt = upkeep.Stamp(text=stamp, record_id=record_id, at_ms=at_ms)
        return apart.run(lambda: upkeep.quarantine(address, store.path.parent, self._holder(), self._clock(), doubt))

    def rebuild(self, store: "StoreSettings") -> "Verification":
        """Make its derived tables anew."""
        if (address := store.postgres) is None:
            from trueup.adapters import sqlite

            return sqlite.rebuild(store.path)
        from trueup.adapters.postgres import apart, upkeep

        return apart.run(lambda: upkeep.rebuild(address, self._holder(), self._clock()))
