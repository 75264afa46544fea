"""`trueup journal`: the record of everything, read beside its writer; a damaged one too, as far as it goes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from trueup.edges import incarnation
from trueup.edges.cli import gate_words
from trueup.edges.cli import journal_upkeep as upkeep
from trueup.edges.cli import story as stories
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import Json, columns, dim, iso, local, print_json, run_async, warn
from trueup.edges.looking import LookingJournal
from trueup.edges.parts import Parts
from trueup.model.errors import BadInput, Corrupt
from trueup.model.gate import GateEvent
from trueup.model.ids import OpId
from trueup.model.ops import (
    Acknowledged,
    Adopted,
    Denied,
    Doubted,
    EpochTaken,
    Event,
    OpEvent,
    OpState,
    Paused,
    Pruned,
    Record,
    Released,
    Resumed,
    TokenPlanned,
    TokenRetired,
)
from trueup.model.settings import Settings

_FOLLOW_S: Final = 0.5
_PAGE: Final = 1000


@click.group(context_settings=HELP)
def journal() -> None:
    """The record of everything: one line for each step of each operation, chained by hashes."""


@journal.command(context_settings=HELP)
@config_option
@click.option("-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="How many records.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones until Ctrl-C; with --json a line for each.")
@json_option
@click.pass_obj
def tail(parts: Parts, config: Path, *, lines: int, follow: bool, as_json: bool) -> int:
    """Show the last records."""
    settings = parts.settings(config)
    _require(parts, settings)
    damaged = run_async(_tail(parts, settings, lines, follow=follow, as_json=as_json))
    return 1 if damaged else 0


async def _tail(parts: Parts, settings: Settings, count: int, *, follow: bool, as_json: bool) -> bool:
    """Show the last `count` records; whether any of them is damaged."""
    last = parts.journal_file.stats(settings.store).last_seq
    async with incarnation.journal_for_reading(parts, settings) as reader:
        records, bad = await _sound(reader, max(0, last - count), last)
        for problem in bad:
            warn(str(problem))
        if as_json and not follow:
            print_json({"records": [_record(record) for record in records]})
            return bool(bad)
        names = _Names(reader)
        for record in records:
            click.echo(_json_line(record) if as_json else await names.line(record))
        while follow:
            sys.stdout.flush()
            more = await reader.records(after_seq=last, limit=_PAGE)
            for record in more:
                click.echo(_json_line(record) if as_json else await names.line(record))
                last = record.seq
            if not more:
                await parts.clock().sleep(_FOLLOW_S)
    return bool(bad)


async def _sound(reader: LookingJournal, after_seq: int, last: int) -> tuple[Sequence[Record], Sequence[Corrupt]]:
    """The records that can be read; where one is damaged, the others are still shown."""
    if after_seq >= last:
        return (), ()
    try:
        return await reader.records(after_seq=after_seq, limit=last - after_seq), ()
    except Corrupt:
        pass
    records: list[Record] = []
    bad: list[Corrupt] = []
    seq = after_seq
    while seq < last:
        try:
            (record,) = await reader.records(after_seq=seq, limit=1)
        except Corrupt as error:
            bad.append(error)
            seq = max(seq + 1, error.first_bad)
        else:
            records.append(record)
            seq = record.seq
    return records, bad


class _Names:
    """Operations' names, asked once each."""

    def __init__(self, reader: LookingJournal) -> None:
        self._reader = reader
        self._known: dict[OpId, str] = {}

    async def line(self, record: Record) -> str:
        """One record as a line."""
        event = record.event
        what = words_of(event)
        name = await self._name(record.op_id) if record.op_id else ""
        head = f"{dim(f'#{record.seq}')} {local(record.at_ms)}"
        return f"{head}  {click.style(name, bold=True)}{': ' if name else ''}{what}"

    async def _name(self, op_id: OpId) -> str:
        if op_id not in self._known:
            view = await self._reader.op(op_id)
            request = await self._reader.request(op_id) if view is None else None
            if view is None and request is not None:
                return gate_words.title(request)  # not kept: it may become an operation
            self._known[op_id] = stories.title(view) if view else op_id
        return self._known[op_id]


def words_of(event: Event) -> str:
    """One record in words, whoever it is about."""
    return stories.words_of(event) if isinstance(event, OpEvent | GateEvent) else _system(event)


def _system(event: object) -> str:
    match event:
        case EpochTaken(epoch=epoch, holder=holder):
            return f"Epoch {epoch} began: {holder} took over."
        case TokenPlanned(token=token):
            return f"The API token {token} was about to be made."
        case TokenRetired(token=token, nodes=nodes):
            return f"The API token {token} is gone on {', '.join(nodes)}."
        case Adopted(vmid=vmid, uid=uid):
            return f"Guest {vmid} is ours from here on (marker {uid})."
        case Released(vmid=vmid):
            return f"Guest {vmid} is gone, or no longer ours."
        case _:
            return _by_people(event)


def _by_people(event: object) -> str:
    match event:
        case Paused(guests=guests, by=by):
            return f"Paused: {', '.join(guests) or 'everything'}{f', by {by}' if by else ''}."
        case Resumed(guests=guests, by=by):
            return f"Resumed: {', '.join(guests) or 'everything'}{f', by {by}' if by else ''}."
        case Pruned(ops=ops, records=records, before_ms=before_ms):
            return f"{records} records of {ops} operations that had ended before {local(before_ms)} were removed."
        case Doubted(what=what):
            return f"DOUBT: {what}. Nothing is changed until somebody has looked."
        case Acknowledged(by=by):
            return f"Acknowledged{f' by {by}' if by else ''}: the journal may be relied on."
        case Denied():
            return gate_words.words_of(event)
        case _:
            return type(event).__name__


def _record(record: Record) -> Json:
    row = msgspec.to_builtins(record)
    row["at"] = iso(record.at_ms)
    return row


def _json_line(record: Record) -> str:
    return msgspec.json.encode(_record(record)).decode()


@journal.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def verify(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Read every record, and check its hash, its place in the chain, and what was derived from it.

    Exits 0 if all of it is sound; otherwise 1, and the first bad record is named.
    """
    settings = parts.settings(config)
    _require(parts, settings)
    found = parts.journal_file.verify(settings.store)
    if as_json:
        print_json(
            {
                "ok": found.ok,
                "records": found.records,
                "head": found.head,
                "first_bad": found.first_bad,
                "what": found.what or None,
            }
        )
    elif found.ok:
        click.echo(f"{click.style('Sound', fg='green', bold=True)}: {found.records} records, head {found.head}")
    else:
        click.echo(f"{click.style('DAMAGED', fg='red', bold=True)}: {found.what}")
        first = f"the first bad record is #{found.first_bad}" if found.first_bad else "no record is bad, but a table is"
        click.echo(f"{found.records} records are sound, up to {found.head}; {first}.")
    return 0 if found.ok else 1


@journal.command(context_settings=HELP)
@config_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write into this file, which must not exist.")
@click.pass_obj
def export(parts: Parts, config: Path, *, output: Path | None) -> int:
    """Write every record as a line of JSON, oldest first; anybody can check it without trueup."""
    settings = parts.settings(config)
    _require(parts, settings)
    lines = parts.journal_file.export(settings.store)
    if output is None:
        for line in lines:
            click.echo(line)
        return 0
    try:
        with output.open("x", encoding="utf-8") as target:
            for line in lines:
                target.write(f"{line}\n")
    except OSError as error:
        raise BadInput(what=f"cannot write: {error.strerror}", where=str(output)) from error
    return 0


@journal.command(context_settings=HELP)
@config_option
@json_option
@click.pass_obj
def stats(parts: Parts, config: Path, *, as_json: bool) -> int:
    """Count what is in it."""
    settings = parts.settings(config)
    _require(parts, settings)
    found = parts.journal_file.stats(settings.store)
    if as_json:
        print_json(
            {
                "records": found.records,
                "ops": {state.value: found.ops.get(state, 0) for state in OpState},
                "epochs": found.epochs,
                "size_bytes": found.size_bytes,
                "oldest": iso(found.oldest_ms),
                "newest": iso(found.newest_ms),
            }
        )
        return 0
    rows: list[Sequence[str]] = [
        ("records", str(found.records)),
        *((f"operations {state.value}", str(found.ops.get(state, 0))) for state in OpState),
        ("epochs", str(found.epochs)),
        ("size", f"{found.size_bytes:,} bytes"),
        ("oldest", local(found.oldest_ms) if found.oldest_ms else "-"),
        ("newest", local(found.newest_ms) if found.newest_ms else "-"),
    ]
    for line in columns(rows):
        click.echo(line)
    return 0


for _command in upkeep.COMMANDS:
    journal.add_command(_command)


def _require(parts: Parts, settings: Settings) -> None:
    if not parts.journal_file.exists(settings.store):
        remedy = "`trueup apply` or `trueup agent` makes it"
        raise BadInput(what="there is no journal yet", where=settings.store.shown, remedy=remedy)
