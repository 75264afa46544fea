"""The stand-ins for PVE that the client is tried against: the simulator in this process, it over HTTPS, and fakepve.

Each has a template 9000 and a node pve1, and tells a story: a coroutine that is given the client.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakepve.front import FakePve
from tests.pve.servers import RealClock, run
from tests.simulation import virtual_time
from tests.simulation.cluster import SimCluster, SimTransport
from tests.simulation.deaths import Mortality
from tests.simulation.harness import SimClock
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_http import Login, connect
from trueup.model.ids import TokenId
from trueup.model.settings import CaFile, Secret

Tell = Callable[[PveClient], Coroutine[Any, Any, None]]
Place = Callable[[Tell], None]
TEMPLATE = {
    "vmid": 9000, "name": "debian-12", "node": "pve1", "template": True,
    "config": {"cores": 1, "memory": 1024, "scsi0": "local-lvm:base-9000-disk-0,size=8G"},
}  # fmt: skip
TOKEN, SECRET = TokenId("root@pam!trueup"), "00000000-0000-0000-0000-00000000cafe"
SPEC: dict[str, Any] = {
    "nodes": ["pve1"],
    "tokens": [{"id": TOKEN, "secret": SECRET}],
    "guests": [{**TEMPLATE, "type": "qemu"}],
}


@contextmanager
def in_process(_folder: Path) -> Generator[Place]:
    """The simulator on virtual time, without a socket."""

    def place(tell: Tell) -> None:
        async def story() -> None:
            mortality = Mortality()
            cluster = SimCluster(SPEC, seed=3)
            wire = SimTransport(
                cluster, node="pve1", authorization=f"PVEAPIToken={TOKEN}={SECRET}", mortality=mortality
            )
            api = PveApi(transport=wire, clock=SimClock(mortality), endpoints=["https://pve1:8006"])
            await tell(PveClient(api=api, token=TOKEN))

        virtual_time.run(story())

    yield place


@contextmanager
def over_https(folder: Path) -> Generator[Place]:
    """The simulator as a process of its own."""
    guests = folder / "guests.json"
    guests.write_text(json.dumps(SPEC))
    command = (sys.executable, "-m", "pvesim", "--json", "--port", "0", "--time-scale", "0.02", "--guests", str(guests))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            yield _place(found["url"], Path(found["ca_file"]))
        finally:
            process.terminate()


@contextmanager
def fakepve(folder: Path) -> Generator[Place]:
    """A stranger's fake of PVE, over HTTPS."""
    with FakePve(folder, [TEMPLATE]) as fake:
        yield _place(fake.url, fake.ca_file)


def _place(url: str, ca_file: Path) -> Place:
    login = Login(endpoints=(url,), trust=CaFile(path=ca_file), token=TOKEN, secret=Secret(SECRET))

    def place(tell: Tell) -> None:
        async def story() -> None:
            async with connect(login, RealClock()) as pve:
                await tell(pve)

        run(story())

    return place


async def later() -> None:
    """Let the stand-in go on for a moment, of whatever time it lives by."""
    await asyncio.sleep(0.05)
