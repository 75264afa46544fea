"""Clusters in this process, and parts that lead each agent to its own: an endpoint names the world behind it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from pvesim.world import Request
from tests.simulation.cluster import START_S, SimCluster
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_schema import Looked
from trueup.adapters.pve_wire import Break, Broken, HttpAnswer, HttpRequest
from trueup.app import parts
from trueup.edges.parts import Credential, Parts
from trueup.model.ids import TokenId
from trueup.model.settings import Settings
from trueup.ports import Clock, Pve

TOKEN = TokenId("agent@pve!sim")
SECRET = "00000000-0000-0000-0000-000000000001"
FAST = 100
"""A world's tasks take so much less time than PVE's."""


class FastCluster(SimCluster):
    """A world on the real clock, sped up."""

    @property
    def now(self) -> float:
        return START_S + asyncio.get_running_loop().time() * FAST

    def _next_move(self) -> float | None:
        due = self.world.next_due()
        return None if due is None else asyncio.get_running_loop().time() + max(0.0, due - self.now) / FAST + 1e-6


class WorldClock:
    """The agents' clock, about as late as the worlds'."""

    def now_ms(self) -> int:
        return int((START_S + asyncio.get_running_loop().time() * FAST) * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Wire:
    """A `Transport` into one world; `down` is the cable."""

    def __init__(self, cluster: SimCluster, who: Credential, down: set[SimCluster]) -> None:
        self._cluster = cluster
        self._authorization = f"PVEAPIToken={who.token}={who.secret.reveal()}"
        self._down = down

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        if self._cluster in self._down:
            raise Broken(kind=Break.UNREACHABLE, sent=False, what="no route to host")
        ticket = self._cluster.submit(
            Request(
                node=self._cluster.world.node_names()[0],
                method=request.method,
                path=unquote(request.path),
                params=dict(request.params),
                authorization=self._authorization,
            )
        )
        try:
            return await self._cluster.answer(ticket)
        finally:
            self._cluster.gone(ticket)


def cluster(number: int) -> SimCluster:
    """A cluster with one node and a template."""
    template = {
        "type": "qemu", "vmid": 9000, "node": "pve1", "name": "debian-12", "template": True,
        "config": {"cores": 1, "memory": 1024, "scsi0": "local-lvm:base-9000-disk-0,size=8G"},
    }  # fmt: skip
    spec = {
        "tokens": [{"id": TOKEN, "secret": SECRET}],
        "users": ["agent@pve"],
        "nodes": ["pve1"],
        "guests": [template],
    }
    return FastCluster(spec, seed=number)


def parts_of(worlds: Mapping[str, SimCluster], down: set[SimCluster]) -> Parts:
    """Real parts, but for PVE and the clock."""

    @asynccontextmanager
    async def pve(settings: Settings, who: Credential) -> AsyncGenerator[Pve]:
        endpoint = settings.cluster.endpoints[0]
        wire = Wire(worlds[urlsplit(endpoint).hostname or ""], who, down)
        api = PveApi(transport=wire, clock=WorldClock(), endpoints=settings.cluster.endpoints)
        client = PveClient(api=api, token=who.token)
        await client.version()
        yield cast("Pve", client)

    async def options(_pve: Pve, _settings: Settings) -> Looked:
        return Looked()

    def clock() -> Clock:
        return WorldClock()

    return replace(parts(), pve=pve, options=options, clock=clock)


def settings_file(folder: Path, names: list[str], more: str = "") -> Path:
    """A file with so many clusters; each has a manifest for two guests, with vmids that others have too."""
    tables: list[str] = []
    for name in names:
        home = folder / name
        (home / "manifests").mkdir(parents=True)
        (home / "manifests" / "guests.yaml").write_text(guests(name))
        tables.append(
            f'[[cluster]]\nname = "{name}"\nendpoints = ["https://{name}.example"]\ntoken_id = "{TOKEN}"\n'
            f'token_secret_file = "../token.secret"\ninsecure = true\n'
        )
    (folder / "token.secret").write_text(SECRET)
    (folder / "token.secret").chmod(0o600)
    rest = '[reconcile]\ninterval = "10m"\n[http]\nlisten = "127.0.0.1:0"\nsocket = "s"\n[log]\nlevel = "error"\n'
    file = folder / "trueup.toml"
    file.write_text("".join(tables) + rest + more)
    return file


def guests(name: str) -> str:
    """Its guests have its name, so that one in a wrong world shows."""
    return "---\n".join(
        (
            f"kind: VirtualMachine\nname: {name}-web\nvmid: 101\nnode: pve1\nsource: {{clone: 9000}}\npower: stopped\n",
            f"kind: VirtualMachine\nname: {name}-db\nvmid: 102\nnode: pve1\nconfig: {{cores: 2}}\npower: stopped\n",
        )
    )
