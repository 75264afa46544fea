"""Looking at guests: one list for all, one config read for each guest that matters, the live state by node.

Nothing is concluded from a read that failed: such a guest is simply not seen.
"""

import asyncio
from collections.abc import Callable, Collection, Container, Iterator, Mapping

import msgspec

from trueup.core import sighting
from trueup.model import limits
from trueup.model.errors import Absent, ReadFailed
from trueup.model.guests import Observed, Power, ResourceRow
from trueup.model.ids import NodeName, Vmid
from trueup.model.pve import ClusterState
from trueup.ports import Pve

Keep = Callable[[Mapping[Vmid, ResourceRow]], Mapping[Vmid, Observed]]
"""Of the guests that are to be seen, those that are remembered well enough."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one look.

    `unread` names guests that are listed but could not be read, with the reason; `kept` those whose config is
    remembered from an earlier look.
    """

    cluster: ClusterState
    rows: Mapping[Vmid, ResourceRow]
    guests: Mapping[Vmid, Observed]
    unread: Mapping[Vmid, str] = {}
    kept: frozenset[Vmid] = frozenset()


class Observer:
    """Reads guests through the Pve port."""

    def __init__(self, pve: Pve) -> None:
        """Read through `pve`."""
        self._pve = pve

    async def rows(self) -> dict[Vmid, ResourceRow]:
        """All guests that the token may see. Raises ReadFailed."""
        return {row.vmid: row for row in await self._pve.resources()}

    async def world(self, wanted: Collection[Vmid], keep: Keep | None = None) -> World:
        """Look at the cluster, and closely at the `wanted` guests. Raises ReadFailed if the lists cannot be read.

        `keep` says which of them are remembered well enough; of those only the live state is read.
        """
        cluster = await self._pve.cluster(uptimes=False)
        rows = await self.rows()
        close = {vmid: rows[vmid] for vmid in wanted if vmid in rows}
        kept: Mapping[Vmid, Observed] = keep(close) if keep else {}
        guests, unread = await self.closely(close, kept)
        return World(cluster=cluster, rows=rows, guests=guests, unread=unread, kept=frozenset(kept))

    async def closely(
        self, rows: Mapping[Vmid, ResourceRow], kept: Mapping[Vmid, Observed] | None = None
    ) -> tuple[dict[Vmid, Observed], dict[Vmid, str]]:
        """Read each guest's config unless it is kept, and each node's live states once. Who fails is told apart."""
        guests: dict[Vmid, Observed] = dict(kept or {})
        unread: dict[Vmid, str] = {}
        live: dict[Vmid, Power] = {}
        todo = _by_node(rows, guests)

        async def states(node: NodeName) -> None:
            live.update(await self._statuses(node))

        async def configs(node: NodeName) -> None:
            for vmid in todo[node]:
                read = await self._config(rows[vmid])
                if isinstance(read, str):
                    unread[vmid] = read
                else:
                    guests[vmid] = read

        async with asyncio.TaskGroup() as group:
            for node in sorted(todo):
                group.create_task(states(node))
            # No more than may be under way at once: a task for each of ten thousand guests takes 30 MB for a moment.
            for node in sorted(todo):
                for _ in range(limits.READS_PER_NODE):
                    group.create_task(configs(node))
        for vmid, guest in guests.items():
            status = live.get(vmid, Power.UNKNOWN)
            if guest.status is not status:
                guests[vmid] = msgspec.structs.replace(guest, status=status)
        return guests, unread

    async def states(self, rows: Mapping[Vmid, ResourceRow]) -> dict[Vmid, Observed]:
        """Only where each guest is and whether it runs, by one list a node. What is not known is `Power.UNKNOWN`."""
        nodes = sorted({row.node for row in rows.values()})
        async with asyncio.TaskGroup() as group:
            states = {node: group.create_task(self._statuses(node)) for node in nodes}
        live: dict[Vmid, Power] = {}
        for task in states.values():
            live.update(task.result())
        return {
            vmid: Observed(
                type=row.type,
                vmid=vmid,
                node=row.node,
                name=row.name,
                status=live.get(vmid, Power.UNKNOWN),
                lock=row.lock,
                ha=row.ha,
            )
            for vmid, row in rows.items()
        }

    async def one(self, row: ResourceRow) -> Observed:
        """Read one guest now, with its live state. Raises Absent or ReadFailed."""
        read = await self._pve.config(row.node, row.type, row.vmid)
        running = await self._pve.running(row.node, row.type, row.vmid)
        return sighting.observed(row, read, running=running)

    async def _statuses(self, node: NodeName) -> Mapping[Vmid, Power]:
        try:
            return await self._pve.statuses(node)
        except ReadFailed:
            return {}

    async def _config(self, row: ResourceRow) -> Observed | str:
        try:
            return sighting.observed(row, await self._pve.config(row.node, row.type, row.vmid))
        except Absent as error:
            return f"moved or deleted just now: {error.what}"
        except ReadFailed as error:
            return error.what


def _by_node(rows: Mapping[Vmid, ResourceRow], known: Container[Vmid]) -> dict[NodeName, Iterator[Vmid]]:
    """The guests of each node that are still to be read, in order; several readers may take turns."""
    found: dict[NodeName, list[Vmid]] = {row.node: [] for row in rows.values()}
    for vmid, row in rows.items():
        if vmid not in known:
            found[row.node].append(vmid)
    return {node: iter(sorted(vmids)) for node, vmids in found.items()}


def guest_row(guest: Observed) -> ResourceRow:
    """Where a guest that was seen is to be read again."""
    return ResourceRow(type=guest.type, vmid=guest.vmid, node=guest.node, name=guest.name, ha=guest.ha, pool=guest.pool)
