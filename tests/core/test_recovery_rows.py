"""The rows of the recovery table, each as a story: `test_recovery_table` walks all inputs, this says what they mean.

The agent died, or an answer was lost; somebody looked. `judge` is one look and its verdict.
"""

from enum import StrEnum
from typing import Any

import pytest

from tests.core.operations import op, upid
from trueup.core.probes import Finding, Landing
from trueup.core.recovery import Again, Close, Evidence, FenceState, Lock, Need, Open, Requeue, Task, Watch, decide
from trueup.model.ops import Failed, Kind, OpState, OpView, Reason, Row, Succeeded

UPID = upid().text
OURS = Finding(landing=Landing.LANDED, attributable=True, why="the marker is there")
THERE = Finding(landing=Landing.LANDED, why="it is there")
NOT_THERE = Finding(landing=Landing.NOT_LANDED, why="it is not there")
HALF = Finding(landing=Landing.PARTIAL, why="half of it is there")


def judge(view: OpView, task: Task, finding: Finding = NOT_THERE, **more: Any) -> Any:
    """The verdict, by what it does: what came of it, in one tuple."""
    verdict = decide(view, Evidence(task=task, finding=finding, **more))
    match verdict:
        case Close(event=Succeeded()):
            return verdict.row, "succeeded", verdict.event.reason
        case Close(event=Failed()):
            return verdict.row, "failed", verdict.event.reason
        case Open():
            return verdict.row, "unresolved", verdict.event.reason
        case Again():
            return verdict.row, "again", verdict.need
        case Watch():
            return verdict.row, "watch"
        case Requeue():
            return verdict.row, "queue again"


# R1 ------------------------------------------------------------------------------------------------------------------


def test_r1_a_signed_stop_that_was_accepted_before_the_crash_is_queued_again():
    accepted = op(Kind.STOP, OpState.ACCEPTED, one_shot=True)
    assert judge(accepted, Task.UNKNOWN, too_late=False) == (Row.R1, "queue again")


def test_r1_an_accepted_destroy_that_nobody_sent_in_time_expires_whatever_the_world_looks_like():
    accepted = op(Kind.DESTROY, OpState.ACCEPTED, one_shot=True)
    assert judge(accepted, Task.UNKNOWN, OURS, too_late=True) == (Row.R1, "failed", Reason.EXPIRED)


# R2 ------------------------------------------------------------------------------------------------------------------


def test_r2_a_clone_that_still_copies_is_left_alone():
    assert judge(op(Kind.CLONE, OpState.TASK_RUNNING, upid=UPID), Task.RUNNING, HALF) == (Row.R2, "watch")


def test_r2_a_task_that_was_found_running_without_a_recorded_upid_is_left_alone_too():
    assert judge(op(Kind.START), Task.RUNNING, OURS) == (Row.R2, "watch")


# R3 ------------------------------------------------------------------------------------------------------------------


def test_r3_a_config_task_that_ended_well_is_the_end():
    unread = Finding(landing=Landing.UNREADABLE)
    assert judge(op(Kind.CONFIGURE), Task.OK, unread) == (Row.R3, "succeeded", Reason.TASK_OK)


def test_r3_warnings_are_a_success_since_the_guest_is_there():
    assert judge(op(Kind.CLONE), Task.WARNINGS, OURS) == (Row.R3, "succeeded", Reason.TASK_WARNINGS)


def test_r3_a_start_succeeded_once_the_guest_runs_as_well():
    assert judge(op(Kind.START), Task.OK, THERE) == (Row.R3, "succeeded", Reason.TASK_OK)


# R4 ------------------------------------------------------------------------------------------------------------------


def test_r4_a_start_that_the_ha_manager_only_took_note_of_is_waited_for():
    assert judge(op(Kind.START), Task.OK, NOT_THERE) == (Row.R4, "watch")


def test_r4_a_guest_that_does_not_come_up_behind_its_task_is_unresolved_after_the_kinds_patience():
    verdict = judge(op(Kind.START), Task.OK, NOT_THERE, patience_over=True)
    assert verdict == (Row.R4, "unresolved", Reason.GOAL_NOT_REACHED)


# R5 ------------------------------------------------------------------------------------------------------------------


def test_r5_a_clone_that_pve_reports_as_failed_failed_and_its_leftovers_are_named():
    seen = Evidence(task=Task.ERROR, exit_status="clone failed: disk full", finding=HALF, leftovers=("lock: clone",))
    verdict = decide(op(Kind.CLONE), seen)
    assert isinstance(verdict, Close)
    assert verdict.row is Row.R5
    assert isinstance(verdict.event, Failed)
    assert verdict.event.reason is Reason.TASK_ERROR
    assert verdict.event.exit_status == "clone failed: disk full"
    assert verdict.event.leftovers == ("lock: clone",)


def test_r5_a_start_that_lost_to_another_one_failed_though_the_guest_runs():
    assert judge(op(Kind.START), Task.ERROR, THERE) == (Row.R5, "failed", Reason.TASK_ERROR)


# R6 ------------------------------------------------------------------------------------------------------------------


def test_r6_a_killed_start_whose_child_may_still_bring_the_guest_up_is_not_decided():
    verdict = judge(op(Kind.START), Task.KILLED, NOT_THERE, children_dead=False)
    assert verdict == (Row.R6, "unresolved", Reason.CHILDREN_MAY_LIVE)


def test_r6_not_even_if_the_guest_already_runs():
    verdict = judge(op(Kind.START), Task.KILLED, THERE, children_dead=False)
    assert verdict == (Row.R6, "unresolved", Reason.CHILDREN_MAY_LIVE)


def test_r6_a_killed_start_whose_child_finished_the_work_succeeded():
    verdict = judge(op(Kind.START), Task.KILLED, THERE, children_dead=True)
    assert verdict == (Row.R6, "succeeded", Reason.OBSERVED)


def test_r6_a_killed_clone_whose_copy_died_half_way_failed():
    verdict = judge(op(Kind.CLONE), Task.KILLED, HALF, children_dead=True)
    assert verdict == (Row.R6, "failed", Reason.KILLED)


def test_r6_a_guest_that_cannot_be_read_once_the_children_are_dead_is_not_decided():
    unread = Finding(landing=Landing.UNREADABLE)
    verdict = judge(op(Kind.START), Task.KILLED, unread, children_dead=True)
    assert verdict == (Row.R6, "unresolved", Reason.UNREADABLE)


# R7 ------------------------------------------------------------------------------------------------------------------


def test_r7_a_container_config_with_our_marker_was_written_by_this_operation():
    assert judge(op(Kind.CONFIGURE), Task.NONE, OURS) == (Row.R7, "succeeded", Reason.OBSERVED)


def test_r7_a_guest_with_our_marker_was_made_even_if_no_task_list_can_be_read():
    assert judge(op(Kind.CREATE), Task.UNKNOWN, OURS) == (Row.R7, "succeeded", Reason.OBSERVED)


def test_r7_a_guest_that_is_gone_stays_open_while_the_delete_could_hit_the_next_one_with_its_number():
    verdict = judge(op(Kind.DESTROY, one_shot=True), Task.NONE, OURS, late_possible=True)
    assert verdict == (Row.R7, "unresolved", Reason.LATE_REQUEST_POSSIBLE)


def test_r7_once_the_token_of_that_delete_is_dead_it_succeeded():
    verdict = judge(op(Kind.DESTROY, one_shot=True), Task.NONE, OURS, late_possible=False)
    assert verdict == (Row.R7, "succeeded", Reason.OBSERVED)


# R8 ------------------------------------------------------------------------------------------------------------------


def test_r8_a_node_whose_tasks_cannot_be_read_decides_nothing():
    verdict = judge(op(Kind.GROW), Task.UNKNOWN, NOT_THERE, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R8, "unresolved", Reason.TASK_UNKNOWN)


def test_r8_a_signed_stop_that_could_be_either_of_two_ended_tasks_is_not_guessed():
    verdict = judge(op(Kind.STOP, one_shot=True), Task.SEVERAL, NOT_THERE, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R8, "unresolved", Reason.TASK_UNKNOWN)


def test_r8_does_not_stop_the_loops_own_stop_which_the_world_judges_as_well():
    verdict = judge(op(Kind.STOP), Task.SEVERAL, NOT_THERE, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R12, "failed", Reason.PRESUMED_NOT_STARTED)


# R9 ------------------------------------------------------------------------------------------------------------------


def test_r9_a_create_whose_task_was_rotated_away_and_that_left_no_guest_failed():
    view = op(Kind.CREATE, OpState.TASK_RUNNING, upid=UPID)
    assert judge(view, Task.NONE, NOT_THERE, lock=Lock.FREE) == (Row.R9, "failed", Reason.OBSERVED)


def test_r9_waits_for_whoever_holds_the_guests_lock():
    view = op(Kind.STOP, OpState.TASK_RUNNING, upid=UPID)
    verdict = judge(view, Task.NONE, NOT_THERE, lock=Lock.HELD, settled=True)
    assert verdict == (Row.R13, "unresolved", Reason.LOCK_HELD)


# R10 -----------------------------------------------------------------------------------------------------------------


def test_r10_a_config_write_without_a_trace_gets_a_fence_first():
    verdict = judge(op(Kind.CONFIGURE), Task.NONE, NOT_THERE, fence=FenceState.MISSING, settled=True)
    assert verdict == (Row.R10, "again", Need.FENCE)


def test_r10_what_was_seen_before_the_fence_stood_is_looked_at_again():
    verdict = judge(op(Kind.CONFIGURE), Task.NONE, NOT_THERE, fence=FenceState.STANDS, seen_behind_fence=False)
    assert verdict == (Row.R10, "again", Need.LOOK)


def test_r10_a_rollback_without_a_trace_is_waited_for_since_nothing_can_stop_it():
    unknowable = Finding(landing=Landing.UNKNOWABLE)
    verdict = judge(op(Kind.ROLLBACK, one_shot=True), Task.NONE, unknowable, settled=False)
    assert verdict == (Row.R10, "again", Need.SETTLE)


def test_r10_not_even_a_free_lock_shortens_the_wait():
    verdict = judge(op(Kind.START), Task.NONE, NOT_THERE, settled=False, lock=Lock.FREE)
    assert verdict == (Row.R10, "again", Need.SETTLE)


# R11 -----------------------------------------------------------------------------------------------------------------


def test_r11_behind_the_fence_a_config_write_that_is_not_there_never_will_be():
    verdict = judge(op(Kind.CONFIGURE), Task.NONE, NOT_THERE, fence=FenceState.STANDS, seen_behind_fence=True)
    assert verdict == (Row.R11, "failed", Reason.NOT_STARTED)


def test_r11_a_protected_guest_that_is_still_there_was_not_destroyed_and_will_not_be():
    view = op(Kind.DESTROY, one_shot=True)
    verdict = judge(view, Task.NONE, NOT_THERE, fence=FenceState.STANDS, seen_behind_fence=True, late_possible=True)
    assert verdict == (Row.R11, "failed", Reason.NOT_STARTED)


# R12 -----------------------------------------------------------------------------------------------------------------


def test_r12_a_create_that_left_nothing_for_the_settle_time_is_presumed_not_to_have_started():
    verdict = judge(op(Kind.CREATE), Task.NONE, NOT_THERE, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R12, "failed", Reason.PRESUMED_NOT_STARTED)


def test_r12_presumes_nothing_while_somebody_holds_the_guests_lock():
    verdict = judge(op(Kind.START), Task.NONE, NOT_THERE, settled=True, lock=Lock.HELD)
    assert verdict == (Row.R13, "unresolved", Reason.LOCK_HELD)


# R13 -----------------------------------------------------------------------------------------------------------------


def test_r13_a_guest_that_runs_though_nothing_says_who_started_it_has_reached_the_loops_goal():
    verdict = judge(op(Kind.START), Task.NONE, THERE, settled=True)
    assert verdict == (Row.R13, "failed", Reason.SUPERSEDED)


def test_r13_but_a_signed_start_claims_nothing_that_others_may_have_done():
    verdict = judge(op(Kind.START, one_shot=True), Task.NONE, THERE, settled=True)
    assert verdict == (Row.R13, "unresolved", Reason.NOT_ATTRIBUTABLE)


def test_r13_a_guest_that_cannot_be_fenced_stays_open():
    verdict = judge(op(Kind.CONFIGURE), Task.NONE, NOT_THERE, fence=FenceState.IMPOSSIBLE)
    assert verdict == (Row.R13, "unresolved", Reason.FENCE_IMPOSSIBLE)


def test_r13_a_rollback_leaves_no_trace_so_nobody_but_people_can_tell():
    unknowable = Finding(landing=Landing.UNKNOWABLE)
    verdict = judge(op(Kind.ROLLBACK, one_shot=True), Task.NONE, unknowable, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R13, "unresolved", Reason.UNKNOWABLE)


def test_r13_a_guest_that_is_half_made_stays_open():
    assert judge(op(Kind.CREATE), Task.NONE, HALF, settled=True) == (Row.R13, "unresolved", Reason.PARTIAL)


def test_r13_a_guest_that_cannot_be_read_stays_open():
    unread = Finding(landing=Landing.UNREADABLE)
    verdict = judge(op(Kind.START), Task.NONE, unread, settled=True, lock=Lock.FREE)
    assert verdict == (Row.R13, "unresolved", Reason.UNREADABLE)


# -- longer stories ---------------------------------------------------------------------------------------------------


def test_a_grow_whose_answer_was_lost_goes_from_fence_to_look_to_verdict():
    grow, seen = op(Kind.GROW), {"task": Task.NONE, "finding": NOT_THERE}
    first = judge(grow, **seen, fence=FenceState.MISSING)
    second = judge(grow, **seen, fence=FenceState.STANDS, seen_behind_fence=False)
    third = judge(grow, **seen, fence=FenceState.STANDS, seen_behind_fence=True)
    assert [first, second, third] == [
        (Row.R10, "again", Need.FENCE),
        (Row.R10, "again", Need.LOOK),
        (Row.R11, "failed", Reason.NOT_STARTED),
    ]


def test_a_late_grow_that_won_against_the_fence_is_found_by_the_look_behind_it():
    won = judge(op(Kind.GROW), Task.OK, THERE, fence=FenceState.STANDS, seen_behind_fence=True)
    assert won == (Row.R3, "succeeded", Reason.TASK_OK)


# what no row reads --------------------------------------------------------------------------------------------------


def test_a_fence_that_its_kind_does_not_have_turns_no_presumption_into_proof():
    verdict = judge(op(Kind.START), Task.NONE, fence=FenceState.STANDS, seen_behind_fence=True, settled=True)
    assert verdict == (Row.R13, "unresolved", Reason.LOCK_HELD)


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (Task, "running ok warnings error killed none several unknown"),
        (FenceState, "stands missing impossible no_kind"),
        (Lock, "free held unknown"),
        (Landing, "landed not_landed partial unknowable unreadable"),
    ],
)
def test_the_words_that_the_journal_keeps_of_the_evidence_stay_what_they_are(words: type[StrEnum], listed: str):
    assert [word.value for word in words] == listed.split()


# before the end of a destroy that failed -----------------------------------------------------------------------------


def test_a_destroy_that_failed_is_open_while_protection_cannot_be_put_back():
    verdict = judge(op(Kind.DESTROY), Task.ERROR, NOT_THERE, fence=FenceState.IMPOSSIBLE)
    assert verdict == (Row.R5, "unresolved", Reason.FENCE_IMPOSSIBLE)


def test_a_destroy_that_failed_with_its_guest_gone_protects_nobody():
    assert judge(op(Kind.DESTROY), Task.ERROR, OURS, fence=FenceState.MISSING) == (Row.R5, "failed", Reason.TASK_ERROR)
