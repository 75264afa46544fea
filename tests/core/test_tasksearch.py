"""The search for a task whose UPID never reached us: what may be ours, and when finding none is an answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.operations import NODE, SENT_S, intent, upid
from trueup.core.recovery import Task
from trueup.core.tasksearch import Found, Sorted, classify, matches, reaches_back, same_target, search
from trueup.model import limits
from trueup.model.ids import TokenId, Vmid
from trueup.model.ops import Intent, Kind
from trueup.model.pve import TaskList, TaskRow

OURS = TokenId("agent@pve!up-3")
LATER = TokenId("agent@pve!up-4")
SLACK = int(limits.TIME_SLACK_S)
START = intent(Kind.START)
RECORDED = json.loads((Path(__file__).parent / "data" / "exit_statuses.json").read_text())


def row(status: str = "OK", *, endtime: int = SENT_S + 5, **more: Any) -> TaskRow:
    return TaskRow(upid=upid(**more), status=status, endtime=0 if status == "RUNNING" else endtime)


def listed(*rows: TaskRow, sees_all: bool = True, index_bytes: int = 1000) -> TaskList:
    return TaskList(node=NODE, rows=rows, sees_all=sees_all, index_bytes=index_bytes)


def find(
    tasks: TaskList,
    sought: Intent = START,
    *,
    token: TokenId = OURS,
    claimed: tuple[str, ...] = (),
    rivals: bool = False,
) -> Found:
    return search(sought, tasks, token=token, claimed=claimed, rivals=rivals)


# -- what may be ours -------------------------------------------------------------------------------------------------


def test_a_task_of_our_token_type_and_guest_may_be_ours():
    assert matches(START, upid("qmstart", guest="101"))


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "qmstop"},
        {"kind": "vzstart"},
        {"guest": "102"},
        {"guest": "1010"},
        {"guest": ""},
        {"user": "agent@pve!up-4"},
        {"user": "agent@pve"},
        {"user": "root@pam"},
        {"start_s": SENT_S - SLACK - 1},
    ],
)
def test_a_task_of_another_type_guest_token_or_time_is_not_ours(other: dict[str, Any]):
    assert not matches(START, upid(**other))


@pytest.mark.parametrize("offset", [-SLACK, -1, 0, 1, 60, SLACK, 86_400])
def test_the_nodes_clock_may_be_an_hour_behind_and_a_request_may_be_late_by_any_time(offset: int):
    assert matches(START, upid(start_s=SENT_S + offset))


def test_a_task_that_was_there_before_the_request_is_not_ours():
    before = upid()
    assert not matches(intent(Kind.START, not_mine=(before.text,)), before)


def test_a_clone_is_found_under_its_source():
    clone = intent(Kind.CLONE, source=Vmid(9000), task_id="9000")
    assert matches(clone, upid("qmclone", guest="9000"))
    assert not matches(clone, upid("qmclone", guest="101"))


def test_a_call_without_a_task_matches_none():
    assert not matches(intent(Kind.CONFIGURE, task_type="", task_id="101"), upid("qmconfig"))


@pytest.mark.parametrize("field", ["node", "task_type", "task_id", "token"])
def test_two_requests_are_told_apart_by_node_type_id_or_token(field: str):
    assert same_target(START, intent(Kind.START, vmid=Vmid(999)))
    assert not same_target(START, intent(Kind.START, **{field: "other"}))


# -- one match --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "task"),
    [("OK", Task.OK), ("WARNINGS: 2", Task.WARNINGS), ("VM 101 already running", Task.ERROR), ("", Task.KILLED)],
)
def test_the_only_match_is_the_task(status: str, task: Task):
    mine = row(status)
    assert find(listed(row(kind="qmstop"), mine, row(guest="102"))) == Found(task=task, row=mine)


def test_a_match_that_seems_to_run_is_handed_out_to_be_confirmed_since_lists_are_stale():
    mine = row("RUNNING")
    assert find(listed(mine)) == Found(task=Task.UNKNOWN, row=mine)


def test_a_match_counts_even_in_a_list_that_shows_too_little_to_prove_an_absence():
    assert find(listed(row(), sees_all=False, index_bytes=90_000), token=LATER).task is Task.OK


def test_a_task_that_belongs_to_another_operation_is_not_ours():
    mine, theirs = row(pid=1), row(pid=2)
    assert find(listed(theirs, mine), claimed=(theirs.upid.text,)).row == mine
    assert find(listed(theirs), claimed=(theirs.upid.text,)).task is Task.NONE


# -- several, and rivals ----------------------------------------------------------------------------------------------


def test_several_ended_tasks_are_no_answer_and_none_is_picked():
    found = find(listed(row(pid=1), row("VM 101 already running", pid=2)))
    assert (found.task, found.row, found.candidate) == (Task.SEVERAL, None, None)
    assert "2 tasks on pve1" in found.why


def test_while_one_of_several_runs_it_may_be_ours_that_runs():
    found = find(listed(row(pid=1), row("RUNNING", pid=2)))
    assert (found.task, found.row) == (Task.RUNNING, None)


def test_a_single_match_is_no_answer_while_a_rival_could_have_made_it():
    mine = row()
    found = find(listed(mine), rivals=True)
    assert (found.task, found.row, found.candidate) == (Task.SEVERAL, None, mine)
    assert find(listed(row("RUNNING")), rivals=True).task is Task.RUNNING


def test_rivals_do_not_matter_where_there_is_no_task_at_all():
    assert find(listed(), rivals=True).task is Task.NONE


# -- none, with proof of sight ----------------------------------------------------------------------------------------


def test_none_is_an_answer_if_all_is_seen_and_nothing_was_ever_rotated_away():
    found = find(listed(row(kind="qmstop"), index_bytes=limits.PVE_INDEX_BYTES - 1))
    assert (found.task, found.row) == (Task.NONE, None)


def test_none_is_no_answer_once_rows_may_have_been_rotated_away():
    found = find(listed(row(kind="qmstop"), index_bytes=limits.PVE_INDEX_BYTES))
    assert found.task is Task.UNKNOWN
    assert "does not reach back" in found.why


def test_none_is_an_answer_if_an_older_archived_row_is_still_there():
    older = row(kind="qmstop", start_s=SENT_S - 2 * SLACK, endtime=SENT_S - SLACK - 1)
    assert find(listed(older, index_bytes=90_000)).task is Task.NONE


@pytest.mark.parametrize("endtime", [SENT_S - SLACK, SENT_S, 0])
def test_a_row_inside_the_slack_or_one_that_still_runs_proves_nothing(endtime: int):
    young = TaskRow(upid=upid("qmstop", start_s=SENT_S - 2 * SLACK), status="x", endtime=endtime)
    assert not reaches_back(START, listed(young, index_bytes=90_000))
    assert find(listed(young, index_bytes=90_000)).task is Task.UNKNOWN


def test_our_own_tasks_show_without_any_right_but_then_the_index_may_be_larger_than_what_is_seen():
    older = row(kind="qmstop", start_s=SENT_S - 2 * SLACK, endtime=SENT_S - SLACK - 1)
    assert find(listed(older, sees_all=False)).task is Task.NONE
    assert find(listed(sees_all=False)).task is Task.UNKNOWN


def test_the_tasks_of_an_earlier_token_need_the_right_to_see_them():
    older = row(kind="qmstop", start_s=SENT_S - 2 * SLACK, endtime=SENT_S - SLACK - 1)
    found = find(listed(older, sees_all=False), token=LATER)
    assert found.task is Task.UNKNOWN
    assert "Sys.Audit" in found.why
    assert find(listed(older, sees_all=True), token=LATER).task is Task.NONE


rows = st.builds(
    row,
    st.sampled_from(["OK", "WARNINGS: 1", "RUNNING", "", "unexpected status", "no such thing"]),
    endtime=st.integers(SENT_S - 3 * SLACK, SENT_S + SLACK),
    kind=st.sampled_from(["qmstart", "qmstop"]),
    guest=st.sampled_from(["101", "102"]),
    user=st.sampled_from([OURS, LATER]),
    start_s=st.integers(SENT_S - 3 * SLACK, SENT_S + SLACK),
    pid=st.integers(1, 9),
)


@given(st.lists(rows, max_size=6), st.booleans(), st.booleans(), st.sampled_from([100, 90_000]))
def test_whatever_the_list_none_is_never_said_while_a_task_matches(
    found_rows: list[TaskRow], sees_all: bool, rivals: bool, index_bytes: int
):
    tasks = listed(*found_rows, sees_all=sees_all, index_bytes=index_bytes)
    found = find(tasks, rivals=rivals)
    own = [each for each in found_rows if matches(START, each.upid)]
    assert (found.task is Task.NONE) <= (not own)
    assert (found.row is not None) == (len(own) == 1 and not rivals)
    assert (found.row is None) <= bool(found.why), "no answer comes with its reason"


@given(st.lists(rows, max_size=6), st.booleans(), st.booleans(), st.sampled_from([100, 90_000]))
def test_a_search_in_the_part_about_its_target_ends_as_one_in_the_whole_list(
    found_rows: list[TaskRow], sees_all: bool, rivals: bool, index_bytes: int
):
    tasks = listed(*found_rows, sees_all=sees_all, index_bytes=index_bytes)
    for token in (OURS, LATER):
        whole, part = (find(each, token=token, rivals=rivals) for each in (tasks, Sorted(tasks).about(START)))
        assert part == whole


# -- how it ended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["status"][:60])
def test_recorded_exit_statuses(recorded: dict[str, Any]):
    assert classify(recorded["status"]) == recorded["task"]


def test_the_recordings_have_all_four_ends():
    assert {Task(recorded["task"]) for recorded in RECORDED} == {Task.OK, Task.WARNINGS, Task.ERROR, Task.KILLED}


@pytest.mark.parametrize(
    ("status", "task"),
    [
        ("OK", Task.OK),
        ("OK ", Task.OK),
        ("WARNINGS: 12", Task.WARNINGS),
        ("WARNINGS: ", Task.ERROR),
        ("WARNINGS: many", Task.ERROR),
        ("WARNINGS", Task.ERROR),
        ("exit code: 1", Task.ERROR),
        ("ok", Task.ERROR),
        ("OK, but not really", Task.ERROR),
        ("", Task.KILLED),
        ("unexpected status", Task.KILLED),
        ("unable to get last line from task log - No such file or directory", Task.KILLED),
        ("unable to open file - No such file or directory", Task.KILLED),
        ("unable to extract last line", Task.KILLED),
        ("unable to read tail (got 0 bytes)", Task.KILLED),
        ("400 Parameter verification failed. scsi1: hotplug problem - no", Task.ERROR),
    ],
)
def test_other_exit_statuses_from_pves_source(status: str, task: Task):
    assert classify(status) is task


def test_a_worker_that_could_not_write_a_config_failed_and_was_not_killed():
    # Without quorum /etc/pve is read-only; the text begins like that of a missing log.
    status = "unable to open file '/etc/pve/nodes/pve1/qemu-server/900.conf.tmp.3915' - Permission denied"
    assert classify(status) is Task.ERROR


@given(st.text())
def test_any_other_text_is_an_error_or_a_kill_and_never_a_success(text: str):
    if text.strip() != "OK" and not text.strip().startswith("WARNINGS:"):
        assert classify(text) in {Task.ERROR, Task.KILLED}
