"""Values for the journal's tests: strategies for every event, and short ways to write common drafts."""

import enum
import itertools
import types
import typing
from collections.abc import Mapping

import msgspec
from hypothesis import strategies as st

from trueup.model.gate import (
    Approval,
    Approved,
    Form,
    Lapsed,
    Refusal,
    Request,
    Requested,
    RequestState,
    Ruling,
    Target,
    Vetoed,
)
from trueup.model.guests import Identity
from trueup.model.ids import Digest, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import Accepted, Draft, Event, Failed, Intent, Kind, Reason, Started, Succeeded, TaskRunning

EVENT_TYPES = typing.get_args(Event)
TOKEN = TokenId("trueup@pve!t1")


def of(hint: object) -> st.SearchStrategy:
    """Values of a type, for the types that events are made of."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.NewType):
        return of(hint.__supertype__)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([of(argument) for argument in arguments])
    if origin is Mapping:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=3)
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: of(hints[name]) for name in hint.__struct_fields__})
    simple = {bool: st.booleans(), int: st.integers(0, 2**53 - 1), str: st.text(max_size=20), type(None): st.none()}
    simple[float] = st.floats(0, 1e9)
    return simple[hint]


def intent(vmid: int = 101, kind: Kind = Kind.CLONE, **more) -> Intent:
    return Intent(
        kind=kind,
        type=GuestType.QEMU,
        vmid=Vmid(vmid),
        node=NodeName("pve1"),
        method="POST",
        path="/nodes/pve1/qemu/9000/clone",
        params={"newid": str(vmid), "name": "web-1", "full": "1"},
        source=Vmid(9000),
        task_type="qmclone",
        task_id="9000",
        token=TOKEN,
        **more,
    )


_numbers = itertools.count(1)


def record_id() -> str:
    return f"01930000-0000-7000-8000-{next(_numbers):012d}"


def draft(op: str, event: Event, at_ms: int = 1_000) -> Draft:
    return Draft(record_id=record_id(), at_ms=at_ms, op_id=OpId(op), event=event)


def started(op: str, vmid: int = 101, at_ms: int = 1_000) -> Draft:
    return draft(op, Started(intent=intent(vmid)), at_ms)


def running(op: str, upid: str = "", at_ms: int = 2_000) -> Draft:
    return draft(op, TaskRunning(upid=upid or f"UPID:pve1:{op}:"), at_ms)


def succeeded(op: str, at_ms: int = 3_000) -> Draft:
    return draft(op, Succeeded(reason=Reason.TASK_OK, exit_status="OK"), at_ms)


def failed(op: str, reason: Reason = Reason.TASK_ERROR, at_ms: int = 3_000) -> Draft:
    return draft(op, Failed(reason=reason), at_ms)


# --- What people sign. A request and its operation have one id; nonce and key are named after it unless told. ---------

EXECUTE_BY_MS = 9_000
APPROVAL = Approval(person="alice", key_id="key-a", form=Form.DSSE, signature="c2ln", at_ms=90)
RULING = Ruling(rule=1, people=1, counted=("alice",))


def request(op: str, vmid: int = 101, kind: Kind = Kind.CLONE, **more) -> Request:
    fields = {
        "cluster": "lab",
        "kind": kind.value,
        "target": Target(type=GuestType.QEMU, vmid=Vmid(vmid), identity=Identity(), digest=Digest("d1")),
        "reason": "ticket 4711",
        "requested_by": "alice",
        "nonce": f"n-{op}",
        "idempotency_key": f"k-{op}",
        "not_before_ms": 1,
        "approve_by_ms": 8_000,
        "execute_by_ms": EXECUTE_BY_MS,
    }
    return Request(**fields | more)


def requested(op: str, vmid: int = 101, at_ms: int = 80, **more) -> Draft:
    event = Requested(request=request(op, vmid, **more), payload="cGF5", payload_sha256="p", ruling=RULING, via="spool")
    return draft(op, event, at_ms)


def approved(op: str, at_ms: int = 90) -> Draft:
    return draft(op, Approved(approval=APPROVAL), at_ms)


def accepted(op: str, vmid: int = 101, at_ms: int = 100, **more) -> Draft:
    fields = {"nonce": f"n-{op}", "idempotency_key": f"k-{op}", "payload": "p", "execute_by_ms": EXECUTE_BY_MS}
    kind = more.pop("kind", Kind.CLONE)
    return draft(op, Accepted(intent=intent(vmid, kind, one_shot=True), **fields | more), at_ms)


def sent(op: str, vmid: int = 101, at_ms: int = 1_000, **more) -> Draft:
    """The start of what people signed."""
    return draft(op, Started(intent=intent(vmid, more.pop("kind", Kind.CLONE), one_shot=True, **more)), at_ms)


def signed(op: str, vmid: int = 101, **more) -> list[Draft]:
    """Asked for, approved and accepted in one append."""
    key = {name: more[name] for name in ("idempotency_key", "nonce", "kind") if name in more}
    return [requested(op, vmid, **more), approved(op), accepted(op, vmid, **key)]


def vetoed(op: str, at_ms: int = 95) -> Draft:
    return draft(op, Vetoed(approval=APPROVAL, reason="not today"), at_ms)


def lapsed(op: str, state: RequestState = RequestState.EXPIRED, at_ms: int = 8_001) -> Draft:
    return draft(op, Lapsed(state=state, why=Refusal.EXPIRED), at_ms)


async def epoch(journal, holder: str = "agent"):
    return await journal.take_epoch(holder=holder, token=TOKEN, record_id=record_id(), at_ms=500)
