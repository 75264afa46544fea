"""Every state with every event: the legal moves are listed here once more, and all others change nothing."""

import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.operations import OP, intent, upid
from trueup.core.lifecycle import IN_FLIGHT, TABLE, TERMINAL, fold, is_in_flight, next_state, step
from trueup.model.errors import IllegalTransition
from trueup.model.ids import Digest, Epoch, OpId, TokenId
from trueup.model.ops import (
    Accepted,
    Contradicted,
    EpochTaken,
    Event,
    Failed,
    Fenced,
    Fencing,
    Guarded,
    Guarding,
    Kind,
    OpEvent,
    OpState,
    OpView,
    Paused,
    Reason,
    Record,
    Row,
    Started,
    Succeeded,
    SystemEvent,
    TaskRunning,
    Unresolved,
)

ROOT = Path(__file__).parents[2]
INTENT = intent(Kind.STOP, one_shot=True)
UPID = upid().text

EVENTS: tuple[OpEvent, ...] = (
    Accepted(intent=INTENT, execute_by_ms=99, nonce="n", idempotency_key="k", payload="p"),
    Started(intent=INTENT),
    TaskRunning(upid=UPID),
    Succeeded(reason=Reason.TASK_OK, exit_status="OK"),
    Failed(reason=Reason.TASK_ERROR, exit_status="no", leftovers=("lock: clone",)),
    Unresolved(reason=Reason.TASK_UNKNOWN, row=Row.R8, settles_by="a readable list"),
    Fencing(counter=5, digest=Digest("d1")),
    Fenced(digest=Digest("d2")),
    Guarding(digest=Digest("d1")),
    Guarded(digest=Digest("d2")),
    Contradicted(what="its task turned up"),
)
NAMES = {type(event).__name__: event for event in EVENTS}

# state: event -> state after it. Whatever is not here is illegal.
LEGAL = {
    None: {"Accepted": "accepted", "Started": "started"},
    "accepted": {"Started": "started", "Failed": "failed"},
    "started": {
        "TaskRunning": "task_running",
        "Succeeded": "succeeded",
        "Failed": "failed",
        "Unresolved": "started",
        "Fencing": "started",
        "Fenced": "started",
        "Guarding": "started",
        "Guarded": "started",
    },
    "task_running": {
        "Succeeded": "succeeded",
        "Failed": "failed",
        "Unresolved": "task_running",
        "Fencing": "task_running",
        "Fenced": "task_running",
    },
    "succeeded": {},
    "failed": {"Contradicted": "started", "Fencing": "failed", "Fenced": "failed"},
}
WAYS: dict[OpState | None, tuple[str, ...]] = {
    None: (),
    OpState.ACCEPTED: ("Accepted",),
    OpState.STARTED: ("Accepted", "Started"),
    OpState.TASK_RUNNING: ("Started", "TaskRunning"),
    OpState.SUCCEEDED: ("Started", "Succeeded"),
    OpState.FAILED: ("Started", "TaskRunning", "Failed"),
}
PAIRS = [(state, name) for state in WAYS for name in NAMES]


def record(event: Event, seq: int = 1) -> Record:
    return Record(
        seq=seq,
        epoch=Epoch(seq),
        record_id=f"r{seq}",
        at_ms=1000 * seq,
        op_id=OP if isinstance(event, OpEvent) else OpId(""),
        event=event,
        prev_hash="",
        hash="",
    )


def records(*names: str) -> list[Record]:
    return [record(NAMES[name], seq) for seq, name in enumerate(names, 1)]


def view(*names: str) -> OpView:
    found = fold(records(*names))
    assert found is not None
    return found


# -- the table --------------------------------------------------------------------------------------------------------


def test_the_samples_are_all_states_and_all_events_of_an_operation():
    assert {type(event) for event in EVENTS} == set(typing.get_args(OpEvent))
    assert set(LEGAL) == set(WAYS) == {None, *OpState}


@pytest.mark.parametrize(("state", "name"), PAIRS)
def test_every_event_in_every_state_is_legal_as_listed_or_changes_nothing(state: OpState | None, name: str):
    before = fold(records(*WAYS[state]))
    assert (before.state if before else None) == state
    kept = msgspec.json.encode(before)
    event = record(NAMES[name], 9)
    after = LEGAL[state].get(name)
    if after is None:
        with pytest.raises(IllegalTransition, match=name):
            step(before, event)
        with pytest.raises(IllegalTransition):
            next_state(state, NAMES[name])
    else:
        assert step(before, event).state == after == next_state(state, NAMES[name])
    assert msgspec.json.encode(before) == kept


def test_the_table_lists_nothing_else():
    listed = {(state, event.__name__): after for (state, event), after in TABLE.items()}
    assert listed == {(state, name): after for state, moves in LEGAL.items() for name, after in moves.items()}


def test_every_state_is_in_flight_or_terminal_or_was_never_sent():
    assert set(OpState) == IN_FLIGHT | TERMINAL | {OpState.ACCEPTED}
    assert not IN_FLIGHT & TERMINAL
    for state, way in WAYS.items():
        if state is not None:
            assert is_in_flight(view(*way)) == (state in IN_FLIGHT)


def test_nothing_is_in_flight_before_its_intent_is_durable():
    into_flight = {event for (state, event), after in TABLE.items() if after in IN_FLIGHT and state not in IN_FLIGHT}
    assert into_flight == {Started, Contradicted}


def test_nothing_but_a_contradiction_opens_what_is_closed():
    assert {event for (state, event), after in TABLE.items() if state in TERMINAL and after != state} == {Contradicted}


@pytest.mark.parametrize("state", list(WAYS))
def test_what_is_no_event_of_an_operation_is_refused_in_every_state(state: OpState | None):
    before = fold(records(*WAYS[state]))
    for event in (EpochTaken(epoch=Epoch(2), holder="h", token=TokenId("u@pve!t")), Paused()):
        assert isinstance(event, SystemEvent)
        with pytest.raises(IllegalTransition, match=type(event).__name__):
            step(before, record(event))


def test_no_records_are_no_operation():
    assert fold([]) is None


# -- what adds up -----------------------------------------------------------------------------------------------------


def test_a_one_shot_keeps_its_deadline_and_counts_from_when_it_was_started():
    accepted = view("Accepted")
    assert (accepted.op_id, accepted.intent, accepted.execute_by_ms) == (OP, INTENT, 99)
    started = view("Accepted", "Started")
    assert (started.started_at_ms, started.epoch, started.execute_by_ms) == (2000, 2, 99)


def test_what_nobody_signed_has_no_deadline_and_no_earliest_moment():
    assert (view("Started").execute_by_ms, view("Started").not_before_ms) == (0, 0)


def test_the_intent_of_the_start_counts_since_it_is_the_one_that_was_sent():
    sent = intent(Kind.STOP, one_shot=True, digest=Digest("newer"))
    started = step(view("Accepted"), record(Started(intent=sent), 2))
    assert started.intent == sent


def test_a_task_is_remembered_with_whether_recovery_found_it():
    assert (view("Started", "TaskRunning").upid, view("Started", "TaskRunning").adopted) == (UPID, False)
    found = step(view("Started"), record(TaskRunning(upid=UPID, adopted=True), 2))
    assert (found.upid, found.adopted) == (UPID, True)


@pytest.mark.parametrize("end", ["Succeeded", "Failed"])
def test_an_end_says_when_why_and_in_pves_own_words(end: str):
    closed = view("Started", "TaskRunning", "Unresolved", end)
    event = typing.cast("Succeeded | Failed", NAMES[end])
    assert (closed.ended_at_ms, closed.reason, closed.row) == (4000, event.reason, None)
    assert closed.exit_status == event.exit_status
    assert closed.unresolved is None
    assert closed.leftovers == (event.leftovers if isinstance(event, Failed) else ())


def test_an_open_question_is_shown_with_its_row():
    unresolved = view("Started", "Unresolved")
    assert unresolved.unresolved == NAMES["Unresolved"]
    assert (unresolved.reason, unresolved.row, unresolved.state) == (Reason.TASK_UNKNOWN, Row.R8, OpState.STARTED)


def test_a_fence_counts_once_it_was_read_back_and_a_new_one_begins_anew():
    assert view("Started", "Fencing").fenced is None
    assert view("Started", "Fencing", "Fenced").fenced == NAMES["Fenced"]
    again = view("Started", "Fencing", "Fenced", "Fencing")
    assert (again.fencing, again.fenced) == (NAMES["Fencing"], None)


def test_a_guard_counts_once_it_was_read_back():
    assert view("Started", "Guarding").guarded is None
    assert view("Started", "Guarding", "Guarded").guarded == NAMES["Guarded"]


def test_a_contradiction_opens_the_operation_again_and_forgets_its_end():
    again = view("Started", "Failed", "Contradicted")
    assert again.state is OpState.STARTED
    assert is_in_flight(again)
    assert again.contradicted
    assert (again.ended_at_ms, again.reason, again.row, again.upid) == (0, None, None, "")


def test_after_a_contradiction_its_task_is_taken_up_and_recovery_ends_it():
    ended = view("Started", "Failed", "Contradicted", "TaskRunning", "Succeeded")
    assert (ended.state, ended.upid, ended.contradicted) == (OpState.SUCCEEDED, UPID, True)


def test_a_task_that_turned_up_answers_the_open_question():
    running = view("Started", "Unresolved", "TaskRunning")
    assert (running.unresolved, running.reason, running.row) == (None, None, None)


# -- any sequence -----------------------------------------------------------------------------------------------------


@st.composite
def legal_ways(draw: st.DrawFn) -> list[str]:
    state: str | None = None
    names: list[str] = []
    for _ in range(draw(st.integers(0, 12))):
        moves = sorted(LEGAL[state])
        if not moves:
            break
        names.append(draw(st.sampled_from(moves)))
        state = LEGAL[state][names[-1]]
    return names


@given(legal_ways())
def test_a_legal_sequence_adds_up_to_the_state_that_it_leads_to(names: list[str]):
    state = None
    for name in names:
        state = LEGAL[state][name]
    found = fold(records(*names))
    assert (found.state if found else None) == state
    if found is not None:
        closed = found.state in TERMINAL
        assert (found.ended_at_ms > 0) == closed
        assert not closed or found.unresolved is None
        assert found.contradicted == ("Contradicted" in names)
        assert (found.state is OpState.TASK_RUNNING) <= bool(found.upid)
        assert found.intent == INTENT


@given(legal_ways(), st.integers(0, 12))
def test_records_add_up_the_same_in_one_go_or_from_where_one_had_got_to(names: list[str], cut: int):
    all_records = records(*names)
    so_far = fold(all_records[:cut])
    for late in all_records[cut:]:
        so_far = step(so_far, late)
    assert so_far == fold(all_records)


@given(st.lists(st.sampled_from(sorted(NAMES)), max_size=8))
def test_any_sequence_is_legal_throughout_or_raises_at_its_first_illegal_event(names: list[str]):
    state: str | None = None
    for place, name in enumerate(names):
        if name not in LEGAL[state]:
            fold(records(*names[:place]))
            with pytest.raises(IllegalTransition):
                fold(records(*names))
            return
        state = LEGAL[state][name]
    fold(records(*names))


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_tables_as_they_are():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
