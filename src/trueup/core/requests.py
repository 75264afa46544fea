"""The lifecycle of a request: which event may follow which state, until it is an operation. One table decides it.

Records of a request carry its id, and the operation that it becomes has the same one: so the records of one id are
those of both. `lifecycle` folds the operation's, this module the request's; `Accepted` belongs to both.

An event that the table does not list is illegal: `step` raises and changes nothing. What the table cannot see is what
became of the operation: whether a veto still comes in time is decided where the journal admits records, by both.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from trueup.model.errors import IllegalTransition
from trueup.model.gate import Approved, GateEvent, Lapsed, Requested, RequestState, RequestView, Vetoed
from trueup.model.ops import Accepted, OpState, Record

RequestEvent = GateEvent | Accepted
"""What moves a request."""

TABLE: Final[dict[tuple[RequestState | None, type[RequestEvent]], tuple[RequestState, ...]]] = {
    (None, Requested): (RequestState.PENDING,),
    # Signatures may come one by one, each with what the policy then says.
    (RequestState.PENDING, Approved): (RequestState.PENDING,),
    (RequestState.PENDING, Accepted): (RequestState.ACCEPTED,),
    (RequestState.PENDING, Vetoed): (RequestState.VETOED,),
    # It ended without approval; the event itself says in which of these.
    (RequestState.PENDING, Lapsed): (RequestState.EXPIRED, RequestState.REFUSED),
    # In time only while its operation was not sent; the operation then ends in the same append.
    (RequestState.ACCEPTED, Vetoed): (RequestState.VETOED,),
}

ENDED: Final = frozenset({RequestState.VETOED, RequestState.EXPIRED, RequestState.REFUSED})
"""States of a request that never becomes an operation any more."""


def next_state(state: RequestState | None, event: RequestEvent) -> RequestState:
    """Return the state after `event`; `None` is a request without a record.

    Raises:
        IllegalTransition: the table does not list it.
    """
    found = TABLE.get((state, type(event)), ())
    wanted = event.state if isinstance(event, Lapsed) else next(iter(found), None)
    if wanted is None or wanted not in found:
        named = f" as {event.state}" if isinstance(event, Lapsed) else ""
        name = type(event).__name__
        raise IllegalTransition(what=f"a request that is {state or 'unknown'} cannot take the event {name}{named}")
    return wanted


def step(view: RequestView | None, record: Record) -> RequestView:
    """Add one record to what is known of its request.

    Raises:
        IllegalTransition: the table does not allow it, or it is no event of a request; `view` is unchanged.
    """
    event = record.event
    if not isinstance(event, RequestEvent):
        raise IllegalTransition(what=f"{type(event).__name__} is no event of a request")
    state = next_state(view.state if view else None, event)
    match event:
        case Requested():
            return RequestView(
                request_id=record.op_id,
                state=state,
                request=event.request,
                payload=event.payload,
                payload_sha256=event.payload_sha256,
                ruling=event.ruling,
                requested_at_ms=record.at_ms,
                via=event.via,
            )
        case _ if view is None:  # narrows the type; the table lets nothing else begin
            raise IllegalTransition(what="a request begins with what was asked")
        case Approved():
            ruling = event.ruling or view.ruling
            return replace(view, state=state, approvals=(*view.approvals, event.approval), ruling=ruling)
        case Accepted():
            return replace(view, state=state)
        case Vetoed():
            return replace(view, state=state, vetoed=event, ended_at_ms=record.at_ms)
        case Lapsed():
            return replace(view, state=state, lapsed=event, ended_at_ms=record.at_ms)


def fold(records: Iterable[Record]) -> RequestView | None:
    """Add up all records of one id, oldest first; those of its operation alone are passed over. None = no request."""
    view: RequestView | None = None
    for record in records:
        if isinstance(record.event, RequestEvent):
            view = step(view, record)
    return view


def holds_key(request: RequestState | None, op: OpState | None) -> bool:
    """Whether the idempotency key is taken by a request in this state, and its operation in that one.

    From `Requested` on, for ever once the operation succeeded, and free only when it is sure that nothing happens. An
    operation that is contradicted is in flight again, and so takes it again.
    """
    if op is not None:
        return op is not OpState.FAILED
    return request in {RequestState.PENDING, RequestState.ACCEPTED}
