"""Values that the gate's pure tests are told in: people, a request of theirs, and the guest that it is about."""

from typing import Any

from trueup.model.gate import Approval, Form, Refusal, Request, RequestState, RequestView, Ruling, Target
from trueup.model.gate_answers import GateRefused
from trueup.model.guests import Identity, Marker, Observed, Power
from trueup.model.ids import Digest, Epoch, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.keyring import Keyring, Person, PublicKey
from trueup.model.ops import Intent, Kind, OpState, OpView, Reason

NOW = 1_800_000_000_000
ID = OpId("r-1")
VM = Identity(smbios1_uuid="AB-1", ctime="17", vmgenid="CD-2", marker_uid="uid-1")
CT = Identity(rootfs="local:101/a.raw", macs=("BC:24:11:00:00:0A",), marker_uid="uid-1")
ROLE = frozenset({"operator"})
DIGEST = Digest("d1")


def key(name: str) -> PublicKey:
    return PublicKey(key_id=f"k-{name}", algorithm="ed25519", public="…")


def person(name: str, **more: Any) -> Person:
    return Person(**{"name": name, "roles": ROLE, "keys": (key(name),), **more})


def keyring(*people: Person) -> Keyring:
    return Keyring(people=people or (person("alice"), person("bob")), digest="kd")


def approval(name: str) -> Approval:
    return Approval(person=name, key_id=f"k-{name}", form=Form.DSSE, signature="…")


def request(guest: GuestType = GuestType.QEMU, **more: Any) -> Request:
    identity = VM if guest is GuestType.QEMU else CT
    fields = {
        "cluster": "lab",
        "kind": "stop",
        "target": Target(type=guest, vmid=Vmid(101), identity=identity, digest=DIGEST),
        "reason": "",
        "requested_by": "alice",
        "nonce": "n",
        "idempotency_key": "key",
        "not_before_ms": NOW,
        "approve_by_ms": NOW + 1,
        "execute_by_ms": NOW + 2,
    }
    return Request(**{**fields, **more})


def view(state: RequestState = RequestState.PENDING, **more: Any) -> RequestView:
    ruling = Ruling(rule=1, people=2, missing=more.pop("missing", ""))
    fields = {"request_id": ID, "state": state, "request": request(), "payload": "p", "payload_sha256": "h"}
    return RequestView(**{**fields, "ruling": ruling, "requested_at_ms": NOW, **more})


def op(state: OpState, reason: Reason | None = None) -> OpView:
    intent = Intent(
        kind=Kind.STOP,
        type=GuestType.QEMU,
        vmid=Vmid(101),
        node=NodeName("pve1"),
        method="POST",
        path="/",
        task_type="qmstop",
        task_id="101",
        token=TokenId("a@pve!t"),
        sent_not_before_s=1,
    )
    return OpView(op_id=ID, state=state, intent=intent, started_at_ms=1, epoch=Epoch(1), reason=reason)


def seen(guest: GuestType = GuestType.QEMU, **more: Any) -> Observed:
    fields = {"type": guest, "vmid": Vmid(101), "node": NodeName("pve1"), "name": "g", "status": Power.STOPPED}
    mark = Marker(uid="uid-1", installation="lab-1", vmid=Vmid(101), op_id=OpId("o"), counter=1)
    fields |= {"identity": VM if guest is GuestType.QEMU else CT, "digest": DIGEST, "marker": mark}
    return Observed(**{**fields, **more})


def refused(check: Any, *arguments: Any) -> Refusal | None:
    try:
        check(*arguments)
    except GateRefused as no:
        return no.refusal
    return None
