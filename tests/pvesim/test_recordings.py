"""The simulator answers as the real API (PVE 9.2.11) answered when it was recorded."""

import json
from pathlib import Path

import pytest

from pvesim.texts import Config, digest_of, raw_text, settle, typed
from tests.pvesim.driving import CT, VM, Sim, kinds

RECORDINGS = Path(__file__).parent / "recordings"
STORAGES = [
    {"storage": "local", "type": "dir", "content": "images,rootdir,vztmpl,iso,backup"},
    {"storage": "second", "type": "dir", "content": "images,rootdir"},
]


def load(name):
    return json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))


SCENES = load("exchanges")
CONFIGS = load("configs")
ROWS = load("rows")


@pytest.mark.parametrize("scene", SCENES, ids=[scene["scene"] for scene in SCENES])
def test_exchanges(scene):
    sim = Sim(*scene["guests"], nodes=["pve1"], storages=STORAGES, templates=["local:vztmpl/tiny.tar.gz"])
    for step in scene["steps"]:
        for before in step.get("before", ()):
            if "guests" in before:
                sim.world.put_guests(before["guests"])
            else:
                sim.world.control(before["control"])
        if "method" in step:
            replay(sim, step)


def replay(sim, step):
    params = {key: "" if value is None else str(value) for key, value in step["params"].items()}
    reply = sim.reply(sim.submit(step["method"], step["path"], params))
    data = reply.body.get("data")
    forked = isinstance(data, str) and data.startswith("UPID:")
    exitstatus = sim.ended(data) if forked else None
    if "status" not in step:
        return
    where = f"{step['method']} {step['path']} {params}"
    assert reply.refusal == (step["status"], step["reason"]), where
    assert reply.body.get("errors") == step.get("errors"), where
    if "task" in step:
        assert ":".join(data.split(":")[5:7]) == step["task"], where
        assert exitstatus == step.get("exit", exitstatus), where
    elif "shape" in step:
        assert kinds(data) == step["shape"], where
    elif "data" in step:
        assert data == step["data"], where
    if reply.status >= 400 and reply.body:
        assert reply.body["message"].splitlines()[0] == reply.reason, where


def test_enough_exchanges_are_compared():
    assert sum("status" in step for scene in SCENES for step in scene["steps"]) > 250


@pytest.mark.parametrize("recorded", CONFIGS, ids=[row["config"]["digest"][:8] for row in CONFIGS])
def test_the_digest_is_the_hash_of_the_same_text(recorded):
    kind, shown = recorded["type"], recorded["config"]
    values = {key: str(value) for key, value in shown.items() if key != "digest"}
    candidates = [values]
    if values.get("boot") == " ":
        candidates.append(values | {"boot": ""})  # as PVE writes it at creation
    digests = [digest_of(raw_text(Config(values=candidate))) for candidate in candidates]
    if shown["digest"] not in digests:
        pending = {key: values.pop(key) for key in ("cores", "memory") if key in values}
        digests.append(digest_of(raw_text(Config(values=values, pending=pending))))
        values |= pending
    assert shown["digest"] in digests
    read_back = typed(kind, settle(Config(values=values), kind).values)
    assert read_back == {key: value for key, value in shown.items() if key != "digest"}


def same_kinds(got, recorded):
    assert kinds(got) == kinds(recorded)


def test_rows_of_running_and_finished_tasks():
    sim = Sim(VM)
    upid = sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901).data
    running = sim.rows(source="active")[0]
    same_kinds(running, ROWS["task_running"])
    assert (running["user"], running["status"], running["saved"]) == ("root@pam!rec", "RUNNING", "0")
    same_kinds(sim.get("/cluster/tasks")[0], ROWS["broadcast_running"])
    assert sim.ended(upid) == "OK"
    finished = sim.rows()[0]
    same_kinds(finished, ROWS["task_finished"])
    assert (finished["user"], finished["tokenid"], finished["status"]) == ("root@pam", "rec", "OK")
    sim.call("POST", "/nodes/pve1/qemu/900/status/stop")
    sim.wait(1)
    newest, older = sim.get("/cluster/tasks")[:2]
    same_kinds(newest, ROWS["broadcast_finished"] | {"saved": 1})
    assert (newest["saved"], older["saved"]) == (1, "1")


def test_rows_of_guests():
    sim = Sim(VM, CT)
    qemu, lxc = sim.get("/cluster/resources", type="vm")
    same_kinds(qemu, ROWS["resource_qemu"])
    same_kinds(lxc, ROWS["resource_lxc"])
    same_kinds(sim.get("/nodes/pve1/lxc/800/status/current"), ROWS["current_lxc"])
    sim.world.put_guests({"vmid": 900, "lock": "create"})
    same_kinds(sim.get("/nodes/pve1/qemu/900/status/current"), ROWS["current_locked"])
    sim.world.put_guests({"vmid": 900, "lock": None, "status": "running"})
    same_kinds(sim.get("/nodes/pve1/qemu/900/status/current"), ROWS["current_running"])


def test_a_new_guest_is_live_in_the_cluster_list_but_without_statistics():
    sim = Sim(VM)
    sim.call("POST", "/nodes/pve1/qemu/900/clone", newid=901)
    row = next(row for row in sim.get("/cluster/resources", type="vm") if row["vmid"] == 901)
    same_kinds(row, ROWS["resource_unknown"])
    assert (row["status"], row["lock"]) == ("unknown", "clone")
    sim.wait(25)
    row = next(row for row in sim.get("/cluster/resources", type="vm") if row["vmid"] == 901)
    assert (row["status"], row["name"]) == ("stopped", "Copy-of-VM-vm900")


def test_the_stub_of_a_create_has_the_recorded_digest():
    sim = Sim()
    sim.call("POST", "/nodes/pve1/qemu", vmid=901)
    assert sim.config(901) == ROWS["stub"]
