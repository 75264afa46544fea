"""Ports that cannot change anything. Commands that only look are given these, so they cannot do more by mistake."""

import math
from collections.abc import Mapping, Sequence

from trueup.edges.standing import Leased, LeaseHolder
from trueup.model.errors import InvariantBroken, NotSent
from trueup.model.gate import RequestState, RequestView
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.guests import Backup, Power, ResourceRow, Snapshot
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Upid, Vmid
from trueup.model.ops import Draft, EpochTaken, OpState, OpView, Record
from trueup.model.pve import Call, ClusterState, ConfigRead, Reply, TaskList, TaskRow, TaskState
from trueup.ports import JournalReader, Pve


class LookingPve:
    """See `trueup.ports.Pve`; a mutation is never sent."""

    def __init__(self, pve: Pve) -> None:
        """Read through `pve`."""
        self._pve = pve

    @property
    def token(self) -> TokenId:
        """The token in use."""
        return self._pve.token

    async def send(self, call: Call) -> Reply:
        """Refuse. Raises NotSent, always."""
        raise NotSent(what=f"{call.method} {call.path} was not sent: this command only looks")

    async def cluster(self, *, uptimes: bool = True) -> ClusterState:
        """See `trueup.ports.Pve`."""
        return await self._pve.cluster(uptimes=uptimes)

    async def resources(self) -> tuple[ResourceRow, ...]:
        """See `trueup.ports.Pve`."""
        return await self._pve.resources()

    async def sees_all_guests(self) -> bool:
        """See `trueup.ports.Pve`."""
        return await self._pve.sees_all_guests()

    async def statuses(self, node: NodeName) -> Mapping[Vmid, Power]:
        """See `trueup.ports.Pve`."""
        return await self._pve.statuses(node)

    async def config(self, node: NodeName, guest: GuestType, vmid: Vmid) -> ConfigRead:
        """See `trueup.ports.Pve`."""
        return await self._pve.config(node, guest, vmid)

    async def snapshots(self, node: NodeName, guest: GuestType, vmid: Vmid) -> tuple[Snapshot, ...]:
        """See `trueup.ports.Pve`."""
        return await self._pve.snapshots(node, guest, vmid)

    async def backups(self, node: NodeName, storage: str) -> tuple[Backup, ...]:
        """See `trueup.ports.Pve`."""
        return await self._pve.backups(node, storage)

    async def shared_storages(self) -> frozenset[str]:
        """See `trueup.ports.Pve`."""
        return await self._pve.shared_storages()

    async def running(self, node: NodeName, guest: GuestType, vmid: Vmid) -> bool:
        """See `trueup.ports.Pve`."""
        return await self._pve.running(node, guest, vmid)

    async def tasks(self, node: NodeName, *, proven: bool = True) -> TaskList:
        """See `trueup.ports.Pve`."""
        return await self._pve.tasks(node, proven=proven)

    async def active_tasks(self, node: NodeName) -> tuple[TaskRow, ...]:
        """See `trueup.ports.Pve`."""
        return await self._pve.active_tasks(node)

    async def task(self, upid: Upid) -> TaskState | None:
        """See `trueup.ports.Pve`."""
        return await self._pve.task(upid)


class LookingJournal:
    """See `trueup.ports.Journal`; a record is never written. Before the first start there is nothing in it."""

    def __init__(self, reader: JournalReader | None) -> None:
        """Read through `reader`; None is a journal that does not exist yet."""
        self._reader = reader

    async def take_epoch(self, *, holder: str, token: TokenId, record_id: str, at_ms: int) -> Epoch:
        """Refuse. Raises InvariantBroken, always."""
        raise InvariantBroken(what=f"{holder} only looks: it takes no epoch ({token} {record_id} {at_ms})")

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        """Refuse. Raises InvariantBroken, always."""
        raise InvariantBroken(what=f"{len(drafts)} records of epoch {epoch} were not written: this command only looks")

    async def enter(self) -> None:
        """There is no lock to be taken."""

    def lead_until(self) -> float:
        """Never: this command only looks."""
        return -math.inf

    async def led(self) -> None:
        """Refuse. Raises InvariantBroken, always."""
        raise InvariantBroken(what="nothing is led: this command only looks")

    async def close(self) -> None:
        """Whoever opened the reader closes it."""

    async def leader(self) -> LeaseHolder | None:
        """Who holds the lease of a journal that several agents share; None = nobody, or there is no lease."""
        return await self._reader.leader() if isinstance(self._reader, Leased) else None

    async def in_flight(self) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.in_flight() if self._reader else ()

    async def accepted(self) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.accepted() if self._reader else ()

    async def presumed_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.presumed_since(since_ms) if self._reader else ()

    async def unaccounted_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.unaccounted_since(since_ms) if self._reader else ()

    async def ops(
        self, *, state: OpState | None = None, vmid: Vmid | None = None, limit: int = 0
    ) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.ops(state=state, vmid=vmid, limit=limit) if self._reader else ()

    async def op(self, op_id: OpId) -> OpView | None:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.op(op_id) if self._reader else None

    async def records(self, *, op_id: OpId | None = None, after_seq: int = 0, limit: int = 0) -> tuple[Record, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.records(op_id=op_id, after_seq=after_seq, limit=limit) if self._reader else ()

    async def request(self, request_id: OpId) -> RequestView | None:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.request(request_id) if self._reader else None

    async def requests(self, *, state: RequestState | None = None, limit: int = 0) -> tuple[RequestView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.requests(state=state, limit=limit) if self._reader else ()

    async def request_of_nonce(self, nonce: str) -> RequestView | None:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.request_of_nonce(nonce) if self._reader else None

    async def requests_of_key(self, idempotency_key: str) -> tuple[RequestView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.requests_of_key(idempotency_key) if self._reader else ()

    async def moment(self, lookup: Lookup) -> Moment:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.moment(lookup) if self._reader else Moment()

    async def one_shots_since(self, since_ms: int) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.one_shots_since(since_ms) if self._reader else ()

    async def standing_fences(self) -> tuple[OpView, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.standing_fences() if self._reader else ()

    async def labels(self) -> dict[Vmid, Mapping[str, str]]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.labels() if self._reader else {}

    async def newest_ms(self) -> int:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.newest_ms() if self._reader else 0

    async def claimed_upids(self, candidates: frozenset[str]) -> frozenset[str]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.claimed_upids(candidates) if self._reader else frozenset()

    async def adopted(self) -> dict[Vmid, str]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.adopted() if self._reader else {}

    async def paused(self) -> frozenset[str]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.paused() if self._reader else frozenset()

    async def doubts(self) -> tuple[str, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.doubts() if self._reader else ()

    async def epochs(self) -> tuple[EpochTaken, ...]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.epochs() if self._reader else ()

    async def tokens(self) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
        """See `trueup.ports.JournalReader`."""
        return await self._reader.tokens() if self._reader else (frozenset(), frozenset())
