"""Snapshots: what a kill leaves, what a rollback restores, who wins a race."""

import pytest

from pvesim.texts import Config, digest_of, raw_text
from tests.pvesim.driving import CT, VM, Sim

PATH = "/nodes/pve1/qemu/900"


def names(sim, path=PATH):
    return [row["name"] for row in sim.get(f"{path}/snapshot")]


def test_the_digest_covers_the_snapshots():
    snap = {
        "boot": "order=scsi0", "kvm": "0", "memory": "32", "meta": "creation-qemu=7.2.22,ctime=1795449321",
        "name": "vm900", "scsi0": "local:900/vm-900-disk-0.qcow2,size=1G",
        "smbios1": "uuid=0dd6c3d6-e2be-4c74-a595-a953b58a9401", "vmgenid": "ad63992b-e5ed-466d-a731-7d4d0fe2db7b",
    }  # fmt: skip
    config = Config(
        values=snap | {"parent": "s1"}, snapshots={"s1": snap | {"description": "first", "snaptime": "1795449321"}}
    )
    assert digest_of(raw_text(config)) == "da87911b15ba63c1b7480e86411543e13fc6995b"


def test_a_rollback_restores_all_but_the_description():
    sim = Sim(VM)
    sim.call("PUT", f"{PATH}/config", description="old", protection=1, cores=1, tags="a")
    assert sim.task("POST", f"{PATH}/snapshot", snapname="s1", description="d") == "OK"
    sim.call("PUT", f"{PATH}/config", description="new", delete="protection", cores=4, tags="b", scsi1="local-lvm:1")
    before = sim.config()
    assert sim.task("POST", f"{PATH}/snapshot/s1/rollback") == "OK"
    after = sim.config()
    assert (after["description"], after["protection"], after["cores"], after["tags"]) == ("new", 1, 1, "a")
    assert (after["unused0"], after["parent"]) == ("local-lvm:vm-900-disk-1", "s1")
    assert after["vmgenid"] != before["vmgenid"]
    assert after["smbios1"] == before["smbios1"]


@pytest.mark.parametrize(("method", "rest", "lock", "state"), [
    ("POST", "snapshot", "snapshot", "prepare"), ("DELETE", "snapshot/s1", "snapshot-delete", "delete"),
    ("POST", "snapshot/s1/rollback", "rollback", None),
])  # fmt: skip
@pytest.mark.parametrize(("kind", "vmid"), [("qemu", 900), ("lxc", 800)])
def test_a_killed_task_leaves_its_lock(method, rest, lock, state, kind, vmid):
    sim = Sim(VM, CT)
    path = f"/nodes/pve1/{kind}/{vmid}"
    assert sim.task("POST", f"{path}/snapshot", snapname="s1") == "OK"
    sim.fault("task_killed", at=0.6)
    params = {"snapname": "s2", "description": "op 1"} if rest == "snapshot" else {}
    assert sim.task(method, f"{path}/{rest}", **params) == "unexpected status"
    assert sim.config(vmid, kind)["lock"] == lock
    row = sim.get(f"{path}/snapshot")[-2]
    assert row.get("snapstate") == state
    assert row["description"] == ("op 1" if params else "")
    word = "VM" if kind == "qemu" else "CT"
    assert sim.task("POST", f"{path}/snapshot", snapname="s3") == f"{word} is locked ({lock})"


def test_a_failed_snapshot_cleans_up_and_a_partial_one_does_not():
    sim = Sim(VM)
    sim.fault("task_fails", error="no space")
    assert sim.task("POST", f"{PATH}/snapshot", snapname="s1") == "no space "
    assert names(sim) == ["current"]
    assert "lock" not in sim.config()
    sim.fault("task_fails", error="no space", partial=True)
    sim.task("POST", f"{PATH}/snapshot", snapname="s1")
    assert names(sim) == ["s1", "current"]
    assert sim.config()["lock"] == "snapshot"


def test_of_two_snapshots_with_one_name_one_wins():
    for gap in (0.0, 0.5, 2.5):
        sim = Sim(VM)
        first = sim.send("POST", f"{PATH}/snapshot", snapname="s1", description="a")
        sim.wait(gap)
        second = sim.send("POST", f"{PATH}/snapshot", snapname="s1", description="b")
        ends = sorted(sim.ended(sim.reply(ticket).data) for ticket in (first, second))
        assert ends[0] == "OK"
        assert ends[1] in {"snapshot name 's1' already used", "VM is locked (snapshot)"}
        assert names(sim) == ["s1", "current"]


def test_template_is_the_fence_and_leaves_a_lock():
    sim = Sim(VM)
    sim.task("POST", f"{PATH}/snapshot", snapname="s1")
    sim.call("PUT", f"{PATH}/config", template=1)
    assert sim.task("POST", f"{PATH}/snapshot/s1/rollback") == "you can't rollback if vm is a template"
    assert sim.task("POST", f"{PATH}/snapshot", snapname="s2") == "you can't take a snapshot if it's a template"
    assert sim.task("DELETE", f"{PATH}/snapshot/s1") == "you can't delete a snapshot if vm is a template"
    assert sim.config()["lock"] == "snapshot-delete"
    assert sim.call("PUT", f"{PATH}/config", delete="template").refusal == (500, "VM is locked (snapshot-delete)")


def test_a_deleted_and_retaken_snapshot_does_not_stop_a_late_rollback():
    sim = Sim(VM)
    sim.task("POST", f"{PATH}/snapshot", snapname="s1")
    sim.fault("late", path="rollback", delay_s=30)
    ticket = sim.send("POST", f"{PATH}/snapshot/s1/rollback")
    sim.task("DELETE", f"{PATH}/snapshot/s1")
    sim.call("PUT", f"{PATH}/config", cores=3)
    sim.task("POST", f"{PATH}/snapshot", snapname="s1")
    sim.call("PUT", f"{PATH}/config", cores=4)
    assert sim.reply(ticket).hung_up
    sim.wait(40)
    assert sim.config()["cores"] == 3


def test_containers_need_a_storage_with_snapshots():
    storages = [{"storage": "local", "type": "dir", "content": "images,rootdir,vztmpl,backup"}]
    sim = Sim({**CT, "config": {**CT["config"], "rootfs": "local:1"}}, storages=storages)
    path = "/nodes/pve1/lxc/800"
    assert sim.task("POST", f"{path}/snapshot", snapname="s1") == "snapshot feature is not available"
    assert sim.call("POST", f"{path}/snapshot", snapname="vzdump").refusal == (
        500, "unable to use snapshot name 'vzdump' (reserved name)",
    )  # fmt: skip
    assert sim.call("POST", f"{path}/snapshot", snapname="s").body["errors"]["snapname"]


def test_only_the_newest_snapshot_of_zfs_can_be_rolled_back_to():
    sim = Sim(
        {**CT, "config": {**CT["config"], "rootfs": "zfs:1"}},
        storages=[{"storage": "zfs", "type": "zfspool", "content": "images,rootdir"}],
    )
    path = "/nodes/pve1/lxc/800"
    for name in ("s1", "s2"):
        assert sim.task("POST", f"{path}/snapshot", snapname=name) == "OK"
    volume = sim.config(800, "lxc")["rootfs"].partition(",")[0]
    assert sim.task("POST", f"{path}/snapshot/s1/rollback") == (
        f"can't rollback, 's1' is not most recent snapshot on '{volume}'"
    )
    assert "lock" not in sim.config(800, "lxc")
    assert sim.task("POST", f"{path}/snapshot/s2/rollback", start=1) == "OK"
    sim.wait(3)
    assert sim.get(f"{path}/status/current")["status"] == "running"


def test_a_disk_in_a_snapshot_is_not_deleted_and_a_destroy_frees_all():
    sim = Sim({**VM, "status": "running"})
    assert sim.task("POST", f"{PATH}/snapshot", snapname="s1", vmstate=1) == "OK"
    state = sim.get(f"{PATH}/snapshot/s1/config")["vmstate"]
    assert state == "local-lvm:vm-900-state-s1"
    sim.task("POST", f"{PATH}/status/stop")
    sim.call("PUT", f"{PATH}/config", delete="scsi0")
    assert sim.call("PUT", f"{PATH}/config", delete="unused0").refusal == (
        500, "unable to delete 'local-lvm:vm-900-disk-0' - volume is still in use (snapshot?)",
    )  # fmt: skip
    assert sim.call("PUT", f"{PATH}/config", scsi3="local-lvm:vm-900-disk-0").status == 200
    assert "unused0" not in sim.config()
    assert sim.task("DELETE", PATH) == "OK"
    assert "local-lvm:vm-900" not in str(sim.world.state()["volumes"])
