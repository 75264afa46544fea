"""Killed right after the acceptance, the guard and the DELETE, with the request delivered again at every moment."""

from collections.abc import Callable

import pytest

from tests.gate_edges.house import CT, VM, House, until
from tests.sampling import crossed

SHORT = ("slots_per_node = 3", 'slots_per_node = 3\nsettle_time = "1s"')
GUESTS = pytest.mark.parametrize("vmid", [VM, CT], ids=["qemu", "lxc"])


def _meet(house: House, accident: dict[str, object] | None, now: Callable[[], bool], *, agent: bool = False) -> None:
    """Let an agent begin, and kill it at this moment."""
    if accident is not None:
        house.sim.fault(**accident)
    process = house.start("agent" if agent else "apply", *(() if agent else ("--yes",)))
    until(lambda: process.poll() is not None or now(), 60)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it ended before the moment came"


def _happened(house: House) -> Callable[[], bool]:
    return lambda: any(one["done"] for one in house.sim.ask("/_sim/state")["faults"])


def _ended_well_or_untouched(house: House, op: str, vmid: int) -> str:
    """Whatever became of it: journal and world agree, and it was done at most once."""
    state = house.state(op)
    assert (state, house.there(vmid)) in {("succeeded", False), ("failed", True)}
    assert len([row for row in house.deletes(vmid) if row["effect"]]) == (state == "succeeded")
    if state == "failed":  # a late DELETE must not find it unprotected
        (config,) = [one["config"] for one in house.sim.ask("/_sim/state")["guests"] if one["vmid"] == vmid]
        assert str(config.get("protection")) == "1"
    assert house.json("journal", "verify")["ok"] is True
    return state


@GUESTS
def test_killed_right_after_the_acceptance(house: House, vmid: int) -> None:
    house.without(vmid)
    house.signed("alice", "bob", vmid=vmid)
    op = house.submit()["op"]
    _meet(house, None, lambda: house.json("status", code=2)["leader"]["alive"])
    assert house.submit()["op"] == op
    house.ok("apply", "--yes")
    assert house.submit()["state"] == "succeeded"
    assert _ended_well_or_untouched(house, op, vmid) == "succeeded"
    assert house.run("plan").returncode == 0


ACCIDENTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "guard done": ("reply_lost", "PUT", {}),
    "guard lost": ("request_lost", "PUT", {}),
    "guard late": ("late", "PUT", {"delay_s": 4}),
    "delete done": ("reply_lost", "DELETE", {}),
    "delete lost": ("request_lost", "DELETE", {}),
    "delete late": ("late", "DELETE", {"delay_s": 4}),
}


@pytest.mark.parametrize(("vmid", "accident"), crossed([VM, CT], [*ACCIDENTS], 2))
def test_killed_at_the_guard_and_at_the_delete(house: House, vmid: int, accident: str) -> None:
    fault, method, more = ACCIDENTS[accident]
    house.settings(SHORT)
    house.without(vmid)
    house.signed("alice", "bob", vmid=vmid)
    op = house.submit()["op"]
    end = "/config$" if method == "PUT" else "$"
    path = f"/{'lxc' if vmid == CT else 'qemu'}/{vmid}{end}"
    _meet(house, {"fault": fault, "method": method, "path": path, **more}, _happened(house))
    again = house.submit()  # while nobody lives
    assert again["op"] == op
    assert again["state"] in {"started", "task_running", "succeeded"}  # it may have found the task before it was killed
    for _ in range(4):
        house.run("apply", "--yes")
        assert house.submit()["op"] == op  # after every life
        if house.state(op) in {"succeeded", "failed"}:
            break
    state = _ended_well_or_untouched(house, op, vmid)
    assert len(house.json("requests")["requests"]) == 1
    assert house.submit()["state"] == state
    if state == "failed":  # people ask anew, and it is done
        house.signed("alice", "bob", vmid=vmid, name="new.json")
        op = house.submit("new.json")["op"]
        house.ok("apply", "--yes")
        assert _ended_well_or_untouched(house, op, vmid) == "succeeded"
    assert house.run("plan").returncode == 0
