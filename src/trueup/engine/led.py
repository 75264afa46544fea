"""PVE, for whoever leads: nothing is sent after the lease.

One place for all mutations, whoever makes them: the bound is put into each request, and checked on the monotonic clock
right before its first byte. So an agent that was paused and has lost its lease meanwhile sends nothing more.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from trueup.model.errors import JournalFailed, NotSent
from trueup.model.guests import Backup, Power, ResourceRow, Snapshot
from trueup.model.ids import GuestType, NodeName, TokenId, Upid, Vmid
from trueup.model.pve import Call, ClusterState, ConfigRead, Reply, TaskList, TaskRow, TaskState
from trueup.ports import Clock, Journal, Keeper, Pve


class LedPve:
    """`trueup.ports.Pve`; a request must leave within the lease of the journal that announces it."""

    def __init__(self, inner: Pve, journal: Journal) -> None:
        """Speak through `inner` for as long as `journal` is led."""
        self.inner = inner
        self._journal = journal

    @property
    def token(self) -> TokenId:
        """The token in use."""
        return self.inner.token

    async def send(self, call: Call) -> Reply:
        """See `trueup.ports.Pve`. Raises NotSent once the lease is over."""
        led = self._journal.lead_until()
        return await self.inner.send(replace(call, send_by=min(call.send_by, led) if call.send_by else led))

    async def cluster(self, *, uptimes: bool = True) -> ClusterState:
        """See `trueup.ports.Pve`."""
        return await self.inner.cluster(uptimes=uptimes)

    async def resources(self) -> tuple[ResourceRow, ...]:
        """See `trueup.ports.Pve`."""
        return await self.inner.resources()

    async def sees_all_guests(self) -> bool:
        """See `trueup.ports.Pve`."""
        return await self.inner.sees_all_guests()

    async def statuses(self, node: NodeName) -> Mapping[Vmid, Power]:
        """See `trueup.ports.Pve`."""
        return await self.inner.statuses(node)

    async def config(self, node: NodeName, guest: GuestType, vmid: Vmid) -> ConfigRead:
        """See `trueup.ports.Pve`."""
        return await self.inner.config(node, guest, vmid)

    async def snapshots(self, node: NodeName, guest: GuestType, vmid: Vmid) -> tuple[Snapshot, ...]:
        """See `trueup.ports.Pve`."""
        return await self.inner.snapshots(node, guest, vmid)

    async def backups(self, node: NodeName, storage: str) -> tuple[Backup, ...]:
        """See `trueup.ports.Pve`."""
        return await self.inner.backups(node, storage)

    async def shared_storages(self) -> frozenset[str]:
        """See `trueup.ports.Pve`."""
        return await self.inner.shared_storages()

    async def running(self, node: NodeName, guest: GuestType, vmid: Vmid) -> bool:
        """See `trueup.ports.Pve`."""
        return await self.inner.running(node, guest, vmid)

    async def tasks(self, node: NodeName, *, proven: bool = True) -> TaskList:
        """See `trueup.ports.Pve`."""
        return await self.inner.tasks(node, proven=proven)

    async def active_tasks(self, node: NodeName) -> tuple[TaskRow, ...]:
        """See `trueup.ports.Pve`."""
        return await self.inner.active_tasks(node)

    async def task(self, upid: Upid) -> TaskState | None:
        """See `trueup.ports.Pve`."""
        return await self.inner.task(upid)


class LedKeeper:
    """`trueup.ports.Keeper`; tokens are made and deleted by whoever leads, and by nobody after the lease."""

    def __init__(self, inner: Keeper, journal: Journal, clock: Clock) -> None:
        """Ask `inner` for as long as `journal` is led; the lease is measured by `clock`."""
        self.inner = inner
        self._journal = journal
        self._clock = clock

    async def create(self, token: TokenId, *, send_by: float = 0.0) -> str:
        """See `trueup.ports.Keeper`. Raises JournalFailed, too: the lease is over, and nothing was sent."""
        until = self._until(send_by)
        try:
            return await self.inner.create(token, send_by=until)
        except NotSent as unsent:
            raise self._why(unsent) from unsent

    async def delete(self, token: TokenId, *, send_by: float = 0.0) -> None:
        """See `trueup.ports.Keeper`. Raises JournalFailed, too: the lease is over, and nothing was sent."""
        until = self._until(send_by)
        try:
            await self.inner.delete(token, send_by=until)
        except NotSent as unsent:
            raise self._why(unsent) from unsent

    async def listed(self, node: NodeName) -> tuple[TokenId, ...]:
        """See `trueup.ports.Keeper`."""
        return await self.inner.listed(node)

    def _until(self, send_by: float) -> float:
        led = self._journal.lead_until()
        return min(send_by, led) if send_by else led

    def _why(self, unsent: NotSent) -> NotSent | JournalFailed:
        """An agent whose lease is over is not to look for what is wrong with its keeper."""
        if self._clock.monotonic() <= self._journal.lead_until():
            return unsent
        return JournalFailed(what="the lease ran out: this process stood still", remedy="it is asked for anew")
