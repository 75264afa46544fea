"""What was signed is bound to one very guest: made anew, changed or gone, it is refused and left untouched."""

import pytest

from tests.gate_edges.house import CT, GUESTS, VM, House

KINDS = pytest.mark.parametrize("vmid", [VM, CT], ids=["qemu", "lxc"])


def _made_anew(house: House, vmid: int) -> None:
    """The same vmid, type and name, and even the same marker in its description: a restore of somebody's."""
    kind = "lxc" if vmid == CT else "qemu"
    old = next(one for one in house.sim.ask("/_sim/state")["guests"] if one["vmid"] == vmid)
    text = {"description": old["config"]["description"]} if "description" in old["config"] else {}
    house.sim.by_hand(vmid=vmid, deleted=True)
    name = {"hostname": "ct-1"} if vmid == CT else {"name": "vm-1"}
    house.sim.by_hand(vmid=vmid, type=kind, node="pve1", status="stopped", config={**name, **text})


@KINDS
def test_a_guest_that_was_made_anew_is_not_destroyed(house: House, vmid: int) -> None:
    house.without(vmid)
    house.signed("alice", "bob", vmid=vmid)
    _made_anew(house, vmid)
    before = house.changes()
    refused = house.submit(code=1)
    assert refused["state"] == "refused"
    assert house.events("denied")[-1]["refusal"] in {"identity", "digest"}
    house.run("apply", "--yes")
    assert [row for row in house.changes() if row not in before] == []
    assert house.there(vmid)


@KINDS
def test_made_anew_after_it_was_accepted(house: House, vmid: int) -> None:
    house.without(vmid)
    house.signed("alice", "bob", vmid=vmid)
    op = house.submit()["op"]
    _made_anew(house, vmid)
    before = house.changes()
    assert house.run("apply", "--yes").returncode == 2
    assert [row for row in house.changes() if row not in before] == []
    shown = house.json("ops", "show", op)
    assert (shown["state"], shown["reason"]) == ("failed", "not_as_signed")
    assert "new request" in " ".join(shown["to_do"])
    assert house.there(vmid)


@KINDS
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_guest_that_was_changed_since_is_left_alone(house: House, vmid: int, when: str) -> None:
    """`onboot` is in no manifest: no drift, and yet it is not what was signed."""
    house.without(vmid)
    house.signed("alice", "bob", vmid=vmid)
    op = house.submit()["op"] if when == "after" else ""
    house.sim.by_hand(vmid=vmid, config={"onboot": 1})
    before = house.changes()
    if when == "before":
        assert house.submit(code=1)["state"] == "refused"
        assert house.events("denied")[-1]["refusal"] == "digest"
    house.run("apply", "--yes")
    assert [row for row in house.changes() if row not in before] == []
    assert house.there(vmid)
    if op:
        assert house.json("ops", "show", op)["reason"] == "not_as_signed"


def test_a_guest_that_is_gone_is_refused(house: House) -> None:
    house.without(VM)
    house.signed("alice", "bob")
    house.sim.by_hand(vmid=VM, deleted=True)
    assert "there is no guest" in house.submit(code=1)["reason"]
    assert house.events("denied")[-1]["refusal"] == "target_gone"


def test_a_disk_goes_on_one_signature(house: House) -> None:
    """Other kinds go the same way: the rule for them asks for one operator."""
    house.manifest(GUESTS.replace("labels: {tier: web}", "config: {scsi0: 'local-lvm:4', scsi1: 'local-lvm:1'}"))
    house.ok("apply", "--yes")
    house.manifest(GUESTS.replace("labels: {tier: web}", "config: {scsi0: 'local-lvm:4'}"))
    house.asked("disk-remove", VM, "--param", "disk=scsi1")
    house.ok("sign", "request.json", "--key", "bob.key")
    answer = house.submit()
    assert answer["state"] == "accepted"
    house.ok("apply", "--yes")
    assert house.state(answer["op"]) == "succeeded"
    assert house.run("plan").returncode == 0
    (config,) = [one["config"] for one in house.sim.ask("/_sim/state")["guests"] if one["vmid"] == VM]
    assert "scsi1" not in config
    assert "scsi0" in config


def test_what_is_so_already_is_not_done_again(house: House) -> None:
    house.asked("stop")
    house.ok("sign", "request.json", "--key", "bob.key")
    op = house.submit()["op"]
    house.ok("apply", "--yes")
    assert house.json("ops", "show", op)["reason"] == "superseded"
