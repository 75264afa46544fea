"""Whatever is asked in whatever order while machines fail: every request is answered and nothing is left behind."""

import random

import pytest

from pvesim.storage import DEFAULT_TEMPLATE
from tests.pvesim.driving import CT, VM, Sim

VALUES = [
    "", "0", "1", "-1", "abc", "local-lvm:1", "local-lvm:abc", "local-lvm:", "shared:2", "none,media=cdrom",
    "local-lvm:vm-900-disk-0,size=1G", "virtio,bridge=vmbr0", "name=eth0", "=,=,", "order=scsi0;net0", "5G", "+1G",
    "a;b,C", "ü\n\n", "scsi0", "scsi0,net0,lock", "memory", "local-lvm:cloudinit", "nosuch:1", "100", "901", "pve2",
    "pve9", "rootfs", "local-lvm:3,mp=/x", "0x1", "rec",
]  # fmt: skip
NAMES = {
    "config": ["memory", "cores", "scsi0", "scsi1", "ide2", "net0", "boot", "tags", "description", "delete", "revert",
               "force", "name", "template", "protection", "unused0", "rootfs", "mp0", "hostname"],
    "clone": ["target", "storage", "full", "name", "description"], "resize": ["disk", "size", "digest"],
    "qemu": ["name", "memory", "scsi0", "efidisk0", "net0", "boot", "tags", "start", "smbios1", "template"],
    "lxc": ["rootfs", "mp0", "net0", "memory", "start", "hostname"], "tasks": ["limit", "start", "since", "vmid"],
}  # fmt: skip
PATHS = [
    "qemu", "lxc", "qemu/900/config", "qemu/901/config", "lxc/800/config", "qemu/900/clone", "lxc/800/clone",
    "qemu/900/resize", "lxc/800/resize", "qemu/900/status/start", "qemu/900/status/stop", "qemu/900/status/shutdown",
    "lxc/800/status/start", "lxc/800/status/stop", "qemu/900", "qemu/901", "lxc/800", "tasks", "qemu/900/pending",
    "qemu/900/status/current", "storage/local-lvm/content", "tasks/UPID:x/log", "tasks/a:b/status",
]  # fmt: skip
FAULTS = [
    "task_fails", "task_killed", "task_ok_without_effect", "late", "reply_lost", "task_unlisted", "task_log_gone",
    "error_500_worker_runs",
]  # fmt: skip
ACCIDENTS = [
    {"action": "node_down", "node": "pve1"}, {"action": "node_up", "node": "pve1"},
    {"action": "freeze", "node": "pve1"}, {"action": "thaw", "node": "pve1"},
    {"action": "quorum", "quorate": False}, {"action": "quorum", "quorate": True},
    {"action": "restart_pvedaemon", "node": "pve1"}, {"action": "restart_pveproxy", "node": "pve1"},
    {"action": "reboot", "node": "pve1", "seconds": 2}, {"action": "delete_guest", "vmid": 900},
]  # fmt: skip


def params_for(path, chance):
    names = NAMES.get(path.rpartition("/")[2], ["vmid", "type"])
    params = {name: chance.choice(VALUES) for name in chance.sample(names, chance.randint(0, min(3, len(names))))}
    if path == "qemu":
        params["vmid"] = str(chance.randint(900, 904))
    elif path == "lxc":
        params |= {"vmid": str(chance.randint(800, 803)), "ostemplate": DEFAULT_TEMPLATE}
    elif path.endswith("clone"):
        params["newid"] = str(chance.randint(900, 904))
    return params


def method_for(path, chance):
    last = path.rpartition("/")[2]
    if chance.random() < 0.1:
        return chance.choice(["GET", "PUT", "POST", "DELETE"])
    if last.isdigit():
        return "DELETE"
    if last in {"config", "resize"}:
        return "PUT" if chance.random() < 0.7 else "POST"
    return "POST" if last in {"qemu", "lxc", "clone", "start", "stop", "shutdown"} else "GET"


def mend(sim):
    sim.control("node_up", node="pve1")
    sim.control("thaw", node="pve1")
    sim.control("quorum", quorate=True)


@pytest.mark.parametrize("seed", range(25))
def test_everything_comes_to_rest(seed):
    chance = random.Random(seed)
    sim = Sim(VM, CT, seed=seed, scale=chance.choice([1.0, 0.1]), version=chance.choice(["9.2", "8.4"]))
    for _ in range(120):
        path = chance.choice(PATHS)
        if chance.random() < 0.1:
            sim.fault(chance.choice(FAULTS), delay_s=chance.choice([None, 3]), partial=chance.random() < 0.5)
        if chance.random() < 0.05:
            sim.world.control(chance.choice(ACCIDENTS))
        elif chance.random() < 0.2:
            mend(sim)
        sim.submit(method_for(path, chance), f"/nodes/pve1/{path}", params_for(path, chance))
        sim.wait(chance.choice([0, 0.01, 0.1, 1, 5]))
    mend(sim)
    sim.wait(500)
    assert set(sim.replies) == set(sim.sent)
    statuses = [task.exitstatus for tasks in sim.world._m.tasks.values() for task in tasks.logs.values()]
    assert statuses
    assert not [status for status in statuses if status is None or "defect" in status]
    assert sim.world.next_due() is None
    assert sim.world._m.kernel._locks == {}
