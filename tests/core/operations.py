"""Values that the tests of the heart are told in: an operation as the journal knows it, and its marker."""

from typing import Any

from trueup.core.kinds import KINDS, TaskId
from trueup.model.guests import Marker
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Upid, Vmid
from trueup.model.ops import Intent, Kind, OpState, OpView

QEMU, LXC = GuestType.QEMU, GuestType.LXC
OP, OTHER_OP = OpId("op-7"), OpId("op-6")
TOKEN = TokenId("agent@pve!up-3")
NODE = NodeName("pve1")
SENT_S = 1_800_000_000


def mark(**more: Any) -> Marker:
    fields = {"uid": "uid-101", "installation": "lab-1", "vmid": Vmid(101), "op_id": OP, "counter": 4}
    return Marker(**{**fields, **more})


def intent(kind: Kind = Kind.START, **more: Any) -> Intent:
    spec = KINDS[kind]
    guest = more.get("type", QEMU)
    route = spec.routes.get(guest) or spec.routes[QEMU]
    fields = {
        "kind": kind,
        "type": QEMU,
        "vmid": Vmid(101),
        "node": NODE,
        "method": route.method,
        "path": route.path,
        "task_type": route.task,
        "task_id": {TaskId.VMID: "101", TaskId.SOURCE: "9000", TaskId.STORAGE: "101@local", TaskId.NONE: ""}[
            spec.task_id
        ],
        "token": TOKEN,
        "marker": mark() if spec.marks else None,
        "sent_not_before_s": SENT_S,
    }
    return Intent(**{**fields, **more})


def upid(kind: str = "qmstart", *, guest: str = "101", start_s: int = SENT_S, pid: int = 0x4D2, **more: str) -> Upid:
    node, user = more.get("node", NODE), more.get("user", TOKEN)
    return Upid.parse(f"UPID:{node}:{pid:08X}:0004E1C7:{start_s:08X}:{kind}:{guest}:{user}:")


def op(kind: Kind = Kind.START, state: OpState = OpState.STARTED, *, upid: str = "", **more: Any) -> OpView:
    return OpView(
        op_id=OP, state=state, intent=intent(kind, **more), started_at_ms=SENT_S * 1000, epoch=Epoch(3), upid=upid
    )
