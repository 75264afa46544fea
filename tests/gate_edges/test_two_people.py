"""Two people sign, and a guest is destroyed: from the plan's own line to a clean plan."""

import json
import shlex

import pytest

from tests.gate_edges.house import CT, VM, House


@pytest.mark.parametrize("vmid", [VM, CT], ids=["qemu", "lxc"])
def test_from_the_line_of_the_plan_to_a_clean_plan(house: House, vmid: int) -> None:
    house.without(vmid)
    (change,) = house.json("plan", code=2)["changes"]
    (approval,) = change["needs_approval"]
    line = shlex.split(approval["command"])
    assert line[0] == "trueup"

    printed = house.run(*line[1:])
    assert printed.returncode == 0, printed.stderr
    (house.folder / "request.json").write_text(printed.stdout)
    before = len(house.changes())
    house.ok("sign", "request.json", "--key", "alice.key")
    pending = house.submit()
    assert (pending["state"], pending["op"]) == ("pending", None)
    assert "bob" in pending["missing"]
    assert house.run("apply", "--yes").returncode == 2
    assert len(house.changes()) == before  # one signature is not two

    house.ok("sign", "request.json", "--key", "bob.key")
    accepted = house.submit()
    assert (accepted["state"], accepted["op"], accepted["missing"]) == ("accepted", pending["request"], None)
    applied = house.json("apply", "--yes")
    assert applied["converged"] is True
    assert house.state(accepted["op"]) == "succeeded"
    assert house.run("plan").returncode == 0
    deletes = [row for row in house.changes() if row["method"] == "DELETE" and row["path"].endswith(f"/{vmid}")]
    assert len(deletes) == 1
    assert vmid not in {row["vmid"] for row in house.json("status")["guests"]}

    again = house.submit()
    assert (again["state"], again["op"]) == ("succeeded", accepted["op"])
    assert house.json("journal", "verify")["ok"] is True
    (known,) = house.json("requests")["requests"]
    assert [one["person"] for one in known["approvals"]] == ["alice", "bob"]
    assert (known["requested_by"], known["reason"], known["op_state"]) == ("alice", "", "succeeded")


def test_what_waits_is_shown_with_who_is_missing(house: House) -> None:
    house.without(VM)
    house.signed("alice")
    request = house.submit()["request"]
    status = house.json("status", code=2)
    assert [(one["request_id"], one["vmid"]) for one in status["pending"]] == [(request, VM)]
    assert "bob" in status["pending"][0]["missing"]
    for words in (["status"], ["requests"], ["ops", "list"], ["ops", "show", request[:30]]):
        shown = house.run(*words).stdout
        assert "bob" in shown, words
    approved = house.json("approve", request, "--key", "bob.key")
    assert (approved["state"], approved["op"]) == ("accepted", request)
    assert house.json("status", code=2)["pending"] == []


def test_an_unsigned_request_names_nobody_until_it_is_signed(house: House) -> None:
    file = house.asked()
    assert json.loads(file.read_text())["requested_by"] == ""
    refused = house.submit(code=1)
    assert refused["state"] == "refused"
    house.ok("sign", "request.json", "--key", "bob.key")
    assert house.submit()["state"] == "pending"
    assert house.json("requests")["requests"][0]["requested_by"] == "bob"
