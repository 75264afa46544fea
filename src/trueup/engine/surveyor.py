"""One look at manifests, guests and journal, turned into a plan. Reads only."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from trueup.core import planner
from trueup.core.plan_context import Context, why_closed
from trueup.engine.observer import Observer, World
from trueup.model.guests import Clone, Desired
from trueup.model.ids import Vmid
from trueup.model.plan import Plan
from trueup.ports import Clock, JournalReader, Pve


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, the circumstances, and the plan that follows."""

    world: World
    context: Context
    plan: Plan


class Surveyor:
    """Makes plans."""

    def __init__(self, *, pve: Pve, journal: JournalReader, clock: Clock, installation: str) -> None:
        """Look through these ports; `installation` is our own id ('' before the first start)."""
        self._journal = journal
        self._clock = clock
        self._installation = installation
        self._observer = Observer(pve)

    async def survey(self, desired: Sequence[Desired], shutdown_failed: Collection[Vmid] = ()) -> Survey:
        """Look at everything that the manifests and the journal name, and plan. Raises ReadFailed."""
        adopted = await self._journal.adopted()
        sources = {want.source.source for want in desired if isinstance(want.source, Clone)}
        world = await self._observer.world({want.vmid for want in desired} | adopted.keys() | sources)
        context = await self._context(world, adopted, shutdown_failed)
        return Survey(world=world, context=context, plan=planner.plan(desired, world.guests, context))

    async def _context(self, world: World, adopted: Mapping[Vmid, str], shutdown_failed: Collection[Vmid]) -> Context:
        open_ops = (*await self._journal.in_flight(), *await self._journal.accepted())
        return Context(
            installation=self._installation,
            adopted=adopted,
            closed={op.intent.vmid: why_closed(op) for op in open_ops},
            unread=world.unread,
            paused=await self._journal.paused(),
            quorate=world.cluster.quorate,
            nodes={node.name: node.online for node in world.cluster.nodes},
            now_ms=self._clock.now_ms(),
            shutdown_failed=frozenset(shutdown_failed),
        )


async def installation_of(journal: JournalReader) -> str:
    """Our own id in markers: the id of the journal's very first record, '' while there is none.

    It is random, durable and part of the chain, and a copied journal is still the same installation.
    """
    first = await journal.records(limit=1)
    return first[0].record_id if first else ""
