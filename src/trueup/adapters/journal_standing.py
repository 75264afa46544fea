"""What records add up to for each id: its operation, its request, and its claim to a nonce and an idempotency key.

`Standings.add` follows records that are written, and judges nothing but the two tables of `core`: whoever admits new
records (`journal_admission`) asks more of them. So what a damaged journal has left still adds up to something.
"""

from dataclasses import dataclass, field
from typing import Final, get_args

import msgspec
from msgspec.structs import replace

from trueup.core import lifecycle, requests
from trueup.model.gate import Requested, RequestView
from trueup.model.ids import OpId
from trueup.model.ops import Accepted, OpEvent, OpView, Record, Started

_OP_EVENTS: Final = frozenset(get_args(OpEvent))
_REQUEST_EVENTS: Final = frozenset(get_args(requests.RequestEvent))


class Placed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An operation as it stands, and the place of its first record, which orders operations by age."""

    first_seq: int
    view: OpView


class PlacedRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request as it stands, and the place of its first record, which orders requests by age."""

    first_seq: int
    view: RequestView


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a signed request has taken: its nonce for good, its idempotency key while `held`.

    It is told by `Requested` and again by `Accepted`, so that one of them is enough. `started_at_ms` is when its
    operation was started (0 = never).
    """

    op_id: OpId
    nonce: str
    idempotency_key: str
    held: bool
    started_at_ms: int = 0


@dataclass(slots=True)
class Standings:
    """What stands for each id that was spoken of. Of others nothing is said: they may well be in the journal."""

    ops: dict[OpId, Placed] = field(default_factory=dict[OpId, Placed])
    requests: dict[OpId, PlacedRequest] = field(default_factory=dict[OpId, PlacedRequest])
    claims: dict[OpId, Claim] = field(default_factory=dict[OpId, Claim])

    def add(self, record: Record) -> None:
        """Take one record's step; what stands for its id before it has to be here. A system event changes nothing.

        Raises:
            IllegalTransition: a table forbids it; nothing is changed.
        """
        op, request, claim = step(
            record, self.ops.get(record.op_id), self.requests.get(record.op_id), self.claims.get(record.op_id)
        )
        if op is not None:
            self.ops[record.op_id] = op
        if request is not None:
            self.requests[record.op_id] = request
        if claim is not None:
            self.claims[record.op_id] = claim

    def ids(self) -> set[OpId]:
        """All that something stands for here."""
        return self.ops.keys() | self.requests.keys() | self.claims.keys()

    def is_open(self, op_id: OpId) -> bool:
        """Whether more records of this id are to be expected."""
        if (op := self.ops.get(op_id)) is not None:
            return op.view.state not in lifecycle.TERMINAL
        request = self.requests.get(op_id)
        return request is not None and request.view.state not in requests.ENDED

    def take(self, op_id: OpId, other: "Standings") -> None:
        """Take over what stands for one id elsewhere."""
        if op_id in other.ops:
            self.ops[op_id] = other.ops[op_id]
        if op_id in other.requests:
            self.requests[op_id] = other.requests[op_id]
        if op_id in other.claims:
            self.claims[op_id] = other.claims[op_id]

    def forget(self, op_id: OpId) -> None:
        """Drop what stands for one id."""
        self.ops.pop(op_id, None)
        self.requests.pop(op_id, None)
        self.claims.pop(op_id, None)

    def clear(self) -> None:
        """Drop all."""
        self.ops.clear()
        self.requests.clear()
        self.claims.clear()

    def absorb(self, other: "Standings") -> None:
        """Take over all that stands elsewhere."""
        self.ops |= other.ops
        self.requests |= other.requests
        self.claims |= other.claims


def step(
    record: Record, op: Placed | None, request: PlacedRequest | None, claim: Claim | None
) -> tuple[Placed | None, PlacedRequest | None, Claim | None]:
    """Return operation, request and claim of the record's id after it.

    Raises:
        IllegalTransition: a table forbids it.
    """
    event = record.event
    if type(event) in _OP_EVENTS:
        view = lifecycle.step(op.view if op else None, record)
        op = Placed(first_seq=op.first_seq if op else record.seq, view=view)
    # The request of an operation that is there may have been lost with a damaged record: the operation goes on.
    if type(event) in _REQUEST_EVENTS and not (isinstance(event, Accepted) and request is None):
        asked = requests.step(request.view if request else None, record)
        request = PlacedRequest(first_seq=request.first_seq if request else record.seq, view=asked)
    claim = claim or _claimed(record)
    if claim is not None:
        held = requests.holds_key(request.view.state if request else None, op.view.state if op else None)
        started_at_ms = record.at_ms if isinstance(event, Started) else claim.started_at_ms
        claim = replace(claim, held=held, started_at_ms=started_at_ms)
    return op, request, claim


def _claimed(record: Record) -> Claim | None:
    match record.event:
        case Requested(request=asked):
            return Claim(op_id=record.op_id, nonce=asked.nonce, idempotency_key=asked.idempotency_key, held=True)
        case Accepted(nonce=nonce, idempotency_key=key):
            return Claim(op_id=record.op_id, nonce=nonce, idempotency_key=key, held=True)
        case _:
            return None
