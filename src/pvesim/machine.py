"""The whole state of the simulated cluster, and the waits that are common to all its parts.

Rule kept here: one object holds everything that changes, so that a world is its seed, its guests file and the
requests it got, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.access import Identity
from pvesim.cluster import Cluster, Node
from pvesim.faults import Fault, FaultBook
from pvesim.guests import GuestStore, Hand, Mutation
from pvesim.ha import Ha
from pvesim.kernel import Kernel, Proc
from pvesim.storage import Storages
from pvesim.tasks import NodeTasks, Task
from pvesim.tokens import Token, TokenBook
from pvesim.wire import Json

FLOCK_TIMEOUT_S = 10.0
CLUSTER_LOG_ROWS = 700


@dataclass(slots=True)
class ClusterLog:
    """The replicated log: a ring in memory that may lose rows."""

    rows: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    number: int = 0
    loses: float = 0.0


@dataclass(slots=True, kw_only=True)
class Machine:
    """Everything."""

    kernel: Kernel
    rng: random.Random
    time_scale: float
    version: str
    cluster: Cluster
    guests: GuestStore
    storages: Storages
    tokens: TokenBook
    tasks: dict[str, NodeTasks]
    ha: Ha = field(default_factory=Ha)
    faults: FaultBook = field(default_factory=FaultBook)
    log: ClusterLog = field(default_factory=ClusterLog)
    mutations: list[Mutation] = field(default_factory=list[Mutation])
    running: dict[str, Proc] = field(default_factory=dict[str, Proc])
    durations: dict[str, float] = field(default_factory=dict[str, float])
    daemon_workers: int = 3

    @property
    def now(self) -> float:
        """The true time."""
        return self.kernel.now

    @property
    def is_9(self) -> bool:
        """Whether the newer order of checks applies."""
        return not self.version.startswith("8")

    def scaled(self, seconds: float) -> float:
        """A duration or a wait of PVE in true seconds."""
        return seconds * self.time_scale

    def clock(self, node: str) -> float:
        """A node's own time."""
        return self.cluster.nodes[node].clock(self.now)

    def tokens_of(self, node: Node) -> Mapping[str, Token]:
        """The tokens a node knows: without quorum those of the moment it lost it."""
        return self.tokens.tokens if node.stale_tokens is None else node.stale_tokens

    def note(self, node: str, user: str, message: str, pid: int) -> None:
        """A row in the cluster log, unless it gets lost."""
        if self.log.loses and self.rng.random() < self.log.loses:
            return
        self.log.number += 1
        self.log.rows.append({
            "uid": self.log.number, "id": f"{self.log.number}:{node}", "node": node, "pid": pid, "pri": 6,
            "tag": "pvedaemon", "time": int(self.clock(node)), "user": user, "msg": message,
        })  # fmt: skip
        del self.log.rows[:-CLUSTER_LOG_ROWS]

    def task_of(self, upid: str) -> Task | None:
        """A task wherever it ran."""
        return next((t.logs[upid] for t in self.tasks.values() if upid in t.logs), None)


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through a node."""

    ticket: int
    method: str
    path: str
    entry: str
    node: str
    who: Identity
    arrived: float
    authorization: str | None
    fault: Fault | None
    raw: Mapping[str, str]
    names: Mapping[str, str]
    params: dict[str, str] = field(default_factory=dict[str, str])
    proc: Proc | None = None
    row: Mutation | None = None
    pid: int = 0
    list_at: float = 0.0

    @property
    def vmid(self) -> int:
        """The guest in the path."""
        return int(self.names["vmid"])

    @property
    def guest_type(self) -> str:
        """`qemu` or `lxc`, from the path."""
        return self.names["type"]

    def hand(self) -> Hand:
        """The daemon process as a writer."""
        return Hand(pid=self.pid, row=self.row)

    def flag(self, name: str) -> bool:
        """A boolean parameter."""
        return self.params.get(name, "0") == "1"

    def hit_by(self, kind: str) -> Fault | None:
        """The fault on this request if it is of that kind."""
        return self.fault if self.fault is not None and self.fault.kind == kind else None
