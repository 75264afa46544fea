"""The gate's records in one file: opened again between any two of them, migrated, exported, and saved from damage."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.journal.samples import (
    approved,
    draft,
    epoch,
    failed,
    record_id,
    requested,
    running,
    sent,
    signed,
    started,
    succeeded,
    vetoed,
)
from trueup.adapters.sqlite import (
    audit,
    export,
    gate_tables,
    import_lines,
    open_journal,
    open_reader,
    quarantine,
    tables,
    verify,
)
from trueup.model.errors import Corrupt, IllegalTransition
from trueup.model.gate import RequestState
from trueup.model.ids import OpId, Vmid
from trueup.model.ops import Adopted, Contradicted, OpState, Reason


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


def write(path: Path, *appends) -> None:
    """Open the journal, append, and close it: what the writer keeps in memory is gone each time."""

    async def story() -> None:
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        try:
            for drafts in appends:
                await journal.append(e, drafts)
        finally:
            await journal.close()

    asyncio.run(story())


def refuses(path: Path, *drafts, match: str) -> None:
    with pytest.raises(IllegalTransition, match=match):
        write(path, list(drafts))
    assert verify(path).ok


def spoil(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)


def seen(path: Path) -> tuple:
    async def read() -> tuple:
        reader = open_reader(path)
        try:
            everything = (await reader.requests(), await reader.ops(), await reader.one_shots_since(0))
            return (*everything, await reader.labels(), await reader.newest_ms(), await reader.requests_of_key("k-a"))
        finally:
            await reader.close()

    return asyncio.run(read())


# -- the writer dies between any two records --------------------------------------------------------------------------


def test_whatever_was_forgotten_between_two_records_is_read_again(path):
    write(path, [requested("a")])
    refuses(path, *signed("b", 102, nonce="n-a"), match="nonce was used by request a")
    refuses(path, *signed("b", 102, idempotency_key="k-a"), match="key is held by request a")
    refuses(path, sent("a"), match="once it was accepted")
    write(path, [approved("a")])
    write(path, [signed("a")[2]])
    refuses(path, *signed("b", 102, idempotency_key="k-a"), match="key is held by request a")
    refuses(path, vetoed("a"), match="in the same append")
    refuses(path, started("a"), match="not what was accepted")
    write(path, [sent("a")])
    refuses(path, vetoed("a"), failed("a", Reason.VETOED), match="too late")
    write(path, [running("a")])
    write(path, [failed("a", Reason.PRESUMED_NOT_STARTED)])
    write(path, signed("b", 102, idempotency_key="k-a"))
    write(path, [draft("a", Contradicted(what="seen"))])
    refuses(path, sent("b", 102), match="key is held by request a")
    write(path, [failed("a")])
    write(path, [sent("b", 102), succeeded("b")])
    refuses(path, *signed("c", 103, idempotency_key="k-a"), match="key is held by request b")
    assert verify(path).ok


def test_a_writer_that_lives_knows_no_less_than_one_that_was_started_anew(path):
    """What it keeps in memory of an id is all that stands for it, whichever part an append has changed."""
    write(path, signed("a"))

    async def story() -> None:
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        await journal.append(e, [sent("a"), failed("a", Reason.PRESUMED_NOT_STARTED)])
        await journal.append(e, signed("b", 102, idempotency_key="k-a"))
        await journal.append(e, [draft("a", Contradicted(what="seen"))])
        with pytest.raises(IllegalTransition, match="too late"):
            await journal.append(e, [vetoed("a")])
        with pytest.raises(IllegalTransition, match="held by request a"):
            await journal.append(e, [sent("b", 102)])
        await journal.append(e, [failed("a")])
        await journal.append(e, [sent("b", 102)])
        await journal.close()

    asyncio.run(story())
    assert verify(path).ok


# -- the file ---------------------------------------------------------------------------------------------------------


def sorts(path: Path) -> None:
    write(
        path,
        [*signed("a"), sent("a"), succeeded("a")],
        signed("b", 102),
        [requested("c", 103), vetoed("c"), requested("d", 104)],
        [draft("", Adopted(vmid=Vmid(101), uid="u", labels={"tier": "web"}))],
    )


def test_an_older_journal_gets_the_gates_tables(path):
    sorts(path)
    before = seen(path)
    spoil(
        path,
        "DROP TABLE requests",
        "DROP TABLE claims",
        "DROP TABLE newest",
        "DROP INDEX ops_fenced",
        "CREATE TABLE older (vmid INTEGER PRIMARY KEY, uid TEXT NOT NULL) STRICT",
        "INSERT INTO older SELECT vmid, uid FROM adopted",
        "DROP TABLE adopted",
        "ALTER TABLE older RENAME TO adopted",
        "UPDATE head SET derived_version = 1",
        "PRAGMA user_version = 2",
    )
    asyncio.run(open_journal(path, inline=True).close())
    assert verify(path).ok
    assert seen(path) == before


def test_an_export_carries_nonces_and_keys(path, tmp_path):
    sorts(path)
    copy = tmp_path / "copy.db"
    import_lines([line.encode() for line in export(path)], copy)
    assert seen(copy) == seen(path)
    refuses(copy, *signed("x", 105, nonce="n-c"), match="nonce was used by request c")
    refuses(copy, *signed("x", 105, idempotency_key="k-a"), match="key is held by request a")
    write(copy, signed("x", 105, idempotency_key="k-c"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE requests SET state = 'accepted' WHERE request_id = 'd'",
        "UPDATE requests SET view = CAST(replace(view, 'alice', 'mallory') AS BLOB) WHERE request_id = 'd'",
        "UPDATE requests SET view = CAST(replace(view, 'alice', 'mallory') AS BLOB) WHERE request_id = 'b'",
        "UPDATE claims SET held = 0 WHERE op_id = 'd'",
        "DELETE FROM claims WHERE op_id = 'b'",
    ],
)
def test_open_requests_are_verified_in_a_long_journal_too(path, statement, monkeypatch):
    sorts(path)
    monkeypatch.setattr(audit, "VERIFY_ALL_UP_TO", 1)
    monkeypatch.setattr(audit, "VERIFY_TAIL", 2)
    asyncio.run(open_journal(path, inline=True).close())
    spoil(path, statement)
    if "'accepted'" in statement:  # it is not pending any more, so only a whole look finds it
        assert not verify(path).ok
        return
    with pytest.raises(Corrupt):
        open_journal(path, inline=True)


def test_the_gates_queries_use_their_indexes(path):
    sorts(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        plans = []
        connection.set_trace_callback(plans.append)
        gate_tables.requests(connection, RequestState.PENDING, 0)
        gate_tables.request_of_nonce(connection, "n")
        gate_tables.requests_of_key(connection, "k")
        gate_tables.claims_met(connection, ["n"], ["k"])
        tables.one_shots_since(connection, 5)
        connection.execute("SELECT view FROM ops WHERE kind = 'destroy' AND reason = 'not_started' ORDER BY first_seq")
        connection.set_trace_callback(None)
        wanted = ("requests_in_state", "claims_of_nonce", "claims_of_key", "claims_of_nonce", "claims_of_key")
        for sql, index in zip(plans, (*wanted, "claims_started", "ops_fenced"), strict=True):
            steps = str(connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())
            assert index in steps, steps
            assert "SCAN requests" not in steps.replace("SCAN requests USING", "")


# -- what is saved of a damaged one -----------------------------------------------------------------------------------


def lose(path: Path, name: str) -> dict[str, tuple[str, str]]:
    """Damage the first record with this event, save what can be read, and tell where everything stands then."""
    spoil(
        path, f"UPDATE records SET line = x'00' WHERE seq = (SELECT min(seq) FROM records WHERE instr(line, '{name}'))"
    )
    quarantine(path, stamp="now", record_id=record_id(), at_ms=9_999)
    assert verify(path).ok

    async def read() -> dict[str, tuple[str, str]]:
        reader = open_reader(path)
        ops = {view.op_id: view.state.value for view in await reader.ops()}
        asked = {view.request_id: view.state.value for view in await reader.requests()}
        await reader.close()
        return {op_id: (asked.get(op_id, ""), ops.get(op_id, "")) for op_id in sorted(asked.keys() | ops.keys())}

    return asyncio.run(read())


def test_what_was_signed_is_not_carried_out_on_the_strength_of_what_is_left(path):
    write(path, [requested("waits"), *signed("queued", 102), requested("vetoed", 103), vetoed("vetoed")])
    write(path, [*signed("done", 104), sent("done", 104), succeeded("done")])
    after = lose(path, '"type":"vetoed"')
    assert after == {
        "done": ("accepted", "succeeded"),
        "queued": ("accepted", "started"),  # its start may have been lost: recovery has to look
        "vetoed": ("refused", ""),  # the veto was lost
        "waits": ("refused", ""),
    }
    refuses(path, *signed("x", 105, idempotency_key="k-done"), match="key is held by request done")
    refuses(path, *signed("x", 105, idempotency_key="k-queued"), match="key is held by request queued")


def test_an_operation_whose_request_is_lost_goes_on_and_keeps_nonce_and_key(path):
    write(path, [*signed("a"), sent("a")])
    assert lose(path, '"type":"requested"') == {"a": ("", "started")}
    refuses(path, *signed("x", 105, nonce="n-a"), match="nonce was used by request a")
    refuses(path, *signed("x", 105, idempotency_key="k-a"), match="key is held by request a")
    write(path, [succeeded("a")])
    refuses(path, *signed("x", 105, idempotency_key="k-a"), match="key is held by request a")


def test_an_operation_whose_acceptance_is_lost_is_still_in_flight(path):
    write(path, [*signed("a"), sent("a"), running("a")])
    assert lose(path, '"type":"accepted"') == {"a": ("refused", "task_running")}

    async def read() -> OpState:
        reader = open_reader(path)
        view = await reader.op(OpId("a"))
        await reader.close()
        assert view is not None
        return view.state

    assert asyncio.run(read()) is OpState.TASK_RUNNING
