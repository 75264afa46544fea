"""The watch over presumptions: an operation presumed never to have started may still show up, for a day.

If its task or its marker turns up, `contradicted` is recorded and an alarm goes out; the operation is in flight again,
so its lane closes, and recovery ends it on evidence.
"""

from collections.abc import Sequence

from trueup.core import lifecycle, tasksearch
from trueup.core.kinds import KINDS, Fence
from trueup.engine.deck import Deck
from trueup.engine.observer import World
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.ids import NodeName
from trueup.model.notes import What
from trueup.model.ops import Contradicted, OpView, TaskRunning
from trueup.model.pve import TaskList, TaskRow


class Contradictions:
    """Looks for signs of presumed operations, once per pass."""

    def __init__(self, deck: Deck) -> None:
        """Look through the deck's ports."""
        self._deck = deck

    async def look(self, world: World) -> tuple[OpView, ...]:
        """Record every presumption that proves wrong; return those operations, in flight again."""
        since_ms = self._deck.clock.now_ms() - int(limits.PRESUMED_WATCH_S * 1000)
        watched = await self._deck.journal.presumed_since(since_ms)
        # A task that shows up now may as well be that of any other operation whose task was never known.
        rivals = (*await self._deck.journal.in_flight(), *await self._deck.journal.unaccounted_since(since_ms))
        lists = {node: await self._tasks(node) for node in sorted({op.intent.node for op in watched})}
        shown = frozenset(row.upid.text for listed in lists.values() if listed for row in listed.rows)
        claimed = await self._deck.journal.claimed_upids(shown)
        back: list[OpView] = []
        for op in watched:
            row = _own_row(op, lists[op.intent.node], claimed, rivals)
            if row is not None:
                claimed |= {row.upid.text}
                events = [Contradicted(what="its task turned up", upid=row.upid.text)]
                back.append(await self._reopen(op, events[0], TaskRunning(upid=row.upid.text, adopted=True)))
            elif _own_marker(op, world):
                back.append(await self._reopen(op, Contradicted(what="its marker turned up in the guest")))
        return tuple(back)

    async def _tasks(self, node: NodeName) -> TaskList | None:
        try:
            return await self._deck.pve.tasks(node)
        except ReadFailed:
            return None

    async def _reopen(self, op: OpView, *events: Contradicted | TaskRunning) -> OpView:
        view = op
        for record in await self._deck.record(op.op_id, *events):
            view = lifecycle.step(view, record)
        self._deck.tell(
            What.ALARM, f"{op.intent.kind} of {op.intent.vmid} was presumed not to have started, and did", view
        )
        return view


def _own_row(op: OpView, tasks: TaskList | None, claimed: frozenset[str], rivals: Sequence[OpView]) -> TaskRow | None:
    """The one unclaimed task that only this presumption can explain; with rivals, nothing is explained."""
    if tasks is None or not op.intent.task_type or any(_rivals(op, other) for other in rivals):
        return None
    rows = [row for row in tasks.rows if row.upid.text not in claimed and tasksearch.matches(op.intent, row.upid)]
    return rows[0] if len(rows) == 1 else None


def _rivals(op: OpView, other: OpView) -> bool:
    return other.op_id != op.op_id and not other.upid and tasksearch.same_target(op.intent, other.intent)


def _own_marker(op: OpView, world: World) -> bool:
    """Whether a guest carries the uid that only this creation would have given it."""
    spec = KINDS[op.intent.kind]
    guest = world.guests.get(op.intent.vmid)
    if not spec.marks or spec.fence is not Fence.GOAL or op.intent.marker is None or guest is None:
        return False
    return guest.marker is not None and guest.marker.uid == op.intent.marker.uid
