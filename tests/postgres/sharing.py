"""One PostgreSQL for all workers of a run: whoever comes first starts it, whoever leaves last ends it."""

import fcntl
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres.server import Borrowed, Server


@contextmanager
def shared_server(folder: Path) -> Iterator[Server]:
    """The run's server; `folder` is the same for all workers. Raises RuntimeError or OSError if there is none."""
    me = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with _ledger(folder) as book:
        if not book:
            server = Server().__enter__()
            assert server.process is not None
            book.update(port=server.port, pid=server.process.pid, folder=str(server.folder), users=[])
            server.process.returncode = 0  # whoever leaves last ends it, and that may be another process than this
        book["users"].append(me)
        port = int(book["port"])
    try:
        yield Borrowed(port)
    finally:
        with _ledger(folder) as book:
            book["users"].remove(me)
            if not book["users"]:
                _end(int(book["pid"]), Path(book["folder"]))
                book.clear()


def _end(pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Path(f"/proc/{pid}/stat").exists():
        try:  # it is a child of the worker that started it, if that still lives
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                break
        except ChildProcessError:
            pass
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            break
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ledger(folder: Path) -> Iterator[dict]:
    """What the workers know of the server, one at a time."""
    file = folder / "postgres.json"
    with (folder / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        book = json.loads(file.read_text()) if file.exists() else {}
        try:
            yield book
        finally:
            file.write_text(json.dumps(book))
