"""What becomes of an append when the database, or the way to it, fails in the middle."""

import asyncio
import os
import signal

import pytest

from tests.journal.samples import draft, epoch, running, started, succeeded
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.journal import PostgresJournal
from trueup.adapters.system import SystemClock
from trueup.core import codec
from trueup.model.errors import JournalFailed, Stale
from trueup.model.ops import Paused

LEASE_S = 60.0


async def opened(url: str, lease_s: float = LEASE_S, holder: str = "test") -> PostgresJournal:
    journal = PostgresJournal(parse(url, "lab"), holder=holder, lease_s=lease_s, clock=SystemClock())
    await journal.enter()
    return journal


async def verified(url: str) -> int:
    found = await audit.verify(parse(url, "lab"))
    assert found.ok, found.what
    return found.records


def through(database: str, port: int) -> str:
    head, _, name = database.rpartition("/")
    return f"{head.rpartition(':')[0]}:{port}/{name}"


@pytest.mark.parametrize("cut", ["before", "after", "late"])
def test_an_append_whose_answer_was_lost_counts_once(postgres: Server, database: str, cut: str) -> None:
    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            journal = await opened(through(database, proxy.port))
            e = await epoch(journal)
            proxy.cuts = [cut]
            (first,) = await journal.append(e, [started("a")])
            assert proxy.done == [cut]
            await journal.append(e, [running("a"), succeeded("a")])
            records = await journal.records()
            assert [r.seq for r in records] == [1, 2, 3, 4]
            assert records[1] == first
            await journal.close()
            assert await verified(database) == 4

    asyncio.run(story())


@pytest.mark.parametrize("cut", ["before", "after", "late"])
def test_an_epoch_whose_answer_was_lost_is_taken_once(postgres: Server, database: str, cut: str) -> None:
    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            journal = await opened(through(database, proxy.port))
            proxy.cuts = [cut]
            assert await epoch(journal) == 1
            assert proxy.done == [cut]
            assert len(await journal.epochs()) == 1
            await journal.append((await journal.epochs())[0].epoch, [started("a")])
            await journal.close()
            assert await verified(database) == 2

    asyncio.run(story())


def test_everybody_of_a_group_hears_the_same_truth(postgres: Server, database: str) -> None:
    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            journal = await opened(through(database, proxy.port))
            e = await epoch(journal)
            proxy.cuts = ["after", "before", "late", "before", "after"]
            answers = await asyncio.gather(*(journal.append(e, [started(f"op-{n}", 200 + n)]) for n in range(900)))
            assert len({r.seq for (r,) in answers}) == 900
            await asyncio.gather(*(journal.append(e, [succeeded(f"op-{n}")]) for n in range(900)))
            assert proxy.cuts == [] or len(proxy.done) >= 3
            assert len(await journal.records()) == 1801
            await journal.close()
            assert await verified(database) == 1801

    asyncio.run(story())


def test_a_transaction_that_hangs_is_waited_for_and_not_written_twice(postgres: Server, database: str) -> None:
    """The server keeps the head locked for a client that is gone, until it tires of it."""

    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            journal = await opened(through(database, proxy.port))
            e = await epoch(journal)
            proxy.cuts = ["frozen"]
            await journal.append(e, [started("a")])
            assert len(await journal.records()) == 2
            await journal.close()
            assert await verified(database) == 2

    asyncio.run(story())


def test_a_way_that_stays_cut_ends_the_hold_and_says_so(postgres: Server, database: str) -> None:
    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            journal = await opened(through(database, proxy.port), lease_s=4)
            e = await epoch(journal)
            await journal.append(e, [started("a")])
            led = asyncio.create_task(journal.led())
            proxy.down = True
            proxy.cut_all()
            with pytest.raises(JournalFailed):
                await journal.append(e, [running("a")])
            with pytest.raises(JournalFailed):
                await led
            assert journal.lead_until() < SystemClock().monotonic()
            proxy.down = False
            with pytest.raises(JournalFailed):  # once lost, for good: the journal has to be opened anew
                await journal.append(e, [running("a")])
            await journal.close()
            assert await verified(database) == 2

    asyncio.run(story())


def test_a_server_that_is_killed_and_started_again_has_all_that_was_answered() -> None:
    try:
        server = Server().__enter__()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"PostgreSQL cannot be started: {error}")
    try:
        url = server.database("killed")

        async def story() -> None:
            journal = await opened(url)
            e = await epoch(journal)
            answered: list[str] = []

            async def work(number: int) -> None:
                for step in range(30):
                    op = f"op-{number}-{step}"
                    await journal.append(e, [started(op, 200 + number)])
                    answered.append(op)

            working = asyncio.gather(*(work(number) for number in range(8)))
            for _ in range(2):
                await asyncio.sleep(0.3)
                server.kill(signal.SIGKILL)
                await asyncio.to_thread(server.start)
            await working
            assert len(answered) == 240
            assert {r.op_id for r in await journal.records(after_seq=1)} == set(answered)
            await journal.close()
            assert await verified(url) == 241

        asyncio.run(story())
    finally:
        server.__exit__()


def test_a_head_that_somebody_moved_ends_the_hold(postgres: Server, database: str) -> None:
    async def story() -> None:
        journal = await opened(database)
        e = await epoch(journal)
        name = database.rpartition("/")[2]
        await asyncio.to_thread(postgres.sql, name, f"UPDATE trueup.head SET hash = '{codec.GENESIS}'")
        with pytest.raises(Stale):
            await journal.append(e, [draft("", Paused())])
        with pytest.raises(Stale):
            await journal.led()
        await journal.close()

    asyncio.run(story())


def test_records_can_be_neither_changed_nor_removed(postgres: Server, database: str) -> None:
    async def story() -> None:
        journal = await opened(database)
        await epoch(journal)
        await journal.close()

    asyncio.run(story())
    name = database.rpartition("/")[2]
    for sql in ("UPDATE trueup.records SET seq = 9", "DELETE FROM trueup.records", "TRUNCATE trueup.records CASCADE"):
        with pytest.raises(Exception, match="append-only"):
            postgres.sql(name, sql)


@pytest.mark.parametrize(
    ("damage", "bad"),
    [
        ("UPDATE trueup.records SET line = overlay(line placing '\\x41' from 40) WHERE seq = 2", 2),
        ("DELETE FROM trueup.records WHERE seq = 3", 3),
        ("UPDATE trueup.records SET op_id = 'b' WHERE seq = 2", 2),
        ("UPDATE trueup.ops SET vmid = 7", None),
        ("DELETE FROM trueup.upids", None),
        ("UPDATE trueup.head SET seq = 3", 4),
        ("INSERT INTO trueup.paused SELECT journal, 'x' FROM trueup.journals", None),
    ],
)
def test_damage_is_found_and_named(postgres: Server, database: str, damage: str, bad: int | None) -> None:
    async def story() -> None:
        journal = await opened(database)
        e = await epoch(journal)
        await journal.append(e, [started("a"), running("a"), succeeded("a")])
        await journal.close()
        assert await verified(database) == 4

    asyncio.run(story())
    name = database.rpartition("/")[2]
    postgres.sql(name, "ALTER TABLE trueup.records DISABLE TRIGGER USER", damage)
    found = asyncio.run(audit.verify(parse(database, "lab")))
    assert not found.ok
    assert found.first_bad == bad, found.what
    assert found.records_ok == (bad is None)
    assert os.environ.get("PGPASSWORD", "k33p") not in found.what
