"""What a lost reply leaves behind: when things become visible, and that nothing limits how late they can happen."""

from email.utils import parsedate_to_datetime

import pytest

from tests.pvesim.driving import CT, HEADER, VM, Sim

START = ("POST", "/nodes/pve1/qemu/900/status/start")


def seen_after(sim, ask, timeout=1.0):
    """Seconds from now until `ask` finds something, looking every millisecond at the world itself."""
    begin = sim.now
    while sim.now < begin + timeout:
        if ask():
            return sim.now - begin
        sim.wait(0.001)
    raise AssertionError("not seen")


@pytest.mark.parametrize("seed", range(40))
def test_a_task_is_listed_after_50_to_190_ms_though_the_client_is_gone(seed):
    sim = Sim(VM, seed=seed)
    ticket = sim.send(*START)
    sim.world.client_gone(ticket)
    tasks = sim.world._m.tasks["pve1"]
    listed = seen_after(sim, lambda: tasks.active)
    assert 0.050 <= listed <= 0.190
    assert ticket not in sim.replies
    sim.wait(2)
    assert sim.get("/nodes/pve1/qemu/900/status/current")["status"] == "running"
    assert sim.effects() == [True]


@pytest.mark.parametrize("seed", range(10))
def test_the_reply_comes_after_the_list_knows_the_task(seed):
    sim = Sim(VM, seed=seed)
    ticket = sim.send(*START)
    tasks = sim.world._m.tasks["pve1"]
    seen_after(sim, lambda: tasks.active)
    assert ticket not in sim.replies
    assert sim.reply(ticket).data == tasks.active[0].upid


def test_a_sync_put_leaves_no_task_and_no_log_row():
    sim = Sim(VM)
    before = sim.get("/cluster/log")
    ticket = sim.send("PUT", "/nodes/pve1/qemu/900/config", description="x")
    sim.world.client_gone(ticket)
    sim.wait(0.15)
    assert sim.config()["description"] == "x"
    assert sim.rows() == []
    assert sim.get("/cluster/log") == before


def test_start_time_is_never_before_the_date_of_an_earlier_reply():
    sim = Sim(VM)
    sim.control("clock", node="pve1", offset_s=-10)
    for _ in range(10):
        date = sim.call("GET", "/version").headers["Date"]
        upid = sim.call("POST", "/nodes/pve1/qemu/900/status/stop").data
        started = int(upid.split(":")[4], 16)
        assert started - parsedate_to_datetime(date).timestamp() in {0, 1}
        assert started < sim.now - 9
        sim.wait(0.37)


def test_frozen_daemon_the_client_gives_up_and_the_work_is_done_later():
    sim = Sim(VM)
    sim.control("freeze", node="pve1", daemon="pvedaemon")
    ticket = sim.send(*START)
    reply = sim.reply(ticket)
    assert reply.refusal == (596, "Connection timed out")
    assert reply.raw == b""
    assert 30.0 <= reply.seconds < 30.1
    assert sim.rows() == []
    sim.wait(9)
    thawed = sim.now
    sim.control("thaw", node="pve1", daemon="pvedaemon")
    sim.wait(0.25)
    (row,) = sim.rows()
    assert row["starttime"] >= int(thawed)
    assert sim.ended(row["upid"]) == "OK"


def test_no_bound_to_lateness():
    sim = Sim(VM)
    sim.fault("late", path="status/start", delay_s=3600)
    assert sim.call(*START).hung_up
    sim.wait(3599)
    assert sim.rows() == []
    sim.wait(3)
    assert sim.get("/nodes/pve1/qemu/900/status/current")["status"] == "running"


def test_frozen_proxy_answers_nothing_at_all():
    sim = Sim(VM)
    ticket = sim.send(*START)
    sim.control("freeze", node="pve1", daemon="pveproxy")
    sim.wait(60)
    assert ticket not in sim.replies
    sim.control("thaw", node="pve1", daemon="pveproxy")
    assert sim.reply(ticket).status == 200


def test_busy_workers_delay_a_request_for_another_guest():
    sim = Sim(VM, VM | {"vmid": 901}, VM | {"vmid": 902, "status": "running", "acpi": False})
    sim.call("POST", "/nodes/pve1/qemu/902/status/shutdown", timeout=8)
    puts = [sim.send("PUT", "/nodes/pve1/qemu/902/config", description=str(n)) for n in range(3)]
    sim.wait(0.05)
    late = sim.send("PUT", "/nodes/pve1/qemu/901/config", description="late")
    sim.wait(3)
    assert late not in sim.replies
    assert sim.reply(late).status == 200
    assert [sim.reply(ticket).status for ticket in puts] == [200, 200, 200]


@pytest.mark.parametrize("where", ["late", "pvedaemon", "pveproxy"])
def test_a_deleted_token_ends_its_stuck_requests(where):
    sim = Sim(VM)
    made = sim.call("POST", "/access/users/root@pam/token/e1", privsep=0).data
    header = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
    if where == "late":
        sim.fault("late", method="DELETE", path="/qemu/900$", delay_s=5)
    else:
        sim.control("freeze", node="pve1", daemon=where)
    ticket = sim.send("DELETE", "/nodes/pve1/qemu/900", header=header)
    sim.wait(1)
    if where == "late":
        sim.call("DELETE", "/access/users/root@pam/token/e1")
    else:
        sim.control("delete_token", id="root@pam!e1")
        sim.control("thaw", node="pve1", daemon=where)
        assert sim.reply(ticket).refusal == (401, "Authentication failed!")
    sim.wait(20)
    assert sim.rows() == []
    assert sim.config()["name"] == "vm900"


def test_wrong_token_takes_three_seconds_and_says_nothing():
    sim = Sim(VM, scale=0.01)
    for header, reason in (
        (None, "No ticket"),
        (HEADER + "x", "Authentication failed!"),
        ("x", "Authentication failed!"),
    ):
        reply = sim.reply(sim.send("GET", "/version", header=header))
        assert reply.refusal == (401, reason)
        assert reply.raw == b""
        assert 3.0 <= reply.seconds < 3.1


def test_a_node_without_quorum_still_knows_a_deleted_token():
    sim = Sim(VM | {"node": "pve3"})
    made = sim.call("POST", "/access/users/root@pam/token/e1", privsep=0).data
    header = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
    sim.control("quorum", nodes=["pve3"], quorate=False)
    sim.call("DELETE", "/access/users/root@pam/token/e1")
    assert sim.reply(sim.send("GET", "/version", header=header, node="pve1")).status == 401
    assert sim.reply(sim.send("GET", "/version", header=header, node="pve3")).status == 200
    sim.control("quorum", nodes=["pve3"], quorate=True)
    assert sim.reply(sim.send("GET", "/version", header=header, node="pve3")).status == 401


def test_killed_start_the_orphan_keeps_the_lock_and_the_vm_runs_later():
    sim = Sim(VM)
    sim.fault("task_killed", path="status/start")
    upid = sim.call(*START).data
    sim.wait(1)
    assert sim.status(upid)["exitstatus"] == "unexpected status"
    again = sim.call(*START).data
    assert sim.ended(again) == "can't lock file '/var/lock/qemu-server/lock-900.conf' - got timeout"
    assert sim.get("/nodes/pve1/qemu/900/status/current")["status"] == "stopped"
    sim.wait(12)
    assert sim.get("/nodes/pve1/qemu/900/status/current")["status"] == "running"


def test_killed_clone_leaves_lock_and_volume_that_a_token_cannot_remove():
    sim = Sim(VM)
    sim.fault("task_killed", path="/clone$")
    assert sim.task("POST", "/nodes/pve1/qemu/900/clone", newid=901) == "unexpected status"
    left = sim.config(901)
    assert left == {"lock": "clone", "description": " qmclone temporary file", "digest": left["digest"]}
    volumes = [row["volid"] for row in sim.get("/nodes/pve1/storage/local-lvm/content", vmid=901)]
    assert volumes == ["local-lvm:vm-901-disk-0"]
    refused = sim.call("PUT", "/nodes/pve1/qemu/901/config", delete="lock")
    assert refused.refusal == (500, "only root can set 'lock' config")
    assert sim.task("DELETE", "/nodes/pve1/qemu/901") == "VM is locked (clone)"


def test_killed_create_leaves_the_stub():
    sim = Sim()
    sim.fault("task_killed", path="/qemu$")
    assert sim.task("POST", "/nodes/pve1/qemu", vmid=901, scsi0="local-lvm:4") == "unexpected status"
    assert sim.config(901)["lock"] == "create"


def test_killed_container_clone_leaves_both_locked():
    sim = Sim(CT)
    sim.fault("task_killed", path="/clone$")
    assert sim.task("POST", "/nodes/pve1/lxc/800/clone", newid=801) == "unexpected status"
    assert sim.config(800, "lxc")["lock"] == "disk"
    assert sim.config(801, "lxc")["lock"] == "create"
    assert sim.call("DELETE", "/nodes/pve1/lxc/800").refusal == (500, "CT is locked (disk)")


def test_a_destroy_is_not_bound_to_an_incarnation():
    sim = Sim(VM)
    sim.fault("late", method="DELETE", path="/qemu/900$", delay_s=60)
    assert sim.call("DELETE", "/nodes/pve1/qemu/900").hung_up
    assert sim.task("DELETE", "/nodes/pve1/qemu/900") == "OK"
    assert sim.task("POST", "/nodes/pve1/qemu", vmid=900, name="another") == "OK"
    sim.wait(60)
    reply = sim.call("GET", "/nodes/pve1/qemu/900/config")
    assert reply.refusal == (500, "Configuration file 'nodes/pve1/qemu-server/900.conf' does not exist")


def test_second_destroy_while_the_first_works():
    sim = Sim(VM)
    first = sim.call("DELETE", "/nodes/pve1/qemu/900").data
    second = sim.call("DELETE", "/nodes/pve1/qemu/900").data
    assert sim.ended(first) == "OK"
    assert sim.ended(second) == "Configuration file 'nodes/pve1/qemu-server/900.conf' does not exist"
    assert sim.effects() == [True, False]
    log = sim.get(f"/nodes/pve1/tasks/{second}/log")
    assert [row["t"] for row in log[:2]] == ["trying to acquire lock...", " OK"]


def test_without_quorum_a_destroy_deletes_the_disk_and_fails():
    sim = Sim(VM)
    sim.control("quorum", nodes=["pve1"], quorate=False)
    for path in ("status/start", "clone"):
        params = {"newid": 901} if path == "clone" else {}
        refused = sim.call("POST", f"/nodes/pve1/qemu/900/{path}", **params)
        assert refused.refusal == (500, "cluster not ready - no quorum?")
    status = sim.task("DELETE", "/nodes/pve1/qemu/900")
    assert status.startswith("unable to open file '/etc/pve/nodes/pve1/qemu-server/900.conf.tmp.")
    assert status.endswith(" - Permission denied")
    assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=900) == []
    assert sim.config()["scsi0"] == "local-lvm:vm-900-disk-0,size=1G"
    assert sim.effects()[-1] is True
    rows = {row["type"]: row for row in sim.get("/cluster/status") if row["type"] == "cluster"}
    assert rows["cluster"]["quorate"] == 0


def test_a_reboot_kills_tasks_and_the_lists_find_out_later():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    sim.wait(1)
    sim.control("reboot", node="pve1", seconds=30)
    assert sim.call("GET", "/version").hung_up
    assert sim.call("GET", "/nodes/pve1/qemu/900/config", node="pve2").refusal == (595, "No route to host")
    sim.wait(30)
    assert sim.status(upid)["exitstatus"] == "unexpected status"
    assert sim.rows()[0]["status"] == "RUNNING"
    sim.wait(11)
    assert sim.rows()[0]["status"] == "unexpected status"
    assert sim.config(901)["lock"] == "clone"


def test_the_cluster_log_can_lose_rows():
    sim = Sim(VM)
    sim.call("POST", "/nodes/pve1/qemu/900/status/stop")
    sim.wait(1)
    messages = [row["msg"] for row in sim.get("/cluster/log")]
    assert messages[1].startswith("starting task UPID:pve1:")
    assert messages[0].startswith("end task UPID:pve1:")
    assert messages[0].endswith(" OK")
    sim.control("cluster_log", loses=1)
    sim.call("POST", "/nodes/pve1/qemu/900/status/stop")
    assert len(sim.get("/cluster/log")) == 2


def test_same_seed_same_story():
    def story(seed):
        sim = Sim(VM, CT, seed=seed)
        sim.task("POST", "/nodes/pve1/qemu", vmid=901, net0="virtio,bridge=vmbr0")
        sim.task("POST", "/nodes/pve1/lxc/800/clone", newid=801)
        return sim.now, sim.world.state(), sim.mutations()

    assert story(5) == story(5)
    assert story(5) != story(6)
