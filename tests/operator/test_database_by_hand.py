"""What is told about a database is done on a real PostgreSQL, and then it holds the journal."""

import asyncio
import os
import re
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.journal.samples import epoch
from tests.operator.following import followed, quoted
from tests.postgres.server import PASSWORD, Server, binaries
from tests.postgres.test_commit import opened
from trueup.adapters.postgres import apart, upkeep
from trueup.adapters.postgres.address import parse


def opens(url: str) -> None:
    async def work() -> None:
        await (await opened(url)).close()

    asyncio.run(work())


MISSING = "make the database: `createdb -h HOST -p PORT -U USER NAME`"
WHO = "give the right user, and its password in the URL, PGPASSWORD or a password file"
OWNER = "give the user the right to make and use the schema trueup: make it the database's owner"
READ_ONLY = "this server is a standby or set to read only: point [store] url at the primary, or name all hosts"
HELD = "another session holds the journal's head: look for it in pg_stat_activity"
FULL = "the database has no connection left: raise max_connections, or end what uses them"
REACH = "see that the database runs and can be reached from here; the agent tries again by itself"
FSYNC = "set fsync = on in postgresql.conf"
NAME = "give it another name"
FOLLOWED = {MISSING, WHO, OWNER, READ_ONLY, HELD, FULL, REACH, FSYNC, NAME}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def test_the_database_is_made(postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{name_of(database)}_missing"
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PATH", f"{binaries()}{os.pathsep}{os.environ['PATH']}")

    def makes(text: str) -> None:
        (command,) = quoted(text)
        for word, meant in (("HOST", "127.0.0.1"), ("PORT", str(postgres.port)), ("USER", "trueup"), ("NAME", name)):
            command = command.replace(word, shlex.quote(meant))
        assert os.system(command) == 0  # noqa: S605 - as it is printed

    followed(MISSING, lambda: opens(postgres.url(name)), makes)


@pytest.mark.parametrize("how", ["URL", "PGPASSWORD", "a password file"])
def test_the_right_user(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    bare = database.replace(f":{PASSWORD}", "")
    held = [bare]
    monkeypatch.setenv("PGPASSWORD", "wrong")

    def gives(_: str) -> None:
        monkeypatch.delenv("PGPASSWORD")
        if how == "URL":
            held[0] = database
        elif how == "PGPASSWORD":
            monkeypatch.setenv("PGPASSWORD", PASSWORD)
        else:
            file = tmp_path / "pgpass"
            file.write_text(f"*:*:*:*:{PASSWORD}\n")
            file.chmod(0o600)
            monkeypatch.setenv("PGPASSFILE", str(file))

    followed(WHO, lambda: opens(held[0]), gives)


def test_the_owner(postgres: Server, database: str) -> None:
    name = name_of(database)
    postgres.sql("postgres", f"CREATE ROLE {name}_u LOGIN PASSWORD '{PASSWORD}'")
    url = database.replace("//trueup:", f"//{name}_u:")
    followed(OWNER, lambda: opens(url), lambda _: postgres.sql("postgres", f"ALTER DATABASE {name} OWNER TO {name}_u"))


def test_read_only(postgres: Server, database: str) -> None:
    postgres.sql("postgres", f"ALTER DATABASE {name_of(database)} SET default_transaction_read_only = on")
    held = [database]
    followed(
        READ_ONLY,
        lambda: opens(held[0]),
        lambda _: held.__setitem__(0, postgres.database(f"{name_of(database)}_primary")),
    )


def test_another_session(postgres: Server, database: str) -> None:
    opens(database)
    name = name_of(database)

    async def work() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute("BEGIN; LOCK TABLE trueup.journals IN ACCESS EXCLUSIVE MODE")
        try:
            await asyncio.to_thread(followed, HELD, lambda: opens(database), ends)
        finally:
            connection.terminate()

    def ends(text: str) -> None:
        view = re.search(r"pg_\w+", text)
        assert view
        postgres.sql(
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM {view[0]} "
            f"WHERE datname = '{name}' AND state = 'idle in transaction'",
        )

    asyncio.run(work())


def test_another_name_for_a_journal(database: str) -> None:

    async def begins() -> None:
        journal = await opened(database)
        await epoch(journal)
        await journal.close()

    asyncio.run(begins())
    names = ["lab"]
    followed(
        NAME,
        lambda: apart.run(lambda: upkeep.import_lines(parse(database, names[0]), [])),
        lambda _: names.__setitem__(0, "other"),
    )


def test_a_server_of_ones_own() -> None:
    """fsync, connections, and the server itself: what nobody may do to the server that all tests share."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(Server(options=["fsync=off", "max_connections=8"]))
        except (RuntimeError, OSError) as error:
            pytest.skip(f"PostgreSQL cannot be started: {error}")
        url = server.database("lab")

        def restart(change: Callable[[], object]) -> None:
            server.kill(2)
            change()
            server.start()

        def sets_fsync(text: str) -> None:
            setting = re.search(r"fsync = on", text)
            assert setting
            server.options.remove("fsync=off")
            with (server.data / "postgresql.conf").open("a") as file:
                file.write(f"{setting[0]}\n")
            restart(lambda: None)

        followed(FSYNC, lambda: opens(url), sets_fsync)
        _runs_out(server, url, lambda: None)
        _runs_out(server, url, lambda: server.options.remove("max_connections=8"))
        server.kill(2)
        followed(REACH, lambda: opens(url), lambda _: server.start())


def _runs_out(server: Server, url: str, change: Callable[[], object]) -> None:
    """All connections in use; `change` is made to the server, which ends those that use them in any case."""

    async def work() -> None:
        held = [await asyncpg.connect(url) for _ in range(8)]

        def follow(_: str) -> None:
            server.kill(2)
            change()
            server.start()

        try:
            await asyncio.to_thread(followed, FULL, lambda: opens(url), follow)
        finally:
            for connection in held:
                connection.terminate()

    asyncio.run(work())
