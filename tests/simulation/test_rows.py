"""Each row of the recovery table, reached by the whole agent on a simulated cluster, by name."""

from dataclasses import replace

from tests.simulation import invariants
from tests.simulation.cluster import START_S, SimCluster
from tests.simulation.harness import TOKEN, Scenario, simulate
from tests.simulation.scenarios import CLONED_CT, CLONED_VM, EMPTY_VM
from tests.simulation.signing import Ask, accept, request_of
from tests.simulation.stories import die, ending, ops, points
from trueup.adapters.sqlite import SqliteJournal
from trueup.core.recovery import Requeue
from trueup.engine.recoverer import Report
from trueup.model.guests import Observed, Power
from trueup.model.ids import GuestType, NodeName, Vmid
from trueup.model.ops import Kind

START = "status/start"


def report(run: object) -> Report:
    found = run.lives[1].report  # type: ignore[attr-defined]
    assert found is not None
    return found


def forget_tasks(cluster: SimCluster) -> None:
    """The task index and the logs of all nodes are cleaned away, once everything at work has ended."""
    for node in cluster.world.node_names():
        cluster.world.control({"action": "rotate_tasks", "node": node, "forget": True})
        cluster.world.control({"action": "forget_tasks", "node": node})


def accepted(valid_ms: int) -> Scenario:
    """A guest, and a signed stop of it that passed the gate, is in its grace and was never sent."""
    guest = Observed(type=GuestType.QEMU, vmid=Vmid(101), node=NodeName("pve1"), name="vm-101", status=Power.RUNNING)

    async def journaled(journal: SqliteJournal) -> None:
        at_ms = int(START_S * 1000) - 1000
        epoch = await journal.take_epoch(holder="before", token=TOKEN, record_id="r-0", at_ms=at_ms)
        request = request_of(Ask(kind=Kind.STOP, valid_ms=valid_ms), guest, {}, at_ms, 0)
        await accept(journal, epoch, request, guest, at_ms, grace_ms=600_000)

    return replace(EMPTY_VM, journaled=journaled)


def test_r1_an_accepted_request_that_was_never_sent_is_queued_again() -> None:
    run = simulate(accepted(valid_ms=3_600_000))
    invariants.check(run)
    assert [ending(op) for op in ops(run, Kind.STOP)] == [("accepted", "", "")]
    recovery = run.lives[0].report
    assert recovery is not None
    assert [type(one.verdict) for one in recovery.judged] == [Requeue]
    assert recovery.examined == 0
    assert not run.mutations, "the guest waits for the one-shot"


def test_r1_too_late_by_its_own_terms_it_expires() -> None:
    run = simulate(accepted(valid_ms=999))
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.STOP)] == [("failed", "expired", "R1")]


def test_r2_a_task_that_runs_is_watched_and_not_sent_again() -> None:
    run = die(CLONED_VM, "clone reply")
    assert (report(run).examined, report(run).still_running, report(run).adopted) == (1, 1, 1)
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.CLONE)] == [("succeeded", "task_ok", "R3")]


def test_r3_a_task_that_ended_well_is_a_success() -> None:
    run = die(EMPTY_VM, "start reply")
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.START)] == [("succeeded", "task_ok", "R3")]


def test_r4_a_task_that_ended_well_without_its_effect_is_waited_for_then_unresolved() -> None:
    run = die(replace(EMPTY_VM, faults=({"fault": "task_ok_without_effect", "path": START},)), "start reply")
    invariants.check(run)
    (start,) = ops(run, Kind.START)
    assert ending(start) == ("task_running", "goal_not_reached", "R4")
    converged = run.lives[-1].converged
    assert converged is not None
    assert converged.exit_code == 2
    assert "unresolved" in converged.plan.guests[0].blocked_by


def test_r5_a_task_that_ended_badly_is_a_failure() -> None:
    fault = {"fault": "task_fails", "path": START, "error": "no space left"}
    run = die(replace(EMPTY_VM, faults=(fault,)), "start reply")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(first) == ("failed", "task_error", "R5")
    assert first.exit_status == "no space left"
    assert ending(second) == ("succeeded", "task_ok", "R3")


def test_r6_a_killed_task_is_judged_only_when_its_children_are_dead() -> None:
    run = die(replace(EMPTY_VM, faults=({"fault": "task_killed", "path": START},)), "start sent")
    invariants.check(run)
    notes = [note.text for note in run.lives[1].notes if "R6" in note.text]
    assert notes[0] == "children_may_live (R6)", notes
    run = die(replace(EMPTY_VM, faults=({"fault": "task_killed", "path": START},), later_s=120.0), "start sent")
    invariants.converged(run)
    # The orphan kept the guest's lock and started it 20 seconds later.
    assert [ending(op) for op in ops(run, Kind.START)] == [("succeeded", "observed", "R6")]


def test_r7_an_effect_with_our_own_mark_is_a_success_without_a_task() -> None:
    run = die(CLONED_CT, r"PUT .*/config reply")
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.CONFIGURE)] == [("succeeded", "observed", "R7")]
    assert report(run).resumed == 1


def test_r8_without_a_readable_task_list_nothing_is_told() -> None:
    def node_down(cluster: SimCluster) -> None:
        cluster.world.control({"action": "node_down", "node": "pve2"})

    def node_up(cluster: SimCluster) -> None:
        cluster.world.control({"action": "node_up", "node": "pve2"})

    run = die(replace(CLONED_VM, before_restart=node_down), r"POST .*/102/config before")
    invariants.check(run)
    (configure,) = ops(run, Kind.CONFIGURE)
    assert ending(configure) == ("started", "task_unknown", "R8")
    assert report(run).unresolved == 1
    run = die(
        replace(CLONED_VM, before_restart=node_down, events=((600.0, node_up),), later_s=3600.0),
        r"POST .*/102/config before",
    )
    invariants.converged(run)
    assert [ending(op)[2] for op in ops(run, Kind.CONFIGURE)] == ["R11", "R3"]


def test_r9_a_forgotten_task_without_an_effect_is_a_failure_once_nobody_is_at_work() -> None:
    def failed_and_forgotten(cluster: SimCluster) -> None:
        cluster.world.advance(cluster.now + 30)
        forget_tasks(cluster)

    story = replace(EMPTY_VM, faults=({"fault": "task_fails", "path": START},), before_restart=failed_and_forgotten)
    # Its UPID is recorded by the append that follows the reply.
    reply = points(story, "start reply")[0]
    run = simulate(story, next(point for point in points(story, "append after") if point > reply))
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(first) == ("failed", "observed", "R9")
    assert ending(second) == ("succeeded", "task_ok", "R3")


def test_r10_and_r11_behind_the_fence_a_write_that_never_came_is_recorded_as_not_started() -> None:
    run = die(CLONED_VM, r"POST .*/102/config before")
    invariants.converged(run)
    first, second = ops(run, Kind.CONFIGURE)
    assert ending(first) == ("failed", "not_started", "R11")
    assert first.fencing is not None
    assert first.fenced is not None
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert (report(run).rolled_back, report(run).presumed) == (1, 0)


def test_r10_and_r12_without_a_fence_time_passes_and_the_record_says_presumed() -> None:
    run = die(EMPTY_VM, r"status/start before")
    invariants.converged(run)
    first, second = ops(run, Kind.START)
    assert ending(first) == ("failed", "presumed_not_started", "R12")
    assert ending(second) == ("succeeded", "task_ok", "R3")
    assert (report(run).rolled_back, report(run).presumed) == (1, 1)


def test_r13_a_goal_that_is_reached_without_a_trace_is_superseded_and_not_claimed() -> None:
    def started_and_forgotten(cluster: SimCluster) -> None:
        cluster.world.advance(cluster.now + 30)
        forget_tasks(cluster)

    run = die(replace(EMPTY_VM, before_restart=started_and_forgotten), "status/start reply")
    invariants.check(run)
    (start,) = ops(run, Kind.START)
    assert ending(start) == ("failed", "superseded", "R13")
    assert run.lives[-1].converged is not None
    assert run.lives[-1].converged.exit_code == 0


def test_r13_half_an_effect_is_unresolved_and_the_guest_is_left_alone() -> None:
    def killed_and_forgotten(cluster: SimCluster) -> None:
        cluster.world.advance(cluster.now + 30)
        forget_tasks(cluster)

    fault = {"fault": "task_killed", "path": "clone", "at": 0.5}
    run = die(replace(CLONED_VM, faults=(fault,), before_restart=killed_and_forgotten), "clone reply")
    invariants.check(run)
    (clone,) = ops(run, Kind.CLONE)
    assert ending(clone) == ("started", "partial", "R13")
