"""The way that everybody goes first: init, write manifests, plan, apply, and see that drift is found and mended."""

import json

from tests.cli.stage import Stage, guest, several

GUESTS = several(
    guest("web-1", 101, "source: {clone: 9000}", "config: {cores: 2, memory: 2048}", "after: [db-1]"),
    guest("db-1", 102, "source: {empty: true}", "config: {scsi0: 'local-lvm:4'}", node="pve2"),
    guest("ct-1", 103, "source: {clone: 9001}", "config: {memory: 256}", node="pve3", kind="Container"),
)


def test_from_nothing_to_converged_and_back_after_drift(stage: Stage) -> None:
    stage.manifest(GUESTS)
    plan = stage.json("plan", code=2)
    assert plan["summary"] == {
        "create": 3, "update": 0, "power": 0, "needs_approval": 0, "blocked": 0, "unchanged": 0,
    }  # fmt: skip
    assert not stage.journal().exists()  # a plan changes nothing, here or there
    assert stage.sim.mutations() == []

    done = stage.json("apply", "--yes")
    assert done["converged"] is True
    assert done["recovery"]["examined"] == 0
    assert done["failing"] == []
    assert done["left_open"] == 0
    assert stage.run("plan").returncode == 0

    stage.sim.by_hand(vmid=101, config={"cores": 4})
    stage.sim.by_hand(vmid=102, status="stopped")
    stage.sim.by_hand(vmid=103, deleted=True)
    plan = stage.json("plan", code=2)
    assert {change["vmid"]: change["bucket"] for change in plan["changes"]} == {
        101: "update", 102: "power", 103: "create",
    }  # fmt: skip
    cores = next(diff for change in plan["changes"] for diff in change["diff"] if diff["key"] == "cores")
    assert (cores["from"], cores["to"]) == ("4", "2")
    assert cores["why"]

    assert stage.run("apply", "--yes").returncode == 0
    assert stage.run("plan").returncode == 0
    assert stage.json("journal", "verify")["ok"] is True


def test_what_was_done_can_be_told(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "source: {empty: true}"))
    stage.json("apply", "--yes")

    ops = stage.json("ops", "list")["ops"]
    assert [(op["kind"], op["vmid"], op["state"]) for op in ops] == [
        ("start", 102, "succeeded"), ("create", 102, "succeeded"),
    ]  # fmt: skip
    assert stage.json("ops", "list", "--state", "failed")["ops"] == []
    assert len(stage.json("ops", "list", "--vmid", "102", "-n", "1")["ops"]) == 1

    story = stage.run("ops", "show", ops[1]["op_id"])
    assert story.returncode == 0
    for head in ("What happened", "What is known for sure", "Why it stands as it does: row R3", "What to do"):
        assert head in story.stdout
    assert ops[1]["upid"] in story.stdout
    shown = stage.json("ops", "show", ops[1]["op_id"][:30])
    assert shown["request"]["path"] == "/nodes/pve1/qemu"
    assert [moment["event"] for moment in shown["timeline"]] == ["started", "task_running", "succeeded"]

    exported = stage.run("journal", "export").stdout.splitlines()
    records = stage.json("journal", "tail", "-n", "100")["records"]
    assert [json.loads(line)["hash"] for line in exported] == [record["hash"] for record in records]
    assert stage.json("journal", "stats")["ops"]["succeeded"] == 2
    assert stage.json("journal", "verify") == {
        "ok": True, "records": len(records), "head": records[-1]["hash"], "first_bad": None, "what": None,
    }  # fmt: skip
    assert f"#{len(records)} " in stage.run("journal", "tail", "-n", "1").stdout


def test_status_tells_how_guests_are_and_who_leads(stage: Stage) -> None:
    stage.manifest(several(guest("db-1", 102, "source: {empty: true}"), guest("off-1", 104, "power: stopped")))
    before = stage.json("status", code=2)
    assert before["leader"] is None
    assert {row["vmid"]: (row["sync"], row["health"]) for row in before["guests"]} == {
        102: ("drifted", "absent"), 104: ("drifted", "absent"),
        9000: ("unmanaged", "stopped"), 9001: ("unmanaged", "stopped"),
    }  # fmt: skip
    stage.json("apply", "--yes")
    after = stage.json("status")
    rows = {row["vmid"]: row for row in after["guests"]}
    assert (rows[102]["sync"], rows[102]["health"]) == ("in_sync", "running")
    assert (rows[104]["sync"], rows[104]["health"]) == ("in_sync", "stopped")
    assert after["in_flight"] == after["unresolved"] == after["paused"] == []
    assert (after["leader"]["epoch"], after["leader"]["alive"]) == (1, False)


def test_what_may_not_be_done_without_signatures_is_only_named(stage: Stage) -> None:
    stage.manifest(several(guest("keep-1", 101), guest("gone-1", 102)))
    stage.json("apply", "--yes")
    stage.manifest(guest("keep-1", 101))
    plan = stage.json("plan", code=2)
    assert plan["summary"]["needs_approval"] == 1
    (change,) = plan["changes"]
    assert change["ops"] == []
    assert change["needs_approval"][0]["command"] == "trueup request destroy 102"
    assert "ask for it with  trueup request destroy 102" in stage.run("plan").stdout
    count = len(stage.sim.mutations())
    assert stage.json("apply", "--yes", code=2)["converged"] is False
    assert len(stage.sim.mutations()) == count


def test_one_pass_still_waits_for_what_it_began(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "source: {empty: true}"))
    assert stage.json("apply", "--yes", "--once")["left_open"] == 0
    assert stage.json("plan")["summary"]["unchanged"] == 1
