"""Faults as data, one by one: what the client sees, and what has become of the world."""

import pytest

from pvesim.faults import KINDS, BadFault, parse_fault
from tests.pvesim.driving import CT, VM, Sim

PATH = "/nodes/pve1/qemu/900"
START = ("POST", f"{PATH}/status/start")


def running(sim, vmid=900):
    return sim.get(f"/nodes/pve1/qemu/{vmid}/status/current")["status"] == "running"


def test_request_lost():
    sim = Sim(VM)
    sim.fault("request_lost", path="status/start")
    assert sim.call(*START).hung_up
    sim.wait(60)
    assert not running(sim)
    assert sim.mutations() == []
    assert sim.task(*START) == "OK"


def test_reply_lost():
    sim = Sim(VM)
    sim.fault("reply_lost", method="POST", path="status/start")
    assert sim.call(*START).hung_up
    sim.wait(2)
    assert running(sim)
    (row,) = sim.mutations()
    assert row["upid"] == sim.rows()[0]["upid"]
    assert row["effect"] is True


def test_late():
    sim = Sim(VM)
    sim.fault("late", method="PUT", path="config", delay_s=12)
    reply = sim.call("PUT", f"{PATH}/config", description="late")
    assert reply.hung_up
    assert reply.seconds < 0.1
    sim.wait(11.5)
    assert "description" not in sim.config()
    assert sim.mutations() == []
    sim.wait(1)
    assert sim.config()["description"] == "late"


def test_a_worker_that_stalled_behind_the_token_check_goes_on_with_a_dead_token():
    sim = Sim(VM, tokens=[{"id": "root@pam!late", "secret": "x"}])
    sim.fault("stalled", method="POST", path="status/start", delay_s=60)
    ticket = sim.send(*START, header="PVEAPIToken=root@pam!late=x")
    assert sim.reply(ticket).status == 596
    assert sim.control("delete_token", id="root@pam!late")
    assert not running(sim)
    sim.wait(60)
    assert running(sim)


def test_500_while_the_worker_runs():
    sim = Sim(VM)
    sim.fault("error_500_worker_runs", path="/clone$")
    ticket = sim.send("POST", f"{PATH}/clone", newid=901)
    sim.wait(1)
    assert sim.config(901)["lock"] == "clone"
    assert sim.rows() == [], "not listed while it runs"
    reply = sim.reply(ticket)
    assert reply.refusal == (500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout")
    assert 10 <= reply.seconds < 10.3
    sim.wait(2)
    assert [row["status"] for row in sim.rows()] == ["OK"]
    assert sim.effects() == [True]


def test_596_while_the_work_goes_on():
    sim = Sim(VM)
    sim.fault("error_596_work_continues", path="status/start")
    ticket = sim.send(*START)
    sim.wait(3)
    assert running(sim)
    reply = sim.reply(ticket)
    assert reply.refusal == (596, "Connection timed out")
    assert reply.raw == b""
    assert 29.9 < reply.seconds < 30.1
    assert len(sim.rows()) == 1


def test_595_is_not_sent():
    sim = Sim(VM)
    sim.fault("error_595", path="status/start")
    assert sim.call(*START).status == 595
    sim.wait(60)
    assert not running(sim)


def test_unauthorized_in_mid_run():
    sim = Sim(VM)
    sim.fault("unauthorized", method="GET", path="config", nth=2, times=2)
    statuses = [sim.call("GET", f"{PATH}/config").status for _ in range(4)]
    assert statuses == [200, 401, 401, 200]


def test_task_fails_and_cleans_up():
    sim = Sim(VM)
    sim.fault("task_fails", path="/qemu$", error="no space left on device")
    status = sim.task("POST", "/nodes/pve1/qemu", vmid=901, scsi0="local-lvm:4")
    assert status == "unable to create VM 901 - no space left on device"
    assert sim.call("GET", "/nodes/pve1/qemu/901/config").status == 500
    assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=901) == []


def test_task_fails_with_part_of_the_effect():
    sim = Sim(VM)
    sim.fault("task_fails", path="/clone$", error="copy failed", partial=True)
    assert sim.task("POST", f"{PATH}/clone", newid=901) == "clone failed: copy failed"
    assert sim.config(901)["lock"] == "clone"
    assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=901)
    assert sim.effects() == [True]


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("POST", f"{PATH}/status/start", {}),
        ("POST", f"{PATH}/clone", {"newid": 901}),
        ("POST", "/nodes/pve1/qemu", {"vmid": 901}),
        ("POST", "/nodes/pve1/lxc/800/clone", {"newid": 901}),
        ("DELETE", PATH, {}),
        ("PUT", f"{PATH}/resize", {"disk": "scsi0", "size": "5G"}),
        ("POST", f"{PATH}/config", {"cores": 4}),
    ],
)
def test_task_ok_without_effect(method, path, params):
    sim = Sim(VM, CT)
    before = sim.world.state()["guests"]
    volumes = sim.world.state()["volumes"]
    sim.fault("task_ok_without_effect", method=method, path=f"{path}$")
    assert sim.task(method, path, **params) == "OK"
    assert sim.world.state()["guests"] == before
    assert sim.world.state()["volumes"] == volumes


def test_task_unlisted_until_after_its_end():
    sim = Sim(VM)
    sim.fault("task_unlisted", path="status/start", delay_s=5)
    upid = sim.call(*START).data
    sim.wait(0.5)
    assert sim.rows() == []
    assert sim.status(upid)["status"] == "running"
    sim.wait(4)
    assert sim.status(upid)["exitstatus"] == "OK"
    assert sim.rows() == []
    sim.wait(3)
    assert [row["upid"] for row in sim.rows()] == [upid]


def test_task_log_gone():
    sim = Sim(VM)
    sim.fault("task_log_gone", path="status/start")
    upid = sim.call(*START).data
    assert sim.status(upid)["status"] == "running"
    sim.wait(2)
    assert sim.rows() == []
    assert sim.call("GET", f"/nodes/pve1/tasks/{upid}/status").body["errors"] == {"upid": "no such task"}
    assert running(sim)


def test_killed_stop_and_destroy():
    sim = Sim(VM)
    sim.fault("task_killed", method="DELETE")
    assert sim.task("DELETE", PATH) == "unexpected status"
    assert sim.config()["scsi0"], "the config is intact"
    assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=900) == [], "the disk is gone"
    assert sim.effects() == [True]


def test_matching_by_number():
    sim = Sim(VM)
    sim.fault("reply_lost", method="put", path="/api2/json/nodes/pve1/qemu/\\d+/config", nth=2, times=2)
    hung = [sim.call("PUT", f"{PATH}/config", description=str(n)).hung_up for n in range(5)]
    assert hung == [False, True, True, False, False]


def test_without_a_method_reads_do_not_count():
    sim = Sim(VM)
    sim.fault("request_lost", path="qemu/900")
    assert sim.config()
    assert sim.call("PUT", f"{PATH}/config", description="x").hung_up


@pytest.mark.parametrize(
    "raw",
    [{}, {"fault": "x"}, {"fault": "late", "path": "("}, {"fault": "late", "nth": "x"}, {"fault": "late", "x": 1}],
)
def test_bad_faults_are_refused(raw):
    with pytest.raises(BadFault):
        parse_fault(raw)


def test_all_kinds_can_be_read():
    assert {parse_fault({"fault": kind}).kind for kind in KINDS} == set(KINDS)
