"""Looking at guests: one list for all, one config read for each guest that matters, the live state by node.

Nothing is concluded from a read that failed: such a guest is simply not seen.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

import msgspec

from trueup.core import sighting
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
        nodes = sorted({row.node for row in rows.values()})
        async with asyncio.TaskGroup() as group:
            states = {node: group.create_task(self._statuses(node)) for node in nodes}
            reads = {vmid: group.create_task(self._config(rows[vmid])) for vmid in sorted(rows.keys() - guests.keys())}
        for vmid, task in reads.items():
            read = task.result()
            if isinstance(read, str):
                unread[vmid] = read
            else:
                guests[vmid] = read
        live = {vmid: status for task in states.values() for vmid, status in task.result().items()}
        return {vmid: _alive(guest, live.get(vmid, Power.UNKNOWN)) for vmid, guest in guests.items()}, unread

    async def states(self, rows: Mapping[Vmid, ResourceRow]) -> dict[Vmid, Observed]:
        """Only where each guest is and whether it runs, by one list a node. What is not known is `Power.UNKNOWN`."""
        nodes = sorted({row.node for row in rows.values()})
        async with asyncio.TaskGroup() as group:
            states = {node: group.create_task(self._statuses(node)) for node in nodes}
        live = {vmid: status for task in states.values() for vmid, status in task.result().items()}
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

    async def _statuses(self, node: NodeName) -> dict[Vmid, Power]:
        try:
            return {row.vmid: row.status for row in await self._pve.statuses(node)}
        except ReadFailed:
            return {}

    async def _config(self, row: ResourceRow) -> Observed | str:
        try:
            return sighting.observed(row, await self._pve.config(row.node, row.type, row.vmid))
        except Absent as error:
            return f"moved or deleted just now: {error.what}"
        except ReadFailed as error:
            return error.what


def _alive(guest: Observed, status: Power) -> Observed:
    return guest if guest.status is status else msgspec.structs.replace(guest, status=status)


def guest_row(guest: Observed) -> ResourceRow:
    """Where a guest that was seen is to be read again."""
    return ResourceRow(type=guest.type, vmid=guest.vmid, node=guest.node, name=guest.name, ha=guest.ha, pool=guest.pool)
