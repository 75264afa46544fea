"""Gathering evidence about open operations, in bulk: lists first, single reads only for what they leave unanswered.

One task list per node answers for all of its operations; a guest is read closely only where its task does not decide.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from trueup.core import tasksearch
from trueup.core.kinds import KINDS, STATE_FENCES, Fence, Reads, TaskId
from trueup.core.probes import Finding, Landing, Sight
from trueup.core.recovery import Evidence, FenceState, Lock, Task
from trueup.core.tasksearch import Found, Sorted, Target
from trueup.engine.deck import Deck
from trueup.engine.fences import Fences
from trueup.engine.observer import Observer
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.guests import Observed, ResourceRow
from trueup.model.ids import NodeName, OpId, TokenId, Upid, Vmid
from trueup.model.ops import OpState, OpView
from trueup.model.pve import ClusterState, TaskList, TaskRow


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent itself knows about one operation: whether its settle time and its patience are over.

    `answered`: PVE answered the request itself with success, in this very process.
    """

    settled: bool
    patience_over: bool
    answered: bool = False


class _Lists(msgspec.Struct, frozen=True, kw_only=True):
    """The bulk reads of one look. A node whose list could not be read has the reason instead.

    `shown` are the rows of all lists by UPID, `by_target` each list's rows by what they are about, `rivals` the
    operations whose task is not known by what a task would tell of them. `claimed` and `rivals` bear on searches alone:
    they are empty where each operation's task is known.
    """

    tasks: Mapping[NodeName, TaskList | str]
    shown: Mapping[str, TaskRow]
    by_target: Mapping[NodeName, Sorted]
    claimed: frozenset[str]
    rivals: Mapping[Target, Collection[OpId]]
    retired: frozenset[TokenId]


class _Guests(msgspec.Struct, frozen=True, kw_only=True):
    """The guests of those operations whose task does not decide."""

    rows: Mapping[Vmid, ResourceRow] | None
    seen: Mapping[Vmid, Observed]
    snapshots: Mapping[Vmid, Mapping[str, str]]
    archives: Mapping[str, Mapping[str, str]]
    all_listed: bool
    cluster: ClusterState | None


class Looker:
    """Looks at the world for the recoverer.

    It changes nothing; to learn whether a guest's lock is free, it writes the guest's own description back to it.
    """

    def __init__(self, deck: Deck, fences: Fences) -> None:
        """Look through the deck's ports."""
        self._deck = deck
        self._fences = fences
        self._observer = Observer(deck.pve)
        self._proven: set[NodeName] = set()  # nodes whose silence about a task mattered once

    async def look(self, ops: Sequence[OpView], timing: Mapping[OpId, Timing]) -> dict[OpId, Evidence]:
        """Look once at everything that bears on these operations.

        Where it matters that nobody is at work on a guest, its lock is asked for, which may take a while; everything
        about that operation is then looked at again, since only what is seen behind a free lock is at rest.
        """
        now_ms = self._deck.clock.now_ms()
        accepted = [op for op in ops if op.state is OpState.ACCEPTED]
        evidence = {op.op_id: Evidence(too_late=now_ms > op.execute_by_ms) for op in accepted}
        sent = [op for op in ops if op.state is not OpState.ACCEPTED]
        evidence |= await self._see(sent, timing, {})
        unlocked = [op for op in sent if _needs_lock(op, evidence[op.op_id])]
        if unlocked:
            evidence |= await self._see(unlocked, timing, await self._locks(unlocked))
        return evidence

    async def _see(
        self, ops: Sequence[OpView], timing: Mapping[OpId, Timing], locks: Mapping[OpId, Lock]
    ) -> dict[OpId, Evidence]:
        """Read tasks, then guests. Tasks first: what a task that is not there yet will do shows in the guest."""
        lists = await self._lists(ops)
        found = await self._tasks(ops, lists)
        if dim := [op for op in ops if _says_nothing(op, found[op.op_id], lists)]:
            self._proven |= {op.intent.node for op in dim}
            found |= await self._tasks(dim, await self._lists(dim))
        guests = await self._guests([op for op in ops if _needs_guest(op, found[op.op_id].task)])
        evidence = {op.op_id: self._evidence(op, found[op.op_id], guests, lists, timing[op.op_id]) for op in ops}
        for op_id, lock in locks.items():
            seen = evidence[op_id]
            dead = seen.children_dead or lock is Lock.FREE
            evidence[op_id] = msgspec.structs.replace(seen, lock=lock, children_dead=dead)
        return evidence

    async def _locks(self, ops: Sequence[OpView]) -> dict[OpId, Lock]:
        """Ask for the locks of these guests, each on its node; a flock says nothing about another node."""
        guests = await self._guests(ops, closely=True)
        here = {
            op.op_id: guests.seen[op.intent.vmid]
            for op in ops
            if op.intent.vmid in guests.seen and guests.seen[op.intent.vmid].node == _worker_node(op)
        }
        locks = await _gather([self._fences.probe_lock(guest) for guest in here.values()])
        return dict(zip(here, locks, strict=True))

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def _lists(self, ops: Sequence[OpView]) -> _Lists:
        nodes = sorted({op.intent.node for op in ops} | {_worker_node(op) for op in ops})
        tasks = dict(zip(nodes, await _gather([self._list(node) for node in nodes]), strict=True))
        listed = {node: found for node, found in tasks.items() if isinstance(found, TaskList)}
        shown = {row.upid.text: row for found in listed.values() for row in found.rows}
        _, retired = await self._deck.journal.tokens()
        searching = any(not op.upid for op in ops)
        return _Lists(
            tasks=tasks,
            shown=shown,
            by_target={node: Sorted(found) for node, found in listed.items()} if searching else {},
            claimed=await self._deck.journal.claimed_upids(frozenset(shown)) if searching else frozenset(),
            rivals=await self._rivals() if searching else {},
            retired=retired,
        )

    async def _rivals(self) -> dict[Target, set[OpId]]:
        """The operations that a task without a known owner could belong to."""
        since_ms = self._deck.clock.now_ms() - int(limits.PRESUMED_WATCH_S * 1000)
        rivals: defaultdict[Target, set[OpId]] = defaultdict(set)
        for other in await self._deck.journal.presumed_since(since_ms):
            rivals[tasksearch.target(other.intent)].add(other.op_id)
        for other in await self._deck.journal.ops(state=OpState.STARTED):  # one whose task is known is running
            rivals[tasksearch.target(other.intent)].add(other.op_id)
        return rivals

    async def _list(self, node: NodeName) -> TaskList | str:
        """Proof that all tasks show costs calls of its own; it is asked for once a list's silence matters."""
        try:
            return await self._deck.pve.tasks(node, proven=node in self._proven)
        except ReadFailed as error:
            return f"the tasks of {node} cannot be read: {error.what}"

    async def _tasks(self, ops: Sequence[OpView], lists: _Lists) -> dict[OpId, Found]:
        """What the lists say, and PVE's word on each task that they show as running."""
        found = {op.op_id: self._task(op, lists) for op in ops}
        running = {op_id: one.row for op_id, one in found.items() if one.row is not None and one.row.status == RUNNING}
        confirmed = await _gather([self._confirmed(row) for row in running.values()])
        return found | dict(zip(running, confirmed, strict=True))

    def _task(self, op: OpView, lists: _Lists) -> Found:
        if op.upid:
            row = lists.shown.get(op.upid) or TaskRow(upid=Upid.parse(op.upid), status=RUNNING)
            return Found(task=Task.UNKNOWN if row.status == RUNNING else tasksearch.classify(row.status), row=row)
        if _held_back(op):
            return Found(task=Task.NONE, why=_HELD_BACK)
        if not op.intent.task_type:
            return Found(task=Task.NONE, why="the call makes no task")
        listed = lists.tasks[op.intent.node]
        if isinstance(listed, str):
            return Found(task=Task.UNKNOWN, why=listed)
        return tasksearch.search(
            op.intent,
            lists.by_target[op.intent.node].about(op.intent),
            token=self._deck.pve.token,
            claimed=lists.claimed,
            rivals=any(other != op.op_id for other in lists.rivals.get(tasksearch.target(op.intent), ())),
        )

    async def _confirmed(self, row: TaskRow) -> Found:
        """Lists may say RUNNING up to 12 s too long; /status reads /proc."""
        try:
            state = await self._deck.pve.task(row.upid)
        except ReadFailed as error:
            return Found(task=Task.UNKNOWN, why=f"its task cannot be read: {error.what}")
        if state is None:
            return Found(task=Task.NONE, why="PVE no longer knows its task")
        if state.running:
            return Found(task=Task.RUNNING, row=row)
        ended = msgspec.structs.replace(row, status=state.exit_status)
        return Found(task=tasksearch.classify(state.exit_status), row=ended)

    # -- guests ----------------------------------------------------------------------------------------------------

    async def _guests(self, ops: Sequence[OpView], *, closely: bool = False) -> _Guests:
        """Read the guests of these operations, each as closely as its kind's probe asks, or all closely."""
        nothing = _Guests(rows=None, seen={}, snapshots={}, archives={}, all_listed=False, cluster=None)
        if not ops:
            return nothing
        try:
            rows = await self._observer.rows()
            all_listed = await self._deck.pve.sees_all_guests()
            cluster = await self._deck.pve.cluster()
        except ReadFailed:
            return nothing
        far: set[Vmid] = set() if closely else _reading(ops, Reads.STATE)
        near = {op.intent.vmid for op in ops if closely or KINDS[op.intent.kind].reads is not Reads.STATE}
        close = {vmid: row for vmid, row in rows.items() if vmid in near}
        seen, _ = await self._observer.closely(close)
        seen |= await self._observer.states({vmid: row for vmid, row in rows.items() if vmid in far - near})
        snapshots = await self._snapshots([row for row in close.values() if row.vmid in _reading(ops, Reads.SNAPSHOTS)])
        archives = await self._archives([op for op in ops if KINDS[op.intent.kind].reads is Reads.BACKUPS])
        return _Guests(
            rows=rows, seen=seen, snapshots=snapshots, archives=archives, all_listed=all_listed, cluster=cluster
        )

    async def _snapshots(self, rows: Sequence[ResourceRow]) -> dict[Vmid, Mapping[str, str]]:
        found: dict[Vmid, Mapping[str, str]] = {}
        for row in rows:
            try:
                listed = await self._deck.pve.snapshots(row.node, row.type, row.vmid)
            except ReadFailed:
                continue
            found[row.vmid] = {snapshot.name: snapshot.description for snapshot in listed}
        return found

    async def _archives(self, ops: Sequence[OpView]) -> dict[str, Mapping[str, str]]:
        """Notes by volume, for each storage that was written to; a storage that cannot be read is left out."""
        found: dict[str, Mapping[str, str]] = {}
        for node, storage in sorted({(op.intent.node, op.intent.goal.get("storage", "")) for op in ops}):
            try:
                listed = await self._deck.pve.backups(node, storage)
            except ReadFailed:
                continue
            found[storage] = {backup.volume: backup.notes for backup in listed}
        return found

    def _evidence(self, op: OpView, found: Found, guests: _Guests, lists: _Lists, timing: Timing) -> Evidence:
        vmid = op.intent.vmid
        sight = Sight(
            guest=guests.seen.get(vmid),
            absent=guests.rows is not None and vmid not in guests.rows and guests.all_listed,
            snapshots=guests.snapshots.get(vmid),
            archives=guests.archives.get(op.intent.goal.get("storage", "")),
        )
        unread = Finding(landing=Landing.UNREADABLE)
        finding = KINDS[op.intent.kind].probe(op.intent, sight) if _needs_guest(op, found.task) else unread
        if _held_back(op):
            finding = Finding(landing=Landing.NOT_LANDED, why=_HELD_BACK)
        own = timing.answered or (finding.landing is Landing.LANDED and finding.attributable)
        if found.candidate is not None and own:
            # PVE took the request, or its effect is there: so it had a task, and this is the only one that could be it.
            found = Found(task=tasksearch.classify(found.candidate.status), row=found.candidate, why=found.why)
        fence = self._fences.state(op, sight)
        return Evidence(
            task=found.task,
            upid=found.row.upid.text if found.row else op.upid,
            exit_status=found.row.status if found.row and found.row.status != RUNNING else "",
            finding=finding,
            fence=fence,
            seen_behind_fence=fence is FenceState.STANDS,  # it stood before this look began
            settled=timing.settled,
            patience_over=timing.patience_over,
            answered=timing.answered,
            # A request whose task is known has arrived, and it was sent once.
            late_possible=not op.upid and op.intent.token not in lists.retired,
            lock=_free_by_absence(op, sight),
            children_dead=_rebooted_since(found, guests.cluster),
            leftovers=_leftovers(sight.guest),
            why_task=found.why,
        )


RUNNING = "RUNNING"
"""What a list says of a task that runs, or ran up to 12 s ago."""

_ENDED_WELL = frozenset({Task.OK, Task.WARNINGS})
_HELD_BACK = "its request was not sent: the write that goes before it is not on record"


def _held_back(op: OpView) -> bool:
    """Whether only the guard of this operation can have left us: its own request is sent once that is on record."""
    return KINDS[op.intent.kind].lifts and op.guarded is None and not op.upid


def _reading(ops: Sequence[OpView], what: Reads) -> set[Vmid]:
    return {op.intent.vmid for op in ops if KINDS[op.intent.kind].reads is what}


def _worker_node(op: OpView) -> NodeName:
    """Where the work of this operation is done, and so whose flock counts; a UPID on record was parsed before."""
    return NodeName(op.upid.split(":", 2)[1]) if op.upid else op.intent.node


def _says_nothing(op: OpView, found: Found, lists: _Lists) -> bool:
    """Whether a list without this operation's task could tell more if it was proven to show all tasks."""
    listed = lists.tasks[op.intent.node]
    silent = found.task is Task.UNKNOWN and found.row is None and not op.upid
    return silent and isinstance(listed, TaskList) and not listed.sees_all


def _needs_guest(op: OpView, task: Task) -> bool:
    """Whether the task alone does not decide (leftovers of a failure are worth a look too)."""
    if task is Task.RUNNING:
        return False
    return task not in _ENDED_WELL or not KINDS[op.intent.kind].end_is_end


def _needs_lock(op: OpView, seen: Evidence) -> bool:
    """Whether it matters that nobody is at work on the guest now."""
    if seen.lock is not Lock.UNKNOWN:
        return False
    if seen.task is Task.KILLED:
        return not seen.children_dead
    if seen.task not in {Task.NONE, Task.SEVERAL} or seen.finding.landing is not Landing.NOT_LANDED:
        return False
    fence = KINDS[op.intent.kind].fence_for(op.intent)
    return bool(op.upid) or (fence not in STATE_FENCES and seen.settled)


def _free_by_absence(op: OpView, sight: Sight) -> Lock:
    """Nobody works on a guest that does not exist; and a vmid that another guest holds keeps a late creation out.

    Work on a storage holds no guest's lock.
    """
    if sight.absent or KINDS[op.intent.kind].task_id is TaskId.STORAGE:
        return Lock.FREE
    made = KINDS[op.intent.kind].fence is Fence.GOAL and op.intent.identity is None
    foreign = sight.guest is not None and (sight.guest.marker is None or sight.guest.marker != op.intent.marker)
    if made and foreign and not (sight.guest and sight.guest.lock):
        return Lock.FREE
    return Lock.UNKNOWN


def _rebooted_since(found: Found, cluster: ClusterState | None) -> bool:
    """Whether the task's node booted after the task began: `pstart` counts jiffies (1/100 s) since boot."""
    if found.row is None or cluster is None:
        return False
    upid = found.row.upid
    uptime_s = next((node.uptime_s for node in cluster.nodes if node.name == upid.node), 0)
    return bool(uptime_s) and uptime_s * 100 < upid.pstart


def _leftovers(guest: Observed | None) -> tuple[str, ...]:
    return (f"lock: {guest.lock}",) if guest is not None and guest.lock else ()


_T = TypeVar("_T")


async def _gather(reads: Sequence[Awaitable[_T]]) -> list[_T]:
    """Await all; each handles its own read errors."""
    return list(await asyncio.gather(*reads))
