"""Copies of a journal: a backup beside its writer, one made of exported lines, and what is saved of a damaged one.

Rule kept here: a copy is made under another name, verified, and only then given its place; nothing is overwritten and
nothing is thrown away. What is saved of a damaged journal is sealed anew, and says in its own records that it may not
know all that was done. What people had signed is not carried out on the strength of it: a lost record may have been the
veto, or the start.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters.journal_standing import Standings
from trueup.adapters.sqlite import audit, file, tables
from trueup.adapters.sqlite.lock import WriterLock
from trueup.core import codec
from trueup.model.errors import BadInput, Corrupt, TrueupError
from trueup.model.gate import Lapsed, Refusal, RequestState
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Accepted, Doubted, Draft, Event, OpState, Pruned, Record, Started, SystemEvent

_SIDES: Final = ("", "-wal", "-shm")
_PAGES: Final = 1_000
"""Pages of a backup between two breaths for the writer."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that was verified."""

    records: int
    head: str


class Salvage(msgspec.Struct, frozen=True, kw_only=True):
    """What a quarantine did.

    `aside` is where the damaged journal now is, `exported` the lines that could be read; `kept` records are in the new
    journal, `left_out` could be read but follow from something that is lost. `same_installation`: the new journal is
    still the one that our markers name.
    """

    aside: Path
    exported: Path
    kept: int
    left_out: int
    same_installation: bool


def backup(path: Path, target: Path) -> Copied:
    """Copy the journal as of one moment, beside its writer, and verify the copy.

    Raises:
        BadInput: there is no journal, or the target is there already or cannot be written.
        Corrupt: the journal is damaged; there is no copy.
    """
    hidden = _fresh(target)
    try:
        with (
            file.mapped(path),
            contextlib.closing(file.open_for_reading(path)) as source,
            contextlib.closing(sqlite3.connect(hidden, isolation_level=None)) as copy,
        ):
            source.backup(copy, pages=_PAGES)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read wherever it is carried
        return _place(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)


def import_lines(lines: Iterable[bytes], target: Path) -> Copied:
    """Make a journal of an export's lines, byte for byte; the same hashes are in it.

    Raises:
        BadInput: there is a journal already.
        Corrupt: a line is damaged, or does not follow the one before it; nothing was made.
    """
    hidden = _fresh(target)
    lock = WriterLock.acquire(target.absolute().resolve())
    try:
        records = [(codec.decode(line, seq=number), line) for number, line in enumerate(lines, start=1)]
        _make(hidden, records)
        return _place(hidden, target)
    finally:
        _remove(hidden)
        lock.release()


def quarantine(path: Path, *, stamp: str, record_id: str, at_ms: int) -> Salvage:
    """Move a damaged journal aside, and start a new one with all that could be read, in doubt.

    Raises:
        BadInput: there is no journal, or it is sound.
        JournalBusy: an agent writes it.
    """
    path = path.absolute().resolve()
    if not path.is_file():
        raise BadInput(what="there is no journal", where=str(path), remedy="`trueup apply` or `trueup agent` makes it")
    lock = WriterLock.acquire(path)
    try:
        found = audit.verify(path)
        if found.ok or found.records_ok:
            remedy = "`trueup journal rebuild` makes its tables anew" if not found.ok else "leave it where it is"
            raise BadInput(what="every record of the journal is sound", where=str(path), remedy=remedy)
        lines = _readable(path)
        aside = path.with_name(f"{path.name}.quarantined-{stamp}")
        exported = aside.with_name(f"{aside.name}.jsonl")
        _write_new(exported, lines)
        what = f"the journal was damaged ({found.what}); what could be read was kept, the file is {aside.name}"
        doubt = Draft(record_id=record_id, at_ms=at_ms, op_id=OpId(""), event=Doubted(what=what))
        hidden = path.with_name(f".{path.name}.new")
        _remove(hidden)
        records = [codec.decode(line) for line in lines]
        sealed, left_out, same = _sealed_anew(records, doubt)
        kept = len({record.record_id for record, _ in sealed} & {record.record_id for record in records})
        _make(hidden, sealed)
        for side in _SIDES:
            if (from_ := path.with_name(path.name + side)).exists():
                from_.rename(aside.with_name(aside.name + side))
        hidden.rename(path)
        file.sync_folder(path.parent)
        return Salvage(aside=aside, exported=exported, kept=kept, left_out=left_out, same_installation=same)
    finally:
        lock.release()


def _readable(path: Path) -> list[bytes]:
    """The lines that are sound by themselves, in order; none where the file cannot even be opened."""
    lines: list[bytes] = []
    with contextlib.suppress(TrueupError):
        lines.extend(line.encode() for line in audit.export(path))
    return lines


def _sealed_anew(records: Sequence[Record], doubt: Draft) -> tuple[list[tuple[Record, bytes]], int, bool]:
    """The records in a new chain, as far as the lifecycle allows without those that are lost; the doubt comes last.

    The first record's id names the installation in every marker. If it is lost, a marker in what is left still tells
    it, and the doubt takes its place at the front.
    """
    head = codec.Head()
    sealed: list[tuple[Record, bytes]] = []
    standings = Standings()
    left_out = 0

    def append(draft: Draft, epoch: Epoch) -> Record:
        nonlocal head
        record, line = codec.seal(head, epoch, draft, codec.encode_event(draft.event))
        head = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
        sealed.append((record, line))
        return record

    installation = _installation(records)
    first_is_there = bool(records) and records[0].seq == 1
    if not first_is_there:
        front = Draft(record_id=installation or doubt.record_id, at_ms=doubt.at_ms, op_id=OpId(""), event=doubt.event)
        append(front, Epoch(0))
    for record in records:
        draft = Draft(record_id=record.record_id, at_ms=record.at_ms, op_id=record.op_id, event=record.event)
        if isinstance(record.event, Pruned):
            continue  # its gaps are not those of the new chain
        if not isinstance(record.event, SystemEvent):
            try:
                standings.add(record)
            except TrueupError:  # what it follows from is lost
                left_out += 1
                continue
        append(draft, record.epoch)
    for number, (op_id, event) in enumerate(_not_to_be_trusted(standings)):
        append(Draft(record_id=f"{doubt.record_id}-{number}", at_ms=doubt.at_ms, op_id=op_id, event=event), head.epoch)
    if first_is_there:
        append(doubt, head.epoch)
    return sealed, left_out, first_is_there or bool(installation)


def _not_to_be_trusted(standings: Standings) -> Iterator[tuple[OpId, Event]]:
    """What ends requests that may have been vetoed, and counts operations as sent that may have been.

    Recovery then looks what became of these; without the record of their start it will hardly find out, and asks.
    """
    for op_id, op in standings.ops.items():
        if op.view.state is OpState.ACCEPTED:
            yield op_id, Started(intent=op.view.intent)
    text = "the journal was damaged, and what was said about it may be lost: it has to be asked for anew"
    for request_id, request in standings.requests.items():
        if request.view.state is RequestState.PENDING:
            yield request_id, Lapsed(state=RequestState.REFUSED, why=Refusal.STATE, text=text)


def _installation(records: Sequence[Record]) -> str:
    """The installation that markers of these records name; '' if none does."""
    for record in records:
        if isinstance(record.event, Started | Accepted) and record.event.intent.marker is not None:
            return record.event.intent.marker.installation
    return ""


def _make(target: Path, records: Sequence[tuple[Record, bytes]]) -> None:
    """Make a journal of these records and of nothing else, and verify it. Raises Corrupt."""
    connection = file.open_for_writing(target)
    try:
        with file.mapped(target):
            connection.execute("BEGIN IMMEDIATE")
            tables.add_records(connection, records)
            if records:
                last = records[-1][0]
                after = codec.Head(seq=last.seq, epoch=last.epoch, hash=last.hash)
                tables.move_head(connection, codec.Head(), after)
            connection.execute("COMMIT")
            audit.rebuild_tables(connection)
            found = audit.examine(connection, target)
            connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()
    if not found.ok:
        raise Corrupt(what=found.what, first_bad=found.first_bad or 0, where=str(target), remedy=file.RESTORE)


def _fresh(target: Path) -> Path:
    """A hidden name beside a target that is not there yet; raises BadInput."""
    if target.exists():
        raise BadInput(what="there is a file already", where=str(target), remedy="name one that is not there")
    if not target.absolute().parent.is_dir():
        file.make_folder(target.absolute().parent)
    hidden = target.absolute().with_name(f".{target.name}.{os.getpid()}.new")
    _remove(hidden)
    try:
        os.close(os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BadInput(what=f"cannot write: {error.strerror}", where=str(target)) from error
    return hidden


def _place(hidden: Path, target: Path) -> Copied:
    """Verify a copy, make it durable, and give it its name. Raises Corrupt."""
    found = audit.verify(hidden)
    if not found.ok:
        raise Corrupt(what=found.what, first_bad=found.first_bad or 0, where=str(target), remedy=file.RESTORE)
    descriptor = os.open(hidden, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(hidden, target)  # unlike a rename, it never replaces anything
    except OSError as error:
        raise BadInput(what=f"cannot write: {error.strerror}", where=str(target)) from error
    file.sync_folder(target.absolute().parent)
    return Copied(records=found.records, head=found.head)


def _write_new(path: Path, lines: Sequence[bytes]) -> None:
    try:
        with path.open("xb") as target:
            target.writelines(line + b"\n" for line in lines)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise BadInput(what=f"cannot write: {error.strerror}", where=str(path)) from error


def _remove(path: Path) -> None:
    for side in _SIDES:
        path.with_name(path.name + side).unlink(missing_ok=True)
