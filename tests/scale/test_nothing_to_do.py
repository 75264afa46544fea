"""An apply that has nothing to do, over a thousand guests: what it asks of PVE, and how long it takes."""

import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.real_death.stage import Simulator, Stage, marked

NODES = tuple(f"pve{number}" for number in range(1, 9))
GUESTS = 1_000
A_FEW = 6
"""Calls for one node, and for the cluster as a whole, that are not about one guest."""


class CountingSimulator(Simulator):
    command = (sys.executable, str(Path(__file__).with_name("counting_sim.py")))

    def calls(self) -> Counter[tuple[str, str]]:
        return Counter({(method, path): number for method, path, number in self.ask("/_count")})


def node_of(number: int) -> str:
    return NODES[number % len(NODES)]


def there(number: int, installation: str) -> dict[str, Any]:
    vmid = 1_000 + number
    text = marked(installation, vmid)
    if number % 2:
        disk = {"rootfs": f"local-lvm:vm-{vmid}-disk-0,size=4G", "net0": "name=eth0,bridge=vmbr0"}
        kind, config = "lxc", {"memory": 512, "description": text, **disk}
    else:
        disk = {"scsi0": f"local-lvm:vm-{vmid}-disk-0,size=8G", "net0": "virtio,bridge=vmbr0"}
        kind, config = "qemu", {"cores": 2, "memory": 1024, "description": text, **disk}
    return {
        "type": kind, "vmid": vmid, "node": node_of(number), "name": f"guest-{vmid}", "status": "running",
        "config": config,
    }  # fmt: skip


def declared(number: int) -> str:
    vmid = 1_000 + number
    kind = "Container" if number % 2 else "VirtualMachine"
    size = "rootfs: {size: 4G}, memory: 512" if number % 2 else "cores: 2, memory: 1024, scsi0: {size: 8G}"
    source = "{clone: 9001}" if number % 2 else "{empty: true}"
    lines = (
        f"kind: {kind}", f"name: guest-{vmid}", f"vmid: {vmid}", f"node: {node_of(number)}", f"source: {source}",
        f"config: {{{size}}}",
    )  # fmt: skip
    return "\n".join((*lines, ""))


def test_a_thousand_guests_cost_one_config_read_each_and_a_few_calls_a_node(tmp_path: Path) -> None:
    nowhere = tmp_path / "none.pem"
    with Stage(tmp_path / "agent", "https://127.0.0.1:1", nowhere, "none@pve!none", "none") as stage:
        installation = stage.found()
        guests = {"nodes": NODES, "guests": [there(number, installation) for number in range(GUESTS)]}
        for first in range(0, GUESTS, 100):
            stage.manifest(f"guests-{first}", *(declared(number) for number in range(first, first + 100)))
        with CountingSimulator(tmp_path, guests=guests) as sim:
            stage.change("https://127.0.0.1:1", sim.url)
            stage.change(str(nowhere), str(sim.ca_file))
            stage.change("none@pve!none", sim.token_id)
            (stage.folder / "token.secret").write_text(sim.token_secret)
            began = time.monotonic()
            done = stage.run("apply", "--yes", "--json")
            took_s = time.monotonic() - began
            assert done.code == 0, done.err
            assert done.json()["plan"]["summary"]["unchanged"] == GUESTS
            calls = sim.calls()

    assert {method for method, _ in calls} == {"GET"}
    of_guests = Counter[str]()
    of_nodes = Counter[str]()
    others = Counter[str]()
    for (_, path), number in calls.items():
        if guest := re.fullmatch(r"/nodes/[^/]+/(?:qemu|lxc)/(\d+)/.+", path):
            of_guests[guest[1]] += number
        elif node := re.match(r"/nodes/([^/]+)/", path):
            of_nodes[node[1]] += number
        else:
            others[path] += number
    print(f"\nan apply of nothing over {GUESTS} guests: {took_s:.1f} s, {sum(calls.values())} calls")
    print(f"  guests {sum(of_guests.values())}, nodes {sum(of_nodes.values())}, cluster {sum(others.values())}")
    assert len(of_guests) == GUESTS
    assert max(of_guests.values()) == 1, of_guests.most_common(3)
    assert max(of_nodes.values()) <= A_FEW, of_nodes
    assert sum(others.values()) <= 2 * A_FEW, others
