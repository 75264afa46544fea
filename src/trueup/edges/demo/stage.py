"""The stage: a folder with settings and manifests, the simulator as a process of its own, and the agent as another.

The agent is `trueup apply --yes` as everybody runs it. It is killed with SIGKILL, so it cannot put anything in order.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from trueup.adapters import sim_control
from trueup.edges.demo import cast
from trueup.edges.demo.sight import Sight
from trueup.edges.parts import Parts
from trueup.model.errors import TrueupError
from trueup.model.settings import DEFAULT_FILE
from trueup.ports import JournalReader

BEGIN_S: Final = 60.0
"""For a process to come up, on the slowest machine that we have seen, many times over."""

_END_S: Final = 10.0
_LAST_LINES: Final = 5


class _Reached(msgspec.Struct, frozen=True, kw_only=True):
    """The simulator's first line."""

    url: str
    ca_file: str
    token_id: str
    token_secret: str


class Agent:
    """One incarnation of the agent: a child process, and what it says."""

    def __init__(self, process: Process, heard: Callable[[str], None]) -> None:
        """Listen to a process; its progress goes to `heard`."""
        self._process = process
        self._heard = heard
        self._group = [asyncio.ensure_future(self._progress()), asyncio.ensure_future(self._reports())]
        self.recovered = asyncio.Event()
        """Its recovery is over: nothing is printed on its standard output before that."""
        self.last: list[str] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives."""
        return self._process.returncode

    def halt(self) -> None:
        """Stop it in mid-step (SIGSTOP), so that it can be looked at."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> int:
        """SIGKILL; the exit code is -9 unless it had just ended by itself."""
        self._signal(signal.SIGKILL)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end, and for its last words."""
        code = await self._process.wait()
        await asyncio.gather(*self._group)
        return code

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _progress(self) -> None:
        async for line in _lines(self._process.stderr):
            self.last = [*self.last, line][-_LAST_LINES:]
            self._heard(line)

    async def _reports(self) -> None:
        async for _ in _lines(self._process.stdout):
            self.recovered.set()


class Stage:
    """Where it is played."""

    def __init__(self, folder: Path, sim: sim_control.SimControl, parts: Parts) -> None:
        """Use `open_stage`."""
        self.folder = folder
        self.clock = parts.clock()
        self._parts = parts
        self._store = parts.settings(folder / DEFAULT_FILE).store
        self._stack = AsyncExitStack()
        self._journal: JournalReader | None = None
        self.sim = sim
        self.sight = Sight(sim, lambda: self._journal, self.clock)

    async def agent(self, heard: Callable[[str], None]) -> Agent:
        """Start an incarnation of the agent."""
        process = await self._start("apply", "--yes")
        self._stack.push_async_callback(_end, process)
        return Agent(process, heard)

    async def open_journal(self) -> bool:
        """Open the journal for reading as soon as there is one; whether it is open."""
        if self._journal is None and self._parts.journal_file.exists(self._store):
            with suppress(TrueupError):  # it is being made right now
                self._journal = await self._stack.enter_async_context(self._parts.reader(self._store))
        return self._journal is not None

    async def ask(self, *arguments: str) -> tuple[int, str]:
        """Run a command of trueup to its end: its exit code and standard output."""
        process = await self._start(*arguments)
        self._stack.push_async_callback(_end, process)
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def _start(self, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "trueup",
            *arguments,
            cwd=self.folder,
            env=_environment(),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )

    async def close(self) -> None:
        """End every child that is left, and let go of the journal."""
        await self._stack.aclose()


@asynccontextmanager
async def open_stage(folder: Path, parts: Parts, *, seed: int) -> AsyncGenerator[Stage]:
    """Set it all up in an empty folder.

    Raises:
        TrueupError: the simulator does not come up.
    """
    (folder / "manifests").mkdir()
    for name, text in cast.MANIFESTS.items():
        (folder / "manifests" / name).write_text(text, encoding="utf-8")
    world = folder / "cluster.json"
    world.write_bytes(msgspec.json.encode(cast.WORLD))
    async with _simulator(world, seed) as reached, sim_control.connect(reached.url, Path(reached.ca_file)) as sim:
        secret = folder / "token.secret"
        secret.touch(mode=0o600)
        secret.write_text(reached.token_secret, encoding="utf-8")
        text = cast.settings_text(url=reached.url, token_id=reached.token_id, ca_file=reached.ca_file)
        (folder / DEFAULT_FILE).write_text(text, encoding="utf-8")
        stage = Stage(folder, sim, parts)
        try:
            yield stage
        finally:
            await stage.close()


@asynccontextmanager
async def _simulator(world: Path, seed: int) -> AsyncGenerator[_Reached]:
    scale = str(cast.TIME_SCALE)
    options = ("--json", "--port", "0", "--guests", str(world), "--time-scale", scale, "--seed", str(seed))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pvesim", *options, env=_environment(), stdin=DEVNULL, stdout=PIPE, stderr=None
    )
    try:
        yield await _reached(process)
    finally:
        await _end(process, signal.SIGTERM)


async def _reached(process: Process) -> _Reached:
    if process.stdout is None:
        raise TrueupError(what="the simulator has no output")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), BEGIN_S)
        return msgspec.json.decode(line, type=_Reached)
    except (TimeoutError, msgspec.MsgspecError) as error:
        raise TrueupError(what="the simulator does not come up", remedy="try `trueup sim`") from error


async def _end(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    """End a child that has not ended by itself."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _lines(stream: asyncio.StreamReader | None) -> AsyncGenerator[str]:
    while stream is not None and (line := await stream.readline()):
        yield line.decode(errors="replace").rstrip()


def _environment() -> Mapping[str, str]:
    return {**os.environ, "NO_COLOR": "1"}
