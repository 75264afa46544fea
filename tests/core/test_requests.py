"""Every state of a request with every event: the legal moves are listed here once more, all others change nothing."""

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.journal import samples
from trueup.core import lifecycle
from trueup.core.requests import ENDED, TABLE, fold, holds_key, next_state, step
from trueup.model.errors import IllegalTransition
from trueup.model.gate import Approved, Denied, GateEvent, Refusal, RequestState, RequestView, Ruling
from trueup.model.ids import Epoch, OpId
from trueup.model.ops import Event, Failed, OpState, Reason, Record, Started

EVENTS: dict[str, Event] = {
    "Requested": samples.requested("a").event,
    "Approved": samples.approved("a").event,
    "Accepted": samples.accepted("a").event,
    "Vetoed": samples.vetoed("a").event,
    "expired": samples.lapsed("a").event,
    "refused": samples.lapsed("a", RequestState.REFUSED).event,
    # No state in which a request can lapse.
    "lapsed as pending": samples.lapsed("a", RequestState.PENDING).event,
    "lapsed as accepted": samples.lapsed("a", RequestState.ACCEPTED).event,
    "lapsed as vetoed": samples.lapsed("a", RequestState.VETOED).event,
}
LEGAL: dict[str | None, dict[str, str]] = {
    None: {"Requested": "pending"},
    "pending": {
        "Approved": "pending",
        "Accepted": "accepted",
        "Vetoed": "vetoed",
        "expired": "expired",
        "refused": "refused",
    },
    "accepted": {"Vetoed": "vetoed"},
    "vetoed": {},
    "expired": {},
    "refused": {},
}
WAYS: dict[str | None, tuple[str, ...]] = {
    None: (),
    "pending": ("Requested",),
    "accepted": ("Requested", "Approved", "Accepted"),
    "vetoed": ("Requested", "Vetoed"),
    "expired": ("Requested", "expired"),
    "refused": ("Requested", "Approved", "refused"),
}


def record(event: Event, seq: int = 1) -> Record:
    return Record(
        seq=seq, epoch=Epoch(1), record_id=f"r{seq}", at_ms=100 * seq, op_id=OpId("a"), event=event, prev_hash="",
        hash="",
    )  # fmt: skip


def records(*names: str) -> list[Record]:
    return [record(EVENTS[name], seq) for seq, name in enumerate(names, 1)]


def view(*names: str) -> RequestView:
    found = fold(records(*names))
    assert found is not None
    return found


def test_the_samples_are_all_states_and_all_events():
    assert set(LEGAL) == set(WAYS) == {None, *RequestState}
    assert {type(event) for event in EVENTS.values()} == {*typing.get_args(GateEvent), type(EVENTS["Accepted"])}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("state", LEGAL)
def test_every_event_in_every_state_is_legal_as_listed_or_changes_nothing(state: str | None, name: str):
    before = fold(records(*WAYS[state]))
    assert (before.state if before else None) == state
    kept = msgspec.json.encode(before)
    event = record(EVENTS[name], 9)
    after = LEGAL[state].get(name)
    if after is None:
        with pytest.raises(IllegalTransition, match=type(EVENTS[name]).__name__):
            step(before, event)
    else:
        assert step(before, event).state == after
    assert msgspec.json.encode(before) == kept


def test_the_table_lists_nothing_else():
    listed = {(state, event.__name__, after) for (state, event), moves in TABLE.items() for after in moves}
    wanted = {(state, type(EVENTS[name]).__name__, after) for state in LEGAL for name, after in LEGAL[state].items()}
    assert listed == wanted


def test_what_has_ended_takes_nothing_more():
    assert {state for state in RequestState if not LEGAL[state]} == ENDED


@pytest.mark.parametrize("event", [Started(intent=samples.intent()), Denied(refusal=Refusal.SIGNATURE, text="no")])
def test_what_is_no_event_of_a_request_is_refused(event: Event):
    for way in WAYS.values():
        with pytest.raises(IllegalTransition, match="no event of a request"):
            step(fold(records(*way)), record(event))


# -- what adds up -----------------------------------------------------------------------------------------------------


def test_a_request_keeps_what_was_signed_and_who_agreed():
    found = view("Requested", "Approved", "Approved", "Accepted")
    assert (found.request, found.payload, found.payload_sha256, found.via) == (
        samples.request("a"), "cGF5", "p", "spool",
    )  # fmt: skip
    assert found.ruling == samples.RULING
    assert found.approvals == (samples.APPROVAL, samples.APPROVAL)
    assert (found.requested_at_ms, found.ended_at_ms) == (100, 0)


def test_the_newest_ruling_counts_and_an_approval_without_one_keeps_the_last():
    newer = Ruling(rule=7, people=2)
    after = step(view("Requested"), record(Approved(approval=samples.APPROVAL, ruling=newer)))
    assert after.ruling == newer
    assert step(after, record(EVENTS["Approved"])).ruling == newer


def test_an_end_says_when_and_why():
    vetoed = view("Requested", "Accepted", "Vetoed")
    assert (vetoed.vetoed, vetoed.lapsed, vetoed.ended_at_ms) == (EVENTS["Vetoed"], None, 300)
    expired = view("Requested", "expired")
    assert (expired.vetoed, expired.lapsed, expired.ended_at_ms) == (None, EVENTS["expired"], 200)


def test_records_of_both_add_up_to_a_request_and_to_its_operation():
    both = [
        *records("Requested", "Approved", "Accepted", "Vetoed"),
        record(Failed(reason=Reason.VETOED), 5),
    ]
    request, op = fold(both), lifecycle.fold(both)
    assert request is not None
    assert op is not None
    assert (request.state, op.state, op.reason) == (RequestState.VETOED, OpState.FAILED, Reason.VETOED)
    assert fold([record(Started(intent=samples.intent()))]) is None


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=6))
def test_any_sequence_is_legal_throughout_or_raises_at_its_first_illegal_event(names: list[str]):
    state: str | None = None
    for name in names:
        if name not in LEGAL[state]:
            with pytest.raises(IllegalTransition):
                fold(records(*names))
            return
        state = LEGAL[state][name]
    found = fold(records(*names))
    assert (found.state if found else None) == state


def test_a_lapse_names_its_state():
    event = EVENTS["expired"]
    assert next_state(RequestState.PENDING, typing.cast("typing.Any", event)) is RequestState.EXPIRED
    refused = replace(typing.cast("typing.Any", event), state=RequestState.REFUSED)
    assert next_state(RequestState.PENDING, refused) is RequestState.REFUSED


# -- the key ----------------------------------------------------------------------------------------------------------


def test_a_key_is_held_until_it_is_sure_that_nothing_happens():
    assert {state for state in RequestState if holds_key(state, None)} == {"pending", "accepted"}
    for request in (None, *RequestState):
        assert {op for op in OpState if holds_key(request, op)} == set(OpState) - {OpState.FAILED}
    assert not holds_key(None, None)
