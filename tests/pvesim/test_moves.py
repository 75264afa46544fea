"""Guests that change node, and disks that change storage."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

SHARED_VM = {**VM, "config": {**VM["config"], "scsi0": "shared:1"}}
SHARED_CT = {**CT, "config": {**CT["config"], "rootfs": "shared:1"}}
QEMU = "/nodes/pve1/qemu/900"
LXC = "/nodes/pve1/lxc/800"


def where(sim, vmid):
    return next(row["node"] for row in sim.world.state()["guests"] if row["vmid"] == vmid)


@pytest.mark.parametrize("guest", [SHARED_VM, VM, SHARED_CT, CT], ids=["vm-shared", "vm", "ct-shared", "ct"])
def test_offline(guest):
    sim = Sim(guest)
    kind, vmid = guest["type"], guest["vmid"]
    before = sim.config(vmid, kind)
    upid = sim.call("POST", f"/nodes/pve1/{kind}/{vmid}/migrate", target="pve2").data
    assert upid.split(":")[5:7] == ["qmigrate" if kind == "qemu" else "vzmigrate", str(vmid)]
    sim.wait(1)
    assert sim.config(vmid, kind)["lock"] == "migrate"
    assert sim.ended(upid) == "OK"
    assert sim.config(vmid, kind, node="pve2") == before
    folder = "qemu-server" if kind == "qemu" else "lxc"
    assert sim.call("GET", f"/nodes/pve1/{kind}/{vmid}/config").refusal == (
        500, f"Configuration file 'nodes/pve1/{folder}/{vmid}.conf' does not exist",
    )  # fmt: skip
    assert sim.task("POST", f"/nodes/pve2/{kind}/{vmid}/status/start") == "OK"


def test_online():
    sim = Sim({**SHARED_VM, "status": "running"})
    assert sim.call("POST", f"{QEMU}/migrate", target="pve2").refusal == (
        500, "can't migrate running VM without --online",
    )  # fmt: skip
    assert sim.task("POST", f"{QEMU}/migrate", target="pve2", online=1) == "OK"
    assert sim.get("/nodes/pve2/qemu/900/status/current")["status"] == "running"
    row = sim.rows("pve2")[0]
    assert (row["type"], row["user"]) == ("qmstart", "root@pam")


def test_online_with_local_disks():
    sim = Sim({**VM, "status": "running"})
    upid = sim.call("POST", f"{QEMU}/migrate", target="pve2", online=1).data
    assert sim.ended(upid) == "migration aborted"
    log = str(sim.get(f"/nodes/pve1/tasks/{upid}/log", limit=0))
    assert "can't live migrate attached local disks without with-local-disks option" in log
    assert "lock" not in sim.config()
    params = {"target": "pve2", "online": 1, "with-local-disks": 1, "targetstorage": "shared"}
    assert sim.task("POST", f"{QEMU}/migrate", **params) == "OK"
    assert sim.config(node="pve2")["scsi0"] == "shared:vm-900-disk-0,size=1G"


def test_running_containers_need_a_restart():
    sim = Sim({**SHARED_CT, "status": "running"})
    assert sim.call("POST", f"{LXC}/migrate", target="pve2").refusal == (
        500, "can't migrate running container without --online or --restart",
    )  # fmt: skip
    assert sim.task("POST", f"{LXC}/migrate", target="pve2", online=1) == "migration aborted"
    assert sim.task("POST", f"{LXC}/migrate", target="pve2", restart=1) == "OK"
    sim.wait(2)
    assert sim.get("/nodes/pve2/lxc/800/status/current")["status"] == "running"
    row = sim.rows("pve2")[0]
    assert (row["type"], row["user"]) == ("vzstart", "root@pam")


@pytest.mark.parametrize(("at", "node"), [(0.5, "pve1"), (0.95, "pve2")])
def test_a_killed_migration_leaves_its_lock_where_the_config_is(at, node):
    sim = Sim(SHARED_VM)
    sim.fault("task_killed", at=at)
    assert sim.task("POST", f"{QEMU}/migrate", target="pve2") == "unexpected status"
    assert where(sim, 900) == node
    assert sim.config(node=node)["lock"] == "migrate"


@pytest.mark.parametrize(
    ("at", "node", "status"), [(0.5, "pve1", "migration aborted"), (0.95, "pve2", "migration problems")]
)
def test_a_failed_migration(at, node, status):
    sim = Sim(SHARED_VM)
    sim.fault("task_fails", at=at)
    assert sim.task("POST", f"{QEMU}/migrate", target="pve2") == status
    assert where(sim, 900) == node
    assert ("lock" in sim.config(node=node)) == (node == "pve2")


def test_refusals():
    sim = Sim(SHARED_VM, storages=[
        {"storage": "shared", "type": "rbd", "shared": 1, "content": "images", "nodes": ["pve1", "pve2"]},
    ])  # fmt: skip
    assert sim.call("POST", f"{QEMU}/migrate", target="pve1").body["errors"] == {"target": "target is local node."}
    assert sim.call("POST", f"{QEMU}/migrate", target="nope").refusal == (500, "no such cluster node 'nope'")
    assert sim.call("POST", f"{QEMU}/migrate", target="pve3").refusal == (
        500, "storage 'shared' is not available on node 'pve3'",
    )  # fmt: skip
    shown = sim.get(f"{QEMU}/migrate")
    assert shown["allowed_nodes"] == ["pve2"]
    assert shown["not_allowed_nodes"] == {"pve3": {"unavailable_storages": ["shared"]}}
    sim.control("node_down", node="pve2")
    assert sim.task("POST", f"{QEMU}/migrate", target="pve2") == "migration aborted"
    sim.control("lock", vmid=900, lock="backup")
    assert sim.call("POST", f"{QEMU}/migrate", target="pve2").refusal == (500, "VM is locked (backup)")


def test_a_snapshot_holds_a_local_disk_back():
    sim = Sim(VM)
    sim.task("POST", f"{QEMU}/snapshot", snapname="s1")
    assert sim.task("POST", f"{QEMU}/migrate", target="pve2") == "migration aborted"
    assert where(sim, 900) == "pve1"


def test_a_disk_goes_to_another_storage_and_back():
    sim = Sim(VM)
    assert sim.task("POST", f"{QEMU}/move_disk", disk="scsi0", storage="shared") == "OK"
    assert sim.config()["unused0"] == "local-lvm:vm-900-disk-0"
    assert sim.call("POST", f"{QEMU}/move_disk", disk="scsi0", storage="shared").refusal == (
        500, "you can't move to the same storage with same format",
    )  # fmt: skip
    sim.fault("task_fails", error="no space left")
    params = {"disk": "scsi0", "storage": "local-lvm", "delete": 1}
    assert sim.task("POST", f"{QEMU}/move_disk", **params) == "storage migration failed: no space left"
    assert sim.task("POST", f"{QEMU}/move_disk", **params) == "OK"
    assert sim.config()["scsi0"] == "local-lvm:vm-900-disk-1,size=1G"
    assert sim.call("PUT", f"{QEMU}/unlink", idlist="unused0").data is None
    assert "vm-900-disk-0" not in str(sim.world.state()["volumes"])
    stale = {"disk": "scsi0", "storage": "shared", "digest": "0" * 40}
    assert sim.call("POST", f"{QEMU}/move_disk", **stale).reason.startswith("detected modified configuration")


def test_a_containers_move_sets_its_lock_before_the_fork():
    sim = Sim(CT)
    sim.fault("task_killed", at=0.5)
    upid = sim.call("POST", f"{LXC}/move_volume", volume="rootfs", storage="shared").data
    assert upid.split(":")[5] == "move_volume"
    assert sim.config(800, "lxc")["lock"] == "disk"
    assert sim.ended(upid) == "unexpected status"
    assert sim.config(800, "lxc")["lock"] == "disk"
    sim.control("lock", vmid=800)
    assert sim.task("POST", f"{LXC}/move_volume", volume="rootfs", storage="shared", delete=1) == "OK"
    assert sim.config(800, "lxc")["rootfs"].startswith("shared:")
    sim.world.put_guests({"vmid": 800, "status": "running"})
    assert sim.call("POST", f"{LXC}/move_volume", volume="rootfs", storage="local-lvm").refusal == (
        500, "cannot move volumes of a running container",
    )  # fmt: skip
