"""A hundred clusters on one agent: all converge, none disturbs another, and nothing reaches a wrong one."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.fleet.worlds import cluster, parts_of, settings_file
from tests.simulation.cluster import SimCluster
from trueup.adapters import sqlite
from trueup.edges import fleet
from trueup.edges.log import open_log

NAMES = [f"site-{number:03}" for number in range(100)]
UNREACHABLE, DAMAGED = NAMES[40], NAMES[41]
MUTATIONS = 3
"""For one cluster: a clone, a create, a start."""

WELL = [name for name in NAMES if name != DAMAGED]


async def get(socket: Path, path: str) -> tuple[int, Any]:
    """Over the unix socket, which needs no token."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body.decode()


async def until(holds: Callable[[], Awaitable[bool]], task: asyncio.Task[int]) -> None:
    ends = time.monotonic() + 180
    while not await holds():
        assert not task.done(), task
        assert time.monotonic() < ends
        await asyncio.sleep(0.25)


async def story(file: Path, worlds: dict[str, SimCluster]) -> dict[str, Any]:
    down = {worlds[UNREACHABLE]}
    made = parts_of({f"{name}.example": world for name, world in worlds.items()}, down)
    several = made.clusters(file)
    task = asyncio.create_task(fleet.serve(made, several, open_log(several[0].log, made.clock())))
    seen: dict[str, Any] = {}

    async def now() -> dict[str, dict[str, Any]]:
        _, said = await get(file.parent / "s", "/v1/clusters")
        return {row["name"]: row for row in said["clusters"]}

    async def both_down() -> bool:
        return (file.parent / "s").exists() and (await get(file.parent / "s", "/readyz"))[1]["clusters"].get(
            "down"
        ) == 2

    async def done() -> bool:
        if not all(len(worlds[name].world.mutations()) >= MUTATIONS for name in WELL):
            return False
        rows = await now()
        return all(rows[name]["in_flight"] == 0 for name in WELL)

    async def in_sync() -> bool:
        rows = await now()
        return all(rows[name]["guests"]["in_sync"] == 2 for name in WELL)

    await until(both_down, task)
    seen["down"] = await now()
    down.clear()
    await until(done, task)
    os.kill(os.getpid(), signal.SIGHUP)  # and all look again
    await until(in_sync, task)
    seen["rows"] = await now()
    for path in ("/readyz", "/healthz", "/metrics", f"/c/{DAMAGED}/v1/status", f"/c/{WELL[0]}/v1/ops"):
        seen[path] = await get(file.parent / "s", path)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    return seen


def test_a_hundred_clusters(tmp_path: Path) -> None:
    file = settings_file(tmp_path, NAMES)
    damaged = tmp_path / DAMAGED / "state" / "journal.db"
    damaged.parent.mkdir()
    damaged.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    began = time.process_time()

    async def whole() -> tuple[dict[str, SimCluster], dict[str, Any]]:
        worlds = {name: cluster(number) for number, name in enumerate(NAMES)}
        return worlds, await story(file, worlds)

    worlds, seen = asyncio.run(whole())
    print(f"{time.process_time() - began:.1f} s of CPU")

    for name, world in worlds.items():
        guests = {str(guest["name"]) for guest in world.world.state()["guests"]}  # type: ignore[union-attr, index, call-overload]
        mutations = world.world.mutations()
        if name == DAMAGED:
            assert guests == {"debian-12"}
            assert not mutations
            continue
        assert guests == {"debian-12", f"{name}-web", f"{name}-db"}
        assert len(mutations) == MUTATIONS, mutations  # nothing twice, nothing of another's
        verified = sqlite.verify(tmp_path / name / "state" / "journal.db")
        assert verified.ok, verified
    assert damaged.read_bytes().startswith(b"SQLite format 3\0xxx")

    assert seen["down"][UNREACHABLE]["problem"]
    assert seen["rows"][UNREACHABLE]["phase"] == "leading"
    assert "journal" in seen["rows"][DAMAGED]["problem"]
    assert seen["/readyz"] == (503, {"ready": False, "clusters": {"down": 1, "leading": 99}})
    assert seen["/healthz"] == (200, {"alive": True, "clusters": {"down": 1, "leading": 99}})
    status, text = seen["/metrics"]
    assert status == 200
    assert f'trueup_leader{{cluster="{WELL[0]}"}} 1.0\n' in text
    assert text.count("# TYPE trueup_leader gauge\n") == 1
    assert f'trueup_cluster_up{{cluster="{DAMAGED}"}} 0.0\n' in text
    assert text.count("\ntrueup_cluster_up{") == 100
    status, problem = seen[f"/c/{DAMAGED}/v1/status"]
    assert status == 503
    assert "its agent does not run" in problem["detail"]
    assert {op["vmid"] for op in seen[f"/c/{WELL[0]}/v1/ops"][1]["ops"]} == {101, 102}
