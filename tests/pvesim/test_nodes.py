"""Several nodes: who answers for whom, and what an entry node says when another does not answer."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

THERE = {**VM, "node": "pve2"}
QEMU = "/nodes/pve2/qemu/900"


def test_every_node_is_an_entry():
    sim = Sim(THERE)
    for entry in ("pve1", "pve2", "pve3"):
        reply = sim.reply(sim.send("GET", f"{QEMU}/config", node=entry))
        assert reply.status == 200
    upid = sim.reply(sim.send("POST", f"{QEMU}/status/start", node="pve3")).data
    assert upid.split(":")[1] == "pve2"
    assert sim.call("GET", "/nodes/pve1/qemu/900/config").refusal == (
        500, "Configuration file 'nodes/pve1/qemu-server/900.conf' does not exist",
    )  # fmt: skip
    assert sim.call("GET", f"/nodes/pve1/tasks/{upid}/status").body["errors"] == {"upid": "no such task"}


@pytest.mark.parametrize("daemon", ["pveproxy", "pvedaemon"])
def test_a_daemon_that_stands_still_costs_596_and_the_work_is_done_later(daemon):
    sim = Sim(THERE)
    sim.control("freeze", node="pve2", daemon=daemon)
    reply = sim.call("POST", f"{QEMU}/config", description="late")
    assert (reply.status, reply.reason) == (596, "Connection timed out")
    assert 29 < reply.seconds < 32
    sim.control("thaw", node="pve2", daemon=daemon)
    sim.wait(5)
    assert sim.config(node="pve2")["description"] == "late"


def test_a_node_that_is_down():
    sim = Sim(THERE, {**CT, "node": "pve2"})
    sim.control("node_down", node="pve2")
    reply = sim.call("GET", f"{QEMU}/config")
    assert (reply.status, reply.reason) == (595, "No route to host")
    assert sim.reply(sim.send("GET", "/version", node="pve2")).hung_up
    rows = {row["vmid"]: row for row in sim.get("/cluster/resources", type="vm")}
    assert (rows[900]["status"], rows[900]["node"]) == ("stopped", "pve2")
    sim.wait(310)
    row = next(row for row in sim.get("/cluster/resources", type="vm") if row["vmid"] == 900)
    assert (row["status"], "name" in row) == ("unknown", False)
    assert next(r for r in sim.get("/nodes") if r["node"] == "pve2")["status"] == "offline"
    assert sim.call("POST", "/nodes/pve1/qemu", vmid=900).refusal == (
        500, "unable to create VM 900 - VM 900 already exists on node 'pve2'",
    )  # fmt: skip


def test_the_new_calls_meet_the_same_faults():
    for fault, path, params in (
        ("reply_lost", f"{QEMU}/snapshot", {"snapname": "s1"}),
        ("error_500_worker_runs", f"{QEMU}/migrate", {"target": "pve1"}),
        ("error_596_work_continues", "/nodes/pve2/vzdump", {"vmid": 900, "storage": "backup"}),
        ("task_ok_without_effect", f"{QEMU}/template", {}),
        ("task_unlisted", f"{QEMU}/move_disk", {"disk": "scsi0", "storage": "shared"}),
        ("task_log_gone", f"{QEMU}/status/start", {}),
    ):
        sim = Sim(THERE)
        before = sim.config(node="pve2")["digest"]
        sim.fault(fault, path=path.rpartition("/")[2])
        reply = sim.call("POST", path, **params)
        sim.wait(40)
        assert reply.hung_up or reply.status in {200, 500, 596}
        row = sim.mutations()[-1]
        assert row["effect"] is (fault != "task_ok_without_effect")
        assert row["upid"]
        if fault == "task_ok_without_effect":
            assert sim.config(node="pve2")["digest"] == before
