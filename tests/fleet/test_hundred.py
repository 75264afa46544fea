"""A hundred clusters on one agent: all converge, none disturbs another, and nothing reaches a wrong one."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.running import names_in, running
from tests.fleet.worlds import cluster, settings_file
from tests.simulation.cluster import SimCluster
from trueup.adapters import sqlite

NAMES = [f"site-{number:03}" for number in range(100)]
UNREACHABLE, DAMAGED = NAMES[40], NAMES[41]
MUTATIONS = 2
"""For one cluster: a clone and a create."""

WELL = [name for name in NAMES if name != DAMAGED]


async def story(file: Path, worlds: dict[str, SimCluster], down: set[SimCluster]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with running(file, worlds, down) as fleet:

        async def both_down() -> bool:
            return (await fleet.get("/readyz"))[1]["clusters"].get("down") == 2

        async def done() -> bool:
            if not all(len(worlds[name].world.mutations()) >= MUTATIONS for name in WELL):
                return False
            rows = await fleet.rows()
            return all(rows[name]["in_flight"] == 0 for name in WELL)

        async def in_sync() -> bool:
            rows = await fleet.rows()
            return all(rows[name]["guests"]["in_sync"] == 2 for name in WELL)

        await fleet.until(both_down)
        seen["down"] = await fleet.rows()
        down.clear()
        await fleet.until(done, 1.0)
        os.kill(os.getpid(), signal.SIGHUP)  # and all look again
        await fleet.until(in_sync, 1.0)
        seen["rows"] = await fleet.rows()
        for path in ("/readyz", "/healthz", "/metrics", f"/c/{DAMAGED}/v1/status", f"/c/{WELL[0]}/v1/ops"):
            seen[path] = await fleet.get(path)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await fleet.task == 0
    return seen


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: a hundred journals are synced a few times each."""
    made = Path(tempfile.mkdtemp(prefix="fleet-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield made
    shutil.rmtree(made)


def test_a_hundred_clusters(folder: Path) -> None:
    file = settings_file(folder, NAMES)
    damaged = folder / DAMAGED / "state" / "journal.db"
    damaged.parent.mkdir()
    damaged.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    began = time.process_time()

    async def whole() -> tuple[dict[str, SimCluster], dict[str, Any]]:
        worlds = {name: cluster(number) for number, name in enumerate(NAMES)}
        return worlds, await story(file, worlds, {worlds[UNREACHABLE]})

    worlds, seen = asyncio.run(whole())
    print(f"{time.process_time() - began:.1f} s of CPU")

    for name, world in worlds.items():
        guests = names_in(world)
        mutations = world.world.mutations()
        if name == DAMAGED:
            assert guests == {"debian-12"}
            assert not mutations
            continue
        assert guests == {"debian-12", f"{name}-web", f"{name}-db"}
        assert len(mutations) == MUTATIONS, mutations  # nothing twice, nothing of another's
        verified = sqlite.verify(folder / name / "state" / "journal.db")
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
