"""Snapshots, backups, moves and the rest of the work on guests, as the real API (PVE 9.2.11) did it when recorded.

Unlike in `test_recordings.py` whole answers and task logs are compared; a `*` stands for what differs every time.
"""

import json
import re
from pathlib import Path

import pytest

from tests.pvesim.driving import HEADER, Sim
from tests.pvesim.test_recordings import STORAGES

SCENES = json.loads((Path(__file__).parent / "recordings" / "work.json").read_text(encoding="utf-8"))
LOOSE_LINES = (
    "Formatting ", "qemu-img: ", "completed saving", "saving VM state", "INFO: filesystem type", "transferred ",
    "INFO: starting new", "INFO: Total bytes", "INFO: archive file size", "Total bytes read", "INFO: Finished Backup",
)  # fmt: skip


@pytest.mark.parametrize("scene", SCENES, ids=[scene["scene"] for scene in SCENES])
def test_work(scene):
    sim = Sim(
        *scene["guests"], nodes=["pve1"], storages=STORAGES, templates=["local:vztmpl/tiny.tar.gz"],
        **scene.get("spec", {}),
    )  # fmt: skip
    for step in scene["steps"]:
        for before in step.get("before", ()):
            if "guests" in before:
                sim.world.put_guests(before["guests"])
            elif "fault" in before:
                sim.world.add_fault(before["fault"])
            elif "send" in before:
                method, path, params = before["send"]
                sim.send(method, path, **params)
            elif "wait" in before:
                sim.wait(before["wait"])
            else:
                sim.world.control(before["control"])
        replay(sim, step)


def replay(sim, step):
    params = {key: filled(sim, str(value)) for key, value in step["params"].items()}
    header = f"PVEAPIToken={step['token']}=s" if "token" in step else HEADER
    reply = sim.reply(sim.submit(step["method"], step["path"], params, header=header))
    where = f"{step['method']} {step['path']} {params}"
    assert reply.refusal == (step["status"], step["reason"]), where
    assert reply.body.get("errors") == step.get("errors"), where
    if "task" in step:
        assert ":".join(reply.data.split(":")[5:7]) == step["task"], where
        assert sim.ended(reply.data) == step["exit"], where
        if "log" in step:
            assert log_of(sim, reply.data) == [line for line in step["log"] if not line.startswith(LOOSE_LINES)], where
    elif "count" in step:
        assert len(reply.data) == step["count"] or isinstance(reply.data, dict), where
    elif "data" in step:
        assert_like(reply.data, step["data"], where)


STAMP = re.compile(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def filled(sim, text):
    """The first archive's time in the place of the recorded one's."""
    if "{stamp}" not in text:
        return text
    volids = sorted(row["volid"] for row in sim.get("/nodes/pve1/storage/local/content", content="backup"))
    return text.replace("{stamp}", STAMP.findall(volids[0])[0])


def log_of(sim, upid):
    rows = sim.get(f"/nodes/pve1/tasks/{upid}/log", limit=0)
    return [TIME.sub("<time>", STAMP.sub("{stamp}", row["t"])) for row in rows if not row["t"].startswith(LOOSE_LINES)]


def assert_like(got, recorded, where):
    if recorded == "*":
        return
    if isinstance(recorded, dict):
        assert set(got) == set(recorded), where
        for key, value in recorded.items():
            assert_like(got[key], value, f"{where}: {key}")
    elif isinstance(recorded, list):
        if recorded and isinstance(recorded[0], dict) and "name" in recorded[0]:
            got, recorded = (sorted(rows, key=lambda row: row["name"]) for rows in (got, recorded))
        assert len(got) == len(recorded), where
        for mine, theirs in zip(got, recorded, strict=True):
            assert_like(mine, theirs, where)
    else:
        assert got == recorded, where
