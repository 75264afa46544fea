"""Damage is found and named; what is sound can still be read; nothing of it ends in a traceback."""

import asyncio
import contextlib
import json
import random
import sqlite3
from pathlib import Path

import pytest

from tests.journal.samples import (
    approved,
    draft,
    epoch,
    failed,
    lapsed,
    requested,
    running,
    sent,
    signed,
    started,
    succeeded,
    vetoed,
)
from tests.sampling import times
from trueup.adapters.sqlite import audit, export, file, open_journal, open_reader, rebuild, stats, tables, verify
from trueup.model.errors import BadInput, Corrupt, TrueupError
from trueup.model.gate import Refusal
from trueup.model.ids import NodeName, TokenId, Vmid
from trueup.model.ops import (
    Adopted,
    Contradicted,
    Denied,
    OpState,
    Paused,
    Reason,
    Released,
    Resumed,
    TokenPlanned,
    TokenRetired,
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


SIGNED = ("s-done", "s-bad", "s-waits", "s-pending", "s-vetoed", "s-late")


async def write_all_sorts(path: Path) -> None:
    """A journal with something in every table, closed."""
    journal = open_journal(path, inline=True)
    e = await epoch(journal)
    for number in range(8):
        op, vmid = f"op-{number}", 200 + number
        await journal.append(e, [started(op, vmid), running(op)])
        if number % 2:
            await journal.append(e, [succeeded(op) if number % 4 == 1 else failed(op, Reason.PRESUMED_NOT_STARTED)])
    await journal.append(e, [draft("op-3", Contradicted(what="seen")), succeeded("op-3")])
    await journal.append(
        e,
        [
            draft("", TokenPlanned(token=TokenId("t1"))),
            draft("", TokenPlanned(token=TokenId("t2"))),
            draft("", TokenRetired(token=TokenId("t1"), nodes=(NodeName("pve1"),))),
            draft("", Adopted(vmid=Vmid(201), uid="u1")),
            draft("", Adopted(vmid=Vmid(202), uid="u2")),
            draft("", Released(vmid=Vmid(201), uid="u1")),
            draft("", Paused(guests=("web-1",))),
            draft("", Paused()),
            draft("", Resumed(guests=("web-1",))),
        ],
    )
    await epoch(journal)
    await journal.close()


async def write_gate_sorts(path: Path) -> None:
    """And something in every table of the gate."""
    journal = open_journal(path, inline=True)
    e = await epoch(journal)
    await journal.append(e, [*signed("s-done", 301), sent("s-done", 301), succeeded("s-done")])
    await journal.append(e, [*signed("s-bad", 302), sent("s-bad", 302), failed("s-bad")])
    await journal.append(e, [*signed("s-waits", 303), requested("s-pending", 304), approved("s-pending")])
    await journal.append(
        e, [requested("s-vetoed", 305), vetoed("s-vetoed"), requested("s-late", 306), lapsed("s-late")]
    )
    await journal.append(e, [draft("", Adopted(vmid=Vmid(203), uid="u3", labels={"tier": "web"}))])
    await journal.append(e, [draft("", Denied(refusal=Refusal.SIGNATURE, text="no"))])
    await journal.close()


@pytest.fixture
def written(path) -> Path:
    asyncio.run(write_all_sorts(path))
    return path


@pytest.fixture
def meddle(written):
    """Change the closed file behind the journal's back, triggers or not."""

    def run(*statements: str) -> None:
        with contextlib.closing(sqlite3.connect(written, isolation_level=None)) as connection:
            triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                connection.execute(statement)
            for _, sql in triggers:
                connection.execute(sql)

    return run


def content(path: Path) -> tuple:
    """All that a reader can say of a journal."""

    async def read() -> tuple:
        reader = open_reader(path)
        try:
            return (
                await reader.records(),
                await reader.ops(),
                await reader.in_flight(),
                await reader.accepted(),
                await reader.presumed_since(0),
                await reader.claimed_upids(frozenset(f"UPID:pve1:op-{n}:" for n in range(9))),
                await reader.requests(),
                [await reader.request_of_nonce(f"n-{name}") for name in SIGNED],
                [await reader.requests_of_key(f"k-{name}") for name in SIGNED],
                await reader.one_shots_since(0),
                await reader.labels(),
                await reader.newest_ms(),
                await reader.adopted(),
                await reader.paused(),
                await reader.epochs(),
                await reader.tokens(),
            )
        finally:
            await reader.close()

    return asyncio.run(read())


def refused(path: Path) -> Corrupt:
    with pytest.raises(Corrupt) as error:
        open_journal(path)
    return error.value


def test_a_sound_journal_verifies(written):
    found = verify(written)
    assert (found.ok, found.records, found.first_bad, found.what) == (True, 33, None, "")
    assert found.head == json.loads(list(export(written))[-1])["hash"]


def test_an_empty_journal_verifies(path):
    asyncio.run(open_journal(path, inline=True).close())
    assert (verify(path).ok, verify(path).records) == (True, 0)
    assert list(export(path)) == []
    assert stats(path).records == stats(path).newest_ms == 0


LAST = "(SELECT max(seq) FROM records)"


@pytest.mark.parametrize(
    ("statement", "first_bad", "says"),
    [
        ("UPDATE records SET line = CAST(replace(line, 'op-1', 'op-2') AS BLOB) WHERE seq = 5", 5, "checksum"),
        ("UPDATE records SET line = x'' WHERE seq = 7", 7, "checksum"),
        ("UPDATE records SET line = (SELECT line FROM records WHERE seq = 8) WHERE seq = 7", 7, "record 8 stands in"),
        ("UPDATE records SET op_id = 'op-9' WHERE seq = 4", 4, "filed under another name"),
        ("UPDATE records SET record_id = 'r' WHERE seq = 4", 4, "filed under another name"),
        ("DELETE FROM records WHERE seq = 1", 1, "record 1 is missing"),
        ("DELETE FROM records WHERE seq BETWEEN 10 AND 12", 10, "record 10 is missing"),
        ("UPDATE records SET seq = 1000 WHERE seq = 10", 10, "record 10 is missing"),
        (f"DELETE FROM records WHERE seq = {LAST}", 33, "ends at record 32, its head says 33"),
        ("DELETE FROM records", 1, "ends at record 0"),
        ("UPDATE head SET seq = 30", 31, "record 31 stands behind"),
        ("UPDATE head SET hash = 'x'", 33, "head is not its last record"),
        ("UPDATE head SET epoch = 9", 33, "head is not its last record"),
        ("DELETE FROM head", 34, "its head is gone"),
    ],
)
def test_a_bad_record_is_named_and_writing_refused(written, meddle, statement, first_bad, says):
    meddle(statement)
    found = verify(written)
    assert not found.ok
    assert found.first_bad == first_bad
    assert found.records == first_bad - 1 or "head" in statement or "max" in statement
    error = refused(written)
    assert error.where == str(written)
    assert error.remedy
    if "DELETE FROM head" not in statement:
        assert error.first_bad == first_bad
    with contextlib.suppress(Corrupt):
        rebuild(written)  # never mends a record
    assert not verify(written).ok


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE ops SET state = 'succeeded' WHERE op_id = 'op-0'", "operation op-0 differs"),
        ("UPDATE ops SET vmid = 1 WHERE op_id = 'op-0'", "operation op-0 differs"),
        ("UPDATE ops SET ended_at_ms = 1 WHERE op_id = 'op-1'", "operation op-1 differs"),
        ("UPDATE ops SET view = (SELECT view FROM ops WHERE op_id = 'op-2') WHERE op_id = 'op-0'", "operation op-0"),
        ("UPDATE ops SET view = x'7b7d' WHERE op_id = 'op-0'", "an operation's row"),
        ("DELETE FROM ops WHERE op_id = 'op-3'", "operation op-3 is missing"),
        ("DELETE FROM upids WHERE op_id = 'op-0'", "table upids"),
        ("INSERT INTO upids VALUES ('UPID:more:', 'op-0')", "table upids"),
        ("DELETE FROM epochs", "table epochs"),
        ("UPDATE tokens SET retired = 1", "table tokens"),
        ("DELETE FROM adopted", "table adopted"),
        ("UPDATE adopted SET uid = 'u9'", "table adopted"),
        ("DELETE FROM paused", "table paused"),
        ("UPDATE adopted SET labels = '{}'", "table adopted"),
        ("UPDATE adopted SET labels = 'x'", "labels"),
        ("UPDATE newest SET at_ms = 1", "table newest"),
        ("DELETE FROM newest", "table newest"),
        ("UPDATE requests SET state = 'pending' WHERE request_id = 's-vetoed'", "request s-vetoed differs"),
        ("UPDATE requests SET state = 'vetoed' WHERE request_id = 's-pending'", "request s-pending differs"),
        ("UPDATE requests SET view = x'7b7d' WHERE request_id = 's-bad'", "a request's row"),
        ("DELETE FROM requests WHERE request_id = 's-done'", "request s-done is missing"),
        ("UPDATE claims SET held = 0 WHERE op_id = 's-done'", "the claim of request s-done differs"),
        ("UPDATE claims SET held = 1 WHERE op_id = 's-vetoed'", "the claim of request s-vetoed differs"),
        ("UPDATE claims SET nonce = 'x' WHERE op_id = 's-late'", "the claim of request s-late differs"),
        ("UPDATE claims SET started_at_ms = 0 WHERE op_id = 's-bad'", "the claim of request s-bad differs"),
        ("DELETE FROM claims WHERE op_id = 's-bad'", "the claim of request s-bad is missing"),
        ("INSERT INTO claims VALUES ('x', 'n', 'k', 0, 0)", "the claim of request x differs"),
        ("DROP INDEX ops_in_flight", "schema"),
        ("CREATE TABLE more (one TEXT)", "schema"),
    ],
)
def test_a_derived_table_that_differs_is_told_and_can_be_made_anew(written, meddle, statement, table):
    asyncio.run(write_gate_sorts(written))
    before = content(written)
    meddle(statement)
    found = verify(written)
    assert not found.ok
    assert found.first_bad is None
    assert found.records_ok
    assert table in found.what
    assert "rebuild" in refused(written).remedy
    if table != "schema":
        assert rebuild(written).ok
        assert verify(written).ok
        assert content(written) == before
        asyncio.run(open_journal(written).close())


def test_a_record_that_the_lifecycle_forbids_is_bad(written):
    from trueup.core import codec
    from trueup.model.ids import Epoch

    with contextlib.closing(sqlite3.connect(written, isolation_level=None)) as connection:
        wrong = succeeded("op-1")
        record, line = codec.seal(tables.head(connection), Epoch(2), wrong, codec.encode_event(wrong.event))
        tables.add_records(connection, [(record, line)])
        tables.move_head(
            connection, tables.head(connection), codec.Head(seq=record.seq, epoch=record.epoch, hash=record.hash)
        )
    found = verify(written)
    assert (found.ok, found.first_bad) == (False, 34)
    assert "succeeded" in found.what


def test_tables_made_anew_are_those_that_appends_made(written):
    asyncio.run(write_gate_sorts(written))

    def rows():
        with contextlib.closing(sqlite3.connect(written)) as connection:
            return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables.DERIVED}

    before = rows()
    assert all(rows for table, rows in before.items() if table != "doubts")  # something in each
    assert rebuild(written).ok
    assert rows() == before


def test_tables_are_made_anew_in_batches(written, monkeypatch):
    before = content(written)
    for size in (1, 2, 7):
        monkeypatch.setattr(audit, "REBUILD_BATCH", size)
        assert rebuild(written).ok
        assert content(written) == before


def test_tables_of_older_rules_are_made_anew_by_the_next_writer(written, meddle):
    before = content(written)
    meddle("UPDATE head SET derived_version = 0", "DELETE FROM upids", "DELETE FROM ops WHERE op_id = 'op-0'")
    assert verify(written).ok  # its records are; the tables are known to be old
    asyncio.run(open_journal(written).close())
    assert content(written) == before


# --- Long journals: the tail and the open operations ------------------------------------------------------------------


@pytest.fixture
def long(monkeypatch):
    monkeypatch.setattr(audit, "VERIFY_ALL_UP_TO", 10)
    monkeypatch.setattr(audit, "VERIFY_TAIL", 5)


def test_a_long_journal_is_opened_after_a_look_at_its_end(written, meddle, long):
    meddle("UPDATE records SET line = x'00' WHERE seq = 11")  # a record of op-3, which has ended
    asyncio.run(open_journal(written).close())
    assert verify(written).first_bad == 11


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE records SET line = x'00' WHERE seq = 30", 30),
        ("UPDATE records SET line = x'00' WHERE seq = 28", 28),
        ("UPDATE records SET line = x'00' WHERE seq = 2", 2),  # of op-0, which is open
        ("DELETE FROM records WHERE seq = 29", 29),
        ("DELETE FROM records WHERE seq = 28", 28),
        ("DELETE FROM records WHERE seq > 30", 31),
        ("UPDATE head SET hash = 'x'", 33),
        ("UPDATE ops SET view = (SELECT view FROM ops WHERE op_id = 'op-2') WHERE op_id = 'op-0'", 0),
    ],
)
def test_damage_at_the_end_or_in_an_open_operation_is_found_in_a_long_journal(
    written, meddle, long, statement, first_bad
):
    meddle(statement)
    assert refused(written).first_bad == first_bad


# --- What can still be read ------------------------------------------------------------------------------------------


def test_a_damaged_journal_is_read_as_far_as_it_is_sound(written, meddle):
    meddle("UPDATE records SET line = x'00' WHERE seq IN (5, 9)")

    async def story():
        reader = open_reader(written)
        assert len(await reader.ops()) == 8
        assert len(await reader.records(limit=4)) == 4
        assert len(await reader.records(after_seq=9)) == 24
        with pytest.raises(Corrupt) as error:
            await reader.records()
        assert error.value.first_bad == 5
        await reader.close()

    asyncio.run(story())
    assert stats(written).records == 33
    with pytest.raises(Corrupt) as error:
        list(export(written))
    assert error.value.first_bad == 5
    kept = exported(written)
    assert [json.loads(line)["seq"] for line in kept] == [n for n in range(1, 34) if n not in (5, 9)]


def exported(path: Path) -> list[str]:
    lines = []
    with contextlib.suppress(Corrupt):
        for line in export(path):
            lines.append(line)  # noqa: PERF402 - up to the error
    return lines


def test_an_export_can_be_left_early(written):
    lines = export(written)
    assert json.loads(next(lines))["seq"] == 1
    lines.close()


def test_stats_count_what_is_there(written):
    found = stats(written)
    assert found.records == 33
    assert found.ops == {OpState.TASK_RUNNING: 4, OpState.SUCCEEDED: 3, OpState.FAILED: 1}
    assert (found.oldest_ms, found.newest_ms, found.epochs) == (500, 500, 2)
    assert found.size_bytes >= written.stat().st_size


# --- Every byte ------------------------------------------------------------------------------------------------------


def look(path: Path, good: tuple) -> str:
    """What becomes of a damaged file; any error but ours, and any wrong content taken for right, ends the test."""
    try:
        found = verify(path)
    except BadInput:
        return "refused"  # the header says that it is no journal, or of another version
    if found.ok:
        assert content(path) == good
        return "harmless"
    assert found.what
    for read in (stats, exported, content):
        with contextlib.suppress(TrueupError):
            read(path)
    with pytest.raises(TrueupError):
        open_journal(path, inline=True)
    return "found"


STRIDE = times(211, 97)
"""One bit is flipped in so many bytes of the file."""


def test_a_flipped_bit_anywhere_in_the_file_is_found_or_harmless(written, tmp_path):
    good, data = content(written), written.read_bytes()
    chance = random.Random(20260105)
    copy = tmp_path / "copy" / "journal.db"
    copy.parent.mkdir()
    outcomes = {"found": 0, "harmless": 0, "refused": 0}
    for start in range(0, len(data), STRIDE):
        for stale in copy.parent.iterdir():
            stale.unlink()
        position = start + chance.randrange(min(STRIDE, len(data) - start))
        damaged = bytearray(data)
        damaged[position] ^= 1 << chance.randrange(8)
        copy.write_bytes(damaged)
        outcomes[look(copy, good)] += 1
    assert outcomes["found"] > 100
    assert outcomes["harmless"] > 100  # free space of pages


def test_every_flipped_byte_of_a_record_is_found(written, tmp_path):
    data = written.read_bytes()
    line = next(line for line in export(written) if '"op_id":"op-2"' in line).encode()
    begin = data.index(line)
    chance = random.Random(7)
    copy = tmp_path / "copy.db"
    for position in range(begin, begin + len(line), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << chance.randrange(8)
        copy.write_bytes(damaged)
        found = verify(copy)
        assert not found.ok
        assert found.first_bad == json.loads(line)["seq"]


@pytest.mark.parametrize("keep", [0, 1, 100, 4095, 4096, 4097, 20_000])
def test_a_file_that_was_cut_is_refused(written, keep):
    data = written.read_bytes()
    written.write_bytes(data[:keep])
    if keep == 0:
        with pytest.raises(BadInput, match="empty"):
            verify(written)
        return
    assert look(written, ()) in ("found", "refused")


def test_pages_that_are_gone_are_one_line_for_people(written):
    data = bytearray(written.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    written.write_bytes(data)
    error = refused(written)
    assert "the journal is damaged" in str(error)
    assert file.RESTORE in str(error)
    assert "\n" not in str(error)


def test_a_flipped_bit_in_the_log_leaves_a_sound_beginning(path, tmp_path):
    """SQLite ends its log at the first bad frame. The chain is whole up to there, and nothing behind it is made up.

    That the end was cut does not show in the file; the head is kept outside for that.
    """

    async def story():
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        for number in range(20):
            await journal.append(e, [started(f"op-{number}", 200 + number)])
        records = await journal.records()
        log = path.with_name("journal.db-wal").read_bytes()
        main = path.read_bytes()
        await journal.close()
        return records, main, log

    records, main, log = asyncio.run(story())
    chance = random.Random(11)
    lengths = set()
    for turn in range(60):
        folder = tmp_path / f"turn-{turn}"
        folder.mkdir()
        copy = folder / "journal.db"
        copy.write_bytes(main)
        damaged = bytearray(log)
        damaged[chance.randrange(len(log))] ^= 1 << chance.randrange(8)
        copy.with_name("journal.db-wal").write_bytes(damaged)
        try:
            found = verify(copy)
        except BadInput:
            continue  # nothing of it was left
        if found.ok:
            assert content(copy)[0] == records[: found.records]
            lengths.add(found.records)
    assert len(lengths) > 3
