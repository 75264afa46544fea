"""Every planted fault turns the suite red: the tests named beside it fail while it is planted, and pass without it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.core import test_lifecycle, test_tasksearch
from tests.sampling import sampled
from tests.simulation import invariants
from tests.simulation import test_late_requests as late
from tests.simulation import test_rows as rows
from tests.simulation.cluster import SimCluster
from tests.simulation.harness import simulate
from tests.simulation.scenarios import ALL, CLONED_VM, EMPTY_VM, vm
from tests.simulation.stories import die, ending, ops
from tests.simulation.test_lost_answers import scenario
from tests.teeth import faults
from tests.teeth.faults import Plant, row_removed
from trueup.core import tasksearch
from trueup.core.recovery import Task
from trueup.model.guests import Power
from trueup.model.ops import Kind, OpState, Row

Victim = Callable[[], object]


def died_everywhere(name: str = "empty-vm", fault: str = "no fault") -> Victim:
    """A scenario with a death at every point."""

    def victim() -> None:
        for point in range(len(simulate(ALL[name]).lives[0].mortality.passed)):
            invariants.converged(simulate(scenario(name, fault), point))

    return victim


def recovery_comes_first() -> None:
    """Looked at alone, so that nothing else that the fault upsets is what is noticed.

    At every third point: whichever one it is, what is sent before recovery is seen after it.
    """
    for point in sampled(range(len(simulate(EMPTY_VM).lives[0].mortality.passed)), 3):
        invariants._recovery_came_first(simulate(EMPTY_VM, point))


def late_write(delay_s: float) -> Victim:
    return lambda: late.test_a_guarded_write_that_arrives_behind_the_fence_changes_nothing(
        CLONED_VM, Kind.CONFIGURE, delay_s
    )


def warnings_are_a_success() -> None:
    assert tasksearch.classify("WARNINGS: 1") is Task.WARNINGS


def a_node_has_three_slots() -> None:
    """Nine creations on one node: never more than three at work at once."""
    guests = [vm(400 + number, config={"memory": "128"}) for number in range(9)]
    run = simulate(replace(EMPTY_VM, desired=guests))
    invariants.converged(run)
    most = at_work = 0
    for note in run.lives[0].notes:
        at_work += {"op_started": 1, "op_ended": -1}.get(note.what.value, 0)
        most = max(most, at_work)
    assert most <= 3


def each_request_leaves_once() -> None:
    run = simulate(replace(EMPTY_VM, faults=({"fault": "reply_lost", "path": "qemu$"},)))
    assert [row["path"] for row in run.mutations].count("/nodes/pve1/qemu") == 1


def a_guest_changed_while_it_waited_is_left_alone() -> None:
    """A start waits for a slot of its node; meanwhile somebody makes the vmid anew, as a guest of his own."""
    config = {"memory": "128"}
    others = [vm(vmid, power=Power.STOPPED, config=config) for vmid in (401, 402, 403)]

    def made_anew(cluster: SimCluster) -> None:
        cluster.put({"vmid": 901, "deleted": True})
        cluster.put({"type": "qemu", "vmid": 901, "node": "pve1", "name": "foreign", "config": {"memory": 64}})

    def between(cluster: SimCluster) -> None:
        cluster.act({"action": "duration", "type": "qmcreate", "seconds": 20})
        asyncio.get_running_loop().call_later(10.0, made_anew, cluster)

    first = [vm(901, power=Power.STOPPED, config=config)]
    run = simulate(replace(EMPTY_VM, desired=first, then=[*others, vm(901, config=config)], between=between))
    assert not [row for row in run.mutations if "901/status/start" in str(row["path"])]


def an_absence_needs_proof_of_sight() -> None:
    test_tasksearch.test_none_is_no_answer_once_rows_may_have_been_rotated_away()


def an_end_is_an_end() -> None:
    test_lifecycle.test_nothing_but_a_contradiction_opens_what_is_closed()
    for state in OpState:
        test_lifecycle.test_every_event_in_every_state_is_legal_as_listed_or_changes_nothing(state, "Failed")
        test_lifecycle.test_every_event_in_every_state_is_legal_as_listed_or_changes_nothing(state, "Succeeded")


def a_second_start_does_not_take_the_first_ones_task() -> None:
    """The guest is started twice within the hour; the second request is lost, and its task is not the first one."""
    lost = {"fault": "request_lost", "path": "start", "nth": 2}

    def stopped_by_hand(cluster: SimCluster) -> None:
        cluster.put({"vmid": 101, "status": "stopped"})

    run = simulate(replace(EMPTY_VM, then=EMPTY_VM.desired, between=stopped_by_hand, faults=(lost,)))
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.START)] == [
        ("succeeded", "task_ok", "R3"),
        ("failed", "presumed_not_started", "R12"),
        ("succeeded", "task_ok", "R3"),
    ]


def a_rivals_task_is_not_taken() -> None:
    """The first start arrives late while the second one, whose answer is lost, never does."""
    late_then_lost = (
        {"fault": "late", "path": "start", "delay_s": 8.0},
        {"fault": "request_lost", "path": "start", "nth": 2},
    )
    run = die(replace(EMPTY_VM, faults=late_then_lost, later_s=7200.0), "start sent")
    invariants.check(run)
    assert [ending(op)[1] for op in ops(run, Kind.START)][1] != "task_ok"


ROWS: dict[Row, Sequence[Victim]] = {
    Row.R1: [rows.test_r1_an_accepted_request_that_was_never_sent_is_queued_again],
    Row.R2: [rows.test_r2_a_task_that_runs_is_watched_and_not_sent_again],
    Row.R3: [rows.test_r3_a_task_that_ended_well_is_a_success],
    Row.R4: [rows.test_r4_a_task_that_ended_well_without_its_effect_is_waited_for_then_unresolved],
    Row.R5: [rows.test_r5_a_task_that_ended_badly_is_a_failure],
    Row.R6: [rows.test_r6_a_killed_task_is_judged_only_when_its_children_are_dead],
    Row.R7: [rows.test_r7_an_effect_with_our_own_mark_is_a_success_without_a_task],
    Row.R8: [rows.test_r8_without_a_readable_task_list_nothing_is_told],
    Row.R9: [rows.test_r9_a_forgotten_task_without_an_effect_is_a_failure_once_nobody_is_at_work],
    Row.R10: [rows.test_r10_and_r11_behind_the_fence_a_write_that_never_came_is_recorded_as_not_started],
    Row.R11: [rows.test_r10_and_r11_behind_the_fence_a_write_that_never_came_is_recorded_as_not_started],
    Row.R12: [rows.test_r10_and_r12_without_a_fence_time_passes_and_the_record_says_presumed],
    Row.R13: [rows.test_r13_a_goal_that_is_reached_without_a_trace_is_superseded_and_not_claimed],
}

DIED_EVERYWHERE = died_everywhere()
LATE_WRITES = [late_write(hundredths / 100) for hundredths in range(2, 60)]

TEETH: dict[str, tuple[Plant, Sequence[Victim]]] = {
    **{f"row {row.value} is missing": (row_removed(row), victims) for row, victims in ROWS.items()},
    "no settle time": (
        faults.no_settle_time,
        [lambda: late.test_a_creation_that_arrives_during_recovery_is_found_and_adopted(1.0)],
    ),
    "the intent is not journaled": (faults.the_intent_is_not_journaled, [DIED_EVERYWHERE]),
    "something is sent before recovery": (faults.something_is_sent_before_recovery, [recovery_comes_first]),
    "no task means no effect": (faults.no_task_means_no_effect, [DIED_EVERYWHERE]),
    "the fence is skipped": (faults.the_fence_is_skipped, LATE_WRITES),
    "the fence writes what is there": (faults.the_fence_writes_what_is_there, LATE_WRITES),
    "seen before the fence": (faults.seen_before_the_fence, LATE_WRITES),
    "a busy lock is taken for free": (
        faults.a_busy_lock_is_taken_for_free,
        [rows.test_r6_a_killed_task_is_judged_only_when_its_children_are_dead],
    ),
    "not looked at again behind a free lock": (
        faults.not_looked_at_again_behind_a_free_lock,
        [rows.test_r6_a_killed_task_is_judged_only_when_its_children_are_dead],
    ),
    "tasks are claimed twice": (
        faults.other_peoples_tasks_are_claimed_twice,
        [a_second_start_does_not_take_the_first_ones_task],
    ),
    "rivals are forgotten": (faults.rivals_are_forgotten, [a_rivals_task_is_not_taken]),
    "a short list proves absence": (faults.a_short_list_proves_absence, [an_absence_needs_proof_of_sight]),
    "an unreadable list is empty": (
        faults.an_unreadable_list_is_empty,
        [rows.test_r8_without_a_readable_task_list_nothing_is_told],
    ),
    "warnings are errors": (faults.warnings_are_errors, [warnings_are_a_success]),
    "the end of a start is trusted": (
        faults.the_end_of_a_start_is_trusted,
        [rows.test_r4_a_task_that_ended_well_without_its_effect_is_waited_for_then_unresolved],
    ),
    "a killed task failed": (
        faults.a_killed_task_failed,
        [rows.test_r6_a_killed_task_is_judged_only_when_its_children_are_dead],
    ),
    "contradictions are not looked for": (
        faults.contradictions_are_not_looked_for,
        [lambda: late.test_a_start_that_arrives_later_takes_the_presumption_back(8.0)],
    ),
    "no lanes": (faults.no_lanes, [a_node_has_three_slots]),
    "lost answers are sent again": (faults.lost_answers_are_sent_again, [each_request_leaves_once]),
    "any guest will do": (faults.any_guest_will_do, [a_guest_changed_while_it_waited_is_left_alone]),
    "the lifecycle allows everything": (faults.the_lifecycle_allows_everything, [an_end_is_an_end]),
}


@pytest.mark.parametrize("name", TEETH)
def test_the_suite_turns_red(name: str) -> None:
    plant, victims = TEETH[name]
    with plant():
        assert any(_fails(victim) for victim in victims), f"nothing notices: {name}"


@pytest.mark.parametrize("victim", {victim: None for _, victims in TEETH.values() for victim in victims})
def test_without_a_fault_it_is_green(victim: Victim) -> None:
    victim()


def test_there_are_enough_of_them() -> None:
    assert len(TEETH) >= 15
    assert set(ROWS) == set(Row)


def _fails(victim: Victim) -> bool:
    try:
        victim()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any way of failing is what is wanted here
        return True
    return False
