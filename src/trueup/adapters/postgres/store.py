"""The one writer's hold on a journal in PostgreSQL. For one task at a time.

An append is one transaction: lock the head row, compare epoch and hash, decide (`journal_admission`), write records,
derived tables and head, commit. It counts once COMMIT has been answered; PostgreSQL has synced its log by then, and a
synchronous standby that the server was told to wait for has it too.

When something goes wrong:
- before COMMIT was sent, nothing was written and nothing can be: the server rolls back what its client left. The same
  group is tried again on another connection, for a while;
- at COMMIT, it is not known. Nothing is repeated: on another connection the head row is locked, which waits for the end
  of the transaction that is in doubt, and then its record ids are looked up. They are all there, and the group counts;
  or none is, and then it was rolled back for good, and may be written;
- a head that is not the one that was left, or another session's lease: somebody else leads;
- whatever cannot be settled ends this hold: mutations stop, and the journal must be opened anew.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from trueup.adapters.journal_admission import Append, Group, admit
from trueup.adapters.journal_standing import Standings
from trueup.adapters.postgres import lease, server, tables, trouble
from trueup.adapters.postgres.address import Address
from trueup.adapters.postgres.server import Connection
from trueup.core import codec
from trueup.model import limits
from trueup.model.errors import Corrupt, JournalFailed, Stale, TrueupError, require
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Draft, EpochTaken, Record
from trueup.ports import Clock

Verdict = tuple[Record, ...] | TrueupError
"""What one append's caller hears: its records, or why it was refused."""

_LOCK: Final = (
    "SELECT h.seq, h.epoch, h.hash, l.session, l.lease_until > clock_timestamp() AS lasts"
    " FROM trueup.head h JOIN trueup.lease l ON l.journal = h.journal WHERE h.journal = $1 FOR UPDATE OF h"
)


class _Stage(Protocol):
    """Decides what a transaction writes. `lasts`: our lease has not run out by the database's clock."""

    async def __call__(self, connection: Connection, head: codec.Head, *, lasts: bool) -> Group: ...


class _Unknown(Exception):
    """A COMMIT was sent and not answered."""


class Store:
    """A journal in PostgreSQL, open for writing under a lease."""

    def __init__(self, address: Address, journal: int, keeping: lease.Keeping, clock: Clock, head: codec.Head) -> None:
        """Write as the holder of `keeping`."""
        self._address = address
        self._journal = journal
        self._keeping = keeping
        self._clock = clock
        self._head = head
        self._open = Standings()  # what is not over; the others are read again if they are spoken of
        self._met = Standings()  # what the group under way has found
        self._connection: Connection | None = None
        self._failure: TrueupError | None = None

    @property
    def where(self) -> str:
        """The journal's address, without a password."""
        return self._address.shown

    @property
    def head(self) -> codec.Head:
        """Where the chain ended after the last commit."""
        return self._head

    async def append(self, appends: Sequence[Append]) -> tuple[Verdict, ...]:
        """Append a group in one transaction; one verdict for each append, in order.

        Raises:
            Stale: somebody else leads. JournalFailed: nothing counts as written. After both, every later append fails.
        """

        async def stage(connection: Connection, head: codec.Head, *, lasts: bool) -> Group:
            del lasts  # a lease that ran out but was not taken by another still lets a leader write down what it knows
            known = await tables.known(connection, self._journal, appends, self._open)
            self._met = known.standings
            return admit(head, known, appends)

        return (await self._write(stage, must_follow=True)).verdicts

    async def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """Raise the epoch by one and record who holds it; `holder.epoch` and the draft's event are filled in here.

        Raises:
            Stale: the lease is over. JournalFailed: not durable.
        """

        async def stage(connection: Connection, head: codec.Head, *, lasts: bool) -> Group:
            if not lasts:
                raise lease.taken_over(self.where)
            taken = await tables.written(connection, self._journal, (draft.record_id,))
            require(draft.record_id and not taken, f"record id {draft.record_id!r} is in the journal already, or none")
            epoch = Epoch(head.epoch + 1)
            event = EpochTaken(epoch=epoch, holder=holder.holder, token=holder.token)
            filled = Draft(record_id=draft.record_id, at_ms=draft.at_ms, op_id=OpId(""), event=event)
            record, line = codec.seal(head, epoch, filled, codec.encode_event(event))
            after = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
            await connection.execute(
                "UPDATE trueup.lease SET epoch = $2 WHERE journal = $1 AND session = $3",
                self._journal,
                epoch,
                self._keeping.session,
            )
            return Group(head=after, lines=((record, line),), standings=Standings(), verdicts=((record,),))

        self._open.clear()
        return (await self._write(stage, must_follow=False)).head.epoch

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        self._failure = self._failure or JournalFailed(what="the journal is closed", where=self.where)
        connection, self._connection = self._connection, None
        await server.hang_up(connection)

    # -- one transaction -----------------------------------------------------------------------------------------------

    async def _write(self, stage: _Stage, *, must_follow: bool) -> Group:
        """Write what `stage` decides on, once, whatever happens to connections meanwhile."""
        self._require_usable()
        give_up = self._clock.monotonic() + limits.POSTGRES_PATIENCE_S
        while True:
            group: Group | None = None
            try:
                connection = await self._connected()
                group = await self._staged(connection, stage, must_follow=must_follow)
                if group.lines:
                    await self._commit(connection)
                else:
                    await connection.execute("ROLLBACK")
                self._remember(group)
                return group
            except _Unknown as error:
                require(group is not None, "a COMMIT has a group")
                if group is not None and await self._is_there(group, error, give_up):
                    self._remember(group)
                    return group
            except (*trouble.Foreign, TimeoutError) as error:
                await self._next_try(error, give_up)
            except (Stale, Corrupt) as error:
                raise await self._failed(error) from error
            except BaseException:
                await self._drop()  # nothing was committed: the server rolls it back
                self._open.clear()
                raise

    async def _staged(self, connection: Connection, stage: _Stage, *, must_follow: bool) -> Group:
        """Begin, decide and write, short of the commit."""
        await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        head, lasts = await self._locked(connection)
        if must_follow and head != self._head:
            raise lease.taken_over(self.where)
        group = await stage(connection, head, lasts=lasts)
        if group.lines:
            if not await tables.move_head(connection, self._journal, head, group.head):
                raise lease.taken_over(self.where)
            await tables.add_records(connection, self._journal, group.lines)
            await tables.derive(connection, self._journal, [record for record, _ in group.lines], group.standings)
        self._head = head
        return group

    async def _locked(self, connection: Connection) -> tuple[codec.Head, bool]:
        """Lock the head; whether our lease lasts. Raises Stale if it is another's."""
        row = await connection.fetchrow(_LOCK, self._journal)
        head = tables.head_of(row)
        if row is None or row["session"] != self._keeping.session:
            raise lease.taken_over(self.where)
        return head, bool(row["lasts"])

    async def _commit(self, connection: Connection) -> None:
        """The commit point. Raises _Unknown for anything but a clear yes."""
        try:
            done = await server.in_time(connection, connection.execute("COMMIT"), limits.POSTGRES_COMMIT_S)
        except (*trouble.Foreign, TimeoutError) as error:
            raise _Unknown(str(error)) from error
        if done != "COMMIT":  # PostgreSQL answers ROLLBACK to the COMMIT of a transaction that had failed
            raise _Unknown(f"COMMIT was answered with {done}")

    async def _is_there(self, group: Group, doubt: _Unknown, give_up: float) -> bool:
        """After a COMMIT without an answer: whether the group is in the journal. Raises Stale or JournalFailed."""
        ids = [record.record_id for record, _ in group.lines]
        self._open.clear()
        await self._drop()
        while True:
            try:
                connection = await self._connected()
                await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
                # Waits for the transaction that is in doubt: it holds this lock until its end.
                row = await connection.fetchrow(
                    "SELECT seq, epoch, hash FROM trueup.head WHERE journal = $1 FOR UPDATE", self._journal
                )
                found = await tables.written(connection, self._journal, ids)
                await connection.execute("ROLLBACK")
            except (*trouble.Foreign, TimeoutError) as error:
                await self._next_try(error, give_up, f"the answer to a COMMIT was lost ({doubt}), and then ")
                continue
            head = tables.head_of(row)
            if len(found) == len(ids):
                return True
            if found or head != self._head:
                raise await self._failed(lease.taken_over(self.where))
            return False

    async def _next_try(self, error: BaseException, give_up: float, before: str = "") -> None:
        """Wait a little before another connection is tried; raises if none may help, or if it took too long."""
        await self._drop()
        self._open.clear()
        meaning = trouble.means(error, self.where)
        if not trouble.is_transient(error) or self._clock.monotonic() >= min(give_up, self._keeping.until()):
            failure = JournalFailed(what=before + meaning.what, where=self.where, remedy=meaning.remedy)
            raise await self._failed(failure) from error
        await self._clock.sleep(limits.POSTGRES_AGAIN_S)

    # -- state ---------------------------------------------------------------------------------------------------------

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await server.connect(self._address, target="read-write")
            await server.let_idle(self._connection, self._keeping.idle_s)
            await server.require_durable(self._connection, self.where)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _failed(self, error: TrueupError) -> TrueupError:
        """Keep an error that ends this hold: nothing is written any more, and the lease is no longer believed in."""
        await self._drop()
        self._open.clear()
        if isinstance(error, Corrupt):
            error = JournalFailed(what=error.what, where=self.where, remedy=error.remedy or trouble.RESTORE)
        self._failure = error
        self._keeping.lose(error)
        return error

    def _remember(self, group: Group) -> None:
        self._head = group.head
        met, self._met = self._met, Standings()
        for standings in (met, group.standings):  # first all that stands for an id, then what has changed of it
            self._open.absorb(standings)
        for op_id in met.ids() | group.standings.ids():
            if not self._open.is_open(op_id):
                self._open.forget(op_id)

    def _require_usable(self) -> None:
        """A failed hold stays failed; each caller hears it anew."""
        if self._failure is not None:
            kept = self._failure
            raise type(kept)(what=kept.what, where=kept.where, remedy=kept.remedy)
