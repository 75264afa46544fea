"""What a look asks of the journal: whose a task could be, where a search turns on it, else nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.scale.test_recovery import planned, prepared
from tests.simulation.cluster import START_S
from tests.simulation.harness import TOKEN
from trueup.adapters import sqlite
from trueup.adapters.sqlite.journal import SqliteJournal
from trueup.adapters.system import SystemClock, SystemEntropy
from trueup.core.recovery import Task
from trueup.engine.deck import Deck
from trueup.engine.fences import Fences
from trueup.engine.looker import Looker, Timing
from trueup.model.errors import ReadFailed
from trueup.model.ids import Epoch, NodeName, OpId, Upid
from trueup.model.notes import Note
from trueup.model.ops import Draft, Event, Kind, OpView, Started, TaskRunning
from trueup.model.pve import TaskList, TaskRow
from trueup.model.settings import LimitSettings

NODE = NodeName("pve1")
UPID = f"UPID:{NODE}:0000000A:00001000:{int(START_S) + 1:08X}:qmstart:2000:{TOKEN}:"
OTHER = UPID.replace("0000000A", "0000000B")


class OneTask:
    """PVE with one task in its list, and nothing else that can be read."""

    token = TOKEN

    async def tasks(self, node: NodeName, *, proven: bool = True) -> TaskList:
        row = TaskRow(upid=Upid.parse(UPID), status="OK", endtime=int(START_S) + 2)
        return TaskList(node=node, rows=(row,), sees_all=proven, index_bytes=0)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def unread(*_arguments: object) -> object:
            raise ReadFailed(what=f"{name} cannot be read")

        return unread


class Silent:
    def note(self, note: Note) -> None: ...


class Story:
    """A journal with starts of one guest in flight, and one look at them."""

    def __init__(self, path: Path) -> None:
        self.journal = sqlite.open_journal(path, inline=True)
        self.asked: list[str] = []

    async def write(self, *starts: tuple[int, str]) -> Epoch:
        """Journal these starts of one guest, each by its number and its UPID ('' = lost)."""
        epoch = await self.journal.take_epoch(holder="x", token=TOKEN, record_id="record-0", at_ms=int(START_S * 1000))
        op = planned(Kind.START, 0)
        for number, upid in starts:
            op_id, made = prepared(op, number)
            events: list[Event] = [Started(intent=made.intent), *([TaskRunning(upid=upid)] if upid else [])]
            await self.journal.append(
                epoch,
                [
                    Draft(record_id=f"{op_id}-{at}", at_ms=int(START_S * 1000), op_id=op_id, event=event)
                    for at, event in enumerate(events)
                ],
            )
        return epoch

    async def look(self, epoch: Epoch, number: int) -> Task:
        """What one look finds of the task of this start."""
        op_id, _ = prepared(planned(Kind.START, 0), number)
        view = await self.journal.op(op_id)
        assert isinstance(view, OpView)
        deck = Deck(
            journal=Watched(self.journal, self.asked),  # type: ignore[arg-type]
            pve=OneTask(),  # type: ignore[arg-type]
            clock=SystemClock(),
            entropy=SystemEntropy(),
            reporter=Silent(),
            epoch=epoch,
            installation="record-0",
            limits=LimitSettings(),
        )
        found = await Looker(deck, Fences(deck)).look([view], {op_id: Timing(settled=False, patience_over=False)})
        return found[OpId(op_id)].task


class Watched:
    """A journal that notes what is asked of it."""

    def __init__(self, inner: SqliteJournal, asked: list[str]) -> None:
        self._inner, self._asked = inner, asked

    def __getattr__(self, name: str) -> object:
        self._asked.append(name)
        return getattr(self._inner, name)


def found(path: Path, look_at: int, *starts: tuple[int, str]) -> tuple[Task, list[str]]:
    async def told() -> tuple[Task, list[str]]:
        story = Story(path)
        try:
            return await story.look(await story.write(*starts), look_at), story.asked
        finally:
            await story.journal.close()

    return asyncio.run(told())


def test_a_lone_operation_finds_its_task(tmp_path: Path) -> None:
    assert found(tmp_path / "j.db", 1, (1, ""))[0] is Task.OK


def test_one_task_and_two_operations_without_any_is_no_answer(tmp_path: Path) -> None:
    assert found(tmp_path / "j.db", 1, (1, ""), (2, ""))[0] is Task.SEVERAL


def test_an_operation_whose_task_is_known_is_no_rival(tmp_path: Path) -> None:
    assert found(tmp_path / "j.db", 1, (1, ""), (2, OTHER))[0] is Task.OK


def test_a_task_that_another_operation_has_recorded_is_not_taken(tmp_path: Path) -> None:
    assert found(tmp_path / "j.db", 1, (1, ""), (2, UPID))[0] is Task.NONE


def test_where_the_task_is_known_nobody_is_asked_whose_it_could_be(tmp_path: Path) -> None:
    task, asked = found(tmp_path / "j.db", 1, (1, UPID), (2, ""))
    assert (task, asked) == (Task.OK, ["tokens"])
