"""The lists of tasks with their quirks, logs, and the end of a task by force."""

import pytest

from tests.pvesim.driving import VM, Sim

STOP = ("POST", "/nodes/pve1/qemu/900/status/stop")


def stopped(count=3, **spec):
    sim = Sim(VM, **spec)
    for _ in range(count):
        assert sim.task(*STOP) == "OK"
    return sim


def test_the_default_source_is_the_archive():
    sim = stopped(1)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    assert [row["type"] for row in sim.get("/nodes/pve1/tasks")] == ["qmstop"]
    assert [row["type"] for row in sim.rows(source="active")] == ["qmclone"]
    assert [row["type"] for row in sim.rows(source="all")] == ["qmclone", "qmstop"]
    assert sim.status(upid)["status"] == "running"


def test_the_archive_is_ordered_by_when_tasks_ended():
    sim = Sim(VM)
    slow = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    sim.task("POST", "/nodes/pve1/qemu", vmid=902)
    sim.ended(slow)
    assert [row["type"] for row in sim.rows()] == ["qmclone", "qmcreate"]


def test_limit_start_and_total():
    sim = stopped(5)
    listed = sim.call("GET", "/nodes/pve1/tasks", limit=2, start=1)
    assert (len(listed.data), listed.body["total"]) == (2, 5)
    nothing = sim.call("GET", "/nodes/pve1/tasks", limit=0)
    assert (nothing.data, nothing.body["total"]) == ([], 5)
    beyond = sim.call("GET", "/nodes/pve1/tasks", start=1000)
    assert (beyond.data, beyond.body["total"]) == ([], 5)
    none = sim.call("GET", "/nodes/pve1/tasks", vmid=999)
    assert (none.data, "total" in none.body) == ([], False)


def test_the_user_filter_is_blind_for_finished_tasks_of_a_token():
    sim = stopped(1)
    assert len(sim.rows(userfilter="root@pam")) == 1
    assert sim.rows(userfilter="root@pam!rec") == []
    sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901)
    assert [row["type"] for row in sim.rows(userfilter="ROOT@pam!rec")] == ["qmclone"]


def test_filters():
    sim = stopped(2)
    sim.task("POST", "/nodes/pve1/qemu/999/status/start")
    sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901)
    rows = sim.rows()
    assert [row["type"] for row in sim.rows(errors=1)] == ["qmclone", "qmstart"]
    assert [row["type"] for row in sim.rows(statusfilter="error")] == ["qmstart"]
    assert [row["type"] for row in sim.rows(statusfilter="ok,unknown")] == ["qmclone", "qmstop", "qmstop"]
    assert sim.rows(typefilter="qm") == []
    assert [row["id"] for row in sim.rows(vmid=999)] == ["999"]
    times = sorted(row["starttime"] for row in rows)
    assert all(row["starttime"] >= times[1] for row in sim.rows(since=times[1]))
    assert len(sim.rows(since=times[0], until=times[-1])) == len(rows)


def test_a_clone_into_a_number_is_listed_under_its_source():
    sim = Sim(VM)
    sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901)
    assert sim.rows(vmid=901) == []
    assert len(sim.rows(vmid=900)) == 1


def test_the_index_is_rotated_at_about_50_kb():
    sim = Sim(VM, scale=0.01)
    upids = [sim.call(*STOP).data for _ in range(2000)]
    sim.wait(1)
    kept = sim.call("GET", "/nodes/pve1/tasks", limit=5000)
    line = len(upids[0]) + len(" 6B04622D OK\n")
    assert 50_000 / line <= kept.body["total"] <= 2 * 50_000 / line + 2
    assert kept.data[0]["upid"] == upids[-1]
    assert upids[0] not in {row["upid"] for row in kept.data}
    assert sim.status(upids[0])["exitstatus"] == "OK", "the log outlives the index"


def test_forgotten_by_hand():
    sim = stopped(2)
    upid = sim.rows()[0]["upid"]
    sim.control("rotate_tasks", node="pve1")
    assert len(sim.rows()) == 2
    sim.control("rotate_tasks", node="pve1", forget=True)
    assert sim.rows() == []
    assert sim.status(upid)["exitstatus"] == "OK"
    sim.control("forget_tasks", node="pve1")
    gone = sim.call("GET", f"/nodes/pve1/tasks/{upid}/status")
    assert gone.status == 400
    assert gone.body["errors"] == {"upid": "no such task"}
    log = sim.call("GET", f"/nodes/pve1/tasks/{upid}/log")
    assert log.data == [{"n": 1, "t": "unable to open file - No such file or directory"}]
    assert log.body["total"] == 1


def test_a_status_is_asked_where_the_task_ran():
    sim = stopped(1)
    upid = sim.rows()[0]["upid"]
    elsewhere = sim.call("GET", f"/nodes/pve2/tasks/{upid}/status")
    assert elsewhere.body["errors"] == {"upid": "no such task"}
    garbage = sim.call("GET", "/nodes/pve1/tasks/garbage/status")
    assert garbage.body["errors"] == {"upid": "unable to parse worker upid"}


def test_logs_come_in_pages():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    sim.ended(upid)
    whole = sim.call("GET", f"/nodes/pve1/tasks/{upid}/log", limit=0)
    assert whole.data[0] == {"n": 1, "t": "creating a clone of VM 900 with ID 901"}
    assert whole.data[-1]["t"] == "TASK OK"
    page = sim.call("GET", f"/nodes/pve1/tasks/{upid}/log", start=1, limit=1)
    assert page.data == whole.data[1:2]
    assert page.body["total"] == len(whole.data)


def test_abort_cleans_up():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    sim.wait(2)
    reply = sim.call("DELETE", f"/nodes/pve1/tasks/{upid}")
    assert reply.data is None
    assert 1.0 <= reply.seconds < 2.0
    assert sim.status(upid)["exitstatus"] == "clone failed: interrupted by signal"
    assert sim.call("GET", "/nodes/pve1/qemu/901/config").status == 500
    assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=901) == []


def test_a_restart_of_the_daemon_terminates_tasks():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    sim.wait(1)
    sim.control("restart_pvedaemon", node="pve1")
    sim.wait(0.1)
    assert sim.status(upid)["exitstatus"] == "clone failed: interrupted by signal"
    assert sim.rows()[0]["status"] == "RUNNING", "the list lies for a while"
    sim.wait(12)
    assert sim.rows()[0]["status"] == "clone failed: interrupted by signal"


def test_a_paused_task_keeps_its_lock():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/status/start").data
    sim.control("pause_task", upid=upid)
    reply = sim.call("PUT", "/nodes/pve1/qemu/900/config", description="x")
    assert reply.status == 500
    sim.control("resume_task", upid=upid)
    assert sim.ended(upid) == "OK"


def test_a_token_without_audit_sees_its_own_tasks_only():
    sim = Sim(VM, tokens=[{"id": "agent@pve!ag", "secret": "aa", "privs": ["VM.PowerMgmt"]}])
    header = "PVEAPIToken=agent@pve!ag=aa"
    sim.task(*STOP)
    upid = sim.reply(sim.send(*STOP, header=header)).data
    sim.wait(1)
    own = sim.reply(sim.send("GET", "/nodes/pve1/tasks", header=header, source="all")).data
    assert [row["upid"] for row in own] == [upid]
    assert sim.reply(sim.send("GET", "/cluster/tasks", header=header)).data == []
    assert sim.reply(sim.send("GET", "/cluster/resources", header=header)).data
    other = sim.rows()[-1]["upid"]
    refused = sim.reply(sim.send("GET", f"/nodes/pve1/tasks/{other}/status", header=header))
    assert refused.refusal == (403, "Permission check failed (/nodes/pve1, Sys.Audit)")
    refused = sim.reply(sim.send("DELETE", "/nodes/pve1/qemu/900", header=header))
    assert refused.refusal == (403, "Permission check failed (/vms/900, VM.Allocate)")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_token_without_the_right_cannot_make_or_remove_tokens(method):
    sim = Sim(tokens=[{"id": "agent@pve!ag", "secret": "aa", "privs": ["VM.PowerMgmt"]}])
    reply = sim.reply(sim.send(method, "/access/users/agent@pve/token/ag", header="PVEAPIToken=agent@pve!ag=aa"))
    assert reply.status == 403


def test_tokens_are_made_listed_and_removed():
    sim = Sim()
    made = sim.call("POST", "/access/users/root@pam/token/e7", privsep=0, comment="epoch 7").data
    assert made["full-tokenid"] == "root@pam!e7"
    assert sim.get("/access/users/root@pam/token/e7") == {"privsep": 0, "expire": 0, "comment": "epoch 7"}
    assert {row["tokenid"] for row in sim.get("/access/users/root@pam/token")} == {"rec", "e7"}
    again = sim.call("POST", "/access/users/root@pam/token/e7")
    assert again.body["errors"] == {"tokenid": "Token already exists."}
    header = f"PVEAPIToken=root@pam!e7={made['value']}"
    assert sim.reply(sim.send("GET", "/version", header=header)).status == 200
    sim.call("PUT", "/access/users/root@pam/token/e7", expire=1)
    assert sim.reply(sim.send("GET", "/version", header=header)).status == 401
    sim.call("DELETE", "/access/users/root@pam/token/e7")
    assert sim.call("DELETE", "/access/users/root@pam/token/e7").status == 500
    separate = sim.call("POST", "/access/users/root@pam/token/e8").data
    header = f"PVEAPIToken=root@pam!e8={separate['value']}"
    assert sim.reply(sim.send("GET", "/cluster/resources", header=header, type="vm")).data == []
