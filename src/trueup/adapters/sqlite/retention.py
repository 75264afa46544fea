"""Pruning: records of operations that ended long ago are removed, and the chain still proves all the others.

Rule kept here: what is removed is named by a record in the chain itself, stretch by stretch, with the hash that the
next record follows; so a verification goes over the gap, and a record that is missing without such a word is still
damage. Never removed are: the first record (it is the installation's name in every marker), operations that are open or
watched, epochs, tokens, pauses, and who is adopted; and of what people signed:
- what succeeded, since its idempotency key is applied for good;
- whatever could still be delivered again, since its nonce must be known: until its deadline, with the clocks'
  difference, is over. The instant of the pruning stands in the journal, and the gate takes nothing for younger;
- a destroy whose fence has to stand.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.journal_standing import Standings
from trueup.adapters.sqlite import audit, file, tables
from trueup.adapters.sqlite.store import Store
from trueup.core import codec
from trueup.model import limits
from trueup.model.errors import BadInput, Corrupt, require
from trueup.model.ids import Epoch, OpId, TokenId, Vmid
from trueup.model.ops import Adopted, Denied, Draft, EpochTaken, Event, Gap, OpState, Pruned, Record

_ENDED: Final = (
    "SELECT op_id FROM ops WHERE ended_at_ms > 0 AND ended_at_ms < ?"
    " UNION ALL SELECT request_id FROM requests WHERE state IN ('vetoed', 'expired', 'refused')"
    " AND NOT EXISTS (SELECT 1 FROM ops WHERE op_id = request_id)"
)
_BATCH: Final = 1_000
"""Operations that are judged at once."""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What a pruning removes, or would remove."""

    ops: int
    records: int
    kept: int


class Clerk(msgspec.Struct, frozen=True, kw_only=True):
    """Who prunes and when: the holder's name, the instant, and where record ids come from."""

    holder: str
    at_ms: int
    record_id: Callable[[], str]


def prune(path: Path, *, before_ms: int, clerk: Clerk, dry: bool) -> Pruning:
    """Remove the records of operations that ended before this instant. Needs the writer's lock, unless `dry`.

    Raises:
        BadInput: there is no journal, or the instant is too near.
        JournalBusy: an agent writes it.
        Corrupt: it is damaged; nothing was removed.
        JournalFailed: the disk does not take it; nothing was removed.
    """
    if clerk.at_ms - before_ms < limits.RETENTION_MIN_S * 1000:
        days = int(limits.RETENTION_MIN_S // 86400)
        raise BadInput(what=f"records younger than {days} days are kept", remedy=f"give at least --older-than {days}d")
    file.open_for_reading(path).close()  # never makes a journal
    if dry:
        with file.mapped(path), contextlib.closing(file.open_for_reading(path)) as connection:
            return _counts(connection, _removable(connection, before_ms, clerk.at_ms))
    store = Store.open(path)
    try:
        return store.upkeep(lambda connection, head: _prune(connection, head, path, before_ms, clerk))
    finally:
        store.close()


class _Removable(msgspec.Struct, frozen=True, kw_only=True):
    ops: tuple[OpId, ...]
    seqs: tuple[int, ...]


def _prune(connection: sqlite3.Connection, head: codec.Head, path: Path, before_ms: int, clerk: Clerk) -> Pruning:
    """Prune within the caller's transaction."""
    found = audit.examine_open(connection, path)
    if not found.ok:
        remedy = tables.REBUILD if found.records_ok else file.RESTORE
        raise Corrupt(what=found.what, first_bad=found.first_bad or 0, where=str(path), remedy=remedy)
    removable = _removable(connection, before_ms, clerk.at_ms)
    counts = _counts(connection, removable)
    if not removable.seqs:
        return counts
    epoch = Epoch(head.epoch + 1)
    taken = EpochTaken(epoch=epoch, holder=clerk.holder, token=TokenId(""))
    events: list[Event] = [taken]
    gaps = tuple(_gaps(connection, removable.seqs))
    for number, some in enumerate(_chunks(gaps, limits.PRUNED_GAPS_MAX)):
        counted = (counts.ops, counts.records) if number == 0 else (0, 0)
        events.append(Pruned(before_ms=before_ms, ops=counted[0], records=counted[1], gaps=tuple(some)))
    _append(connection, head, epoch, events, clerk)
    connection.executemany("DELETE FROM records WHERE seq = ?", [(seq,) for seq in removable.seqs])
    for table, column in (("ops", "op_id"), ("upids", "op_id"), ("requests", "request_id"), ("claims", "op_id")):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(op,) for op in removable.ops])  # noqa: S608
    return counts


def _append(
    connection: sqlite3.Connection, head: codec.Head, epoch: Epoch, events: Sequence[Event], clerk: Clerk
) -> None:
    """Append to the chain, with what follows from it in the tables."""
    after, lines = head, list[tuple[Record, bytes]]()
    for event in events:
        draft = Draft(record_id=clerk.record_id(), at_ms=clerk.at_ms, op_id=OpId(""), event=event)
        record, line = codec.seal(after, epoch, draft, codec.encode_event(event))
        after = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
        lines.append((record, line))
    require(tables.move_head(connection, head, after), "the head is ours within this transaction")
    tables.add_records(connection, lines)
    tables.derive(connection, [record for record, _ in lines], Standings())


def _removable(connection: sqlite3.Connection, before_ms: int, now_ms: int) -> _Removable:
    fenced = {view.op_id for view in tables.standing_fences(connection)}
    ended: list[OpId] = [op_id for (op_id,) in connection.execute(_ENDED, (before_ms,)).fetchall()]
    ops: list[OpId] = []
    seqs: list[int] = []
    for start in range(0, len(ended), _BATCH):
        some = ended[start : start + _BATCH]
        standings = Standings()
        tables.standing(connection, some, standings)
        for op_id in some:
            if op_id in fenced or not _is_over(standings, op_id, now_ms):
                continue
            records = tables.records(connection, op_id, 0, 0)
            if all(record.at_ms < before_ms for record in records):
                ops.append(op_id)
                seqs += [record.seq for record in records]
    seqs += _overtaken(connection, before_ms)
    return _Removable(ops=tuple(ops), seqs=tuple(sorted(seq for seq in seqs if seq > 1)))


def _is_over(standings: Standings, op_id: OpId, now_ms: int) -> bool:
    """Whether nobody will ever ask for this operation or request again but out of curiosity."""
    op, request = standings.ops.get(op_id), standings.requests.get(op_id)
    if standings.is_open(op_id):
        return False
    if op is not None and request is None:
        return not (op.view.intent.one_shot or op.view.execute_by_ms)
    if request is None or (op is not None and op.view.state is not OpState.FAILED):
        return False
    deliverable_ms = request.view.request.execute_by_ms + int(limits.CLOCK_DIFFERENCE_S * 1000)
    return deliverable_ms < now_ms


def _overtaken(connection: sqlite3.Connection, before_ms: int) -> Iterator[int]:
    """Adoptions that a later one of the same guest repeats: each write of our marker makes one. And what was denied."""
    later: set[Vmid] = set()
    for seq, line in connection.execute("SELECT seq, line FROM records WHERE op_id = '' ORDER BY seq DESC"):
        record = codec.decode(tables.blob(line, seq), seq=seq)
        if isinstance(record.event, Adopted):
            if record.event.vmid in later and record.at_ms < before_ms:
                yield seq
            later.add(record.event.vmid)
        elif isinstance(record.event, Denied) and record.at_ms < before_ms:
            yield seq


def _gaps(connection: sqlite3.Connection, seqs: Sequence[int]) -> Iterator[Gap]:
    """The stretches of neighbours, each with the hashes at both ends."""
    for _, stretch in groupby(enumerate(seqs), key=lambda pair: pair[1] - pair[0]):
        numbers = [seq for _, seq in stretch]
        first, last = _record(connection, numbers[0]), _record(connection, numbers[-1])
        yield Gap(first_seq=first.seq, last_seq=last.seq, epoch=last.epoch, prev_hash=first.prev_hash, hash=last.hash)


def _record(connection: sqlite3.Connection, seq: int) -> Record:
    (line,) = connection.execute("SELECT line FROM records WHERE seq = ?", (seq,)).fetchone()
    return codec.decode(tables.blob(line, seq), seq=seq)


def _counts(connection: sqlite3.Connection, removable: _Removable) -> Pruning:
    total: int = connection.execute("SELECT count(*) FROM records").fetchone()[0]
    return Pruning(ops=len(removable.ops), records=len(removable.seqs), kept=total - len(removable.seqs))


def _chunks(gaps: Sequence[Gap], size: int) -> Iterator[Sequence[Gap]]:
    for start in range(0, len(gaps), size):
        yield gaps[start : start + size]
