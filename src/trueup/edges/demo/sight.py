"""What the demo sees: the cluster through the simulator's side doors, and the journal, read-only, beside its writer."""

from collections.abc import Callable

import msgspec

from trueup.adapters.sim_control import Mutation, SimControl, SimGuest
from trueup.model.ids import OpId
from trueup.model.ops import Event, Kind, OpState, OpView, Record
from trueup.ports import Clock, JournalReader


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look.

    `ops` are oldest first; `ended` are tasks that have ended, `pending` accidents that were ordered and have not
    happened yet.
    """

    now_ms: int
    at_s: float
    guests: dict[int, SimGuest]
    ended: frozenset[str]
    pending: frozenset[str]
    ops: tuple[OpView, ...] = ()
    epoch: int = 0

    def at_work(self, kind: Kind | None = None) -> list[OpView]:
        """Operations in flight for which PVE has given a task."""
        return [op for op in self.in_flight(kind) if op.state is OpState.TASK_RUNNING]

    def in_flight(self, kind: Kind | None = None) -> list[OpView]:
        """Operations that PVE may have received, and whose end is not known."""
        return [op for op in self.ops if is_open(op) and kind in {None, op.intent.kind}]


def is_open(op: OpView) -> bool:
    """Whether it is in flight."""
    return op.state in {OpState.STARTED, OpState.TASK_RUNNING}


class Sight:
    """Looks. The journal may not be there yet."""

    def __init__(self, sim: SimControl, journal: Callable[[], JournalReader | None], clock: Clock) -> None:
        """See through these."""
        self._sim = sim
        self._journal = journal
        self._clock = clock

    async def look(self) -> Seen:
        """Look once. Raises TrueupError if either cannot be read."""
        journal = self._journal()
        ops = await journal.ops() if journal else ()
        epochs = await journal.epochs() if journal else ()
        state = await self._sim.state()
        return Seen(
            now_ms=self._clock.now_ms(),
            at_s=self._clock.monotonic(),
            guests={guest.vmid: guest for guest in state.guests},
            ended=frozenset(task.upid for task in state.tasks if task.status != "running"),
            pending=frozenset(fault.fault for fault in state.faults if fault.done < fault.times),
            ops=tuple(reversed(ops)),
            epoch=epochs[-1].epoch if epochs else 0,
        )

    async def mutations(self) -> tuple[Mutation, ...]:
        """What the cluster was asked to change. Raises ReadFailed."""
        return await self._sim.mutations()

    async def records(self) -> tuple[Record, ...]:
        """All records of the journal, oldest first."""
        journal = self._journal()
        return await journal.records() if journal else ()

    async def events(self, op_id: OpId) -> tuple[Event, ...]:
        """What was recorded about one operation."""
        journal = self._journal()
        return tuple(record.event for record in await journal.records(op_id=op_id)) if journal else ()
