"""Values that the planner's tests are told in."""

from collections.abc import Sequence
from typing import Any

from trueup.core.plan_context import Context
from trueup.core.planner import next_op, plan, plan_guest
from trueup.model.guests import Clone, Desired, Marker, Observed, Power
from trueup.model.ids import GuestType, NodeName, OpId, Vmid
from trueup.model.plan import GuestPlan, Plan, PlannedOp

QEMU, LXC = GuestType.QEMU, GuestType.LXC
HERE = "lab-1"
NODES = {NodeName(f"pve{n}"): True for n in (1, 2, 3)}
CONFIG = {"cores": "2", "memory": "2048", "scsi0": {"storage": "local-lvm", "size": "32G"}}
SEEN = {"cores": "2", "memory": "2048", "scsi0": "local-lvm:vm-101-disk-0,size=32G"}


def context(**more: Any) -> Context:
    return Context(**{"installation": HERE, "nodes": NODES, **more})


def mark(vmid: int = 101, **more: Any) -> Marker:
    fields = {"uid": f"uid-{vmid}", "installation": HERE, "vmid": Vmid(vmid), "op_id": OpId("op"), "counter": 1}
    return Marker(**{**fields, **more})


def want(vmid: int = 101, **more: Any) -> Desired:
    fields = {"type": QEMU, "name": f"g-{vmid}", "vmid": Vmid(vmid), "node": NodeName("pve1"), "config": CONFIG}
    return Desired(**{**fields, "origin": f"{vmid}.yaml:1", **more})


def seen(vmid: int = 101, **more: Any) -> Observed:
    name = more.get("name", f"g-{vmid}")
    key = "hostname" if more.get("type") is LXC else "name"
    config = {key: name, **more.pop("config", {**SEEN, "scsi0": f"local-lvm:vm-{vmid}-disk-0,size=32G"})}
    fields = {"type": QEMU, "vmid": Vmid(vmid), "node": NodeName("pve1"), "name": name, "status": Power.RUNNING}
    return Observed(**{**fields, "config": config, "marker": mark(vmid), **more})


def template(vmid: int = 9000, **more: Any) -> Observed:
    fields = {"template": True, "status": Power.STOPPED, "marker": None, "name": "golden"}
    config = {"cores": "1", "memory": "2048", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"}
    config["scsi0"] = f"local-lvm:base-{vmid}-disk-0,size=8G"
    return seen(vmid, **{**fields, "config": config, **more})


def clone(vmid: int = 101, source: int = 9000, *, full: bool = True, **more: Any) -> Desired:
    return want(vmid, **{"source": Clone(source=Vmid(source), full=full), **more})


def all_of(desired: Sequence[Desired], *observed: Observed, **more: Any) -> Plan:
    return plan(desired, {guest.vmid: guest for guest in observed}, context(**more))


def one(desired: Desired, *observed: Observed, **more: Any) -> GuestPlan:
    """The plan of one guest alone, which is also its part in the plan of all."""
    found = plan_guest(desired, {desired.name: desired}, {guest.vmid: guest for guest in observed}, context(**more))
    whole = all_of([desired], *observed, **more)
    assert whole.guests[0] == found or found.waits_for
    return found


def first(guest: GuestPlan) -> PlannedOp:
    op = next_op(guest)
    assert op is not None
    return op


def kinds(guest: GuestPlan) -> list[str]:
    return [op.kind.value for op in guest.ops]


def diffs(guest: GuestPlan) -> dict[str, tuple[str, str]]:
    return {diff.key: (diff.was, diff.want) for diff in guest.diff}
