"""What must hold of everything that people handed in, after every run; on top of `invariants`.

Signatures are counted here from the journal's own payloads by code that shares nothing with the gate.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

from tests.simulation import gate_people, invariants
from tests.simulation.gate_harness import Delivery, GateRun
from tests.simulation.invariants import Doubled, Lost, Unfinished, Wrong, require
from trueup.model.gate import Approved, Denied, Lapsed, Refusal, Requested, Vetoed
from trueup.model.gate_answers import OPERATION_TYPE, VETO_TYPE, Outcome
from trueup.model.ids import OpId
from trueup.model.ops import (
    Accepted,
    Contradicted,
    Failed,
    Guarding,
    OpState,
    Reason,
    Record,
    Started,
    Succeeded,
    TaskRunning,
)

MOMENT_MS = 1000
"""Between the gate's last word and the durable intent, which may be that long in the queue of the node."""
KNOWN_YET_REFUSED = frozenset(
    {Refusal.CLOCK, Refusal.REVOKED_KEY, Refusal.SIGNATURE, Refusal.UNKNOWN_KEY, Refusal.REQUESTER}
)
"""Why a redelivery of what is no longer pending may be refused: signatures and the clock come first."""
ENDS = frozenset({"succeeded", "failed", "vetoed", "expired", "refused"})


def check(told: GateRun, *, same_guests: bool = True, open_for: frozenset[Reason] = frozenset()) -> None:
    """All invariants. `open_for` are the reasons for which an accepted request may stay unresolved.

    `same_guests`: nobody took a vmid away by hand; PVE keeps no record of the hand that did it.
    """
    invariants.check(told.run, believe_tasks=same_guests, same_guests=same_guests)
    _nonces_and_keys(told)
    _started_only_as_signed(told)
    _executed_once(told)
    _one_at_a_time(told)
    _guarded_only_in_flight(told)
    _strangers_are_left_alone(told)
    _every_answer_was_true(told)
    _everything_ended(told, open_for)


# -- what is in the journal --------------------------------------------------------------------------------------------


def _of(told: GateRun, op_id: str) -> list[Record]:
    return [record for record in told.run.records if record.op_id == op_id]


def _requests(told: GateRun) -> Iterator[tuple[Record, Requested]]:
    for record in told.run.records:
        if isinstance(record.event, Requested):
            yield record, record.event


def states(records: Sequence[Record]) -> list[tuple[int, str]]:
    """Where a request stood from which record on, in the words of answers."""
    found: list[tuple[int, str]] = []
    for record in records:
        match record.event:
            case Requested():
                found.append((record.seq, "pending"))
            case Accepted():
                found.append((record.seq, "accepted"))
            case Started():
                found.append((record.seq, "started"))
            case TaskRunning():
                found.append((record.seq, "task_running"))
            case Succeeded():
                found.append((record.seq, "succeeded"))
            case Failed():
                found.append((record.seq, "failed"))
            case Vetoed():
                found.append((record.seq, "vetoed"))
            case Lapsed(state=state):
                found.append((record.seq, state.value))
            case Contradicted():
                found.append((record.seq, "started"))
            case _:
                pass
    return found


def state_at(records: Sequence[Record], seq: int) -> str:
    """Where it stood after this record; '' = it was not known."""
    return next((state for at, state in reversed(states(records)) if at <= seq), "")


def _nonces_and_keys(told: GateRun) -> None:
    """A nonce has one request, made of the very bytes; a key is taken only when nobody holds it."""
    run = told.run
    nonces = Counter(event.request.nonce for _, event in _requests(told))
    require(all(count == 1 for count in nonces.values()), Doubled, f"nonces used twice: {nonces}", run)
    earlier: list[tuple[str, Requested]] = []
    for record, event in _requests(told):
        payload = base64.b64decode(event.payload)
        require(hashlib.sha256(payload).hexdigest() == event.payload_sha256, Wrong, "a hash is not its payload's", run)
        require(event.payload_sha256 in told.post.papers, Wrong, "nobody wrote this request", run)
        require(json.loads(payload)["nonce"] == event.request.nonce, Wrong, "a nonce is not its payload's", run)
        for other, before in earlier:
            if before.request.idempotency_key != event.request.idempotency_key:
                continue
            state = state_at(_of(told, other), record.seq - 1)
            free = state in {"failed", "vetoed", "expired", "refused"}
            require(free, Doubled, f"key {event.request.idempotency_key} taken from {other}, which is {state}", run)
        earlier.append((record.op_id, event))


def _started_only_as_signed(told: GateRun) -> None:
    """What starts was accepted, is what was signed, and enough people stand behind it at that moment."""
    run, people = told.run, told.post.people
    newest_ms = 0
    for record in run.records:
        event = record.event
        if isinstance(event, Started) and event.intent.one_shot:
            asked = _of(told, record.op_id)
            seen = [one.event for one in asked if one.seq < record.seq]
            require(any(isinstance(one, Accepted) for one in seen), Wrong, f"{record.op_id} was not accepted", run)
            ended = any(isinstance(one, Vetoed | Lapsed | Failed | Succeeded) for one in seen)
            require(not ended, Wrong, f"{record.op_id} started though it had ended", run)
            request = next(one for one in seen if isinstance(one, Requested))
            payload = json.loads(base64.b64decode(request.payload))
            target = payload["target"]
            signed = (payload["kind"], target["type"], target["vmid"])
            intent = event.intent
            require((intent.kind, intent.type, intent.vmid) == signed, Wrong, "started as something else", run)
            counted = _people_behind(told, seen, record.at_ms)
            enough = len(counted) >= gate_people.PEOPLE[payload["kind"]] and payload["requested_by"] in counted
            require(enough, Wrong, f"{record.op_id} started with {sorted(counted)} behind it", run)
            late = max(newest_ms, record.at_ms) > request.request.execute_by_ms
            require(not late, Wrong, f"{record.op_id} started past its execute_by", run)
            forbidden = people.closed_ms and record.at_ms > people.closed_ms + MOMENT_MS
            require(not forbidden, Wrong, f"{record.op_id} started against the policy", run)
        newest_ms = max(newest_ms, record.at_ms)


def _people_behind(told: GateRun, seen: Sequence[object], at_ms: int) -> set[str]:
    """Who signed it with a key that nobody had revoked by then, counted as people."""
    request = next(one for one in seen if isinstance(one, Requested))
    signatures = {one.approval.key_id: one.approval.signature for one in seen if isinstance(one, Approved)}
    names = gate_people.really_signed(base64.b64decode(request.payload), OPERATION_TYPE, signatures)
    revoked = told.post.people.revoked
    good = {name for name in names if name not in revoked or at_ms <= revoked[name] + MOMENT_MS}
    return {gate_people.OWNER[name] for name in good if name in gate_people.OWNER}


# -- what happened to guests -------------------------------------------------------------------------------------------


def _executed_once(told: GateRun) -> None:
    """Each signed call took effect at most as often as it was started, and each request was started once at most."""
    run = told.run
    started: Counter[tuple[str, str]] = Counter()
    for record in run.records:
        if isinstance(record.event, Started):
            intent = record.event.intent
            started[intent.method, unquote(intent.path)] += 1
    for call, count in Counter((str(row["method"]), str(row["path"])) for row in invariants.own_effects(run)).items():
        require(count <= started[call], Doubled, f"{call} took effect {count} times for {started[call]} starts", run)
    ours = [row for row in run.mutations if str(row["user"]).startswith("agent@")]
    sent = Counter((str(row["method"]), str(row["path"])) for row in ours if not _is_write_beside(row))
    for call, count in sent.items():
        require(count <= started[call], Doubled, f"{call} was sent {count} times for {started[call]} starts", run)


def _is_write_beside(row: Mapping[str, object]) -> bool:
    return invariants._is_fence(row) or invariants._is_guard(row)


def _one_at_a_time(told: GateRun) -> None:
    """A guest has one operation in flight at the most, also while it is unresolved.

    An operation that is contradicted is in flight again, whatever else is by then.
    """
    vmids = {op.op_id: op.intent.vmid for op in told.run.ops}
    flying: dict[int, OpId] = {}
    for record in told.run.records:
        vmid = vmids.get(record.op_id)
        if vmid is None:
            continue
        if isinstance(record.event, Started):
            other = flying.setdefault(vmid, record.op_id)
            require(other == record.op_id, Doubled, f"{record.op_id} started while {other} was in flight", told.run)
        elif isinstance(record.event, Succeeded | Failed) and flying.get(vmid) == record.op_id:
            del flying[vmid]


def _guarded_only_in_flight(told: GateRun) -> None:
    """`protection` is lifted only while its destroy is in flight, and stands at the end of every one but a success."""
    run = told.run
    guests = {int(str(guest["vmid"])): guest for guest in run.cluster.world.state()["guests"]}  # type: ignore[union-attr, index, call-overload]
    for op in run.ops:
        records = _of(told, op.op_id)
        began = next((one.at_ms for one in records if isinstance(one.event, Guarding)), None)
        writes = [row for row in run.effects() if invariants._is_guard(row) and invariants._mark(row) == op.op_id]
        require(len(writes) <= 1, Doubled, f"{op.op_id} lifted protection {len(writes)} times", run)
        if not writes:
            continue
        at_ms = float(str(writes[0]["time"])) * 1000
        in_time = told.story.clock_steps or (began is not None and at_ms >= began)
        require(in_time, Wrong, f"{op.op_id} lifted protection before it said so", run)
        if op.state is not OpState.FAILED:
            continue
        guest = guests.get(op.intent.vmid)
        same = guest is not None and op.op_id in str(guest["config"].get("description", ""))  # type: ignore[union-attr]
        lifted_again = any(invariants._is_guard(row) for row in run.effects() if float(str(row["time"])) * 1000 > at_ms)
        if same and not lifted_again and "protection" not in told.post.touched_by_hand:
            protected = guest["config"].get("protection") in {1, "1"}  # type: ignore[union-attr, index]
            require(protected, Wrong, f"{op.op_id} failed and left {op.intent.vmid} unprotected", run)


def _strangers_are_left_alone(told: GateRun) -> None:
    """Guests are touched only by the operation that was signed for them."""
    run = told.run
    signed = {op.intent.vmid for op in run.ops if op.intent.one_shot and op.state is not OpState.ACCEPTED}
    wanted = {want.vmid for want in told.story.desired}
    for row in run.effects():
        vmid = re.search(r"/(?:qemu|lxc)/(\d+)", str(row["path"]))
        if vmid is None or not str(row["user"]).startswith("agent@"):
            continue
        allowed = int(vmid.group(1)) in signed | wanted
        require(allowed, Lost, f"{row['method']} {row['path']} that nobody signed for", run)


# -- what people heard -------------------------------------------------------------------------------------------------


def _every_answer_was_true(told: GateRun) -> None:
    """Whatever the sender of a request heard was so at some moment between the handing-in and the answer."""
    for one in told.post.deliveries:
        if one.answer is None:
            continue
        if one.payload_type == OPERATION_TYPE:
            _request_answer_was_true(told, one)
        elif one.payload_type == VETO_TYPE and one.answer.outcome is Outcome.ACCEPTED:
            said = [record for record in _of(told, one.answer.request) if isinstance(record.event, Vetoed)]
            inside = any(one.before < record.seq <= one.after for record in said)
            require(inside, Lost, f"a veto was taken and is not in the journal: {one}", told.run)


def _request_answer_was_true(told: GateRun, one: Delivery) -> None:
    run, answer = told.run, one.answer
    assert answer is not None
    assert one.request is not None
    own = next((record for record, event in _requests(told) if event.request.nonce == one.request.nonce), None)
    mine = own is not None and isinstance(own.event, Requested) and own.event.payload_sha256 == one.sha256
    inside = [record for record in _of(told, answer.request) if one.before < record.seq <= one.after]
    match answer.outcome:
        case Outcome.ACCEPTED:
            fresh = mine and any(isinstance(record.event, Accepted) for record in inside)
            require(fresh, Wrong, f"accepted, and not by this: {one}", run)
        case Outcome.PENDING:
            fresh = mine and any(isinstance(record.event, Requested | Approved) for record in inside)
            require(fresh, Wrong, f"pending, and nothing new: {one}", run)
        case Outcome.REPETITION:
            records = _of(told, answer.request)
            told_of = {state_at(records, seq) for seq in range(one.before, one.after + 1)}
            require(answer.state in told_of, Wrong, f"it was {told_of}: {one}", run)
            asked = next(record.event for record in records if isinstance(record.event, Requested))
            same_key = asked.request.idempotency_key == one.request.idempotency_key
            require(mine or same_key, Wrong, f"answered with somebody else's: {one}", run)
        case Outcome.REFUSED:
            if own is None or own.seq > one.before:
                return
            if not mine:
                as_replay = answer.refusal in {Refusal.REPLAY, *KNOWN_YET_REFUSED}
                require(as_replay, Wrong, f"a nonce with other bytes: {one}", run)
            elif state_at(_of(told, own.op_id), one.before) != "pending":
                require(answer.refusal in KNOWN_YET_REFUSED, Wrong, f"a redelivery was refused: {one}", run)


def _everything_ended(told: GateRun, open_for: frozenset[Reason]) -> None:
    """No request is lost: each has ended, or is unresolved for a reason that the story allows."""
    run = told.run
    ops = {op.op_id: op for op in run.ops}
    for record, _ in _requests(told):
        state = state_at(_of(told, record.op_id), run.records[-1].seq)
        op = ops.get(OpId(record.op_id))
        if state == "pending" or (op is not None and op.state is OpState.ACCEPTED):
            require(condition=False, kind=Unfinished, what=f"{record.op_id} still is {state}", run=run)
        if state in ENDS:
            continue
        reason = op.reason if op is not None and op.unresolved else None
        require(reason in open_for, Unfinished, f"{record.op_id} is {state}, open for {reason}", run)
    heard = {one.answer.op for one in told.post.deliveries if one.answer and one.answer.outcome is Outcome.ACCEPTED}
    for op_id in heard - {OpId("")}:
        require(OpId(op_id) in ops, Lost, f"{op_id} was accepted and is lost", run)


def refusals(told: GateRun) -> Counter[str]:
    """Refusals that were heard, by reason."""
    answers = [one.answer for one in told.post.deliveries]
    return Counter(answer.refusal.value for answer in answers if answer is not None and answer.refusal is not None)


def denied(told: GateRun) -> Counter[str]:
    """Refusals in the journal, by reason."""
    found: Counter[str] = Counter()
    for record in told.run.records:
        if isinstance(record.event, Denied):
            found[record.event.refusal.value] += record.event.times
    return found
