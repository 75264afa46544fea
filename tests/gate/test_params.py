"""What may be asked for, kind by kind, and that the sender can make a request of it."""

import pytest
from msgspec.structs import replace

from tests.gate.world import CT, TOKEN, VM, World, payload_of, request
from trueup.core import intents
from trueup.core.gate_form import parse_request
from trueup.core.gate_params import PARAMS, accepted_intent, check_params, planned, requestable
from trueup.core.kinds import KINDS, Tier
from trueup.model.gate import Refusal
from trueup.model.gate_answers import GateRefused
from trueup.model.ids import GuestType, OpId
from trueup.model.ops import Kind

GOOD: dict[Kind, dict[str, object]] = {
    Kind.DESTROY: {"purge": True, "destroy-unreferenced-disks": "false"},
    Kind.ROLLBACK: {"snapshot": "before"},
    Kind.SNAPSHOT_DELETE: {"snapshot": "auto-20261124-0200"},
    Kind.RESTORE: {"archive": "nas:backup/vzdump-qemu-101-2026_01_01-00_00_00.vma.zst", "storage": "local-lvm"},
    Kind.DISK_REMOVE: {"disk": "scsi1"},
    Kind.BACKUP_DELETE: {"volume": "nas:backup/vzdump-qemu-101-2026_01_01-00_00_00.vma.zst"},
    Kind.UNLOCK: {},
    Kind.START: {},
    Kind.SHUTDOWN: {"timeout": 60, "force": True},
    Kind.STOP: {},
    Kind.REBOOT: {"timeout": "30"},
    Kind.MIGRATE: {"target": "pve2", "online": True},
    Kind.TEMPLATE: {},
}


def test_every_destructive_and_disruptive_kind_can_be_requested_and_no_other_but_start():
    asked = {kind for kind, spec in KINDS.items() if spec.tier is not Tier.SAFE} | {Kind.START}
    assert set(PARAMS) == set(GOOD) == asked


@pytest.mark.parametrize("vmid", [VM, CT])
@pytest.mark.parametrize("kind", GOOD)
def test_the_sender_can_make_the_request_anew(kind, vmid):
    guest = World().observed(vmid)
    asked = parse_request(payload_of(request(kind.value, vmid=vmid, params=GOOD[kind])))
    if kind is Kind.UNLOCK and vmid == CT:
        with pytest.raises(GateRefused):
            planned(asked, guest)
        return
    op = planned(asked, guest)
    intent = accepted_intent(op, guest, TOKEN, {"tier": "web"})
    assert (intent.kind, intent.vmid, intent.one_shot, intent.digest) == (kind, vmid, True, guest.digest)
    assert "{" not in intent.path
    stamp = intents.Stamp(op_id=OpId("op-1"), uid="u", installation="inst", token=TOKEN, now_ms=1_000, send_by_ms=2_000)
    prepared = intents.again(intent, guest, stamp)
    assert (prepared.intent.method, prepared.intent.path) == (intent.method, intent.path)
    assert prepared.intent.goal == intent.goal
    assert prepared.intent.one_shot
    assert set(op.params.items()) <= set(prepared.params.items())
    finding = KINDS[kind].probe(prepared.intent, _sight(guest))
    assert finding.landing


def test_goals_are_what_the_probes_look_for():
    guest = World().observed()

    def goal(kind: Kind, **more: object) -> tuple[dict[str, str], dict[str, str]]:
        asked = parse_request(payload_of(request(kind.value, params=GOOD[kind] | more)))
        op = planned(asked, replace(guest, pending=("cores", "memory")))
        return dict(op.params), dict(op.goal)

    assert goal(Kind.DESTROY) == ({"purge": "1", "destroy-unreferenced-disks": "0"}, {})
    assert goal(Kind.ROLLBACK) == ({}, {"snapshot": "before"})
    assert goal(Kind.DISK_REMOVE) == ({"delete": "scsi1", "force": "1"}, {"scsi1": ""})
    volume = GOOD[Kind.BACKUP_DELETE]["volume"]
    assert goal(Kind.BACKUP_DELETE) == ({}, {"volume": volume, "storage": "nas"})
    assert goal(Kind.STOP) == ({}, {"power": "stopped"})
    assert goal(Kind.SHUTDOWN) == ({"timeout": "60", "forceStop": "1"}, {"power": "stopped"})
    assert goal(Kind.REBOOT) == ({"timeout": "30"}, {"pending": "cores,memory"})
    assert goal(Kind.MIGRATE) == ({"target": "pve2", "online": "1"}, {"node": "pve2"})
    assert goal(Kind.MIGRATE, online=False) == ({"target": "pve2"}, {"node": "pve2"})


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (Kind.DESTROY, {"purge": "maybe"}),
        (Kind.DESTROY, {"force": "1"}),
        (Kind.DESTROY, {"skiplock": "1"}),
        (Kind.ROLLBACK, {"snapshot": "../other"}),
        (Kind.ROLLBACK, {"snapshot": "s1", "start": "1"}),
        (Kind.RESTORE, {"archive": "/etc/passwd"}),
        (Kind.RESTORE, {"archive": "nas:backup/../../x"}),
        (Kind.RESTORE, {"archive": "nas:x", "storage": "a b"}),
        (Kind.DISK_REMOVE, {"disk": "name"}),
        (Kind.DISK_REMOVE, {"disk": "scsi0,net0"}),
        (Kind.BACKUP_DELETE, {}),
        (Kind.MIGRATE, {"target": "pve2/x"}),
        (Kind.TEMPLATE, {"disk": "scsi0"}),
    ],
)
def test_params_that_are_not_taken(kind, params):
    with pytest.raises(GateRefused) as no:
        check_params(kind, params)
    assert no.value.refusal is Refusal.MALFORMED


def test_the_loops_own_kinds_are_told_apart_from_nonsense():
    for kind, text in (("configure", "follow from manifests"), ("explode", "no such kind")):
        with pytest.raises(GateRefused, match=text) as no:
            requestable(kind, GuestType.QEMU)
        assert no.value.refusal is Refusal.KIND


def _sight(guest):
    from trueup.core.probes import Sight

    return Sight(guest=guest, snapshots={}, archives={})
