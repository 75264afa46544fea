"""A primary dies and its synchronous standby is promoted: nothing that was answered is lost, and the chain goes on."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

import pytest

from tests.journal.samples import epoch, started
from tests.postgres.server import PASSWORD, USER, Server
from tests.postgres.test_commit import opened, verified
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import parse
from trueup.model.errors import JournalFailed

pytestmark = pytest.mark.timeout(240)


class Replica(Server):
    """A streaming standby of another server."""

    def __init__(self, primary: Server) -> None:
        super().__init__()
        self.primary = primary

    def __enter__(self) -> Self:
        try:
            self.run("pg_basebackup", "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.primary.port), "-U", USER,
                     "-R", "-X", "stream", "-c", "fast", "-w")  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self


@pytest.fixture
def pair() -> Iterator[tuple[Server, Replica]]:
    with ExitStack() as stack:
        try:
            primary = stack.enter_context(Server(options=["wal_keep_size=64MB"]))
            replica = stack.enter_context(Replica(primary))
        except (RuntimeError, OSError) as error:
            pytest.skip(f"PostgreSQL cannot be started: {error}")
        primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        deadline = time.monotonic() + 60
        while not primary.sql("postgres", "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            assert time.monotonic() < deadline, "the standby is not in step"
            time.sleep(0.1)
        primary.sql("postgres", "CREATE DATABASE lab")
        yield primary, replica


def test_a_synchronous_standby_takes_over(pair: tuple[Server, Replica]) -> None:
    primary, replica = pair
    url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{primary.port},127.0.0.1:{replica.port}/lab"

    async def story() -> None:
        journal = await opened(url)
        found = await audit.settings(parse(url, "lab"))
        assert (found.replicas, found.replicas_in_step) == (1, 1)
        assert audit.weakness(found) == ""
        e = await epoch(journal)
        answered: list[str] = []

        async def work(number: int) -> None:
            for step in range(40):
                op = f"op-{number}-{step}"
                await journal.append(e, [started(op, 200 + number)])
                answered.append(op)

        working = asyncio.gather(*(work(number) for number in range(6)))
        while len(answered) < 60:
            await asyncio.sleep(0)
        primary.kill(signal.SIGKILL)
        before = len(answered)
        await asyncio.to_thread(replica.sql, "postgres", "SELECT pg_promote()")
        await asyncio.to_thread(
            replica.sql, "postgres", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
        )
        await working
        assert before < len(answered) == 240
        assert {r.op_id for r in await journal.records(after_seq=1)} == set(answered)
        assert len(await journal.epochs()) == 1
        await journal.close()
        assert await verified(url) == 241

    asyncio.run(story())


def test_a_standby_that_is_not_promoted_takes_no_writes(pair: tuple[Server, Replica]) -> None:
    primary, replica = pair

    async def story() -> None:
        journal = await opened(primary.url("lab"))
        await epoch(journal)
        await journal.close()
        with pytest.raises(JournalFailed):
            await opened(replica.url("lab"))
        deadline = time.monotonic() + 30
        while (await audit.stats(parse(replica.url("lab"), "lab"))).records != 1:  # reading goes on from there
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)

    asyncio.run(story())


def test_a_server_without_durability_is_refused_and_an_asynchronous_replica_is_told() -> None:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(Server(options=["fsync=off", "synchronous_commit=off"]))
        except (RuntimeError, OSError) as error:
            pytest.skip(f"PostgreSQL cannot be started: {error}")
        url = server.database("lab")
        with pytest.raises(JournalFailed, match="fsync off"):
            asyncio.run(opened(url))
        assert "fsync" in audit.weakness(asyncio.run(audit.settings(parse(url, "lab"))))
    lame = audit.Settings(
        version="18.0",
        fsync=True,
        full_page_writes=True,
        synchronous_commit="on",
        standbys="",
        replicas=1,
        replicas_in_step=0,
    )
    assert "none of which a COMMIT waits for" in audit.weakness(lame)
