"""The whole journal: from SQLite to PostgreSQL and back with one chain, pruned, saved, rebuilt."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.journal.samples import draft, epoch, failed, record_id, running, started, succeeded
from tests.postgres.server import Server
from tests.postgres.test_commit import opened, verified
from trueup.adapters import sqlite
from trueup.adapters.postgres import apart, audit, upkeep
from trueup.adapters.postgres.address import parse
from trueup.adapters.sqlite.retention import Clerk
from trueup.adapters.system import SystemClock
from trueup.model.errors import BadInput, Corrupt, JournalBusy, JournalFailed
from trueup.model.ids import Vmid
from trueup.model.ops import Adopted, Doubted, OpState, Paused

NOW_MS = 10**12
CLOCK = SystemClock()
CLERK = Clerk(holder="clerk:1", at_ms=NOW_MS, record_id=record_id)


async def told(journal) -> None:
    e = await epoch(journal)
    await journal.append(e, [started("a"), running("a"), succeeded("a"), started("b", 102), failed("b")])
    await journal.append(e, [draft("", Adopted(vmid=Vmid(101), uid="ü\0", labels={"tier": "web"}))])
    await journal.append(e, [draft("", Paused(guests=("web-1",))), draft("", Doubted(what="a test says so"))])
    await journal.append(e, [started("c", 103)])


def written(database: str) -> None:
    async def story() -> None:
        journal = await opened(database)
        await told(journal)
        await journal.close()

    asyncio.run(story())


def test_a_journal_moves_from_sqlite_and_back_byte_for_byte(database: str, tmp_path: Path) -> None:
    address = parse(database, "lab")

    async def begin() -> None:
        journal = sqlite.open_journal(tmp_path / "journal.db")
        await told(journal)
        await journal.close()

    asyncio.run(begin())
    lines = list(sqlite.export(tmp_path / "journal.db"))
    moved = apart.run(lambda: upkeep.import_lines(address, [line.encode() for line in lines]))
    assert moved.records == len(lines) == 10
    assert list(apart.each(lambda: audit.export(address))) == lines
    found = apart.run(lambda: audit.verify(address))
    assert found.ok, found.what
    assert found.head == moved.head
    copied = apart.run(lambda: upkeep.backup(address, tmp_path / "back.db"))
    assert copied.head == moved.head
    assert list(sqlite.export(tmp_path / "back.db")) == lines
    with pytest.raises(BadInput, match="already"):
        apart.run(lambda: upkeep.import_lines(address, [line.encode() for line in lines]))

    async def goes_on() -> None:
        journal = await opened(database)
        assert await journal.adopted() == {101: "ü\0"}
        assert await journal.labels() == {101: {"tier": "web"}}
        assert await journal.paused() == {"web-1"}
        assert await journal.doubts() == ("a test says so",)
        e = await epoch(journal)
        await journal.append(e, [running("c"), succeeded("c")])
        await journal.close()

    asyncio.run(goes_on())
    assert asyncio.run(verified(database)) == 13


def test_a_damaged_export_makes_no_journal(database: str, tmp_path: Path) -> None:
    written(database)
    lines = [line.encode() for line in apart.each(lambda: audit.export(parse(database, "lab")))]
    lines[3] = lines[3].replace(b"1", b"2", 1)
    with pytest.raises(Corrupt):
        apart.run(lambda: upkeep.import_lines(parse(database, "other"), lines))
    assert not apart.run(lambda: audit.exists(parse(database, "other")))


def test_stats(database: str) -> None:
    written(database)
    found = apart.run(lambda: audit.stats(parse(database, "lab")))
    assert (found.records, found.last_seq, found.epochs) == (10, 10, 1)
    assert found.ops == {OpState.SUCCEEDED: 1, OpState.FAILED: 1, OpState.STARTED: 1}
    assert (found.oldest_ms, found.newest_ms) == (500, 1000)


def test_pruning_keeps_the_chain_and_what_is_open(database: str) -> None:
    written(database)
    address = parse(database, "lab")
    would = apart.run(lambda: upkeep.prune(address, NOW_MS // 2, CLERK, CLOCK, dry=True))
    assert (would.ops, would.records) == (2, 5)
    assert asyncio.run(verified(database)) == 10
    done = apart.run(lambda: upkeep.prune(address, NOW_MS // 2, CLERK, CLOCK, dry=False))
    assert (done.ops, done.records) == (2, 5)
    assert asyncio.run(verified(database)) == 7  # five are gone, an epoch and the word about them are new

    async def goes_on() -> None:
        journal = await opened(database)
        assert [op.op_id for op in await journal.ops()] == ["c"]
        e = await epoch(journal)
        assert int(e) == 3
        await journal.append(e, [running("c"), succeeded("c")])
        await journal.close()

    asyncio.run(goes_on())
    assert asyncio.run(verified(database)) == 10


def test_nothing_is_pruned_while_somebody_leads(database: str) -> None:
    async def story() -> None:
        journal = await opened(database)
        await epoch(journal)
        with pytest.raises(JournalBusy, match="leads"):
            await upkeep.prune(parse(database, "lab"), 0, CLERK, CLOCK, dry=False)
        with pytest.raises(JournalBusy):
            await upkeep.rebuild(parse(database, "lab"), "clerk:1", CLOCK)
        await journal.close()

    asyncio.run(story())


def test_tables_are_made_anew_from_the_records(postgres: Server, database: str) -> None:
    written(database)
    name = database.rpartition("/")[2]
    address = parse(database, "lab")
    postgres.sql(name, "DELETE FROM trueup.ops", "UPDATE trueup.adopted SET uid = 'x'", "DELETE FROM trueup.newest")
    found = apart.run(lambda: audit.verify(address))
    assert not found.ok
    assert found.records_ok
    assert apart.run(lambda: upkeep.rebuild(address, "clerk:1", CLOCK)).ok
    assert asyncio.run(verified(database)) == 10


def test_tables_of_older_rules_are_made_anew_by_the_next_writer(postgres: Server, database: str) -> None:
    written(database)
    postgres.sql(database.rpartition("/")[2], "DELETE FROM trueup.ops", "UPDATE trueup.head SET derived_version = 0")
    asyncio.run(_opens(database))
    assert asyncio.run(verified(database)) == 10


async def _opens(database: str) -> None:
    await (await opened(database)).close()


def test_a_damaged_journal_is_put_aside_and_starts_anew_in_doubt(
    postgres: Server, database: str, tmp_path: Path
) -> None:
    written(database)
    name = database.rpartition("/")[2]
    address = parse(database, "lab")
    postgres.sql(
        name,
        "ALTER TABLE trueup.records DISABLE TRIGGER USER",
        "UPDATE trueup.records SET line = 'x' WHERE seq = 9",
        "ALTER TABLE trueup.records ENABLE TRIGGER USER",
    )
    with pytest.raises(Corrupt):
        asyncio.run(_opens(database))
    stamp = upkeep.Stamp(text="now", record_id=record_id(), at_ms=NOW_MS)
    saved = apart.run(lambda: upkeep.quarantine(address, tmp_path / "state", "clerk:1", CLOCK, stamp))
    assert (saved.kept, saved.left_out, saved.same_installation) == (9, 0, True)
    assert saved.exported.read_text().count("\n") == 9
    assert saved.aside.stat().st_mode & 0o077 == 0
    assert asyncio.run(verified(database)) == 10

    async def story() -> None:
        journal = await opened(database)
        assert any("damaged" in doubt for doubt in await journal.doubts())
        await journal.close()

    asyncio.run(story())
    assert [row["name"] for row in postgres.sql(name, "SELECT name FROM trueup.journals ORDER BY journal")] == [
        "lab.quarantined-now",
        "lab",
    ]


# --- The lease of upkeep ----------------------------------------------------------------------------------------------


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Pruning takes longer than its lease, and lets nothing else run, as the work on a large copy does."""
    prune = sqlite.prune

    def slow(*arguments: object, **named: object) -> object:
        time.sleep(seconds)
        meanwhile()
        return prune(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep.sqlite, "prune", slow)
    monkeypatch.setattr(upkeep, "_LEASE_S", 4.0)


def test_upkeep_that_takes_longer_than_its_lease_keeps_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written(database)
    met: list[str] = []

    def another() -> None:
        with pytest.raises(JournalBusy) as busy:
            apart.run(lambda: _entering(database))
        met.append(str(busy.value))

    slowly(monkeypatch, 6.0, another)
    done = apart.run(lambda: upkeep.prune(parse(database, "lab"), NOW_MS // 2, CLERK, CLOCK, dry=False))
    assert done.records
    assert "clerk:1 leads" in met[0]
    assert apart.run(lambda: audit.leader(parse(database, "lab"))) is None, "given back, not left to run out"
    assert asyncio.run(verified(database))


def test_upkeep_that_lost_its_lease_changes_nothing(
    database: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(database)
    before = list(apart.each(lambda: audit.export(parse(database, "lab"))))
    name = database.rpartition("/")[2]
    slowly(monkeypatch, 0.0, lambda: apart_sql(postgres, name, "UPDATE trueup.lease SET session = 'another'"))
    with pytest.raises(JournalFailed, match="nothing was changed"):
        apart.run(lambda: upkeep.prune(parse(database, "lab"), NOW_MS // 2, CLERK, CLOCK, dry=False))
    assert list(apart.each(lambda: audit.export(parse(database, "lab")))) == before


async def _entering(database: str) -> None:
    journal = await opened(database)
    await journal.close()


def apart_sql(postgres: Server, name: str, statement: str) -> None:
    """From within a loop."""

    async def work() -> None:
        connection = await asyncpg.connect(postgres.url(name))
        await connection.execute(statement)
        await connection.close()

    apart.run(work)
