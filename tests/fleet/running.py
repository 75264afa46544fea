"""A fleet in this process, for as long as a test looks at it, and ways to ask it."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fleet.worlds import parts_of
from tests.simulation.cluster import SimCluster
from trueup.edges import fleet
from trueup.edges.log import open_log


class Fleet:
    """The fleet of a settings file; `down` are the worlds that cannot be reached."""

    def __init__(self, file: Path, worlds: dict[str, SimCluster], down: set[SimCluster]) -> None:
        made = parts_of({f"{name}.example": world for name, world in worlds.items()}, down)
        several = made.clusters(file)
        self._socket = file.parent / "s"
        self.task = asyncio.create_task(fleet.serve(made, several, open_log(several[0].log, made.clock())))

    async def get(self, path: str) -> tuple[int, Any]:
        """Over the unix socket, which needs no token."""
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body.decode()

    async def rows(self) -> dict[str, dict[str, Any]]:
        _, said = await self.get("/v1/clusters")
        return {row["name"]: row for row in said["clusters"]}

    async def until(self, holds: Callable[[], Awaitable[bool]], pause_s: float = 0.25) -> None:
        ends = time.monotonic() + 110
        while not (self._socket.exists() and await holds()):
            assert not self.task.done(), self.task
            assert time.monotonic() < ends
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def running(file: Path, worlds: dict[str, SimCluster], down: set[SimCluster]) -> AsyncGenerator[Fleet]:
    made = Fleet(file, worlds, down)
    try:
        yield made
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


def names_in(world: SimCluster) -> set[str]:
    """The guests of a world."""
    return {str(guest["name"]) for guest in world.world.state()["guests"]}  # type: ignore[union-attr, index, call-overload]
