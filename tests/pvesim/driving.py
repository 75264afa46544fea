"""Drives a world on virtual time: a request, its answer, and waiting for a task."""

import json
from typing import Any

from pvesim.world import Hangup, Request, World

TOKEN = "root@pam!rec"
SECRET = "s3cret"
HEADER = f"PVEAPIToken={TOKEN}={SECRET}"
EPOCH = 1_800_000_000.0
VM = {"type": "qemu", "vmid": 900, "node": "pve1", "config": {"name": "vm900", "memory": 32, "scsi0": "local-lvm:1"}}
CT = {
    "type": "lxc",
    "vmid": 800,
    "node": "pve1",
    "config": {"hostname": "ct800", "memory": 64, "rootfs": "local-lvm:1"},
}


class Reply:
    """An answer and when it came."""

    def __init__(self, answer: Any, seconds: float) -> None:
        self.hung_up = isinstance(answer, Hangup)
        self.seconds = seconds
        if self.hung_up:
            return
        self.status = answer.status
        self.reason = answer.reason
        self.headers = answer.headers
        self.body = json.loads(answer.body) if answer.body else {}
        self.raw = answer.body

    @property
    def data(self) -> Any:
        assert self.status == 200, (self.status, self.reason)
        return self.body["data"]

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.reason


class Sim:
    """A world with the conveniences of a test."""

    def __init__(self, *guests: dict[str, Any], seed: int = 1, scale: float = 1.0, **spec: Any) -> None:
        tokens = [{"id": TOKEN, "secret": SECRET}, *spec.pop("tokens", [])]
        described = {"guests": list(guests), "tokens": tokens, **spec}
        self.world = World.build(described, seed=seed, now=EPOCH, time_scale=scale)
        self.replies: dict[int, Reply] = {}
        self.sent: dict[int, float] = {}

    @property
    def now(self) -> float:
        return self.world.now

    def send(self, method: str, path: str, /, *, node: str = "pve1", header: str | None = HEADER, **params: Any) -> int:
        return self.submit(method, path, {key: str(value) for key, value in params.items()}, node, header)

    def submit(
        self, method: str, path: str, params: dict[str, str], node: str = "pve1", header: str | None = HEADER
    ) -> int:
        request = Request(node=node, method=method, path=path, params=params, authorization=header)
        ticket = self.world.submit(self.now, request)
        self.sent[ticket] = self.now
        return ticket

    def run(self, until: float) -> None:
        """Step from one instant to the next, as a driver would."""
        while (due := self.world.next_due()) is not None and due <= until:
            self._collect(due)
        self._collect(until)

    def _collect(self, now: float) -> None:
        for delivery in self.world.advance(now):
            self.replies[delivery.ticket] = Reply(delivery.answer, now - self.sent[delivery.ticket])

    def wait(self, seconds: float) -> None:
        self.run(self.now + seconds)

    def reply(self, ticket: int, within: float = 200.0) -> Reply:
        end = self.now + within
        while ticket not in self.replies:
            due = self.world.next_due()
            assert due is not None, "nothing is going to happen, and the request is not answered"
            assert due <= end, "no answer in time"
            self._collect(due)
        return self.replies[ticket]

    def call(self, method: str, path: str, /, **params: Any) -> Reply:
        return self.reply(self.send(method, path, **params))

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, **params).data

    def config(self, vmid: int = 900, kind: str = "qemu", node: str = "pve1") -> dict[str, Any]:
        return self.get(f"/nodes/{node}/{kind}/{vmid}/config")

    def status(self, upid: str) -> dict[str, Any]:
        return self.get(f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status")

    def ended(self, upid: str, within: float = 120.0) -> str:
        """Wait for a task; its exit status."""
        end = self.now + within
        while self.now < end:
            row = self.status(upid)
            if row["status"] == "stopped":
                self.wait(0.05)
                return row["exitstatus"]
            self.wait(0.1)
        raise AssertionError(f"{upid} still runs")

    def task(self, method: str, path: str, /, **params: Any) -> str:
        """Do something that forks, and wait for its end."""
        return self.ended(self.call(method, path, **params).data)

    def rows(self, node: str = "pve1", **params: Any) -> list[dict[str, Any]]:
        return self.get(f"/nodes/{node}/tasks", **{"source": "all", **params})

    def mutations(self) -> list[dict[str, Any]]:
        return self.world.mutations()

    def effects(self) -> list[bool]:
        return [row["effect"] for row in self.mutations()]

    def control(self, action: str, **arguments: Any) -> Any:
        return self.world.control({"action": action, **arguments})

    def fault(self, fault: str, **rest: Any) -> None:
        self.world.add_fault({"fault": fault, **rest})


def kinds(value: Any) -> Any:
    """The keys and types of an answer, of a list those of its first row."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return kinds(value[0]) if value else None
    return type(value).__name__
