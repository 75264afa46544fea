"""What is told about a database is done on a real PostgreSQL, and then it holds the journal."""

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import asyncpg
import pytest

from tests.cli.test_crashes import until
from tests.journal.samples import epoch
from tests.operator.following import followed, quoted
from tests.operator.test_written_remedies import CLUSTER
from tests.postgres.proxy import Proxy
from tests.postgres.server import PASSWORD, Server, as_user, binaries
from tests.postgres.test_commit import opened, through, verified
from tests.postgres.test_inbox import ACCEPTED, Gate
from tests.postgres.test_upkeep import CLERK, CLOCK, NOW_MS, apart_sql, slowly, written
from trueup import app
from trueup.adapters.control_socket import Message
from trueup.adapters.postgres import apart, upkeep
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.server import OLDEST_VERSION
from trueup.adapters.postgres.standby import Standby
from trueup.edges import acts, doctor, incarnation
from trueup.edges.inbox import Taker
from trueup.model import limits
from trueup.model.settings import Settings, StoreSettings


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
RESTORE = "bring the database back from a backup, or save what can be read with `trueup journal quarantine`"
DISK = "free space on the database's disk"
AGAIN = "run the command again"
STOP = "stop that agent"
THERE = "run the command there, or stop that agent"
LEADS = "see that an agent leads, then submit it again"
DURABLE = "set fsync and full_page_writes on, and name each replica in synchronous_standby_names"
NEWER = "use PostgreSQL {} or newer"
FOLLOWED = {MISSING, WHO, OWNER, READ_ONLY, HELD, FULL, REACH, FSYNC, NAME} | {
    RESTORE,
    DISK,
    AGAIN,
    STOP,
    THERE,
    LEADS,
    DURABLE,
    NEWER,
}


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
            server = stack.enter_context(Server(options=["fsync=off", "full_page_writes=off", "max_connections=8"]))
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
        _becomes_durable(server, url)
        _runs_out(server, url, lambda: None)
        _runs_out(server, url, lambda: server.options.remove("max_connections=8"))
        server.kill(2)
        followed(REACH, lambda: opens(url), lambda _: server.start())


def _becomes_durable(server: Server, url: str) -> None:
    """As the check-up says, one after the other: what is left is said again until nothing is."""
    parts, store = app.parts(), StoreSettings(path=server.folder / "beside.db", postgres=parse(url, "lab"))

    def weaknesses() -> list[str]:
        found = [one for one in doctor._database(parts, store) if one.mark is doctor.Mark.PROBLEM]
        assert {one.remedy for one in found} <= {DURABLE}
        return [one.what for one in found]

    def sets(name: str, value: str) -> None:
        server.sql("postgres", f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
        until(lambda: server.sql("postgres", f"SHOW {name}")[0][0].strip("'") == value, 20)

    assert "full_page_writes off" in weaknesses()[0]
    server.options.remove("full_page_writes=off")
    server.kill(2)
    server.start()
    assert weaknesses() == []
    (server.folder / "replica").mkdir(mode=0o777)
    (server.folder / "replica").chmod(0o777)
    replica = subprocess.Popen(
        [binaries() / "pg_receivewal", "-d", server.url(""), "--synchronous", "-D", server.folder / "replica"],
        env={**os.environ, "PGPASSWORD": PASSWORD},
        stderr=subprocess.DEVNULL,
        **as_user(),  # type: ignore[call-overload]
    )
    try:
        until(lambda: weaknesses() != [], 20)
        assert "1 replicas, none of which a COMMIT waits for" in weaknesses()[0]
        (name,) = [row[0] for row in server.sql("postgres", "SELECT application_name FROM pg_stat_replication")]
        sets("synchronous_standby_names", name)
        until(lambda: weaknesses() == [], 20)
        opens(url)
        server.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    finally:
        replica.kill()
        replica.wait()


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


# --- a journal in it --------------------------------------------------------------------------------------------------


def prunes(database: str) -> None:
    apart.run(lambda: upkeep.prune(parse(database, "lab"), NOW_MS // 2, CLERK, CLOCK, dry=False))


def test_a_database_that_was_damaged_comes_back(postgres: Server, database: str) -> None:
    written(database)
    name = name_of(database)
    postgres.sql("postgres", f"CREATE DATABASE {name}_backup TEMPLATE {name}")
    postgres.sql(name, "ALTER TABLE trueup.records RENAME TO gone")

    def back(_: str) -> None:
        for old, new in ((name, f"{name}_damaged"), (f"{name}_backup", name)):
            postgres.sql("postgres", f"ALTER DATABASE {old} RENAME TO {new}")

    followed(RESTORE, lambda: asyncio.run(verified(database)), back)


def test_what_can_be_read_of_a_damaged_one_is_saved(postgres: Server, database: str, tmp_path: Path) -> None:
    written(database)
    postgres.sql(
        name_of(database),
        "ALTER TABLE trueup.records DISABLE TRIGGER ALL",
        "UPDATE trueup.records SET line = '\\x00' WHERE seq = 5",
    )
    copies = iter(range(2))

    def quarantines(text: str) -> None:
        assert quoted(text) == ["trueup journal quarantine"]
        stamp = upkeep.Stamp(text="x", record_id="r", at_ms=NOW_MS)
        saved = apart.run(lambda: upkeep.quarantine(parse(database, "lab"), tmp_path, "clerk:1", CLOCK, stamp))
        assert saved.kept

    followed(
        RESTORE,
        lambda: apart.run(lambda: upkeep.backup(parse(database, "lab"), tmp_path / f"{next(copies)}.db")),
        quarantines,
    )


def test_a_disk_of_the_database_that_is_full(postgres: Server, database: str) -> None:
    """The database is made to say so by itself: a disk of its own cannot be had everywhere."""
    opens(database)
    full = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
    postgres.sql(
        name_of(database),
        f"CREATE FUNCTION fills() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {full}; END $$",
        "CREATE TRIGGER fills BEFORE INSERT ON trueup.records EXECUTE FUNCTION fills()",
    )

    async def begins() -> None:
        journal = await opened(database)
        try:
            await epoch(journal)
        finally:
            await journal.close()

    followed(
        DISK,
        lambda: asyncio.run(begins()),
        lambda _: postgres.sql(
            name_of(database),
            "DROP TRIGGER fills ON trueup.records",
            "UPDATE trueup.lease SET lease_until = clock_timestamp()",  # whoever failed holds it until it runs out
        ),
    )


def test_a_lease_that_was_lost(database: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else took it while the work went on, and has ended when the command is run again."""
    written(database)

    def takes(session: str) -> None:
        apart_sql(postgres, name_of(database), f"UPDATE trueup.lease SET session = '{session}'")

    with monkeypatch.context() as once:
        slowly(once, 0.0, lambda: takes("another"))

        def ends(_: str) -> None:
            takes("")
            once.undo()

        followed(AGAIN, lambda: prunes(database), ends)
    assert asyncio.run(verified(database))


def test_an_agent_that_leads_is_stopped(database: str) -> None:
    async def story() -> None:
        leader = await opened(database, holder="one:1")
        await epoch(leader)
        loop = asyncio.get_running_loop()

        def stops(_: str) -> None:
            asyncio.run_coroutine_threadsafe(leader.close(), loop).result(20)

        await asyncio.to_thread(followed, STOP, lambda: prunes(database), stops)

    asyncio.run(story())


@pytest.mark.parametrize("how", ["there", "stopped"])
def test_an_agent_that_leads_on_another_machine(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A machine is a folder here: the socket is beside the settings."""
    monkeypatch.setattr(limits, "SOCKET_TIMEOUT_S", 0.3)
    parts = app.parts()

    def settings(name: str) -> Settings:
        (tmp_path / name).mkdir()
        file = tmp_path / name / "trueup.toml"
        file.write_text(f"{CLUSTER}[store]\nurl = '{database}'\n")
        return parts.settings(file)

    there, here = settings("there"), settings("here")
    asked = [here]

    def pauses() -> None:
        asyncio.run(acts.write_down(parts, asked[-1], Message(command=acts.PAUSE)))

    async def story() -> None:
        async with AsyncExitStack() as agent:
            journal = await agent.enter_async_context(incarnation.journal_for_work(parts, there))
            scribe = await acts.Scribe.begin(parts, journal)
            await agent.enter_async_context(acts.at_the_socket(there, acts.Acts(scribe, lambda: ())))
            loop = asyncio.get_running_loop()

            def follow(_: str) -> None:
                if how == "there":
                    asked.append(there)
                else:
                    asyncio.run_coroutine_threadsafe(agent.aclose(), loop).result(20)

            await asyncio.to_thread(followed, THERE, pauses, follow)

    asyncio.run(story())


def test_an_inbox_that_nobody_empties(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_MAX", 2)

    async def hands_in() -> None:
        standby = await Standby.open_beside(parse(database, "lab"), CLOCK)
        try:
            await standby.inbox_put(b"x", "http")
        finally:
            await standby.close()

    async def leads() -> None:
        leader = await opened(database)
        await Taker(leader, Gate(*[ACCEPTED] * 2), CLOCK, print).look()
        await leader.close()

    for _ in range(2):
        asyncio.run(hands_in())
    followed(LEADS, lambda: asyncio.run(hands_in()), lambda _: asyncio.run(leads()))


class Old(Proxy):
    """What a PostgreSQL of long ago says of itself: the rest of it is not met any more."""

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await there.read(65536):
                writer.write(re.sub(rb"(server_version\x00)\d\d\.", rb"\g<1>12.", data))
                await writer.drain()
            writer.close()


def test_a_server_of_long_ago(postgres: Server, database: str) -> None:
    async def story() -> None:
        async with Old(postgres.port) as old:
            held = [through(database, old.port)]

            def newer(text: str) -> None:
                assert f"PostgreSQL {OLDEST_VERSION} " in text
                held.append(database)

            await asyncio.to_thread(followed, NEWER, lambda: opens(held[-1]), newer)

    asyncio.run(story())
