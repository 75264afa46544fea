"""The life of a request: vetoed, expired, its keys lost, resolved by a person's word."""

import json
import time

import pytest

from tests.gate_edges.house import POLICY, VM, House, instant, opened, until


def _grace(house: House, seconds: int = 3600) -> None:
    """Destroys wait so long between acceptance and execution."""
    text = POLICY.replace("longest: 24h}", f"longest: 24h, grace: {seconds}s}}")
    assert text != POLICY
    (house.folder / "policy.yaml").write_text(text)


def _accepted(house: House) -> str:
    house.without(VM)
    document = house.document(approve_by=instant(4 * 3600), execute_by=instant(4 * 3600))
    house.envelope(document, "alice", "bob")
    return house.submit()["op"]


@pytest.mark.parametrize("agent_lives", [False, True], ids=["alone", "beside an agent"])
def test_a_veto_ends_what_waits_and_what_was_accepted(house: House, *, agent_lives: bool) -> None:
    _grace(house)
    accepted = _accepted(house)
    house.envelope(house.document("shutdown", 103, requested_by="carol"), "carol", name="pending.json")
    pending = house.submit("pending.json")["request"]

    def veto() -> None:
        too_little = house.json("veto", pending, "--key", "mallory.key", code=1)
        assert too_little["state"] == "refused"
        assert house.json("veto", pending[:30], "--key", "bob.key", "--reason", "not now")["state"] == "vetoed"
        assert house.json("veto", accepted, "--key", "alice.key")["state"] == "vetoed"
        assert house.json("veto", accepted, "--key", "alice.key")["state"] in {"vetoed", "failed"}  # as often as wanted

    house.ok("keys", "new", "mallory", "-o", "mallory.key")
    before = house.changes()
    if agent_lives:
        with house.agent():
            veto()
    else:
        veto()
    house.run("apply", "--yes")
    assert house.changes() == before
    shown = house.json("ops", "show", accepted)
    assert (shown["state"], shown["reason"]) == ("failed", "vetoed")
    assert house.submit()["state"] == "failed"  # the same bytes never run
    states = {one["request_id"]: one["state"] for one in house.json("requests")["requests"]}
    assert states == {accepted: "vetoed", pending: "vetoed"}
    text = house.run("ops", "show", pending).stdout
    assert "not now" in text
    assert "bob" in text


def test_a_veto_is_too_late_once_it_was_done(house: House) -> None:
    house.without(VM)
    house.signed("alice", "bob")
    op = house.submit()["op"]
    house.ok("apply", "--yes")
    late = house.json("veto", op, "--key", "bob.key", code=1)
    assert "too late" in late["reason"]


def test_what_waits_too_long_expires_and_frees_its_key(house: House) -> None:
    house.without(VM)
    document = house.document(approve_by=instant(4), execute_by=instant(3600), idempotency_key="retire-4711")
    house.envelope(document, "alice")
    request = house.submit()["request"]
    house.envelope(house.document(idempotency_key="retire-4711"), "bob", "alice", name="second.json")
    taken = house.submit("second.json")
    assert (taken["request"], taken["state"]) == (request, "pending")
    assert "in progress" in taken["reason"]
    with house.agent():
        until(lambda: house.json("requests")["requests"][0]["state"] == "expired")
        house.ok("sign", "request.json", "--key", "bob.key")
        assert house.submit()["state"] == "expired"  # signatures for it come too late
        assert house.deletes() == []
        op = house.submit("second.json")["op"]
        until(lambda: house.state(op) == "succeeded")
    third = house.envelope(house.document("stop", 103, idempotency_key="retire-4711"), "alice", name="third.json")
    assert house.json("submit", str(third), code=1)["reason"]
    assert house.events("denied")[-1]["refusal"] == "key_differs"


def test_a_lost_key_is_revoked_and_replaced(house: House) -> None:
    """What was accepted on the lost key is not done; with the new key it is."""
    _grace(house, 2)
    op = _accepted(house)
    (bob,) = [one for one in house.json("keys", "list")["people"] if one["person"] == "bob"]
    keyring = house.folder / "keyring.yaml"
    lost = bob["keys"][0]["key_id"]
    text = "".join(
        f'{line.rstrip()[:-1]}, revoked: {{"{lost}": 2026-01-01T00:00:00Z}}}}\n' if "bob:" in line else line
        for line in keyring.read_text().splitlines(keepends=True)
    )
    keyring.write_text(text)
    assert "revoked" in house.run("keys", "list").stdout
    assert house.run("keys", "check").returncode == 1  # nobody could satisfy the first rule
    before = house.changes()
    time.sleep(2)
    house.run("apply", "--yes")
    assert house.changes() == before
    assert house.json("ops", "show", op)["state"] == "failed"

    house.ok("keys", "new", "bob", "-o", "bob2.key")
    assert house.run("keys", "check").returncode == 0
    house.envelope(house.document(idempotency_key="again"), "alice", "bob", name="old.json")
    assert house.submit("old.json")["state"] == "pending"
    house.ok("sign", "old.json", "--key", "bob2.key")
    op = house.submit("old.json")["op"]
    time.sleep(2)
    house.ok("apply", "--yes")
    assert house.state(op) == "succeeded"


def test_a_person_closes_what_nothing_can_settle(house: House) -> None:
    """A DELETE that was lost, and a guest that somebody else destroyed meanwhile: nobody can tell who did it."""
    house.without(VM)
    house.signed("alice", "bob")
    op = house.submit()["op"]
    house.settings(("slots_per_node = 3", 'slots_per_node = 3\nsettle_time = "1s"'))
    house.sim.fault(fault="late", method="DELETE", path=rf"/qemu/{VM}$", delay_s=60)
    process = house.start("apply", "--yes")
    until(lambda: house.json("ops", "show", op)["timeline"][-1]["event"] == "guarded")
    until(lambda: house.sim.ask("/_sim/state")["faults"][0]["done"] != 0)
    process.kill()
    process.communicate()
    house.sim.by_hand(vmid=VM, deleted=True)
    assert house.run("recover").returncode == 2
    assert [one["op_id"] for one in house.json("status", code=2)["unresolved"]] == [op]
    assert house.submit()["state"] == "started"  # the very request again: not executed, answered with its state

    refused = house.json("ops", "resolve", op, "--as", "succeeded", "--reason", "x", "--key", "alice.key", code=1)
    assert refused["state"] == "refused"  # an operator is no owner
    said = ("ops", "resolve", op[:30], "--as", "succeeded", "--reason", "the disk is gone", "--key", "carol.key")
    house.ok(*said, "-o", "word.json")
    closed = house.json("submit", "word.json")
    assert (closed["state"], closed["op"]) == ("succeeded", op)
    assert house.json("submit", "word.json", code=1)["state"] == "refused"  # once is all that it is good for
    assert house.json("ops", "resolve", *said[2:], code=1)["state"] == "refused"
    shown = house.json("ops", "show", op)
    assert (shown["state"], shown["reason"]) == ("succeeded", "resolved_by_operator")
    assert house.submit()["state"] == "succeeded"
    assert house.json("journal", "verify")["ok"] is True


def test_files_tell_what_they_are(house: House) -> None:
    """Unsigned, signed once, twice; and what is shown before one signs."""
    file = house.asked("stop", 103)
    assert "requested_by" in opened(file)
    said = house.run("sign", "request.json", "--key", "alice.key").stderr
    assert "stop of VM 103" in said
    assert "ticket 4711" in said
    assert set(opened(file)) == {"payload", "payloadType", "signatures"}
    tested = house.json("policy", "test", "request.json")
    assert (tested["allowed"], tested["rule"], tested["missing"]) == (True, 3, None)
    house.asked("destroy", 103, name="two.json")
    assert "alice" in house.json("policy", "test", "two.json")["missing"]
    (house.folder / "policy.yaml").write_text("rules: []")
    no = house.json("policy", "test", "two.json", code=1)
    assert (no["allowed"], no["refusal"]) == (False, "no_rule")
    assert "will be refused" in house.run("request", "destroy", "103").stderr
    assert json.loads(house.run("request", "destroy", "103").stdout)["kind"] == "destroy"
