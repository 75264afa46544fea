"""Guests under HA: wishes, rounds, failures, fencing."""

from tests.pvesim.driving import CT, VM, Sim

SHARED_VM = {**VM, "config": {**VM["config"], "scsi0": "shared:1"}}
SHARED_CT = {**CT, "config": {**CT["config"], "rootfs": "shared:1"}}
QEMU = "/nodes/pve1/qemu/900"
RESOURCES = "/cluster/ha/resources"


def managed(*guests, state="started", **spec):
    sim = Sim(*guests, ha=[
        {"sid": f"{'vm' if g['type'] == 'qemu' else 'ct'}:{g['vmid']}", "state": state, **spec} for g in guests
    ])  # fmt: skip
    sim.wait(25)
    return sim


def guest(sim, vmid=900):
    return next(row for row in sim.world.state()["guests"] if row["vmid"] == vmid)


def shown(sim, vmid=900):
    return next(row for row in sim.get("/cluster/resources", type="vm") if row["vmid"] == vmid)


def services(sim):
    return {r["sid"]: r["state"] for r in sim.get("/cluster/ha/status/current") if r["type"] == "service"}


def test_resources():
    sim = Sim(SHARED_VM)
    assert sim.get(RESOURCES) == []
    assert sim.call("POST", RESOURCES, sid="vm:900", state="stopped", comment="c").data is None
    assert sim.call("POST", RESOURCES, sid="vm:900").refusal == (
        500, "create resource failed: resource ID 'vm:900' already defined",
    )  # fmt: skip
    row = sim.get(f"{RESOURCES}/vm:900")
    assert (row["state"], row["max_restart"], row["comment"], row["type"]) == ("stopped", 1, "c", "vm")
    assert sim.call("PUT", f"{RESOURCES}/vm:900", state="started", digest=row["digest"]).data is None
    assert sim.call("PUT", f"{RESOURCES}/vm:900", digest=row["digest"]).status == 500
    assert sim.call("GET", f"{RESOURCES}/vm:901").refusal == (500, "no such resource 'vm:901'")
    assert shown(sim)["hastate"] == "queued"
    sim.wait(25)
    assert shown(sim)["hastate"] == "started"
    assert sim.get(f"{QEMU}/status/current")["ha"] == {"managed": 1, "state": "started"}
    assert sim.call("DELETE", f"{RESOURCES}/vm:900").data is None
    assert sim.call("DELETE", f"{RESOURCES}/vm:900").refusal == (
        500, "cannot delete service 'vm:900', not HA managed!",
    )  # fmt: skip
    assert guest(sim)["status"] == "running"


def test_a_stop_is_only_queued():
    sim = managed(SHARED_VM)
    upid = sim.call("POST", f"{QEMU}/status/stop").data
    assert upid.split(":")[5:7] == ["hastop", "900"]
    assert sim.ended(upid) == "OK"
    assert guest(sim)["status"] == "running"
    sim.wait(20)
    assert guest(sim)["status"] == "stopped"
    row = sim.rows(typefilter="qmstop")[0]
    assert row["user"] == "root@pam"
    assert sim.get(f"/nodes/pve1/tasks/{row['upid']}/log")[0]["t"] == "task started by HA resource agent"
    assert sim.get(f"{RESOURCES}/vm:900")["state"] == "stopped"
    assert services(sim) == {"vm:900": "stopped"}
    assert sim.task("POST", f"{QEMU}/status/start") == "OK"
    sim.wait(20)
    assert guest(sim)["status"] == "running"
    assert sim.task("POST", f"{QEMU}/status/shutdown") == "OK"
    sim.wait(20)
    assert sim.rows(typefilter="qmshutdown")[0]["user"] == "root@pam"


def test_a_guest_that_dies_is_started_again():
    sim = managed(SHARED_VM)
    sim.world.put_guests({"vmid": 900, "status": "stopped"})
    sim.wait(20)
    assert guest(sim)["status"] == "running"


def test_migration():
    sim = managed(SHARED_VM, SHARED_CT)
    for path, node in ((QEMU, "pve2"), ("/nodes/pve1/lxc/800", "pve3")):
        extra = {"online": 1} if "qemu" in path else {"restart": 1}
        upid = sim.call("POST", f"{path}/migrate", target=node, **extra).data
        assert upid.split(":")[5] == "hamigrate"
        assert sim.ended(upid) == "OK"
    sim.wait(30)
    assert [guest(sim, v)["node"] for v in (900, 800)] == ["pve2", "pve3"]
    assert services(sim) == {"vm:900": "started", "ct:800": "started"}
    reply = sim.reply(sim.submit("POST", f"{RESOURCES}/vm:900/migrate", {"node": "pve1"}))
    assert reply.data["requested-node"] == "pve1"
    sim.wait(30)
    assert guest(sim)["node"] == "pve1"


def test_restart_relocate_error():
    sim = managed(SHARED_VM, state="stopped")
    volume = "shared:vm-900-disk-0"
    sim.world.put_guests({"vmid": 900, "config": {"scsi0": "shared:missing,size=1G", "scsi1": volume}})
    for row in sim.get("/nodes/pve1/storage/shared/content"):
        if row["volid"] == "shared:missing":
            sim.task("DELETE", f"/nodes/pve1/storage/shared/content/{row['volid']}")
    sim.task("POST", f"{QEMU}/status/start")
    sim.wait(150)
    assert services(sim) == {"vm:900": "error"}
    path = f"/nodes/{guest(sim)['node']}/qemu/900"
    assert guest(sim)["node"] != "pve1"
    assert sim.task("POST", f"{path}/status/start").startswith("command 'ha-manager set vm:900")
    assert sim.call("PUT", f"{RESOURCES}/vm:900", state="started").refusal == (
        500, "service 'vm:900' in error state, must be disabled and fixed first",
    )  # fmt: skip
    sim.world.put_guests({"vmid": 900, "config": {"scsi0": None}})
    sim.call("PUT", f"{RESOURCES}/vm:900", state="disabled")
    sim.wait(15)
    assert services(sim) == {"vm:900": "disabled"}
    sim.call("PUT", f"{RESOURCES}/vm:900", state="started")
    sim.wait(25)
    assert guest(sim)["status"] == "running"


def test_fencing_moves_the_guests_and_strips_locks():
    sim = managed(SHARED_VM, SHARED_CT, {**SHARED_VM, "vmid": 901, "config": {"scsi0": "shared:1"}})
    sim.call("PUT", f"{RESOURCES}/vm:901", state="disabled")
    sim.control("lock", vmid=900, lock="backup")
    sim.control("lock", vmid=800, lock="disk")
    sim.control("node_down", node="pve1")
    sim.wait(50)
    assert guest(sim)["node"] == "pve1"
    sim.wait(60)
    assert (guest(sim)["node"] != "pve1", guest(sim)["lock"], guest(sim)["status"]) == (True, None, "running")
    assert (guest(sim, 800)["node"] != "pve1", guest(sim, 800)["lock"], guest(sim, 800)["status"]) == (
        True, "disk", "stopped",
    )  # fmt: skip
    assert guest(sim, 901)["node"] == "pve1"
    sim.control("node_up", node="pve1")
    sim.wait(30)
    assert guest(sim)["node"] != "pve1"


def test_ignored_and_disarmed():
    sim = managed(SHARED_VM, state="ignored")
    assert shown(sim)["hastate"] == "ignored"
    assert sim.call("POST", f"{QEMU}/status/start").data.split(":")[5] == "qmstart"
    sim.call("PUT", f"{RESOURCES}/vm:900", state="started")
    assert sim.call("POST", "/cluster/ha/status/disarm-ha", **{"resource-mode": "ignore"}).data is None
    sim.wait(5)
    assert sim.task("POST", f"{QEMU}/status/stop") == "OK"
    sim.wait(40)
    assert guest(sim)["status"] == "stopped"
    sim.call("POST", "/cluster/ha/status/arm-ha")
    sim.wait(25)
    assert guest(sim)["status"] == "running"


def test_destroy_needs_a_purge():
    sim = managed(SHARED_VM, state="stopped")
    assert sim.call("DELETE", QEMU).refusal == (
        500, "unable to remove VM 900 - used in HA resources and purge parameter not set.",
    )  # fmt: skip
    assert sim.task("DELETE", QEMU, purge=1) == "OK"
    assert sim.get(RESOURCES) == []
    assert sim.task("POST", "/nodes/pve1/qemu", vmid=905, **{"ha-managed": 1}) == "OK"
    assert sim.get(f"{RESOURCES}/vm:905")["state"] == "stopped"
