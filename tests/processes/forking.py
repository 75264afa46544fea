"""A program that has loaded all of trueup and pvesim and then only forks: each fork becomes one asked-for process.

`python forking.py FD`: the requests come over the socket FD, each with the three standard streams of the new process;
the answer is its pid. What loads code is done once that way, and what a process is to others stays: a pid, a group,
streams, signals, an exit code, a death that no other process shares. Nothing is run before the fork but imports, and
no thread is started.

A fork's parent ends at once, so the kernel hands it to the tests (see `warm.py`), who wait for it like for a child that
they started themselves.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

LENGTH = struct.Struct("!I")
STREAMS = 3


@dataclass(frozen=True)
class Asked:
    """A process to be: the words after `python`, and what it starts with."""

    words: Sequence[str]
    cwd: str
    environment: dict[str, str]
    new_session: bool


def load() -> None:
    """Import whatever the commands may import, each in its own time."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # as the entry point of trueup does
    for name in ("trueup", "pvesim"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(Exception):  # whoever needs it will hear of it
                    importlib.import_module(module.name)
    for name in ("trustme", "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.protocols.http.auto"):
        importlib.import_module(name)


def serve(channel: socket.socket) -> Asked:
    """Answer requests until nobody can ask any more; only in a fork it returns, with what the fork is to be."""
    while True:
        head, streams, _, _ = socket.recv_fds(channel, LENGTH.size, STREAMS)
        if not head:
            sys.exit(0)
        (size,) = LENGTH.unpack(head)
        asked = Asked(**json.loads(channel.recv(size, socket.MSG_WAITALL)))
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            if os.fork():
                os._exit(0)
            if asked.new_session:
                os.setsid()
            os.write(writing, str(os.getpid()).encode())
            _take(streams)
            channel.close()
            os.close(reading)
            os.close(writing)
            return asked
        for stream in streams:
            os.close(stream)
        os.close(writing)
        pid = os.read(reading, 32)
        os.close(reading)
        os.waitpid(between, 0)
        channel.sendall(LENGTH.pack(int(pid)))


def _take(streams: Sequence[int]) -> None:
    """Make these the standard streams."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, encoding=sys.stdin.encoding, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writer(1, sys.stdout.encoding, "strict")
    sys.stderr = sys.__stderr__ = _writer(2, sys.stderr.encoding, "backslashreplace")
    sys.stderr.reconfigure(line_buffering=True)


def _writer(number: int, encoding: str, errors: str):
    buffered = 1 if os.isatty(number) else -1
    return open(number, "w", buffered, encoding=encoding, errors=errors, closefd=False)


def become(asked: Asked) -> None:
    """Run it as `python` does."""
    os.environ.clear()
    os.environ.update(asked.environment)
    time.tzset()
    os.chdir(asked.cwd)
    first, *rest = asked.words
    if first == "-m":
        sys.path[0] = asked.cwd
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(first)  # noqa: PTH120
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def main() -> None:
    load()
    gc.collect()
    gc.freeze()
    try:
        asked = serve(socket.socket(fileno=int(sys.argv[1])))
    except KeyboardInterrupt:
        os._exit(130)  # the terminal's Ctrl-C is for the tests, who end everything
    _leave(_ended(asked))


def _ended(asked: Asked) -> int:
    """Run it, and tell the exit code that an interpreter makes of how it ended."""
    try:
        become(asked)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:  # noqa: BLE001 - whatever it is, an interpreter prints it and ends
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> None:
    """End as an interpreter does, but for the taking apart of all modules: it costs more than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
