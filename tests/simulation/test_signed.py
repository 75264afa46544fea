"""What people signed meets a world that has moved on: nothing is done but to the very guest that they saw.

Deaths at every point are the matter of `test_every_kind`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from pvesim.world import Request
from tests.simulation import invariants
from tests.simulation.cluster import SimCluster
from tests.simulation.examples import SIGNED
from tests.simulation.harness import KEEPER, KEEPER_SECRET, Run, Scenario, simulate
from tests.simulation.scenarios import EMPTY_VM
from tests.simulation.signing import Ask
from tests.simulation.stories import die, ending, ops
from trueup.core.one_shots import NotYet, Objection
from trueup.model.guests import Observed
from trueup.model.ids import GuestType
from trueup.model.notes import What
from trueup.model.ops import Kind, OpView, Reason

QEMU, LXC = GuestType.QEMU, GuestType.LXC
HOUR_S = 3600.0
BOTH = pytest.mark.parametrize("guest", list(GuestType))
ONCE = Ask(kind=Kind.DESTROY, tries=1)
DELETE = r"DELETE /nodes/pve1/(qemu|lxc)/301"


def destroy(guest: GuestType = QEMU, **more: object) -> Scenario:
    return replace(SIGNED[guest][Kind.DESTROY], **more)  # type: ignore[arg-type]


def fault(name: str, method: str, path: str = "301", **more: object) -> tuple[dict[str, object], ...]:
    return ({"fault": name, "method": method, "path": path, **more},)


def deletes(run: Run) -> list[Mapping[str, object]]:
    return [row for row in run.mutations if row["method"] == "DELETE"]


def guards(run: Run) -> list[Mapping[str, object]]:
    return [row for row in run.mutations if invariants._is_guard(row)]


def protected(run: Run, vmid: int = 301) -> bool:
    guests = run.cluster.world.state()["guests"]
    return next(guest for guest in guests if guest["vmid"] == vmid)["config"].get("protection") == 1  # type: ignore[union-attr, index, call-overload]


def alarms(run: Run) -> list[str]:
    return [note.text for life in run.lives for note in life.notes if note.what is What.ALARM]


def meanwhile(
    story: Scenario, happens: Callable[[SimCluster], None], *more: tuple[float, Callable[[SimCluster], None]]
) -> Scenario:
    """Something happens 30 s after the start, when it was signed and accepted; the agent looks again 2 minutes later.

    Until then the gate's last word is "not yet".
    """
    words: list[NotYet] = []

    async def check(_view: OpView, _seen: Observed) -> NotYet | None:
        if words:
            return None
        words.append(NotYet(why="not inside its window"))
        return words[0]

    return replace(story, check=check, events=((30.0, happens), *more), later_s=120.0)


def texts(cluster: SimCluster) -> dict[str, object]:
    """A guest's config, without the number that the first of all records gave the agent's marker."""
    guest = next(guest for guest in cluster.world.state()["guests"] if guest["vmid"] == 301)  # type: ignore[union-attr, index, call-overload]
    return dict(guest["config"])  # type: ignore[index, call-overload, arg-type]


def edited(cluster: SimCluster) -> None:
    cluster.put({"vmid": 301, "config": {"memory": 777}})


def made_anew(cluster: SimCluster) -> None:
    """The vmid is somebody else's by now, who gave the guest the same name and the same hardware."""
    kind, config = cluster.kind(301), texts(cluster)
    kept = {key: value for key, value in config.items() if key not in {"smbios1", "meta", "description", "hwaddr"}}
    cluster.put({"vmid": 301, "deleted": True})
    cluster.put({"vmid": 301, "type": kind, "node": "pve1", "config": kept})


def gone(cluster: SimCluster) -> None:
    cluster.put({"vmid": 301, "deleted": True})


@BOTH
@pytest.mark.parametrize("happens", [edited, made_anew])
def test_a_guest_that_is_not_the_one_that_was_signed_for_is_not_touched(
    guest: GuestType, happens: Callable[[SimCluster], None]
) -> None:
    run = simulate(meanwhile(destroy(guest), happens))
    invariants.check(run)
    first = ops(run, Kind.DESTROY)[0]
    assert ending(first) == ("failed", "not_as_signed", "")
    assert not deletes(run)
    assert not guards(run)
    assert run.cluster.has(301)


@BOTH
def test_a_guest_that_is_gone_is_not_destroyed_once_more(guest: GuestType) -> None:
    run = simulate(meanwhile(destroy(guest), gone))
    invariants.check(run)
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("failed", "not_as_signed", "")]
    assert not run.mutations[1:]


def test_a_container_that_was_restored_to_the_letter_since_is_another_one() -> None:
    """Its config is what it was, marker and volume's name and all; only tasks tell that its content was replaced."""

    def ask(path: str, **params: str) -> Callable[[SimCluster], None]:
        def submit(cluster: SimCluster) -> None:
            archives = cluster.archives(301)
            more = {"ostemplate": archives[0]} if archives else {}
            by = f"PVEAPIToken={KEEPER}={KEEPER_SECRET}"
            cluster.submit(Request(node="pve1", method="POST", path=path, params={**params, **more}, authorization=by))

        return submit

    restore = ask("/nodes/pve1/lxc", vmid="301", restore="1", force="1", storage="local-lvm")
    backup = ask("/nodes/pve1/vzdump", vmid="301", storage="backup")
    unprotected = replace(SIGNED[LXC][Kind.DISK_REMOVE], between=None, then=[], asked=Ask(kind=Kind.DESTROY, tries=1))
    before = simulate(replace(unprotected, asked=None)).cluster
    run = simulate(meanwhile(unprotected, backup, (60.0, restore), (90.0, restore)))
    invariants.check(run)
    assert texts(run.cluster) == texts(before), "nothing in its config tells"
    (op,) = ops(run, Kind.DESTROY)
    assert ending(op) == ("failed", "not_as_signed", "")
    assert "vzrestore" in op.exit_status
    assert not guards(run)


@BOTH
def test_a_running_guest_is_not_destroyed_and_stays_protected(guest: GuestType) -> None:
    def started(cluster: SimCluster) -> None:
        cluster.put({"vmid": 301, "status": "running", "config": {"protection": 1}})

    run = simulate(destroy(guest, between=started))
    invariants.check(run)
    assert {ending(op) for op in ops(run, Kind.DESTROY)} == {("failed", "refused", "")}
    assert not guards(run)
    assert protected(run)


def test_the_gates_last_word_counts() -> None:
    async def no(_view: OpView, _seen: Observed) -> Objection:
        return Objection(reason=Reason.REFUSED, why="the rule is gone")

    run = simulate(destroy(check=no))
    invariants.check(run)
    assert {ending(op) for op in ops(run, Kind.DESTROY)} == {("failed", "refused", "")}
    assert not guards(run)


def test_what_waits_longer_than_it_may_expires_unsent() -> None:
    async def wait(_view: OpView, _seen: Observed) -> NotYet:
        return NotYet(why="not inside a window")

    asked = Ask(kind=Kind.DESTROY, valid_ms=20_000)
    run = simulate(destroy(asked=asked, check=wait, later_s=60.0))
    invariants.check(run)
    assert ("failed", "expired", "") in {ending(op) for op in ops(run, Kind.DESTROY)}
    assert not guards(run)


def test_in_its_grace_nothing_is_sent_and_afterwards_it_is() -> None:
    run = simulate(destroy(asked=Ask(kind=Kind.DESTROY, grace_ms=600_000)))
    invariants.check(run)
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("accepted", "", "")]
    assert not guards(run)
    run = simulate(destroy(asked=Ask(kind=Kind.DESTROY, grace_ms=600_000), later_s=700.0))
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("succeeded", "task_ok", "R3")]


@BOTH
@pytest.mark.parametrize("name", ["task_fails", "unauthorized", "error_595"])
def test_a_destroy_that_pve_did_not_carry_out_leaves_its_guest_protected(guest: GuestType, name: str) -> None:
    run = simulate(destroy(guest, faults=fault(name, "DELETE", times=1)))
    invariants.converged(run)
    first, second = ops(run, Kind.DESTROY)
    assert first.state == "failed"
    assert first.fenced is not None
    assert ending(second) == ("succeeded", "task_ok", "R3"), "a newly signed one may lift it again"


@BOTH
def test_a_lost_guard_ends_in_a_fence_and_no_delete(guest: GuestType) -> None:
    lost = fault("request_lost", "PUT", "config", times=1)
    run = simulate(destroy(guest, faults=lost, then=[*SIGNED[guest][Kind.DESTROY].desired], later_s=1.0))
    invariants.check(run)
    first = ops(run, Kind.DESTROY)[0]
    assert ending(first) == ("failed", "not_started", "R11")
    assert first.guarded is None


@BOTH
@pytest.mark.parametrize("delay_s", [0.3, 5.0, HOUR_S])
def test_a_guard_that_arrives_late_lifts_nothing(guest: GuestType, delay_s: float) -> None:
    once: list[Kind] = []

    async def only_once(view: OpView, _seen: Observed) -> Objection | None:
        once.append(view.intent.kind)
        return None if len(once) == 1 else Objection(reason=Reason.REFUSED, why="once is enough here")

    story = destroy(guest, faults=fault("late", "PUT", "config", delay_s=delay_s), check=only_once, later_s=2 * HOUR_S)
    run = simulate(story)
    invariants.check(run)
    first = ops(run, Kind.DESTROY)[0]
    if first.state == "failed":
        assert protected(run)
        assert not deletes(run)


@BOTH
@pytest.mark.parametrize("delay_s", [1.0, 4.0, 30.0, HOUR_S])
def test_a_delete_that_arrives_behind_the_fence_destroys_nothing(guest: GuestType, delay_s: float) -> None:
    """The agent dies with its DELETE on the way; nobody signs again."""
    story = destroy(guest, faults=fault("late", "DELETE", delay_s=delay_s), later_s=2 * HOUR_S, asked=ONCE)
    run = die(story, f"{DELETE} sent")
    invariants.check(run)
    (op,) = ops(run, Kind.DESTROY)
    there = run.cluster.has(301)
    assert op.state == ("failed" if there else "succeeded"), invariants.story(run)
    if there:
        assert ending(op) in {("failed", "not_started", "R11"), ("failed", "task_error", "R5")}
        assert protected(run)
    assert len([row for row in deletes(run) if row["effect"]]) == (0 if there else 1)


@BOTH
def test_somebody_who_lifts_a_standing_fence_is_noticed_and_the_late_delete_meets_it_again(guest: GuestType) -> None:
    def lifted(cluster: SimCluster) -> None:
        cluster.put({"vmid": 301, "config": {"protection": None}})

    story = destroy(
        guest,
        faults=fault("late", "DELETE", delay_s=2 * HOUR_S),
        asked=ONCE,
        events=((HOUR_S, lifted),),
        later_s=1.5 * HOUR_S,
        later_again_s=2 * HOUR_S,
    )
    run = die(story, f"{DELETE} sent")
    invariants.check(run)
    (op,) = ops(run, Kind.DESTROY)
    assert ending(op) == ("failed", "not_started", "R11")
    assert any("was lifted" in text for text in alarms(run))
    assert run.cluster.has(301)
    assert protected(run)


@BOTH
def test_the_loop_never_lifts_a_standing_fence(guest: GuestType) -> None:
    """The manifest wants the guest unprotected; it is left protected as long as the DELETE could arrive."""
    base = SIGNED[guest][Kind.DESTROY].desired[0]
    wanted = [changed(base, config={**base.config, "protection": "0"})]
    story = destroy(guest, faults=fault("request_lost", "DELETE"), asked=ONCE, then=wanted, later_s=HOUR_S)
    run = die(story, f"{DELETE} sent")
    invariants.check(run)
    (op,) = ops(run, Kind.DESTROY)
    assert ending(op) == ("failed", "not_started", "R11")
    assert protected(run)


def test_with_a_dead_token_nothing_stands_any_longer_and_a_guest_that_is_gone_is_a_success() -> None:
    story = destroy(faults=fault("request_lost", "DELETE"), asked=ONCE, keeper=True, before_restart=gone)
    run = die(story, f"{DELETE} sent")
    invariants.check(run, believe_tasks=False)  # whoever it was: PVE keeps no record of the hand that did it
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("succeeded", "observed", "R7")]


def test_without_one_a_guest_that_is_gone_stays_on_watch() -> None:
    run = die(destroy(faults=fault("request_lost", "DELETE"), asked=ONCE, before_restart=gone), f"{DELETE} sent")
    invariants.check(run)
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("started", "late_request_possible", "R7")]


def test_a_vmid_that_somebody_else_has_by_then_is_neither_written_to_nor_taken_for_success() -> None:
    run = die(destroy(faults=fault("request_lost", "DELETE"), asked=ONCE, before_restart=made_anew), f"{DELETE} sent")
    invariants.check(run)
    assert [ending(op)[0] for op in ops(run, Kind.DESTROY)] == ["started"]
    text = next(g for g in run.cluster.world.state()["guests"] if g["vmid"] == 301)["config"]  # type: ignore[union-attr, index, call-overload]
    assert len([row for row in run.mutations if row["method"] == "PUT"]) == 1, text


def test_purge_and_unreferenced_disks_are_sent_as_signed_only() -> None:
    plain = simulate(destroy())
    assert deletes(plain)[0]["params"] == {"destroy-unreferenced-disks": "0"}
    both = {"purge": "1", "destroy-unreferenced-disks": "true"}
    run = simulate(destroy(asked=Ask(kind=Kind.DESTROY, params=both)))
    invariants.converged(run)
    assert deletes(run)[0]["params"] == {"destroy-unreferenced-disks": "1", "purge": "1"}


def test_what_no_token_may_do_is_refused_with_the_command_for_root() -> None:
    def locked(cluster: SimCluster) -> None:
        cluster.put({"vmid": 101, "lock": "backup"})

    story = replace(EMPTY_VM, then=EMPTY_VM.desired, between=locked, asked=Ask(kind=Kind.UNLOCK, vmid=101), later_s=1.0)
    run = simulate(story)
    invariants.check(run)
    first = ops(run, Kind.UNLOCK)[0]
    assert ending(first) == ("failed", "refused", "")
    assert "`qm unlock 101` as root on pve1" in first.exit_status
    assert not [row for row in run.mutations if "lock" in row["params"]]  # type: ignore[operator]
