"""`subprocess.Popen` and `run` for tests that start trueup or its simulator, without loading all their code each time.

A third of a second of a processor goes into the imports of each such process, and tests start a thousand. Here the
process is forked off one that has loaded them already (`forking.py`; one for each tester). It is a process like any
other, and its death is as real. What it does not show is that a fresh interpreter finds and loads everything: that is
for the tests which start `subprocess.Popen` themselves (the commands of the docs, the demo, the help, the package), and
for a thorough run (TRUEUP_EVERY_POINT=1), in which nothing is warm.
"""

import atexit
import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, AnyStr, Final

from tests.processes.forking import LENGTH
from tests.sampling import EVERYTHING

MODULES: Final = frozenset({"trueup", "pvesim"})
AT_THE_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "SSL_", "OPENSSL_")
"""Variables that an interpreter or a library looks at once: with others than ours, a process starts cold."""

PR_SET_CHILD_SUBREAPER: Final = 36


class Popen(subprocess.Popen[AnyStr]):
    """A process; warm if it is `python -m trueup ...`, `python -m pvesim ...` or a program of the tests."""

    def _execute_child(self, args, *how) -> None:
        # In the order of the method that it takes the place of, the same since Python 3.11.
        executable, preexec_fn, _, pass_fds, cwd, env, _, _, shell, *pipes, _, gid, gids, uid, umask, session, group = (
            how
        )
        environment = dict(os.environ if env is None else env)
        plain = not (executable or preexec_fn or pass_fds or shell or gid or gids or uid)
        if not plain or umask >= 0 or group >= 0 or not can_be_warm(args, environment):
            super()._execute_child(args, *how)  # type: ignore[misc]
            return
        streams = [pipe if pipe != -1 else number for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        asked = {
            "words": [str(word) for word in args[1:]],
            "cwd": os.path.abspath(cwd or "."),  # noqa: PTH100 - no links followed
            "environment": environment,
            "new_session": bool(session),
        }
        self.pid = _forker(os.getpid()).fork(json.dumps(asked).encode(), streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    command: Sequence[str | Path],
    *,
    timeout: float | None = None,
    check: bool = False,
    input: Any = None,
    capture_output: bool = False,
    **named: Any,
) -> "subprocess.CompletedProcess[Any]":
    """`subprocess.run`, with a process that is warm where it can be."""
    if input is not None:
        named["stdin"] = subprocess.PIPE
    if capture_output:
        named["stdout"] = named["stderr"] = subprocess.PIPE
    with Popen(command, **named) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def can_be_warm(command: object, environment: Mapping[str, str]) -> bool:
    """Whether a fork would be what this command starts."""
    if EVERYTHING or sys.platform != "linux" or not isinstance(command, Sequence) or isinstance(command, str | bytes):
        return False
    python, first, *more = [*map(str, command), "", ""]
    ours = (first == "-m" and more[0] in MODULES) or (first.endswith(".py") and Path(first).is_absolute())
    return python == sys.executable and ours and _at_the_start(environment) == _at_the_start(os.environ)


def _at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_THE_START)}


class _Forker:
    """The one process that forks for this tester."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair()
        with theirs:
            program = str(Path(__file__).with_name("forking.py"))
            self._process = subprocess.Popen(
                [sys.executable, program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._pid = os.getpid()
        atexit.register(self._end)

    def fork(self, asked: bytes, streams: Sequence[int]) -> int:
        """Start a process, which is our own child in the end: its parent dies while orphans fall to us."""
        with self._lock:
            _adopt_orphans(yes=True)
            try:
                socket.send_fds(self._channel, [LENGTH.pack(len(asked))], streams)
                self._channel.sendall(asked)
                answer = self._channel.recv(LENGTH.size, socket.MSG_WAITALL)
            except OSError:
                answer = b""
            finally:
                _adopt_orphans(yes=False)
        if len(answer) != LENGTH.size:
            raise RuntimeError(f"the process that forks has ended: {self._process.wait(10)}; see its own words above")
        return LENGTH.unpack(answer)[0]

    def _end(self) -> None:
        self._channel.close()
        if os.getpid() == self._pid:
            self._process.wait(10)


@functools.cache
def _forker(_pid: int) -> _Forker:
    """For each process its own: a tester that was forked itself must not ask for its parent's children."""
    return _Forker()


def _adopt_orphans(*, yes: bool) -> None:
    """Only while a fork is under way: at other times an orphan of ours belongs to init, who lets it go when it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
