"""Which drafts of a group may be written. Pure, so that every store of journals decides alike.

Appends that wait for the same commit share a transaction, not a fate: one that the lifecycle forbids, or whose epoch
is over, is refused by itself before any row of it is written, and the others of its group are committed. An append is
admitted whole or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trueup.core import codec, lifecycle
from trueup.model.errors import BadInput, IllegalTransition, Stale, TrueupError, require
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import (
    Accepted,
    Adopted,
    Draft,
    EpochTaken,
    OpEvent,
    OpView,
    Record,
    Released,
    Started,
    TaskRunning,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One caller's drafts, with each event's canonical bytes."""

    epoch: Epoch
    drafts: tuple[Draft, ...]
    events: tuple[bytes, ...]

    @classmethod
    def of(cls, epoch: Epoch, drafts: Sequence[Draft]) -> "Append":
        """Encode the events, before anybody else is kept waiting.

        Raises:
            BadInput: a draft cannot be written.
            InvariantBroken: a draft that only a mistake can make.
        """
        for draft in drafts:
            _require_sound(draft)
        return cls(epoch=epoch, drafts=tuple(drafts), events=tuple(codec.encode_event(d.event) for d in drafts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An operation as it stands, and the place of its first record, which orders operations by age."""

    first_seq: int
    view: OpView


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store knows of the things that a group speaks of.

    Record ids that are taken, operations as they stand, and which operation holds a UPID.
    """

    record_ids: frozenset[str]
    ops: Mapping[OpId, Placed]
    upids: Mapping[str, OpId]

    def op(self, op_id: OpId) -> Placed | None:
        """Return the operation as it stands; None = it has no record."""
        return self.ops.get(op_id)

    def holder(self, upid: str) -> OpId | None:
        """Return the operation that holds this task."""
        return self.upids.get(upid)

    def has_record(self, record_id: str) -> bool:
        """Whether a record of this id is written."""
        return record_id in self.record_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What may be written, in order, and what each caller hears once it is durable.

    `verdicts` has one entry per append: its records, or why it was refused. `head` is the chain's end afterwards.
    """

    head: codec.Head
    lines: tuple[tuple[Record, bytes], ...]
    ops: Mapping[OpId, Placed]
    verdicts: tuple[tuple[Record, ...] | TrueupError, ...]


@dataclass(slots=True, kw_only=True)
class _Layer:
    """What was admitted on top of what lies below: a group on the store's knowledge, an append on its group."""

    below: "Known | _Layer"
    head: codec.Head
    lines: list[tuple[Record, bytes]] = field(default_factory=list[tuple[Record, bytes]])
    ops: dict[OpId, Placed] = field(default_factory=dict[OpId, Placed])
    upids: dict[str, OpId] = field(default_factory=dict[str, OpId])
    record_ids: set[str] = field(default_factory=set[str])

    def op(self, op_id: OpId) -> Placed | None:
        return self.ops.get(op_id) or self.below.op(op_id)

    def holder(self, upid: str) -> OpId | None:
        return self.upids.get(upid) or self.below.holder(upid)

    def has_record(self, record_id: str) -> bool:
        return record_id in self.record_ids or self.below.has_record(record_id)

    def absorb(self, upper: "_Layer") -> None:
        """Take over what a layer on top of this one has admitted."""
        self.head = upper.head
        self.lines += upper.lines
        self.ops |= upper.ops
        self.upids |= upper.upids
        self.record_ids |= upper.record_ids


def admit(head: codec.Head, known: Known, appends: Iterable[Append]) -> Group:
    """Decide on each append in turn, each seeing those admitted before it."""
    group = _Layer(below=known, head=head)
    verdicts: list[tuple[Record, ...] | TrueupError] = []
    for append in appends:
        try:
            verdicts.append(_admit_append(group, append))
        except TrueupError as refusal:
            verdicts.append(refusal)
    return Group(head=group.head, lines=tuple(group.lines), ops=group.ops, verdicts=tuple(verdicts))


def _admit_append(group: _Layer, append: Append) -> tuple[Record, ...]:
    """Admit one append whole, or raise and leave the group as it was."""
    if append.epoch != group.head.epoch or append.epoch < 1:
        raise Stale(
            what=f"epoch {append.epoch} is over: the journal is at epoch {group.head.epoch}",
            remedy="another agent took over; this one must stop",
        )
    trial = _Layer(below=group, head=group.head)
    for draft, event in zip(append.drafts, append.events, strict=True):
        _admit_draft(trial, draft, event, append.epoch)
    group.absorb(trial)
    return tuple(record for record, _ in trial.lines)


def _admit_draft(trial: _Layer, draft: Draft, event: bytes, epoch: Epoch) -> None:
    require(not trial.has_record(draft.record_id), f"record id {draft.record_id} is in the journal already")
    record, line = codec.seal(trial.head, epoch, draft, event)
    if isinstance(draft.event, OpEvent):
        _admit_step(trial, record)
    trial.head = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
    trial.lines.append((record, line))
    trial.record_ids.add(draft.record_id)


def _admit_step(trial: _Layer, record: Record) -> None:
    """Take the operation's step, if the lifecycle allows it."""
    event = record.event
    placed = trial.op(record.op_id)
    view = lifecycle.step(placed.view if placed else None, record)
    if isinstance(event, TaskRunning):
        holder = trial.holder(event.upid)
        if holder not in (None, record.op_id):
            # Two operations that claim one task would both be judged by one effect.
            raise IllegalTransition(
                what=f"task {event.upid} belongs to operation {holder} already", where=f"operation {record.op_id}"
            )
        trial.upids[event.upid] = record.op_id
    trial.ops[record.op_id] = Placed(first_seq=placed.first_seq if placed else record.seq, view=view)


def _require_sound(draft: Draft) -> None:
    """Check what a draft alone can tell."""
    require(draft.record_id, "a record has an id")
    if isinstance(draft.event, OpEvent):
        require(draft.op_id, "an event of an operation names it")
    else:
        require(not draft.op_id, "a system event belongs to no operation")
        require(not isinstance(draft.event, EpochTaken), "an epoch is taken by take_epoch, not by an append")
    if not 0 <= draft.at_ms <= codec.INT_MAX:
        raise BadInput(what=f"a record cannot be of the instant {draft.at_ms}")
    try:
        (draft.record_id + draft.op_id).encode()
    except UnicodeEncodeError as error:
        raise BadInput(what=f"a record's name cannot be written: {error}") from error
    match draft.event:
        case Accepted(intent=intent) | Started(intent=intent):
            vmid = intent.vmid
        case Adopted(vmid=vmid) | Released(vmid=vmid):
            pass
        case _:
            return
    if not 0 < vmid <= codec.INT_MAX:  # integers of stores end not far above
        raise BadInput(what=f"{vmid} is no vmid")
