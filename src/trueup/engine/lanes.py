"""Who may mutate now: one operation per guest, a few per node, one per clone source.

PVE serialises a guest's operations by a lock with a short wait and has three daemon workers a node, so more at once
would only fail, or queue where nobody can see it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from trueup.model import limits
from trueup.model.ids import NodeName, Vmid


class Lanes:
    """The slots of one agent."""

    def __init__(self, slots_per_node: int) -> None:
        """Allow this many mutations at once on one node."""
        self._guests: defaultdict[Vmid, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._nodes: defaultdict[NodeName, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(slots_per_node))
        self._sources: defaultdict[Vmid, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(limits.SLOTS_PER_CLONE_SOURCE)
        )

    @asynccontextmanager
    async def hold(self, vmid: Vmid, node: NodeName, source: Vmid | None) -> AsyncGenerator[None]:
        """Wait for the guest's lane, the clone source and the node's slot, in this order, and hold them."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._guests[vmid])
            if source is not None:
                await stack.enter_async_context(self._sources[source])
            await stack.enter_async_context(self._nodes[node])
            yield
