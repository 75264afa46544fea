"""Reboot, reset, suspend, resume, template."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

QEMU = "/nodes/pve1/qemu/900"
LXC = "/nodes/pve1/lxc/800"
RUNNING = {**VM, "status": "running"}


def test_reboot_is_half_a_task():
    sim = Sim(RUNNING)
    sim.call("PUT", f"{QEMU}/config", cores=4)
    assert sim.get(f"{QEMU}/pending")
    upid = sim.call("POST", f"{QEMU}/status/reboot").data
    assert upid.split(":")[5] == "qmreboot"
    assert sim.ended(upid) == "OK"
    assert sim.get(f"{QEMU}/status/current")["status"] == "stopped"
    sim.wait(4)
    assert sim.get(f"{QEMU}/status/current")["status"] == "running"
    row = sim.rows()[0]
    assert (row["type"], row["user"], row["status"]) == ("qmstart", "root@pam", "OK")
    assert sim.config()["cores"] == 4


def test_a_guest_that_does_not_react_is_not_rebooted():
    sim = Sim({**RUNNING, "acpi": False}, {**CT, "status": "running"})
    assert sim.task("POST", f"{QEMU}/status/reboot", timeout=2) == "VM quit/powerdown failed - got timeout"
    assert sim.get(f"{QEMU}/status/current")["status"] == "running"
    assert sim.task("POST", f"{LXC}/status/reboot") == "OK"
    assert sim.get(f"{LXC}/status/current")["status"] == "running"


@pytest.mark.parametrize("verb", ["reboot", "reset", "suspend", "resume"])
def test_stopped_and_absent(verb):
    sim = Sim(VM)
    assert sim.call("POST", f"{QEMU}/status/{verb}").refusal == (500, "VM 900 not running")
    assert sim.call("POST", f"/nodes/pve1/qemu/999/status/{verb}").refusal == (
        500, "unable to find configuration file for VM 999 on node 'pve1'",
    )  # fmt: skip


def test_reset_pause_resume():
    sim = Sim(RUNNING)
    assert sim.task("POST", f"{QEMU}/status/reset") == "OK"
    upid = sim.call("POST", f"{QEMU}/status/suspend").data
    assert upid.split(":")[5] == "qmpause"
    assert sim.ended(upid) == "OK"
    assert sim.get(f"{QEMU}/status/current")["qmpstatus"] == "paused"
    assert sim.task("POST", f"{QEMU}/status/resume") == "OK"
    assert sim.get(f"{QEMU}/status/current")["qmpstatus"] == "running"


@pytest.mark.parametrize("verb", ["start", "resume"])
def test_to_disk(verb):
    sim = Sim(RUNNING)
    upid = sim.call("POST", f"{QEMU}/status/suspend", todisk=1).data
    assert upid.split(":")[5] == "qmsuspend"
    sim.wait(1)
    assert sim.config()["lock"] == "suspending"
    assert sim.ended(upid) == "OK"
    assert sim.config()["lock"] == "suspended"
    assert sim.get(f"{QEMU}/status/current")["status"] == "stopped"
    assert sim.task("POST", f"{QEMU}/snapshot", snapname="s1") == "VM is locked (suspended)"
    assert sim.task("POST", f"{QEMU}/status/{verb}") == "OK"
    assert not {"lock", "vmstate", "runningmachine"} & set(sim.config())
    assert "state-suspend" not in str(sim.world.state()["volumes"])
    sim.fault("task_killed")
    sim.task("POST", f"{QEMU}/status/suspend", todisk=1)
    assert sim.config()["lock"] == "suspending"


def test_templates():
    sim = Sim(VM, CT)
    upid = sim.call("POST", f"{QEMU}/template").data
    assert upid.split(":")[5] == "qmtemplate"
    assert sim.ended(upid) == "OK"
    shown = sim.config()
    assert (shown["template"], shown["scsi0"]) == (1, "local-lvm:base-900-disk-0,size=1G")
    assert sim.call("POST", f"{QEMU}/template").refusal == (500, "you can't convert a template to a template")
    assert sim.task("POST", f"{QEMU}/clone", newid=901, full=0) == "OK"
    assert sim.call("POST", f"{LXC}/template").data is None
    assert sim.rows()[0]["type"] == "vztemplate"
    sim.wait(3)
    assert sim.config(800, "lxc")["template"] == 1
    assert sim.call("POST", f"{LXC}/template").refusal == (500, "you can't convert a template to a template")


def test_what_does_not_become_a_template():
    sim = Sim(RUNNING, CT)
    assert sim.call("POST", f"{QEMU}/template").refusal == (
        500, "you can't convert a VM to template if VM is running",
    )  # fmt: skip
    sim.task("POST", f"{LXC}/snapshot", snapname="s1")
    assert sim.call("POST", f"{LXC}/template").refusal == (
        500, "unable to create template, because CT contains snapshots",
    )  # fmt: skip
    sim.task("POST", f"{QEMU}/status/stop")
    sim.fault("task_killed")
    sim.task("POST", f"{QEMU}/template")
    assert (sim.config()["template"], sim.config()["scsi0"]) == (1, "local-lvm:vm-900-disk-0,size=1G")
