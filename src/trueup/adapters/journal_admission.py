"""Which drafts of a group may be written. Pure, so that every store of journals decides alike.

Appends that wait for the same commit share a transaction, not a fate: one that the lifecycle forbids, or whose epoch
is over, is refused by itself before any row of it is written, and the others of its group are committed. An append is
admitted whole or not at all.

Beyond the tables of `core.lifecycle` and `core.requests`:
- a task belongs to one operation;
- a nonce is used once; an idempotency key is held by one request, asked for, accepted and started alike. Only a
  contradiction takes a key that another one holds: it is the truth. Then neither of them is started;
- an operation that people signed is accepted as its request says, and started as it was accepted, or not at all;
- a veto of what was accepted ends the operation in the same append, and nothing else ends one as vetoed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

import msgspec

from trueup.adapters import journal_standing
from trueup.adapters.journal_standing import Claim, Placed, PlacedRequest, Standings
from trueup.core import codec
from trueup.model.errors import BadInput, IllegalTransition, Stale, TrueupError, require
from trueup.model.gate import GateEvent, Requested, RequestState, Vetoed
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import (
    Accepted,
    Adopted,
    Draft,
    EpochTaken,
    Failed,
    Intent,
    OpEvent,
    OpState,
    Reason,
    Record,
    Released,
    Started,
    TaskRunning,
)

Name = TypeVar("Name", bound=str)
T = TypeVar("T")

_OF_AN_OPERATION: Final = frozenset(get_args(OpEvent)) | frozenset(get_args(GateEvent))


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
        return cls(epoch=epoch, drafts=tuple(drafts), events=tuple([codec.encode_event(d.event) for d in drafts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What has to be known before appends can be admitted: the names that they speak of.

    `nonces` and `keys` are those of the drafts; the keys of requests that are known already come on top (`Known`).
    """

    record_ids: frozenset[str]
    op_ids: frozenset[OpId]
    upids: frozenset[str]
    nonces: frozenset[str]
    keys: frozenset[str]

    @classmethod
    def of(cls, appends: Iterable[Append]) -> "Asked":
        """Collect them."""
        drafts = [draft for append in appends for draft in append.drafts]
        events = [draft.event for draft in drafts]
        requested = [event.request for event in events if type(event) is Requested]
        accepted = [event for event in events if type(event) is Accepted]
        return cls(
            record_ids=frozenset([draft.record_id for draft in drafts]),
            op_ids=frozenset([draft.op_id for draft in drafts if draft.op_id]),
            upids=frozenset([event.upid for event in events if type(event) is TaskRunning]),
            nonces=frozenset([each.nonce for each in (*requested, *accepted)]),
            keys=frozenset([each.idempotency_key for each in (*requested, *accepted)]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store knows of the things that a group speaks of (`Asked`).

    Record ids that are taken; which operation holds a UPID; what stands for each id. `claims` are all claims that the
    group may meet: those of its ids, of its nonces, and those that hold one of its keys or a key of one of its ids.
    """

    record_ids: frozenset[str]
    standings: Standings
    upids: Mapping[str, OpId]
    claims: Iterable[Claim]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What may be written, in order, and what each caller hears once it is durable.

    `verdicts` has one entry per append: its records, or why it was refused. `head` is the chain's end afterwards,
    `standings` what the records change.
    """

    head: codec.Head
    lines: tuple[tuple[Record, bytes], ...]
    standings: Standings
    verdicts: tuple[tuple[Record, ...] | TrueupError, ...]


_MISSING: Final = object()


class _Trial:
    """What stands for everything that a group may meet: as the store knows it, and changed by what was admitted so far.

    An append changes it draft by draft. Each change notes what was there before it, so that an append that is refused
    is taken back whole (`back_to`).
    """

    def __init__(self, head: codec.Head, known: Known) -> None:
        standings = known.standings
        self.head = head
        self.lines: list[tuple[Record, bytes]] = []
        self._before = standings
        self.ops, self.requests, self.claims = dict(standings.ops), dict(standings.requests), dict(standings.claims)
        self.upids = dict(known.upids)
        self.record_ids = set(known.record_ids)
        self.nonces: dict[str, OpId] = {}
        self.keys: dict[str, dict[OpId, bool]] = {}
        self._undo: list[tuple[dict[Any, Any], object, object]] = []
        for claim in known.claims:
            self.note(claim)

    def put(self, into: dict[Name, T], name: Name, value: T) -> None:
        """Set one entry, in a way that can be taken back."""
        self._undo.append((into, name, into.get(name, _MISSING)))
        into[name] = value

    def note(self, claim: Claim) -> None:
        """Enter a claim under its nonce and its key."""
        self.put(self.nonces, claim.nonce, claim.op_id)
        self.put(self.keys.setdefault(claim.idempotency_key, {}), claim.op_id, claim.held)

    def step(self, op_id: OpId, op: Placed | None, request: PlacedRequest | None, claim: Claim | None) -> None:
        """Enter what now stands for an id; None = that has not changed."""
        if op is not None:
            self.put(self.ops, op_id, op)
        if request is not None:
            self.put(self.requests, op_id, request)
        if claim is not None:
            self.put(self.claims, op_id, claim)
            self.note(claim)

    def changed(self) -> Standings:
        """What stands otherwise than the store knows it."""
        before = self._before
        return Standings(
            ops={op_id: op for op_id, op in self.ops.items() if before.ops.get(op_id) is not op},
            requests={
                op_id: asked for op_id, asked in self.requests.items() if before.requests.get(op_id) is not asked
            },
            claims={op_id: claim for op_id, claim in self.claims.items() if before.claims.get(op_id) is not claim},
        )

    def user(self, nonce: str) -> OpId | None:
        """Who used this nonce."""
        return self.nonces.get(nonce)

    def begin(self) -> tuple[codec.Head, int]:
        """From here on all that is changed can be taken back; what was changed before stays."""
        self._undo.clear()
        return self.head, len(self.lines)

    def back_to(self, mark: tuple[codec.Head, int]) -> None:
        """Take back everything since `begin`, newest first."""
        self.head, lines = mark
        self.record_ids.difference_update(record.record_id for record, _ in self.lines[lines:])
        del self.lines[lines:]
        for into, name, before in reversed(self._undo):
            if before is _MISSING:
                del into[name]
            else:
                into[name] = before
        self._undo.clear()


def admit(head: codec.Head, known: Known, appends: Iterable[Append]) -> Group:
    """Decide on each append in turn, each seeing those admitted before it."""
    trial = _Trial(head, known)
    verdicts: list[tuple[Record, ...] | TrueupError] = []
    for append in appends:
        mark = trial.begin()
        try:
            verdicts.append(_admit_append(trial, append, since=mark[1]))
        except TrueupError as refusal:
            trial.back_to(mark)
            verdicts.append(refusal)
    return Group(head=trial.head, lines=tuple(trial.lines), standings=trial.changed(), verdicts=tuple(verdicts))


def _admit_append(trial: _Trial, append: Append, *, since: int) -> tuple[Record, ...]:
    """Admit one append whole, or raise; the caller takes back what it has changed. Its lines begin at `since`."""
    if append.epoch != trial.head.epoch or append.epoch < 1:
        raise Stale(
            what=f"epoch {append.epoch} is over: the journal is at epoch {trial.head.epoch}",
            remedy="another agent took over; this one must stop",
        )
    for draft, event in zip(append.drafts, append.events, strict=True):
        _admit_draft(trial, draft, event, append.epoch)
    records = tuple(record for record, _ in trial.lines[since:])
    _require_whole(trial, records)
    return records


def _admit_draft(trial: _Trial, draft: Draft, event: bytes, epoch: Epoch) -> None:
    require(draft.record_id not in trial.record_ids, f"record id {draft.record_id} is in the journal already")
    record, line = codec.seal(trial.head, epoch, draft, event)
    if draft.op_id:
        _admit_step(trial, record)
    trial.head = codec.Head(seq=record.seq, epoch=epoch, hash=record.hash)
    trial.lines.append((record, line))
    trial.record_ids.add(draft.record_id)


def _admit_step(trial: _Trial, record: Record) -> None:
    """Take the step of an operation or of its request, if everything allows it."""
    event, op_id = record.event, record.op_id
    before, asked, claimed = trial.ops.get(op_id), trial.requests.get(op_id), trial.claims.get(op_id)
    op, request, claim = journal_standing.step(record, before, asked, claimed)
    match event:
        case TaskRunning(upid=upid):
            _require_free_task(trial, upid, op_id)
        case Started(intent=intent):
            _require_as_accepted(intent, before, asked, op_id)
            if claim is not None:
                _require_sole_holder(trial, claim.idempotency_key, op_id)
        case Failed(reason=Reason.VETOED):
            if request is None or request.view.state is not RequestState.VETOED:
                raise IllegalTransition(what="nobody vetoed it", where=f"operation {op_id}")
        case Requested() | Accepted() | Vetoed():
            _require_by_gate(trial, record, before, asked)
        case _:
            pass
    trial.step(
        op_id,
        op if op is not before else None,
        request if request is not asked else None,
        claim if claim != claimed else None,
    )


def _require_by_gate(trial: _Trial, record: Record, before: Placed | None, asked: PlacedRequest | None) -> None:
    """What the gate's own events need."""
    event, op_id = record.event, record.op_id
    match event:
        case Requested(request=wanted):
            if (user := trial.user(wanted.nonce)) is not None:
                raise IllegalTransition(what=f"its nonce was used by request {user}", where=f"request {op_id}")
            _require_sole_holder(trial, wanted.idempotency_key, op_id)
        case Accepted():
            _require_as_asked(event, asked, op_id)
            _require_sole_holder(trial, event.idempotency_key, op_id)
        case Vetoed() if before is not None and before.view.state is not OpState.ACCEPTED:
            state = before.view.state
            raise IllegalTransition(what=f"it is {state} already: a veto is too late", where=f"operation {op_id}")
        case _:
            pass


def _require_free_task(trial: _Trial, upid: str, op_id: OpId) -> None:
    holder = trial.upids.get(upid)
    if holder not in (None, op_id):
        # Two operations that claim one task would both be judged by one effect.
        raise IllegalTransition(what=f"task {upid} belongs to operation {holder} already", where=f"operation {op_id}")
    trial.put(trial.upids, upid, op_id)


def _require_sole_holder(trial: _Trial, key: str, op_id: OpId) -> None:
    others = sorted(other for other, held in trial.keys.get(key, {}).items() if held and other != op_id)
    if others:
        raise IllegalTransition(
            what=f"its idempotency key is held by request {', '.join(others)}", where=f"request {op_id}"
        )


def _require_as_asked(event: Accepted, asked: PlacedRequest | None, op_id: OpId) -> None:
    """What is accepted is what people signed."""
    if asked is None:
        raise IllegalTransition(what="nobody asked for what was accepted", where=f"operation {op_id}")
    wanted, intent = asked.view.request, event.intent
    pairs = (
        ("nonce", event.nonce, wanted.nonce),
        ("idempotency key", event.idempotency_key, wanted.idempotency_key),
        ("payload", event.payload, asked.view.payload_sha256),
        ("kind", intent.kind.value, wanted.kind),
        ("guest", f"{intent.type}/{intent.vmid}", f"{wanted.target.type}/{wanted.target.vmid}"),
        ("deadline", max(event.execute_by_ms, wanted.execute_by_ms), wanted.execute_by_ms),
        ("sort: people sign one-shots", intent.one_shot, True),
    )
    for name, given, signed in pairs:
        if given != signed:
            raise IllegalTransition(what=f"what was accepted is not what was signed: its {name}", where=f"op {op_id}")


def _require_as_accepted(intent: Intent, before: Placed | None, asked: PlacedRequest | None, op_id: OpId) -> None:
    """What people sign passes the gate before it starts, and starts as what it was accepted as."""
    if before is None:
        if intent.one_shot or asked is not None:
            raise IllegalTransition(what="a one-shot starts only once it was accepted", where=f"operation {op_id}")
        return
    kept = before.view.intent
    if (intent.kind, intent.type, intent.vmid, intent.one_shot) != (kept.kind, kept.type, kept.vmid, kept.one_shot):
        raise IllegalTransition(what="what starts is not what was accepted", where=f"operation {op_id}")


def _require_whole(trial: _Trial, records: Iterable[Record]) -> None:
    """A veto that would leave its operation to be carried out is no veto."""
    for record in records:
        op = trial.ops.get(record.op_id) if isinstance(record.event, Vetoed) else None
        if op is not None and op.view.state is not OpState.FAILED:
            raise IllegalTransition(
                what="a veto of what was accepted ends the operation in the same append",
                where=f"operation {record.op_id}",
            )


def _require_sound(draft: Draft) -> None:
    """Check what a draft alone can tell."""
    require(draft.record_id, "a record has an id")
    if type(draft.event) in _OF_AN_OPERATION:
        require(draft.op_id, "an event of an operation or a request names it")
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
        case Requested(request=request):
            vmid = request.target.vmid
        case Adopted(vmid=vmid) | Released(vmid=vmid):
            pass
        case _:
            return
    if not 0 < vmid <= codec.INT_MAX:  # integers of stores end not far above
        raise BadInput(what=f"{vmid} is no vmid")
