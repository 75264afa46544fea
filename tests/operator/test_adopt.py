"""Guests are taken over by an explicit act, which is an operation like any other; what somebody else may own is not."""

import pytest

from tests.cli.stage import Stage, guest, several
from tests.operator.living import Agent, living
from trueup.core import marker
from trueup.model.guests import Marker
from trueup.model.ids import OpId, Vmid

TEXT = "Läuft seit 2019.\n\n- **nicht** anfassen"


@pytest.fixture
def there(stage: Stage) -> Stage:
    """Two guests that are there, and declared; the container differs from its manifest."""
    stage.sim.by_hand(vmid=201, name="vm-1", status="running", config={"cores": 2, "description": TEXT})
    stage.sim.by_hand(vmid=202, name="ct-1", type="lxc", node="pve2", config={"rootfs": "local-lvm:2", "memory": 256})
    stage.manifest(
        several(
            guest("vm-1", 201, "config: {cores: 2}"),
            guest("ct-1", 202, "config: {memory: 512}", "power: stopped", node="pve2", kind="Container"),
            guest("new-1", 203, "power: stopped"),
        )
    )
    return stage


def description(stage: Stage, vmid: int) -> str:
    guests = stage.sim.ask("/_sim/state")["guests"]
    return next(row["config"]["description"] for row in guests if row["vmid"] == vmid)


def test_declared_guests_are_taken_over_and_nothing_else_changes(there: Stage) -> None:
    assert there.run("plan").returncode == 2
    done = there.json("adopt", "--all", "--yes")
    assert [row["vmid"] for row in done["adopted"]] == [201, 202]
    assert (done["failed"], done["refused"]) == ([], [])
    for vmid in (201, 202):
        _, mark = marker.split(description(there, vmid))
        assert mark is not None
        assert (mark.vmid, mark.counter) == (vmid, 1)
    assert marker.split(description(there, 201))[0] == TEXT
    sent = there.sim.mutations()
    assert all(set(row["params"]) == {"description", "digest"} for row in sent)
    assert len(sent) == 2

    story = there.run("ops", "show", done["adopted"][0]["op_id"]).stdout
    assert "configure of VM 201 vm-1" in story
    plan = there.json("plan", code=2)
    assert {change["vmid"]: change["bucket"] for change in plan["changes"]} == {202: "update", 203: "create"}
    assert there.run("apply", "--yes").returncode == 0

    again = there.json("adopt", "201", "202", "--yes")
    assert again["adopted"] == []
    assert [row["vmid"] for row in again["ours"]] == [201, 202]
    assert there.json("journal", "verify")["ok"] is True


def test_what_is_shown_before(there: Stage) -> None:
    asked = there.run("adopt", "--all")
    assert asked.returncode == 1
    assert "there is no terminal to ask on (give --yes)" in asked.stderr
    shown = there.run("adopt", "202", "--yes").stdout
    assert "goes into its description" in shown
    assert "memory: 256 -> 512" in shown
    assert "Adopted: 1 of 1 guests." in shown


def test_what_is_refused(there: Stage) -> None:
    there.sim.by_hand(vmid=204, name="other")
    there.sim.by_hand(vmid=201, lock="backup")
    refused = {
        row["vmid"]: row["why"] for row in there.json("adopt", "201", "203", "204", "999", "--yes", code=1)["refused"]
    }
    assert "locked by PVE (backup)" in refused[201]
    assert "does not exist yet: `trueup apply` makes it" in refused[203]
    assert "no manifest declares it (`trueup import 204` writes one)" in refused[204]
    assert "no manifest" in refused[999] or "no such guest" in refused[999]
    assert there.sim.mutations() == []
    assert there.run("adopt").returncode == 1
    assert there.run("adopt", "201", "--all").returncode == 1


def marked(vmid: int, installation: str = "somebody-else") -> str:
    mark = Marker(uid="uid-1", installation=installation, vmid=Vmid(vmid), op_id=OpId("op-1"), counter=7)
    return marker.render("text", mark)


def test_another_installation_s_guest_is_taken_over_only_when_that_is_said(there: Stage) -> None:
    """So it is after a journal was lost: nothing is forgotten, and nothing is taken in silence."""
    there.sim.by_hand(vmid=201, config={"description": marked(201)})
    why = there.json("adopt", "201", "--yes", code=1)["refused"][0]["why"]
    assert "belongs to another trueup, installation somebody-else" in why
    assert "`trueup adopt 201 --take-over`" in why
    assert there.json("adopt", "--all", "--yes", code=1)["refused"][0]["vmid"] == 201
    there.json("adopt", "201", "--take-over", "--yes")
    text, mark = marker.split(description(there, 201))
    assert text == "text"
    assert mark is not None
    assert (mark.uid, mark.counter) == ("uid-1", 8)
    assert mark.installation != "somebody-else"
    assert there.json("plan", code=2)["summary"]["unchanged"] == 1


def test_a_copy_becomes_a_guest_of_its_own(there: Stage) -> None:
    there.json("adopt", "--all", "--yes")
    there.sim.by_hand(vmid=203, name="new-1", config={"description": description(there, 201)})
    assert "it is a copy of guest 201" in there.json("adopt", "203", "--yes", code=1)["refused"][0]["why"]
    there.json("adopt", "203", "--take-over", "--yes")
    _, first = marker.split(description(there, 201))
    _, second = marker.split(description(there, 203))
    assert first is not None
    assert second is not None
    assert second.uid != first.uid
    assert (second.vmid, second.counter) == (203, 1)
    assert there.json("apply", "--yes")["converged"] is True


def test_a_live_agent_does_it(there: Stage) -> None:
    there.manifest(guest("vm-1", 201, "config: {cores: 2}"))
    with living(Agent(there)) as agent:
        agent.until_said("pass_ended")
        done = there.json("adopt", "201", "--yes")
        assert [row["vmid"] for row in done["adopted"]] == [201]
        assert there.json("status")["guests"][0]["sync"] == "in_sync"


def test_death_in_the_middle_is_recovered(there: Stage) -> None:
    """The answer is lost after PVE has acted, and the process dies: recovery finds the marker."""
    there.sim.fault(fault="reply_lost", method="POST", path="/config")
    process = there.start("adopt", "201", "--yes")
    process.communicate(timeout=30)
    report = there.json("recover")
    assert report["unresolved"] == 0
    there.json("adopt", "201", "--yes")
    assert there.json("status", code=2)["guests"][0]["sync"] == "in_sync"
    assert sum(1 for row in there.sim.mutations() if "/qemu/201/config" in row["path"]) == 1
