"""One look at manifests, guests and journal, turned into a plan. Reads only."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from trueup.core import planner
from trueup.core.plan_context import Context, why_closed, why_pending
from trueup.core.plan_memo import Memo
from trueup.engine.memory import Memory
from trueup.engine.observer import Observer, World
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.gate import RequestState
from trueup.model.guests import Backup, Clone, Desired, Observed, Snapshot
from trueup.model.ids import NodeName, Vmid
from trueup.model.plan import Plan
from trueup.ports import Clock, JournalReader, Pve


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, the circumstances, and the plan that follows."""

    world: World
    context: Context
    plan: Plan


class Surveyor:
    """Makes plans."""

    def __init__(
        self, *, pve: Pve, journal: JournalReader, clock: Clock, installation: str, memory: Memory | None = None
    ) -> None:
        """Look through these ports; `installation` is our own id ('' before the first start).

        With a `memory`, only what may have changed since the last survey is read.
        """
        self._pve = pve
        self._journal = journal
        self._clock = clock
        self._installation = installation
        self._observer = Observer(pve)
        self._memory = memory
        self._plans = Memo() if memory is not None else None
        self._shared_at = 0.0
        self._shared_known: frozenset[str] | None = None

    async def survey(self, desired: Sequence[Desired], shutdown_failed: Collection[Vmid] = ()) -> Survey:
        """Look at everything that the manifests and the journal name, and plan. Raises ReadFailed."""
        adopted = await self._journal.adopted()
        sources = {want.source.source for want in desired if isinstance(want.source, Clone)}
        began = self._clock.monotonic()
        keep = self._memory.kept if self._memory else None
        world = await self._observer.world({want.vmid for want in desired} | adopted.keys() | sources, keep)
        looked = [want for want in desired if want.vmid not in world.kept]
        world = msgspec.structs.replace(world, guests=await self._with_history(looked, world.guests))
        if self._memory is not None:
            for vmid in world.guests.keys() - world.kept:
                self._memory.saw(world.rows[vmid], world.guests[vmid], began)
        context = await self._context(world, adopted, shutdown_failed)
        return Survey(world=world, context=context, plan=planner.plan(desired, world.guests, context, self._plans))

    async def one(self, want: Desired) -> Observed | None:
        """Look at one guest, wherever it is now; None if it is nowhere. Raises ReadFailed."""
        began = self._clock.monotonic()
        row = (await self._observer.rows()).get(want.vmid)
        if row is None:
            return None
        seen = (await self._with_history([want], {want.vmid: await self._observer.one(row)}))[want.vmid]
        if self._memory is not None:
            self._memory.saw(row, seen, began)
        return seen

    async def _with_history(self, desired: Sequence[Desired], guests: Mapping[Vmid, Observed]) -> dict[Vmid, Observed]:
        """Add snapshots and backups to the guests whose manifests have a policy; what cannot be read stays unknown."""
        found = dict(guests)
        archives: dict[tuple[NodeName, str], tuple[Backup, ...] | None] = {}
        for want in desired:
            seen = found.get(want.vmid)
            if seen is None:
                continue
            if want.snapshots is not None or (want.template and not seen.template):
                seen = msgspec.structs.replace(seen, snapshots=await self._snapshots(seen))
            if want.backups is not None:
                place = (seen.node, want.backups.storage)
                if place not in archives:
                    archives[place] = await self._backups(*place)
                listed = archives[place]
                own = None if listed is None else tuple(one for one in listed if one.vmid == want.vmid)
                seen = msgspec.structs.replace(seen, backups=own)
            found[want.vmid] = seen
        return found

    async def _snapshots(self, guest: Observed) -> dict[str, Snapshot] | None:
        try:
            listed = await self._pve.snapshots(guest.node, guest.type, guest.vmid)
        except ReadFailed:
            return None
        return {snapshot.name: snapshot for snapshot in listed}

    async def _backups(self, node: NodeName, storage: str) -> tuple[Backup, ...] | None:
        try:
            return await self._pve.backups(node, storage)
        except ReadFailed:
            return None

    async def _context(self, world: World, adopted: Mapping[Vmid, str], shutdown_failed: Collection[Vmid]) -> Context:
        open_ops = (*await self._journal.in_flight(), *await self._journal.accepted())
        pending = await self._journal.requests(state=RequestState.PENDING)
        closed = {request.request.target.vmid: why_pending(request) for request in pending}
        return Context(
            installation=self._installation,
            adopted=adopted,
            closed=closed | {op.intent.vmid: why_closed(op) for op in open_ops},
            unread=world.unread,
            paused=await self._journal.paused(),
            quorate=world.cluster.quorate,
            nodes={node.name: node.online for node in world.cluster.nodes},
            now_ms=self._clock.now_ms(),
            shutdown_failed=frozenset(shutdown_failed),
            fenced=frozenset(op.intent.vmid for op in await self._journal.standing_fences()),
            shared=await self._shared(),
        )

    async def _shared(self) -> frozenset[str] | None:
        now = self._clock.monotonic()
        fresh = self._memory is not None and now - self._shared_at < limits.REREAD_BOUND_S
        if fresh and self._shared_known is not None:
            return self._shared_known
        try:
            self._shared_known, self._shared_at = await self._pve.shared_storages(), now
        except ReadFailed:
            return None  # then every disk counts as one that may be local
        return self._shared_known


async def installation_of(journal: JournalReader) -> str:
    """Our own id in markers: the id of the journal's very first record, '' while there is none.

    It is random, durable and part of the chain, and a copied journal is still the same installation.
    """
    first = await journal.records(limit=1)
    return first[0].record_id if first else ""
