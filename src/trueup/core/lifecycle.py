"""The lifecycle of an operation: which event may follow which state. One table, nothing else decides it.

An event that the table does not list is illegal: `step` raises and changes nothing. The diagram in the docs is made
from `TABLE`.

`started` is durable before the request leaves, so every state from there on until a terminal one is *in flight*:
PVE may have acted. `accepted` is not in flight, since nothing was sent.
"""

from collections.abc import Iterable
from typing import cast, get_args

from msgspec.structs import replace

from trueup.model.errors import IllegalTransition, require
from trueup.model.gate import GateEvent
from trueup.model.ops import (
    Accepted,
    Contradicted,
    Event,
    Failed,
    Fenced,
    Fencing,
    Guarded,
    Guarding,
    OpEvent,
    OpState,
    OpView,
    Record,
    Started,
    Succeeded,
    TaskRunning,
    Unresolved,
)

TABLE: dict[tuple[OpState | None, type[OpEvent]], OpState] = {
    # A one-shot enters by the gate, a convergent operation by its intent.
    (None, Accepted): OpState.ACCEPTED,
    (None, Started): OpState.STARTED,
    # The gate's compare-and-set: only an accepted one-shot may start; too late or vetoed, it ends unsent.
    (OpState.ACCEPTED, Started): OpState.STARTED,
    (OpState.ACCEPTED, Failed): OpState.FAILED,
    # PVE's answer, or what recovery found.
    (OpState.STARTED, TaskRunning): OpState.TASK_RUNNING,
    (OpState.STARTED, Succeeded): OpState.SUCCEEDED,
    (OpState.STARTED, Failed): OpState.FAILED,
    (OpState.TASK_RUNNING, Succeeded): OpState.SUCCEEDED,
    (OpState.TASK_RUNNING, Failed): OpState.FAILED,
    # Annotations: they tell what was done about an open operation and leave its state alone.
    (OpState.STARTED, Fencing): OpState.STARTED,
    (OpState.STARTED, Fenced): OpState.STARTED,
    (OpState.STARTED, Guarding): OpState.STARTED,
    (OpState.STARTED, Guarded): OpState.STARTED,
    (OpState.STARTED, Unresolved): OpState.STARTED,
    (OpState.TASK_RUNNING, Fencing): OpState.TASK_RUNNING,
    (OpState.TASK_RUNNING, Fenced): OpState.TASK_RUNNING,
    (OpState.TASK_RUNNING, Unresolved): OpState.TASK_RUNNING,
    # A fence that stands for good is raised again if somebody takes it down.
    (OpState.FAILED, Fencing): OpState.FAILED,
    (OpState.FAILED, Fenced): OpState.FAILED,
    # A presumption proved wrong: the operation is in flight again, and recovery ends it on evidence.
    (OpState.FAILED, Contradicted): OpState.STARTED,
}

_EVENTS = frozenset(get_args(OpEvent))

TERMINAL = frozenset({OpState.SUCCEEDED, OpState.FAILED})
IN_FLIGHT = frozenset({OpState.STARTED, OpState.TASK_RUNNING})


def next_state(state: OpState | None, event: OpEvent) -> OpState:
    """Return the state after `event`; `None` is an operation without a record.

    Raises:
        IllegalTransition: the table does not list it.
    """
    found = TABLE.get((state, type(event)))
    if found is None:
        name = type(event).__name__
        raise IllegalTransition(what=f"an operation that is {state or 'unknown'} cannot take the event {name}")
    return found


def step(view: OpView | None, record: Record) -> OpView:
    """Add one record to what is known of its operation.

    Raises:
        IllegalTransition: the lifecycle does not allow it; `view` is unchanged.
    """
    event = record.event
    if type(event) not in _EVENTS:
        raise IllegalTransition(what=f"{type(event).__name__} is no event of an operation")
    state = next_state(view.state if view else None, cast("OpEvent", event))
    if view is None:
        require(isinstance(event, (Accepted, Started)), "an operation begins with its intent")
        return _first(event, record, state)
    return _apply(view, event, record, state)


def fold(records: Iterable[Record]) -> OpView | None:
    """Add up all records of one operation, oldest first, passing over those of its request; None for no record."""
    view: OpView | None = None
    for record in records:
        if not isinstance(record.event, GateEvent):
            view = step(view, record)
    return view


def is_in_flight(view: OpView) -> bool:
    """Whether PVE may have acted and no terminal record says how it ended."""
    return view.state in IN_FLIGHT


def _first(event: Event, record: Record, state: OpState) -> OpView:
    if not isinstance(event, Accepted | Started):  # narrows the type; `step` has checked it
        raise IllegalTransition(what="an operation begins with its intent")
    return OpView(
        op_id=record.op_id,
        state=state,
        intent=event.intent,
        started_at_ms=record.at_ms,
        epoch=record.epoch,
        execute_by_ms=event.execute_by_ms if isinstance(event, Accepted) else 0,
        not_before_ms=event.not_before_ms if isinstance(event, Accepted) else 0,
    )


def _apply(view: OpView, event: Event, record: Record, state: OpState) -> OpView:
    """Return `view` with `event` added; one arm per event."""
    match event:
        case Started():
            return replace(view, state=state, intent=event.intent, started_at_ms=record.at_ms, epoch=record.epoch)
        case TaskRunning():
            return replace(
                view, state=state, upid=event.upid, adopted=event.adopted, unresolved=None, reason=None, row=None
            )
        case Succeeded():
            return replace(
                view,
                state=state,
                ended_at_ms=record.at_ms,
                reason=event.reason,
                row=event.row,
                exit_status=event.exit_status,
                unresolved=None,
            )
        case Failed():
            return replace(
                view,
                state=state,
                ended_at_ms=record.at_ms,
                reason=event.reason,
                row=event.row,
                exit_status=event.exit_status,
                leftovers=event.leftovers,
                unresolved=None,
            )
        case Unresolved():
            return replace(view, unresolved=event, reason=event.reason, row=event.row)
        case Fencing():
            return replace(view, fencing=event, fenced=None)
        case Fenced():
            return replace(view, fenced=event)
        case Guarded():
            return replace(view, guarded=event)
        case Contradicted():
            return replace(view, state=state, ended_at_ms=0, reason=None, row=None, contradicted=True, upid="")
        case _:
            return replace(view, state=state)
