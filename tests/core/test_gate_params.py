"""What a signed request becomes, kind by kind and for both types of guest."""

import pytest

from tests.core.asking import request, seen
from trueup.core.gate_params import OVERWRITES, PARAMS, Param, accepted_intent, check_params, planned, requestable
from trueup.core.kinds import KINDS
from trueup.model.gate import Refusal
from trueup.model.gate_answers import GateRefused
from trueup.model.ids import GuestType, TokenId
from trueup.model.ops import Kind

QEMU, LXC = GuestType.QEMU, GuestType.LXC
DUMP = "nas:backup/vzdump-qemu-101.vma.zst"

# kind, type of guest, what was signed, what PVE gets, what the probe looks for
MADE = [
    ("destroy", QEMU, {"purge": "yes"}, {"purge": "1"}, {}),
    ("rollback", QEMU, {"snapshot": "before"}, {}, {"snapshot": "before"}),
    ("snapshot-delete", QEMU, {"snapshot": "before"}, {}, {"snapshot": "before"}),
    ("restore", QEMU, {"archive": DUMP}, {"archive": DUMP, "force": "1"}, {}),
    ("restore", QEMU, {"archive": DUMP, "storage": "b1"}, {"archive": DUMP, "force": "1", "storage": "b1"}, {}),
    ("restore", LXC, {"archive": DUMP}, {"ostemplate": DUMP, "restore": "1", "force": "1"}, {}),
    ("disk-remove", QEMU, {"disk": "scsi1"}, {"delete": "scsi1", "force": "1"}, {"scsi1": ""}),
    ("disk-remove", LXC, {"disk": "mp0"}, {"delete": "mp0"}, {"mp0": ""}),
    ("backup-delete", QEMU, {"volume": DUMP}, {}, {"volume": DUMP, "storage": "nas"}),
    ("unlock", QEMU, {}, {"delete": "lock"}, {}),
    ("start", QEMU, {}, {}, {"power": "running"}),
    ("stop", QEMU, {}, {}, {"power": "stopped"}),
    ("shutdown", QEMU, {}, {}, {"power": "stopped"}),
    ("shutdown", QEMU, {"timeout": "9"}, {"timeout": "9"}, {"power": "stopped"}),
    ("shutdown", QEMU, {"force": "no"}, {"forceStop": "0"}, {"power": "stopped"}),
    ("reboot", QEMU, {"timeout": "9"}, {"timeout": "9"}, {"pending": "cores,memory"}),
    ("migrate", QEMU, {"target": "pve2", "online": "true"}, {"target": "pve2", "online": "1"}, {"node": "pve2"}),
    ("migrate", LXC, {"target": "pve2", "online": "true"}, {"target": "pve2", "restart": "1"}, {"node": "pve2"}),
    ("migrate", LXC, {"target": "pve2", "online": "0"}, {"target": "pve2"}, {"node": "pve2"}),
    ("template", QEMU, {}, {}, {}),
]


@pytest.mark.parametrize(("kind", "guest", "signed", "params", "goal"), MADE)
def test_what_pve_gets_and_what_is_looked_for(kind, guest, signed, params, goal):
    there = seen(type=guest, pending=("cores", "memory"), name="web")
    op = planned(request(guest, kind=kind, params=signed), there)
    assert (op.kind, op.type, op.vmid, op.node, op.name) == (Kind(kind), guest, 101, there.node, "web")
    assert (op.params, op.goal) == (params, goal)


def test_the_params_that_people_may_sign():
    flag, needed = "true or false", True
    rows = {
        kind.value: {name: (param.needed, param.hint) for name, param in params.items()}
        for kind, params in PARAMS.items()
    }
    dump, snapshot = (needed, "a backup as storage:volume"), {"snapshot": (needed, "the name of a snapshot")}
    assert rows == {
        "destroy": {"purge": (False, flag), "destroy-unreferenced-disks": (False, flag)},
        "rollback": snapshot,
        "snapshot-delete": snapshot,
        "restore": {"archive": dump, "storage": (False, "the storage of the new disks")},
        "disk-remove": {"disk": (needed, "a config key like scsi1, mp0 or unused0")},
        "backup-delete": {"volume": dump},
        "unlock": {},
        "start": {},
        "shutdown": {"timeout": (False, "seconds"), "force": (False, flag)},
        "stop": {},
        "reboot": {"timeout": (False, "seconds")},
        "migrate": {"target": (needed, "a node"), "online": (False, flag)},
        "template": {},
    }
    flags = {(kind.value, name) for kind, params in PARAMS.items() for name, one in params.items() if one.form is None}
    assert flags == {
        *(("destroy", "purge"), ("destroy", "destroy-unreferenced-disks"), ("shutdown", "force"), ("migrate", "online"))
    }
    assert Param() == Param(form=None, needed=False, hint=flag)
    assert {kind.value for kind in OVERWRITES} == {"destroy", "restore"}


@pytest.mark.parametrize(
    ("given", "sent"), [("1", "1"), ("true", "1"), ("yes", "1"), ("0", "0"), ("false", "0"), ("no", "0")]
)
def test_spellings_of_truth(given, sent):
    assert check_params(Kind.DESTROY, {"purge": given}) == {"purge": sent}


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("destroy", {"purge": "maybe"}, "param purge of destroy is not of its form (true or false)"),
        ("destroy", {"purge": ""}, "param purge of destroy is not of its form (true or false)"),
        ("destroy", {"x": "1"}, "of the name that was given (it takes purge, destroy-unreferenced-disks)"),
        ("unlock", {"x": "1"}, "unlock has no param of the name that was given (it takes none)"),
        (
            "restore",
            {"archive": "nas:a..b"},
            "param archive of restore is not of its form (a backup as storage:volume)",
        ),
        ("restore", {"storage": "b1"}, "restore needs the param archive (a backup as storage:volume)"),
        ("shutdown", {"timeout": "x"}, "param timeout of shutdown is not of its form (seconds)"),
    ],
)
def test_what_is_not_taken_says_what_would_be(kind, params, says):
    with pytest.raises(GateRefused) as no:
        check_params(Kind(kind), params)
    assert no.value.refusal is Refusal.MALFORMED
    assert says in str(no.value)


@pytest.mark.parametrize(
    ("kind", "guest", "says"),
    [
        ("configure", QEMU, "operations of this kind follow from manifests and cannot be requested"),
        ("explode", QEMU, "there is no such kind of operation"),
        ("unlock", LXC, "PVE has no unlock for guests of type lxc"),
    ],
)
def test_what_cannot_be_requested_says_why(kind, guest, says):
    with pytest.raises(GateRefused) as no:
        requestable(kind, guest)
    assert no.value.refusal is Refusal.KIND
    assert says in str(no.value)


@pytest.mark.parametrize(
    ("kind", "guest", "signed", "path"),
    [
        ("stop", LXC, {}, "/nodes/pve1/lxc/101/status/stop"),
        ("rollback", QEMU, {"snapshot": "s1"}, "/nodes/pve1/qemu/101/snapshot/s1/rollback"),
        ("backup-delete", QEMU, {"volume": "nas:a/b"}, "/nodes/pve1/storage/nas/content/nas%3Aa%2Fb"),
        ("restore", QEMU, {"archive": "nas:b"}, "/nodes/pve1/qemu"),
    ],
)
def test_what_is_journaled_is_of_this_very_guest(kind, guest, signed, path):
    there = seen(type=guest)
    op = planned(request(guest, kind=kind, params=signed), there)
    token = TokenId("a@pve!t")
    intent = accepted_intent(op, there, token, {"tier": "web"})
    route = KINDS[Kind(kind)].route(guest)
    assert (intent.kind, intent.type, intent.vmid, intent.node, intent.name) == (kind, guest, 101, "pve1", there.name)
    assert (intent.one_shot, intent.token, intent.labels) == (True, token, {"tier": "web"})
    assert (intent.method, intent.path, intent.task_type) == (route.method, path, route.task)
    assert (intent.params, intent.goal) == (op.params, op.goal)
    assert (intent.identity, intent.digest, intent.marker) == (there.identity, there.digest, there.marker)
