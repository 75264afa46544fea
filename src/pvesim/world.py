"""The world: a simulated PVE cluster as one deterministic state machine without clock, sockets or threads.

Rule kept here: the world moves only when it is told the time. The same guests file, seed, requests and instants
give the same answers at the same instants.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import cast

from pvesim import control, guests_file
from pvesim.cluster import Cluster
from pvesim.guests import STATS_CYCLE_S, GuestStore
from pvesim.kernel import Kernel
from pvesim.machine import Machine
from pvesim.service import Service
from pvesim.storage import Storages
from pvesim.tasks import NodeTasks
from pvesim.tokens import TokenBook
from pvesim.wire import Answer, Delivery, Hangup, Json, Request, Response

__all__ = ["Answer", "Delivery", "Hangup", "Request", "Response", "World"]


class World:
    """A cluster and everything under way in it. Times are true seconds since the epoch."""

    def __init__(self, machine: Machine) -> None:
        """Wrap a machine; use `build` to make one from a description."""
        self._m = machine
        self._service = Service(machine)

    @classmethod
    def build(cls, spec: Mapping[str, object], *, seed: int, now: float, time_scale: float = 1.0) -> World:
        """A world from the content of a guests file; raises ValueError when it cannot be read."""
        rng = random.Random(seed)
        kernel = Kernel(now, rng)
        cluster = Cluster()
        cluster.add(guests_file.node_names(spec), now, rng)
        durations = cast("Mapping[str, object]", spec.get("durations", {}))
        machine = Machine(
            kernel=kernel,
            rng=rng,
            time_scale=time_scale,
            version=str(spec.get("version", "9.2")),
            cluster=cluster,
            guests=GuestStore(kernel, cluster, cycle_s=max(STATS_CYCLE_S * time_scale, 1e-3)),
            storages=Storages(),
            tokens=TokenBook(),
            tasks={name: NodeTasks() for name in cluster.nodes},
            durations={key: float(str(value)) for key, value in durations.items()},
            daemon_workers=int(str(spec.get("daemon_workers", 3))),
        )
        guests_file.add_storages(machine, spec)
        guests_file.add_tokens(machine, spec)
        guests_file.add_backups(machine, spec)
        for raw in guests_file.rows(spec, "guests") or ():
            guests_file.put_guest(machine, raw)
        for raw in guests_file.rows(spec, "ha") or ():
            guests_file.put_resource(machine, raw)
        machine.guests.broadcast_all()
        return cls(machine)

    @property
    def now(self) -> float:
        """The instant up to which everything has happened."""
        return self._m.now

    def node_names(self) -> list[str]:
        """The nodes, in the order of the description."""
        return list(self._m.cluster.nodes)

    def submit(self, now: float, request: Request) -> int:
        """A request reaches its entry node; returns the ticket under which the answer comes."""
        self._m.kernel.run_until(now)
        return self._service.take(request)

    def next_due(self) -> float | None:
        """The next instant at which something happens, None while everything rests."""
        if self._service.outbox:
            return self._m.now
        return self._m.kernel.next_due()

    def advance(self, now: float) -> list[Delivery]:
        """Let everything happen up to `now`; returns the answers that reached their clients."""
        self._m.kernel.run_until(now)
        delivered, self._service.outbox = self._service.outbox, []
        return delivered

    def client_gone(self, ticket: int) -> None:
        """The client of a request closed its connection: its answer goes nowhere, its work goes on."""
        self._service.gone(ticket)

    def state(self) -> dict[str, Json]:
        """Everything as data."""
        return control.state(self._m)

    def mutations(self) -> list[dict[str, Json]]:
        """Every accepted request that may change something, in order."""
        return control.mutations(self._m)

    def add_fault(self, fault: Mapping[str, object]) -> None:
        """Arrange an accident; raises ValueError for one that cannot be read."""
        self._m.faults.add(fault)

    def put_guests(self, body: Mapping[str, object]) -> None:
        """Change guests as somebody would by hand: one guest, or a whole guests file."""
        control.put_guests(self._m, body)

    def control(self, action: Mapping[str, object]) -> Json:
        """Do what an administrator or an accident does to machines; see `pvesim.control`."""
        return control.act(self._m, self._service, action)
