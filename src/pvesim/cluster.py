"""The nodes of the cluster: clocks, boots, process numbers, and who has quorum.

Rule kept here: every time PVE shows comes from some node's clock, which may be wrong, while the world itself
runs on one true clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from pvesim.tokens import Token
from pvesim.wire import died

GIB = 1024**3
CPUS = 8
MEMORY = 64 * GIB


@dataclass(slots=True, kw_only=True)
class Node:
    """One machine; `offset_s` is how far its clock is ahead of the truth."""

    name: str
    number: int
    booted_at: float
    next_pid: int
    stats_phase: float
    offset_s: float = 0.0
    online: bool = True
    quorate: bool = True
    offline_since: float | None = None
    stale_tokens: dict[str, Token] | None = None

    def clock(self, now: float) -> float:
        """What this node believes the time to be."""
        return now + self.offset_s

    def jiffies(self, now: float) -> int:
        """Hundredths of a second since its boot."""
        return max(1, int((now - self.booted_at) * 100))

    def fork_pid(self, rng: random.Random) -> int:
        """The number of a new process."""
        self.next_pid += rng.randint(1, 9)
        return self.next_pid


@dataclass(slots=True)
class Cluster:
    """All nodes, in the order of the guests file."""

    nodes: dict[str, Node] = field(default_factory=dict[str, Node])

    def add(self, names: Iterable[str], now: float, rng: random.Random) -> None:
        """Nodes that have been up for a while."""
        for name in names:
            if name not in self.nodes:
                self.nodes[name] = Node(
                    name=name,
                    number=len(self.nodes) + 1,
                    booted_at=now - rng.uniform(3_000, 400_000),
                    next_pid=rng.randint(900, 60_000),
                    stats_phase=rng.random(),
                )

    def need_quorum(self, name: str) -> None:
        """PVE's check before it forks a start, a create or a clone."""
        if not self.nodes[name].quorate:
            raise died("cluster not ready - no quorum?")

    def online(self) -> list[Node]:
        """The nodes that are up."""
        return [node for node in self.nodes.values() if node.online]

    def has_quorum(self) -> bool:
        """Whether any node works in a quorate partition."""
        return any(node.quorate for node in self.online())
