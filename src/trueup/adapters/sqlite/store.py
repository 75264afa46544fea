"""The one writer's hold on a journal file. Synchronous, for one thread at a time.

An append is one transaction: begin, compare the head, decide (`journal_admission`), write records, derived tables and
head, commit. It counts once COMMIT has returned, because the log was synced by then.

When something goes wrong:
- before COMMIT, nothing was written; the transaction is rolled back;
- at COMMIT, it is not known. Nothing is repeated: memory is dropped, a new connection looks the record ids up, and
  the group counts if they are there;
- a sync that failed ends all use of the file by this process, reading too: what the kernel holds is not known any
  more, and a later sync that succeeds would prove nothing;
- whatever failed but for a busy file, the journal stays failed until it is opened again: mutations stop. After a
  restart a record may turn up whose append had failed (SQLite's log then replays it). That is the safe side: its
  request was not sent, and recovery finds out just that.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from trueup.adapters.journal_admission import Append, Group, admit
from trueup.adapters.journal_standing import Standings
from trueup.adapters.sqlite import audit, file, tables
from trueup.adapters.sqlite.in_use import InUse
from trueup.adapters.sqlite.lock import WriterLock
from trueup.core import codec
from trueup.model.errors import Corrupt, JournalBusy, JournalFailed, Stale, TrueupError, require
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Draft, EpochTaken, Record

T = TypeVar("T")

Verdict = tuple[Record, ...] | TrueupError
"""What one append's caller hears: its records, or why it was refused."""


class Store:
    """A journal file, open for writing."""

    def __init__(self, path: Path, lock: WriterLock, connection: sqlite3.Connection, head: codec.Head) -> None:
        """Take over an open and verified file; `open` is how to get there."""
        self._path = path
        self._lock = lock
        self._connection = connection
        self._head = head
        self._open = Standings()  # what is not over; the others are read again if they are spoken of
        self._met = Standings()  # what the group under way has found
        self._failure: JournalFailed | None = None
        self._sync_failed = False
        self._files = InUse(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make or open the journal, take its lock, and verify it.

        All of it is verified up to `audit.VERIFY_ALL_UP_TO` records, the tail and the open operations beyond.

        Raises:
            JournalBusy: another process writes it.
            BadInput: the path, or the version of what is there, does not do.
            Corrupt: it is damaged; names the first bad record.
            JournalFailed: no space, or no durability to be had.
        """
        path = path.absolute().resolve()  # two names of one file share one lock
        file.make_folder(path.parent)
        lock = WriterLock.acquire(path)
        try:
            connection = file.open_for_writing(path)
            try:
                with file.mapped(path):
                    audit.prepare(connection, path)
                    return cls(path, lock, connection, tables.head(connection))
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise

    @property
    def path(self) -> Path:
        """The file's real path."""
        return self._path

    @property
    def head(self) -> codec.Head:
        """Where the chain ended after the last commit; to be kept outside too, since a chain hides a cut tail."""
        return self._head

    def require_readable(self) -> None:
        """Raise JournalFailed after a failed sync: what reads say may not survive."""
        if self._sync_failed:
            raise self._failed()

    def append(self, appends: Sequence[Append]) -> tuple[Verdict, ...]:
        """Append a group in one transaction; one verdict for each append, in order.

        Raises:
            JournalFailed: nothing of the group counts as written; unless the file was only busy, every later append
                fails likewise.
        """
        self._require_usable()
        try:
            group = self._stage(appends)
        except BaseException as error:
            raise self._not_begun(error) from error
        if isinstance(group, tuple):
            return group
        if group.lines:
            self._commit(group)
            self._remember(group)
        return group.verdicts

    def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """Raise the epoch by one and record who holds it; `holder.epoch` and the draft's event are filled in here.

        Raises:
            JournalFailed: not durable, or the journal failed before.
        """
        self._require_usable()
        self._open.clear()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._head = tables.head(self._connection)  # whoever wrote before: from here on it is ours
            taken = tables.written(self._connection, (draft.record_id,))
            require(draft.record_id and not taken, f"record id {draft.record_id!r} is in the journal already, or none")
            epoch = Epoch(self._head.epoch + 1)
            event = EpochTaken(epoch=epoch, holder=holder.holder, token=holder.token)
            filled = Draft(record_id=draft.record_id, at_ms=draft.at_ms, op_id=OpId(""), event=event)
            record, line = codec.seal(self._head, epoch, filled, codec.encode_event(event))
            after = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
            group = Group(head=after, lines=((record, line),), standings=Standings(), verdicts=((record,),))
            self._write(group)
        except BaseException as error:
            raise self._not_begun(error) from error
        self._commit(group)
        self._remember(group)
        return epoch

    def upkeep(self, work: Callable[[sqlite3.Connection, codec.Head], T]) -> T:
        """Do work on the whole file in one transaction; nothing of it counts if it raises.

        Raises:
            JournalFailed: not durable, or the journal failed before.
        """
        self._require_usable()
        self._open.clear()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = work(self._connection, tables.head(self._connection))
            self._connection.execute("COMMIT")  # the commit point
        except BaseException as error:
            self._roll_back()
            if isinstance(error, file.Foreign):
                raise self._fail(error) from error
            raise
        self._head = tables.head(self._connection)
        with contextlib.suppress(sqlite3.Error):  # space is given back where that can be had; nothing leans on it
            self._connection.execute("VACUUM")
        return result

    def close(self) -> None:
        """Close the file and let go of the lock. Safe to call twice."""
        with contextlib.suppress(sqlite3.Error):  # everything that counts is durable; a checkpoint may wait
            self._connection.close()
        self._lock.release()
        self._failure = self._failure or JournalFailed(what="the journal is closed", where=str(self._path))

    def _stage(self, appends: Sequence[Append]) -> Group | tuple[Verdict, ...]:
        """Begin, decide and write, short of the commit; a tuple = nobody may write, and nothing is open."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        if tables.head(connection) != self._head:
            connection.execute("ROLLBACK")
            return (self._stale(),) * len(appends)
        known = tables.known(connection, appends, self._open)
        group = admit(self._head, known, appends)
        self._met = known.standings
        if not group.lines:
            connection.execute("ROLLBACK")
        elif not self._write(group):
            connection.execute("ROLLBACK")
            return (self._stale(),) * len(appends)
        return group

    def _write(self, group: Group) -> bool:
        """Write a group's rows; False = the head has moved, and the caller rolls back."""
        if not tables.move_head(self._connection, self._head, group.head):
            return False
        tables.add_records(self._connection, group.lines)
        tables.derive(self._connection, [record for record, _ in group.lines], group.standings)
        return True

    def _commit(self, group: Group) -> None:
        """Make the open transaction durable, or find out what became of it."""
        try:
            self._connection.execute("COMMIT")  # the commit point: SQLite syncs its log before this returns
            self._files.note()
        except sqlite3.Error as error:
            self._settle_unknown(error, group)

    def _settle_unknown(self, error: sqlite3.Error, group: Group) -> None:
        """After a COMMIT without a clear answer: return if the group is there, else raise."""
        self._open.clear()
        failure = self._fail(error)
        if self._sync_failed:
            self._roll_back()
            raise failure from error
        try:
            self._roll_back()
            self._connection.close()
            self._connection = file.open_for_writing(self._path)
            with file.mapped(self._path):
                found = tables.written(self._connection, [record.record_id for record, _ in group.lines])
                there = tables.head(self._connection)
        except (TrueupError, *file.Foreign):
            raise failure from error
        if len(found) == len(group.lines) and there == group.head:
            self._failure = None  # it counts, and the file answers
            return
        raise failure from error

    def _remember(self, group: Group) -> None:
        self._head = group.head
        met, self._met = self._met, Standings()
        for standings in (met, group.standings):  # first all that stands for an id, then what has changed of it
            self._open.absorb(standings)
        for op_id in met.ids() | group.standings.ids():
            if not self._open.is_open(op_id):
                self._open.forget(op_id)

    def _not_begun(self, error: BaseException) -> BaseException:
        """Roll back after an error before COMMIT, and return what the caller hears of it."""
        self._roll_back()
        self._open.clear()
        if isinstance(error, file.Foreign):
            return self._fail(error)
        if isinstance(error, Corrupt):
            remedy = error.remedy or file.RESTORE
            self._failure = JournalFailed(what=error.what, where=str(self._path), remedy=remedy)
            return self._failed()
        return error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._connection.execute("ROLLBACK")

    def _fail(self, error: sqlite3.Error | UnicodeDecodeError) -> JournalFailed:
        """Return the failure that callers hear, and keep it unless the file was only busy."""
        meaning = file.map_error(error, self._path)
        failure = JournalFailed(what=meaning.what, where=meaning.where, remedy=meaning.remedy)
        if not isinstance(meaning, JournalBusy):
            self._failure = failure
            self._sync_failed = self._sync_failed or file.is_sync_error(error)
        return failure

    def _require_usable(self) -> None:
        if self._failure is None and (gone := self._files.gone()):
            self._failure = JournalFailed(
                what=f"{gone} was removed or replaced while it was in use",
                where=str(self._path),
                remedy="find out what did it, put the journal back, then restart",
            )
        if self._failure is not None:
            raise self._failed()

    def _failed(self) -> JournalFailed:
        kept = self._failure
        if kept is None:
            return JournalFailed(what="the journal failed", where=str(self._path), remedy=file.RESTART)
        return JournalFailed(what=kept.what, where=kept.where, remedy=kept.remedy)

    def _stale(self) -> Stale:
        return Stale(
            what="somebody else wrote the journal",
            where=str(self._path),
            remedy="end the other trueup that writes this file, as `trueup status` names it, then start this one again",
        )
