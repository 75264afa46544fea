"""What is told to people: what needs them, once, together, and never so that anything waits or fails for it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import trueup.engine.agent
from tests.journal import samples
from trueup.core import lifecycle
from trueup.edges.alarms import PASS_NOT_MADE, Alarms
from trueup.model import limits
from trueup.model.gate import Requested
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.notes import Note, What
from trueup.model.ops import (
    Failed,
    Intent,
    Kind,
    OpEvent,
    OpView,
    Reason,
    Record,
    Row,
    Started,
    Succeeded,
    Unresolved,
)


def record(seq: int, event: object, op_id: str = "op") -> Record:
    return Record(
        seq=seq,
        epoch=Epoch(1),
        record_id=str(seq),
        at_ms=seq,
        op_id=OpId(op_id),
        event=event,  # type: ignore[arg-type]
        prev_hash="",
        hash="",
    )


def op(*events: OpEvent, op_id: str = "op", vmid: int = 101) -> OpView:
    intent = Intent(
        kind=Kind.CLONE,
        type=GuestType.QEMU,
        vmid=Vmid(vmid),
        node=NodeName("pve1"),
        name="web-1",
        method="POST",
        path="/nodes/pve1/qemu/9000/clone",
        token=TokenId("trueup@pve!agent"),
    )
    found = [record(seq, event, op_id) for seq, event in enumerate([Started(intent=intent), *events], start=1)]
    view = lifecycle.fold(found)
    assert view is not None
    return view


class Clock:
    """Time that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now_ms(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


class Heard:
    """A notifier that keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.failed: tuple[str, ...] = ()
        self.hang = False

    async def tell(self, title: str, text: str) -> tuple[str, ...]:
        self.messages.append((title, text))
        if self.hang:
            await asyncio.Event().wait()
        return self.failed

    @property
    def lines(self) -> list[str]:
        return [line for _, text in self.messages for line in text.splitlines()]


class House:
    def __init__(self) -> None:
        self.heard, self.clock, self.warned = Heard(), Clock(), list[str]()
        self.alarms = Alarms(self.clock, "lab", self.heard, self.warned.append)

    def told(self, *acts: Callable[[], None]) -> list[str]:
        """What people hear of these, each after the last was told."""

        async def live() -> None:
            async with self.alarms.telling():
                for act in acts:
                    act()
                    for _ in range(20):
                        await asyncio.sleep(0)

        asyncio.run(live())
        return self.heard.lines

    def note(self, what: What, text: str, about: OpView | None = None) -> Callable[[], None]:
        return lambda: self.alarms.note(Note(what=what, text=text, op=about))


OPEN = Unresolved(reason=Reason.TASK_UNKNOWN, row=Row.R8, settles_by="the list can be read")
FAILED = Failed(reason=Reason.TASK_ERROR, row=Row.R5, exit_status="no space")


def test_an_unresolved_operation_is_told_once() -> None:
    house = House()
    news = house.note(What.OP_OPEN, "task_unknown (R8)", op(OPEN))
    assert house.told(news, news, news) == ["UNRESOLVED: clone of 101 web-1 (task_unknown (R8)); `trueup ops show op`"]
    assert house.heard.messages[0][0] == "trueup lab: unresolved"


def test_what_is_still_running_is_no_news() -> None:
    house = House()
    assert house.told(house.note(What.OP_OPEN, "running", op()), house.note(What.OP_STARTED, "", op())) == []


def test_failures_are_told_when_they_repeat() -> None:
    house = House()
    failed, fine = (
        house.note(What.OP_ENDED, "task_error (R5)", op(FAILED)),
        house.note(What.OP_ENDED, "task_ok", op(Succeeded(reason=Reason.TASK_OK))),
    )
    assert house.told(failed, failed, fine, failed, failed) == []
    assert house.told(failed) == ["FAILED 3 TIMES: clone of 101 web-1 (task_error (R5)); `trueup ops show op`"]
    assert len(house.told(failed, failed)) == 1


def test_a_contradiction_is_an_alarm_and_a_single_pass_that_was_not_made_is_none() -> None:
    house = House()
    late = house.note(What.ALARM, "clone of 101 was presumed not to have started, and did", op())
    lost = house.note(What.ALARM, f"{PASS_NOT_MADE}: cannot connect")
    passed = house.note(What.PASS_ENDED, "no changes")
    assert len(house.told(late, late, lost, lost, passed, lost, lost)) == 1
    assert house.told(lost)[1:] == ["ALARM, 3 times in a row: this pass was not made: cannot connect"]


def test_the_engine_says_so_where_a_pass_was_not_made() -> None:
    assert f"{PASS_NOT_MADE}: " in Path(trueup.engine.agent.__file__).read_text(encoding="utf-8")


def test_a_request_that_waits_for_people_is_told_and_one_that_was_accepted_is_not() -> None:
    asked = samples.requested("r1").event
    assert isinstance(asked, Requested)
    house = House()
    whole = [record(2, samples.requested("r2").event, "r2"), record(3, samples.accepted("r2").event, "r2")]
    assert house.told(lambda: house.alarms.recorded(whole)) == []
    (line,) = house.told(lambda: house.alarms.recorded([record(1, asked, "r1")]))
    assert line.startswith(f"APPROVAL NEEDED: {asked.request.kind} of {asked.request.target.vmid}, asked for by ")
    assert asked.request.reason not in line


def test_a_lost_lead_and_an_end_are_told_even_at_the_end() -> None:
    house = House()

    async def live() -> None:
        async with house.alarms.telling():
            house.alarms.lost_lead("the epoch is over")
            house.alarms.ends("the journal's disk is full")

    asyncio.run(live())
    assert [line.partition(":")[0] for line in house.heard.lines] == ["LOST THE LEAD", "THE AGENT ENDS"]
    assert house.heard.messages[0][0] == "trueup lab: lost the lead and more"


def test_what_comes_together_is_one_message_and_a_flood_is_counted() -> None:
    house = House()

    def flood() -> None:
        for number in range(limits.NOTIFY_LINES_MAX + 7):
            house.note(What.OP_OPEN, "unreadable (R13)", op(OPEN, op_id=f"op-{number}", vmid=100 + number))()

    lines = house.told(flood)
    assert len(house.heard.messages) == 1
    assert len(lines) == limits.NOTIFY_LINES_MAX + 1
    assert lines[-1] == "and 7 more; see `trueup status`"


def test_there_is_a_most_of_messages_in_an_hour() -> None:
    house = House()
    began = house.clock.at
    news = [
        house.note(What.OP_OPEN, "unreadable", op(OPEN, op_id=f"op-{number}"))
        for number in range(2 * limits.NOTIFY_MESSAGES_MAX)
    ]
    house.told(*news)
    assert len(house.heard.messages) == len(news)  # the clock of the test goes on at once
    assert house.clock.at - began >= limits.NOTIFY_PER_S


def test_nobody_waits_for_a_service_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NOTIFY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(limits, "NOTIFY_AT_END_S", 0.05)
    house = House()
    house.heard.hang = True
    house.told(house.note(What.OP_OPEN, "unreadable", op(OPEN)))
    assert house.warned == ["nobody took the message within 0.05 s"]


def test_what_could_not_be_told_is_said_and_secrets_are_not() -> None:
    house = House()
    house.heard.failed = ("number 1 of [notify] urls could not be told",)
    text = house.told(house.note(What.ALARM, "PVE said PVEAPIToken=trueup@pve!a=11111111-2222", op()))
    assert "11111111" not in text[0]
    assert house.warned == ["number 1 of [notify] urls could not be told"]


def test_without_anybody_to_tell_nothing_is_kept() -> None:
    alarms = Alarms(Clock(), "lab", None, lambda text: None)

    async def live() -> None:
        async with alarms.telling():
            alarms.note(Note(what=What.ALARM, text="oh"))

    asyncio.run(live())
    assert alarms._waiting == []
