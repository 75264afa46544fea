"""Planted faults: the mistakes that an agent like this could make, each as a patch from outside.

A fault is planted by replacing one name in one module; nothing in the product knows of it.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from unittest.mock import patch

import msgspec

from trueup.adapters.pve import PveClient
from trueup.core import kinds, lifecycle, recovery, tasksearch
from trueup.core.kinds import KINDS
from trueup.core.recovery import Again, FenceState, Lock, Need, Task
from trueup.core.tasksearch import Found
from trueup.engine.agent import Agent
from trueup.engine.contradictions import Contradictions
from trueup.engine.deck import Deck
from trueup.engine.executor import Executor
from trueup.engine.fences import Fences
from trueup.engine.lanes import Lanes
from trueup.engine.looker import Looker
from trueup.engine.recoverer import Recoverer
from trueup.model.errors import PveError, Unknown
from trueup.model.ids import Epoch
from trueup.model.ops import Failed, Kind, OpState, Record, Row, Succeeded
from trueup.model.pve import Call

Plant = Callable[[], AbstractContextManager[Any]]


def row_removed(row: Row) -> Plant:
    """The table without one of its rows; the rows behind it decide instead."""
    return lambda: patch.object(recovery, "RULES", tuple(rule for rule in recovery.RULES if rule.row is not row))


def no_settle_time() -> AbstractContextManager[Any]:
    """An operation without a task is presumed not to have started at once."""
    return patch.object(Recoverer, "_settle_s", lambda *_: 0.0)


@contextmanager
def the_intent_is_not_journaled() -> Iterator[None]:
    """The append before the POST is left out."""
    intend = Executor._intend

    async def unrecorded(self: Any, op: Any, fresh: Any) -> Any:
        async def nowhere(_deck: Any, op_id: Any, *events: Any) -> tuple[Record, ...]:
            return (
                Record(
                    seq=0, epoch=Epoch(0), record_id="", at_ms=0, op_id=op_id, event=events[0], prev_hash="", hash=""
                ),
            )

        with patch.object(Deck, "record", nowhere):
            return await intend(self, op, fresh)

    with patch.object(Executor, "_intend", unrecorded):
        yield


@contextmanager
def something_is_sent_before_recovery() -> Iterator[None]:
    """A guest is started before it is known what became of the last run's operations."""
    recover = Agent.recover

    async def hasty(self: Any, *, dry: bool = False) -> Any:
        with suppress(PveError):
            await self.deck.pve.send(Call(method="POST", path="/nodes/pve1/qemu/101/status/start"))
        return await recover(self, dry=dry)

    with patch.object(Agent, "recover", hasty):
        yield


def no_task_means_no_effect() -> AbstractContextManager[Any]:
    """Who has no UPID had no effect: the mistake that destroys the wrong things."""
    rule = msgspec.structs.replace(
        recovery.RULES[0],
        when=lambda c: not c.view.upid and c.evidence.task is not Task.RUNNING,
        then=lambda c: recovery._fail(c, Row.R1, recovery.Reason.NOT_STARTED),
    )
    return patch.object(recovery, "RULES", (rule, *recovery.RULES))


def the_fence_is_skipped() -> AbstractContextManager[Any]:
    """A fence is taken to stand that was never raised."""

    def stands(_self: Any, op: Any, _sight: Any) -> FenceState:
        fence = KINDS[op.intent.kind].fence_for(op.intent)
        return FenceState.STANDS if fence in kinds.STATE_FENCES else FenceState.NO_KIND

    return patch.object(Fences, "state", stands)


def the_fence_writes_what_is_there() -> AbstractContextManager[Any]:
    """The fence leaves the counter as it is, so the digest stays and PVE lets the late request in."""

    def stands(_op: Any, guest: Any, _fence: Any) -> bool:
        return guest is not None

    return _both(
        patch("trueup.engine.fences._above", lambda mark, _op: mark),
        patch.object(Fences, "_stands", staticmethod(stands)),
    )


@contextmanager
def seen_before_the_fence() -> Iterator[None]:
    """What was seen before the fence stood is believed; nobody looks again behind it."""
    prepare = Recoverer._prepare

    async def believed(self: Any, again: Any) -> Any:
        changed = await prepare(self, again)
        fenced = [one for one in again if isinstance(one.verdict, Again) and one.verdict.need is Need.FENCE]
        for one in fenced:
            if one.view.op_id in changed:
                seen = msgspec.structs.replace(one.evidence, fence=FenceState.STANDS, seen_behind_fence=True)
                view = changed[one.view.op_id]
                await self._record([self._judge(view, seen)])
                changed.pop(one.view.op_id)
        return changed

    with patch.object(Recoverer, "_prepare", believed):
        yield


def a_busy_lock_is_taken_for_free() -> AbstractContextManager[Any]:
    """Nobody asks whether somebody is still at work on the guest."""

    async def free(_self: Any, _guest: Any) -> Lock:
        return Lock.FREE

    return patch.object(Fences, "probe_lock", free)


def not_looked_at_again_behind_a_free_lock() -> AbstractContextManager[Any]:
    """The guest is judged by what was seen before its lock became free."""
    see = Looker._see
    last: dict[Any, Any] = {}

    async def once(self: Any, ops: Any, timing: Any, locks: Any) -> Any:
        if not locks:
            found = await see(self, ops, timing, locks)
            last.update(found)
            return found
        free = {op_id for op_id, lock in locks.items() if lock is Lock.FREE}
        return {
            op.op_id: msgspec.structs.replace(
                last[op.op_id], lock=locks.get(op.op_id, Lock.UNKNOWN), children_dead=op.op_id in free
            )
            for op in ops
        }

    return patch.object(Looker, "_see", once)


def other_peoples_tasks_are_claimed_twice() -> AbstractContextManager[Any]:
    """A task may belong to several operations."""
    search = tasksearch.search

    def unclaimed(intent: Any, tasks: Any, **named: Any) -> Found:
        return search(intent, tasks, **{**named, "claimed": frozenset()})

    return patch.object(tasksearch, "search", unclaimed)


def rivals_are_forgotten() -> AbstractContextManager[Any]:
    """A task is an operation's own even if another one could have it as well."""
    search = tasksearch.search

    def alone(intent: Any, tasks: Any, **named: Any) -> Found:
        return search(intent, tasks, **{**named, "rivals": False})

    return patch.object(tasksearch, "search", alone)


def a_short_list_proves_absence() -> AbstractContextManager[Any]:
    """A task list that does not reach back is taken for the whole truth."""
    return patch.object(tasksearch, "reaches_back", lambda *_: True)


def an_unreadable_list_is_empty() -> AbstractContextManager[Any]:
    """A node that does not answer has no tasks."""
    task = Looker._task

    def blind(self: Any, op: Any, lists: Any) -> Found:
        found = task(self, op, lists)
        return Found(task=Task.NONE) if found.task is Task.UNKNOWN and found.row is None else found

    return patch.object(Looker, "_task", blind)


def warnings_are_errors() -> AbstractContextManager[Any]:
    """`WARNINGS: 1` is taken for a failure, as half of the tools do."""
    classify = tasksearch.classify

    def strict(status: str) -> Task:
        found = classify(status)
        return Task.ERROR if found is Task.WARNINGS else found

    return patch.object(tasksearch, "classify", strict)


def the_end_of_a_start_is_trusted() -> AbstractContextManager[Any]:
    """A start's task ended well, so the guest runs: HA only queues."""
    trusting = {**KINDS, Kind.START: msgspec.structs.replace(KINDS[Kind.START], end_is_end=True)}
    return _everywhere("KINDS", trusting)


def a_killed_task_failed() -> AbstractContextManager[Any]:
    """A killed task is the end of its effect."""
    classify = tasksearch.classify

    def final(status: str) -> Task:
        found = classify(status)
        return Task.ERROR if found is Task.KILLED else found

    return patch.object(tasksearch, "classify", final)


def contradictions_are_not_looked_for() -> AbstractContextManager[Any]:
    """A presumption is final."""

    async def none(_self: Any, _world: Any) -> tuple[()]:
        return ()

    return patch.object(Contradictions, "look", none)


def no_lanes() -> AbstractContextManager[Any]:
    """Several operations of one guest may be at work at once, and any number on one node."""

    @asynccontextmanager
    async def open_road(_self: Any, *_: Any) -> AsyncGenerator[None]:
        yield

    return patch.object(Lanes, "hold", open_road)


@contextmanager
def lost_answers_are_sent_again() -> Iterator[None]:
    """A request whose answer was lost is simply sent once more."""
    send = PveClient.send

    async def twice(self: Any, call: Any) -> Any:
        try:
            return await send(self, call)
        except Unknown:
            await asyncio.sleep(1.0)
            return await send(self, call)

    with patch.object(PveClient, "send", twice):
        yield


def any_guest_will_do() -> AbstractContextManager[Any]:
    """The guest is not looked at once more before something is done to it."""

    async def as_planned(_self: Any, _op: Any, planned_on: Any) -> Any:
        return planned_on

    return patch.object(Executor, "_fresh", as_planned)


def the_lifecycle_allows_everything() -> AbstractContextManager[Any]:
    """An operation that has ended may end again."""
    loose = {
        **lifecycle.TABLE,
        (OpState.SUCCEEDED, Failed): OpState.FAILED,
        (OpState.FAILED, Succeeded): OpState.SUCCEEDED,
    }
    return patch.object(lifecycle, "TABLE", loose)


def _everywhere(name: str, value: object) -> AbstractContextManager[Any]:
    modules = [module for key, module in sys.modules.items() if key.startswith("trueup.") and hasattr(module, name)]
    return _both(*(patch.object(module, name, value) for module in modules))


@contextmanager
def _both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield
