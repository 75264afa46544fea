"""The words of the 3-a.m. page: none is missing, and each story says what it must, told from records alone."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
import pytest

from tests.journal import samples
from trueup.core import lifecycle
from trueup.core.probes import Landing
from trueup.core.recovery import RULES, FenceState, Lock, Task
from trueup.edges.cli import gate_words, story, words
from trueup.edges.cli.output import iso, took
from trueup.edges.log import redacted
from trueup.edges.reporters import Lines, line
from trueup.model.gate import Approved, Denied, Lapsed, Refusal, Requested, RequestState, Vetoed
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.notes import Note, What
from trueup.model.ops import (
    Contradicted,
    Failed,
    Fenced,
    Fencing,
    Intent,
    Kind,
    OpEvent,
    OpState,
    Reason,
    Record,
    Row,
    Started,
    Succeeded,
    TaskRunning,
    Unresolved,
)

UPID = "UPID:pve1:0000E849:00F5220C:6B052EDC:qmclone:9000:trueup@pve!agent:"
INTENT = Intent(
    kind=Kind.CLONE,
    type=GuestType.QEMU,
    vmid=Vmid(101),
    node=NodeName("pve1"),
    name="web-1",
    method="POST",
    path="/nodes/pve1/qemu/9000/clone",
    source=Vmid(9000),
    token=TokenId("trueup@pve!agent"),
)


@pytest.mark.parametrize(
    ("table", "members"),
    [
        (words.REASONS, Reason),
        (words.TO_DO, Reason),
        (words.TASKS, Task),
        (words.PROBES, Landing),
        (words.FENCES, FenceState),
        (words.LOCKS, Lock),
    ],
)
def test_no_word_is_missing(table: Mapping[object, str], members: type[StrEnum]) -> None:
    assert {str(key) for key in table} == {member.value for member in members}


def records(*events: OpEvent) -> list[Record]:
    return [
        Record(
            seq=seq,
            epoch=Epoch(1),
            record_id=str(seq),
            at_ms=1_795_501_787_000 + 1_000 * seq,
            op_id=OpId("op"),
            event=event,
            prev_hash="",
            hash="",
        )
        for seq, event in enumerate(events, start=1)
    ]


def tell(*events: OpEvent, agent_lives: bool = False) -> story.Story:
    found = records(Started(intent=INTENT), *events)
    view = lifecycle.fold(found)
    assert view is not None
    return story.tell(view, found, agent_lives=agent_lives)


EVIDENCE = {"task": "unknown", "probe": "not_landed", "seen": "the vmid is free", "fence": "no_kind", "lock": "free"}


@pytest.mark.parametrize("reason", Reason)
def test_every_end_can_be_told(reason: Reason) -> None:
    for row in Row:
        ended = tell(TaskRunning(upid=UPID), Failed(reason=reason, row=row, exit_status="oh no", leftovers=("lock",)))
        assert ended.why in {rule.why for rule in RULES}
        assert ended.to_do
        assert "oh no" in ended.moments[-1].words


def test_an_unresolved_one_says_what_settles_it() -> None:
    told = tell(
        Unresolved(reason=Reason.TASK_UNKNOWN, row=Row.R8, settles_by="the list can be read", evidence=EVIDENCE)
    )
    assert told.state.startswith("unresolved")
    assert told.settles == "the list can be read"
    assert told.unknown == ("Whether PVE has a task for it cannot be told.",)
    assert "In the last look, the effect was not there (the vmid is free)." in told.known
    assert "In the last look, nobody was at work on the guest." in told.known
    assert any("trueup recover" in sentence for sentence in told.to_do)


def test_half_a_guest_is_cleaned_up_by_a_person() -> None:
    partial = Unresolved(
        reason=Reason.CHILDREN_MAY_LIVE, row=Row.R6, settles_by="it is free", evidence={"probe": "partial"}
    )
    assert "`qm unlock 101`, then `qm destroy 101`" in " ".join(tell(partial).to_do)


def test_what_stays_open_is_said_once() -> None:
    view = lifecycle.fold(records(Started(intent=INTENT)))
    said: list[str] = []
    lines = Lines(said.append)
    for text in ("unreadable (R13)", "unreadable (R13)", "task_unknown (R8)"):
        lines.note(Note(what=What.OP_OPEN, text=text, op=view))
    assert len(said) == 2


def test_an_open_one_depends_on_whether_somebody_is_at_work_on_it() -> None:
    assert "recovery finds out" in tell().to_do[0]
    assert "is at work on it" in tell(agent_lives=True).to_do[0]
    assert tell(TaskRunning(upid=UPID)).unknown == ("How PVE's task ends.",)


def test_fences_and_contradictions_are_told() -> None:
    told = tell(
        Fencing(counter=3, digest="d"),  # type: ignore[arg-type]
        Fenced(digest="e"),  # type: ignore[arg-type]
        Failed(reason=Reason.PRESUMED_NOT_STARTED, row=Row.R12),
        Contradicted(what="its task turned up"),
        TaskRunning(upid=UPID, adopted=True),
        Succeeded(reason=Reason.TASK_OK, row=Row.R3, exit_status="OK"),
    )
    text = " ".join(moment.words for moment in told.moments)
    for part in ("A fence was about to be raised", "The fence stood", "its task turned up", "its task was found"):
        assert part in text
    assert "It had been presumed not to have started, and that was wrong." in told.known


def test_what_people_signed_is_told_in_sentences() -> None:
    asked = samples.requested("op", reason="gone\x1b[2J").event
    assert isinstance(asked, Requested)
    said = [
        gate_words.words_of(asked),
        gate_words.words_of(Approved(approval=samples.APPROVAL)),
        gate_words.words_of(Vetoed(approval=samples.APPROVAL, reason="not today")),
        gate_words.words_of(Lapsed(state=RequestState.EXPIRED, why=Refusal.EXPIRED)),
        gate_words.words_of(Lapsed(state=RequestState.REFUSED, why=Refusal.NEVER, text="guest 101 stays.")),
        gate_words.words_of(Denied(refusal=Refusal.SIGNATURE, text="it is not theirs", via="http", times=7)),
    ]
    assert said == [
        'Asked for by spool: alice gave as reason "gone\\x1b[2J".',
        "alice signed it, with key key-a.",
        'alice vetoed it, because of "not today": it is not carried out.',
        "Its time was over before enough people had signed it.",
        "It was refused (never): guest 101 stays.",
        "The gate refused what came by http, 7 times (signature): it is not theirs.",
    ]
    needs = msgspec.structs.replace(asked, ruling=msgspec.structs.replace(asked.ruling, missing="one more operator"))
    assert gate_words.words_of(needs).endswith(" One more operator.")


def test_the_story_of_what_people_signed_begins_with_who_asked() -> None:
    events = [draft.event for draft in (*samples.signed("op"), samples.vetoed("op"))]
    found = records(*events, Failed(reason=Reason.VETOED))  # type: ignore[arg-type]
    view = lifecycle.fold(found)
    assert view is not None
    told = story.tell(view, found, agent_lives=True)
    assert [moment.what for moment in told.moments] == ["requested", "approved", "accepted", "vetoed", "failed"]
    assert all(moment.words.endswith(".") for moment in told.moments)
    assert "somebody vetoed it" in told.moments[-1].words
    graced = samples.accepted("op", not_before_ms=1_795_501_787_000).event
    assert "until then it can be vetoed" in story.words_of(graced)


def test_notes_become_lines() -> None:
    view = lifecycle.fold(records(Started(intent=INTENT), Failed(reason=Reason.TASK_ERROR, exit_status="no space")))
    said = line(Note(what=What.OP_ENDED, text="task_error (R5)", op=view))
    assert said == "clone 101 web-1: FAILED (task_error (R5), PVE says: no space)"
    assert view is not None
    opened = msgspec.structs.replace(view, state=OpState.STARTED)
    assert "op" in line(Note(what=What.ALARM, text="it is back", op=opened))


def test_instants_and_durations() -> None:
    assert iso(0) is None
    assert iso(1_795_501_787_206) == "2026-11-24T06:29:47.206Z"
    assert [took(ms) for ms in (250, 1_500, 61_000, 3_720_000)] == ["250 ms", "1.5 s", "1 min 1 s", "1 h 2 min"]


@pytest.mark.parametrize(
    "text",
    ["PVEAPIToken=trueup@pve!a=61987069-e4b8", "token_secret: 61987069-e4b8", '"secret": 61987069-e4b8'],
)
def test_secrets_do_not_get_into_the_log(text: str) -> None:
    assert "61987069" not in redacted(text)
