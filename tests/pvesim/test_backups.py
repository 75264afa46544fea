"""Backups and restores: what comes back, what a failure leaves, what is refused."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

QEMU = "/nodes/pve1/qemu/900"
LXC = "/nodes/pve1/lxc/800"
CONTENT = "/nodes/pve1/storage/backup/content"
GUESTS = {"qemu": VM, "lxc": CT}


def backup(sim, vmid, **params):
    exit_status = sim.task("POST", "/nodes/pve1/vzdump", vmid=vmid, storage="backup", **params)
    archives = sorted(row["volid"] for row in sim.get(CONTENT, content="backup", vmid=vmid))
    return exit_status, (archives or [""])[-1]


def restore(sim, kind, vmid, volid, **params):
    source = {"archive": volid} if kind == "qemu" else {"ostemplate": volid, "restore": 1, "storage": "local-lvm"}
    return sim.call("POST", f"/nodes/pve1/{kind}", vmid=vmid, **source, **params)


@pytest.mark.parametrize(("kind", "vmid"), [("qemu", 900), ("lxc", 800)])
def test_there_and_back(kind, vmid):
    sim = Sim(GUESTS[kind])
    path = f"/nodes/pve1/{kind}/{vmid}"
    sim.call("PUT", f"{path}/config", description="mark", tags="b;a", net0=(
        "virtio,bridge=vmbr0" if kind == "qemu" else "name=eth0,bridge=vmbr0"
    ))  # fmt: skip
    before = sim.config(vmid, kind)
    done, volid = backup(sim, vmid, **{"notes-template": "op {{vmid}} of {{guestname}}", "protected": 1})
    assert done == "OK"
    row = sim.get(CONTENT)[0]
    assert (row["notes"], row["protected"], row["vmid"], row["subtype"]) == (
        f"op {vmid} of {before.get('name', before.get('hostname'))}", 1, vmid, kind,
    )  # fmt: skip
    assert "lock" not in sim.config(vmid, kind)
    assert sim.ended(restore(sim, kind, 950, volid).data) == "OK"
    after = sim.config(950, kind)
    for key in ("description", "tags", "net0", "smbios1", "meta"):
        assert after.get(key) == before.get(key)
    assert kind == "lxc" or after["vmgenid"] != before["vmgenid"]
    assert sim.ended(restore(sim, kind, 951, volid, unique=1).data) == "OK"
    assert sim.config(951, kind)["net0"] != before["net0"]
    assert kind == "lxc" or sim.config(951, kind)["smbios1"] != before["smbios1"]


def test_over_a_guest():
    sim = Sim(VM, CT)
    for kind, vmid, word in (("qemu", 900, "VM"), ("lxc", 800, "CT")):
        path = f"/nodes/pve1/{kind}/{vmid}"
        _, volid = backup(sim, vmid)
        sim.call("PUT", f"{path}/config", memory=128)
        prefix = "unable to restore VM 900 - " if kind == "qemu" else ""
        assert restore(sim, kind, vmid, volid).refusal == (500, f"{prefix}{word} {vmid} already exists on node 'pve1'")
        sim.call("PUT", f"{path}/config", protection=1)
        reply = restore(sim, kind, vmid, volid, force=1)
        refused = reply.reason if kind == "lxc" else sim.ended(reply.data)
        assert refused == f"unable to restore {word} {vmid} -{' -' if kind == 'qemu' else ''} protection mode enabled"
        assert "lock" not in sim.config(vmid, kind)
        sim.call("PUT", f"{path}/config", delete="protection")
        assert sim.ended(restore(sim, kind, vmid, volid, force=1).data) == "OK"
        memory = sim.config(vmid, kind)["memory"]
        assert memory in ("32", 64)


def test_a_killed_restore_leaves_what_it_was_at():
    sim = Sim(VM)
    _, volid = backup(sim, 900)
    sim.fault("task_killed", at=0.5)
    assert sim.ended(restore(sim, "qemu", 901, volid).data) == "unexpected status"
    assert {k: v for k, v in sim.config(901).items() if k != "digest"} == {"lock": "create"}
    sim.fault("task_killed", at=0.5)
    sim.ended(restore(sim, "qemu", 900, volid, force=1).data)
    assert {k: v for k, v in sim.config(900).items() if k != "digest"} == {"memory": "128"}
    sim.fault("task_killed", at=0.1)
    sim.ended(restore(sim, "qemu", 900, volid, force=1).data)
    assert sim.config(900)["lock"] == "create"


def test_a_failed_restore_does_not_clean_up_a_vm():
    sim = Sim(VM)
    _, volid = backup(sim, 900)
    sim.fault("task_fails", error="broken archive")
    assert sim.ended(restore(sim, "qemu", 901, volid).data) == "broken archive"
    assert set(sim.config(901)) == {"digest"}
    assert "-901-" not in str(sim.world.state()["volumes"])


def test_jobs():
    sim = Sim(VM, CT, {**VM, "vmid": 905, "node": "pve2"})
    assert sim.call("POST", "/nodes/pve1/vzdump", vmid=905, storage="backup").data == "OK"
    assert sim.mutations()[-1]["effect"] is False
    upid = sim.call("POST", "/nodes/pve1/vzdump", vmid="900,800,899", storage="backup").data
    assert upid.split(":")[5:7] == ["vzdump", ""]
    sim.wait(1)
    assert sim.config(800, "lxc")["lock"] == "backup"
    assert sim.ended(upid) == "job errors"
    assert len(sim.get(CONTENT)) == 2
    sim.world.control({"action": "lock", "vmid": 900, "lock": "snapshot"})
    assert backup(sim, 900)[0] == "job errors"
    assert sim.config()["lock"] == "snapshot"
    wrong = sim.task("POST", "/nodes/pve1/vzdump", vmid=800, storage="local-lvm")
    assert wrong.endswith("can't use storage 'local-lvm' for backups - wrong content type")
    for params, errors in (
        ({}, {"vmid": "property is missing"}),
        ({"vmid": "900", "all": 1}, {"all": "option conflicts with option 'vmid'"}),
        ({"vmid": "900", "notes-template": "{{nope}}"}, {"notes-template": "found unknown: nope\n"}),
    ):
        assert sim.call("POST", "/nodes/pve1/vzdump", **params).body["errors"] == errors


def test_two_jobs_go_one_after_the_other():
    sim = Sim(VM, CT)
    first = sim.call("POST", "/nodes/pve1/vzdump", vmid=900, storage="backup").data
    second = sim.call("POST", "/nodes/pve1/vzdump", vmid=800, storage="backup").data
    sim.wait(4)
    assert "lock" not in sim.config(800, "lxc")
    assert (sim.ended(first), sim.ended(second)) == ("OK", "OK")


def test_a_killed_or_failed_job():
    sim = Sim({**VM, "status": "running"})
    sim.fault("task_fails")
    assert backup(sim, 900) == ("job errors", "")
    assert "lock" not in sim.config()
    sim.fault("task_killed")
    assert backup(sim, 900) == ("unexpected status", "")
    assert sim.config()["lock"] == "backup"
    sim.control("reboot", node="pve1", seconds=5)
    sim.wait(10)
    assert "lock" not in sim.config()


def test_notes_protection_deletion():
    sim = Sim(VM)
    _, volid = backup(sim, 900, protected=1)
    one = f"{CONTENT}/{volid}"
    assert sim.call("PUT", one, notes="n1").data is None
    assert sim.get(one)["notes"] == "n1"
    name = volid.partition(":")[2]
    upid = sim.call("DELETE", one).data
    assert upid.split(":")[5:7] == ["imgdel", "900@backup"]
    assert sim.ended(upid) == f"cannot remove protected volume '{name}' on 'backup'"
    sim.call("PUT", one, protected=0)
    assert sim.call("DELETE", f"{CONTENT}/{name}", delay=5).data is None
    assert sim.get(CONTENT) == []
    assert sim.call("POST", "/nodes/pve1/qemu", vmid=950, archive=volid).refusal == (500, f"can't find file '{volid}'")


def test_a_full_storage():
    sim = Sim(VM)
    sim.control("quota", storage="backup", bytes=1000)
    assert backup(sim, 900) == ("job errors", "")
    sim.control("quota", storage="local-lvm", bytes=2**30)
    assert "free space in thin pool" in sim.task("POST", "/nodes/pve1/qemu", vmid=950, scsi0="local-lvm:1")
    assert sim.call("GET", "/nodes/pve1/qemu/950/config").status == 500
    assert "free space" in sim.task("PUT", f"{QEMU}/resize", disk="scsi0", size="2G")
    sim.control("quota", storage="backup")
    assert backup(sim, 900)[0] == "OK"


def test_described_archives():
    sim = Sim(backups=[{"vmid": 700, "type": "lxc", "notes": "old", "config": {
        "hostname": "c", "memory": 64, "ostype": "debian", "rootfs": "local-lvm:vm-700-disk-0,size=2G",
    }}])  # fmt: skip
    row = sim.get(CONTENT)[0]
    assert (row["notes"], row["format"]) == ("old", "tar.zst")
    assert sim.ended(restore(sim, "lxc", 701, row["volid"], start=1).data) == "OK"
    assert sim.config(701, "lxc")["rootfs"] == "local-lvm:vm-701-disk-0,size=2G"
    assert sim.call("GET", LXC).status == 200
