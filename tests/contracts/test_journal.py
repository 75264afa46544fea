"""What every journal owes its caller, whatever it is made of: `ports.Journal` and `ports.JournalReader`.

A new implementation joins `opener`; what is special to one is tested beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journal.samples import (
    TOKEN,
    accepted,
    draft,
    epoch,
    failed,
    record_id,
    requested,
    running,
    sent,
    signed,
    started,
    succeeded,
)
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.journal import PostgresJournal
from trueup.adapters.sqlite import open_journal
from trueup.adapters.system import SystemClock
from trueup.core import codec, lifecycle
from trueup.model.errors import BadInput, IllegalTransition, InvariantBroken, JournalFailed, Stale
from trueup.model.ids import Digest, Epoch, NodeName, OpId, TokenId, Vmid
from trueup.model.limits import GROUP_RECORDS_MAX, LEASE_S, RECORD_MAX_BYTES
from trueup.model.ops import (
    Adopted,
    Contradicted,
    EpochTaken,
    Fenced,
    Fencing,
    OpEvent,
    OpState,
    Paused,
    Reason,
    Released,
    Resumed,
    Row,
    TaskRunning,
    TokenPlanned,
    TokenRetired,
    Unresolved,
)
from trueup.ports import Journal

Opener = Callable[[Path], Awaitable[Journal]]
Story = Callable[[Journal, Epoch], Awaitable[None]]


@pytest.fixture(params=["sqlite in a thread", "sqlite inline", "postgresql"])
def opener(request) -> Opener:
    """Opens the journal that belongs to a path: the same path, the same journal."""

    async def sqlite(path: Path) -> Journal:
        return open_journal(path, inline=request.param == "sqlite inline")

    if request.param != "postgresql":
        return sqlite
    url = request.getfixturevalue("database")

    async def postgresql(path: Path) -> Journal:
        address = parse(url, path.parent.name)
        journal = PostgresJournal(address, holder="test", lease_s=LEASE_S, clock=SystemClock())
        await journal.enter()
        return journal

    return postgresql


@pytest.fixture
def tell(opener, tmp_path) -> Callable[[Story], None]:
    """Run a story with a fresh journal and its first epoch."""

    def run(story: Story) -> None:
        async def whole() -> None:
            journal = await opener(tmp_path / "journal.db")
            try:
                await story(journal, await epoch(journal))
            finally:
                await journal.close()

        asyncio.run(whole())

    return run


def test_records_come_back_in_order_and_chained(tell):
    async def story(journal, e):
        written = await journal.append(e, [started("a"), started("b", 102)])
        written += await journal.append(e, [running("a"), succeeded("a")])
        everything = await journal.records()
        assert everything[1:] == written
        head = codec.Head()
        for record in everything:
            head = codec.link(head, record)
            assert codec.decode(codec.encode(record)) == record
        assert [r.seq for r in everything] == [1, 2, 3, 4, 5]
        assert await journal.records(op_id=OpId("a")) == (written[0], *written[2:])
        assert await journal.records(after_seq=3, limit=1) == (written[2],)
        assert await journal.records(after_seq=99) == ()

    tell(story)


def test_the_first_epoch_is_one_and_each_is_recorded(tell):
    async def story(journal, e):
        assert e == 1
        second = await journal.take_epoch(holder="other", token=TokenId("t2"), record_id=record_id(), at_ms=600)
        assert second == 2
        taken = (
            EpochTaken(epoch=Epoch(1), holder="agent", token=TOKEN),
            EpochTaken(epoch=Epoch(2), holder="other", token=TokenId("t2")),
        )
        assert await journal.epochs() == taken
        assert tuple(r.event for r in await journal.records()) == taken
        assert [r.epoch for r in await journal.records()] == [1, 2]

    tell(story)


def test_an_epoch_that_is_over_cannot_append(tell):
    async def story(journal, e):
        await journal.append(e, [started("a")])
        later = await epoch(journal)
        for wrong in (e, Epoch(later + 1), Epoch(0), Epoch(-1)):
            with pytest.raises(Stale):
                await journal.append(wrong, [running("a")])
        assert [r.epoch for r in await journal.records()] == [1, 1, 2]
        await journal.append(later, [running("a")])

    tell(story)


def test_an_epoch_that_cannot_be_recorded_is_not_taken(tell):
    async def story(journal, e):
        taken = (await journal.records())[0].record_id
        for wrong in (taken, ""):
            with pytest.raises(InvariantBroken):
                await journal.take_epoch(holder="h", token=TOKEN, record_id=wrong, at_ms=1)
        for wrong in ({"at_ms": -1}, {"holder": "\ud800"}, {"record_id": "\ud800"}):
            with pytest.raises(BadInput):
                await journal.take_epoch(
                    **{"holder": "h", "token": TOKEN, "record_id": record_id(), "at_ms": 1} | wrong
                )
        await journal.append(e, [started("a")])
        assert len(await journal.epochs()) == 1

    tell(story)


def test_nothing_is_appended_before_an_epoch_was_taken(opener, tmp_path):
    async def story():
        journal = await opener(tmp_path / "journal.db")
        with pytest.raises(Stale):
            await journal.append(Epoch(0), [started("a")])
        assert await journal.records() == ()
        await journal.close()

    asyncio.run(story())


def test_an_append_is_written_whole_or_not_at_all(tell):
    async def story(journal, e):
        with pytest.raises(IllegalTransition):
            await journal.append(e, [started("a"), started("b"), succeeded("never-started")])
        assert await journal.op(OpId("a")) is None
        assert len(await journal.records()) == 1
        await journal.append(e, [started("a"), running("a"), succeeded("a"), started("b")])
        assert len(await journal.records()) == 5

    tell(story)


@pytest.mark.parametrize(
    "drafts",
    [
        [running("a")],
        [succeeded("a")],
        [failed("a")],
        [draft("a", Fencing(counter=1, digest=Digest("d")))],
        [draft("a", Contradicted(what="seen"))],
        [started("a"), started("a")],
        [started("a"), succeeded("a"), failed("a")],
        [started("a"), succeeded("a"), draft("a", Contradicted(what="seen"))],
        [started("a"), running("a"), running("a", "UPID:other:")],
        [*signed("a"), running("a")],
        [*signed("a"), accepted("a")],
    ],
    ids=lambda drafts: "+".join(type(d.event).__name__ for d in drafts),
)
def test_what_the_lifecycle_forbids_is_refused(tell, drafts):
    async def story(journal, e):
        with pytest.raises(IllegalTransition):
            await journal.append(e, drafts)
        assert len(await journal.records()) == 1

    tell(story)


def test_a_refused_append_leaves_its_neighbours_alone(tell):
    async def story(journal, e):
        calls = []
        for number in range(60):
            wrong = number % 3 == 1
            stale = number % 3 == 2
            op = f"op-{number}"
            calls.append(
                journal.append(Epoch(9) if stale else e, [succeeded(op) if wrong else started(op, 200 + number)])
            )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert type(answer) is (tuple, IllegalTransition, Stale)[number % 3]
        assert len(await journal.in_flight()) == 20

    tell(story)


def test_appends_are_written_in_the_order_in_which_they_were_called(tell):
    async def story(journal, e):
        await asyncio.gather(*(journal.append(e, [started(f"op-{n:03}", 200 + n)]) for n in range(200)))
        assert [r.op_id for r in await journal.records(after_seq=1)] == [f"op-{n:03}" for n in range(200)]

    tell(story)


def test_an_append_may_be_larger_than_a_group(tell):
    async def story(journal, e):
        many = [started(f"op-{n}", 200 + n) for n in range(2 * GROUP_RECORDS_MAX + 1)]
        one, all_of_them, two = await asyncio.gather(
            journal.append(e, [started("one")]), journal.append(e, many), journal.append(e, [started("two")])
        )
        assert (len(one), len(all_of_them), len(two)) == (1, len(many), 1)
        assert all_of_them[0].seq == 3
        assert len(await journal.in_flight()) == len(many) + 2

    tell(story)


def test_appending_nothing_writes_nothing(tell):
    async def story(journal, e):
        assert await journal.append(e, []) == ()
        assert len(await journal.records()) == 1

    tell(story)


def test_a_record_id_is_taken_once(tell):
    async def story(journal, e):
        first = started("a")
        await journal.append(e, [first])
        twice = started("b")
        for drafts in ([first], [twice, twice]):
            with pytest.raises(InvariantBroken, match="record id"):
                await journal.append(e, drafts)
        with pytest.raises(InvariantBroken):
            await asyncio.gather(journal.append(e, [twice]), journal.append(e, [twice]))
        assert len(await journal.records()) == 3

    tell(story)


def test_a_cancelled_caller_does_not_undo_its_append(tell):
    async def story(journal, e):
        task = asyncio.create_task(journal.append(e, [started("a")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await journal.append(e, [running("a")])
        view = await journal.op(OpId("a"))
        assert view is not None
        assert view.state is OpState.TASK_RUNNING

    tell(story)


def test_what_is_in_flight_is_what_pve_may_have_received(tell):
    async def story(journal, e):
        await journal.append(e, [*signed("signed", 101), started("sent", 102), started("task", 103), running("task")])
        await journal.append(e, [started("done", 104), succeeded("done"), started("bad", 105), failed("bad")])
        await journal.append(e, [draft("sent", UNRESOLVED)])
        assert [v.op_id for v in await journal.in_flight()] == ["sent", "task"]
        assert [v.op_id for v in await journal.accepted()] == ["signed"]
        assert (await journal.in_flight())[0].unresolved == UNRESOLVED
        await journal.append(e, [sent("signed")])
        assert [v.op_id for v in await journal.in_flight()] == ["signed", "sent", "task"]
        assert await journal.accepted() == ()

    tell(story)


UNRESOLVED = Unresolved(reason=Reason.TASK_UNKNOWN, row=Row.R8, settles_by="looking again")


def test_operations_are_listed_newest_first_by_state_and_guest(tell):
    async def story(journal, e):
        for number in range(6):
            op = f"op-{number}"
            await journal.append(e, [started(op, 101 + number % 2)])
            if number < 4:
                await journal.append(e, [succeeded(op) if number < 2 else failed(op)])

        async def names(**which):
            return [v.op_id for v in await journal.ops(**which)]

        assert await names() == [f"op-{n}" for n in (5, 4, 3, 2, 1, 0)]
        assert await names(limit=2) == ["op-5", "op-4"]
        assert await names(state=OpState.FAILED) == ["op-3", "op-2"]
        assert await names(vmid=Vmid(101)) == ["op-4", "op-2", "op-0"]
        assert await names(vmid=Vmid(102), state=OpState.SUCCEEDED, limit=5) == ["op-1"]
        assert await names(vmid=Vmid(999)) == []
        assert await names(vmid=Vmid(2**70)) == []
        for unknown in (OpId("none"), OpId(""), OpId("\udcff")):
            assert await journal.op(unknown) is None
        assert await journal.records(op_id=OpId("\udcff")) == ()
        assert await journal.claimed_upids(frozenset({"\udcff"})) == frozenset()

    tell(story)


def test_an_operation_is_what_its_records_add_up_to(tell):
    async def story(journal, e):
        steps = [
            requested("a"),
            accepted("a"),
            sent("a", at_ms=200),
            draft("a", Fencing(counter=2, digest=Digest("d1"))),
            draft("a", Fenced(digest=Digest("d2"))),
            draft("a", UNRESOLVED),
            running("a"),
            failed("a", Reason.PRESUMED_NOT_STARTED),
            draft("a", Contradicted(what="its task", upid="UPID:late:")),
            running("a", "UPID:late:"),
            succeeded("a"),
        ]
        for step in steps:
            await journal.append(e, [step])
            assert await journal.op(OpId("a")) == lifecycle.fold(await journal.records(op_id=OpId("a")))

    tell(story)


def test_presumptions_are_found_until_they_are_proved_wrong(tell):
    async def story(journal, e):
        for number in range(4):
            op = f"op-{number}"
            reason = Reason.TASK_ERROR if number == 3 else Reason.PRESUMED_NOT_STARTED
            await journal.append(e, [started(op, 101 + number), failed(op, reason, 1_000 * number)])
        assert [v.op_id for v in await journal.presumed_since(1_000)] == ["op-1", "op-2"]
        assert [v.op_id for v in await journal.presumed_since(1_001)] == ["op-2"]
        await journal.append(e, [draft("op-2", Contradicted(what="seen"))])
        assert [v.op_id for v in await journal.presumed_since(0)] == ["op-0", "op-1"]
        assert [v.op_id for v in await journal.in_flight()] == ["op-2"]

    tell(story)


def test_a_task_belongs_to_one_operation_only(tell):
    async def story(journal, e):
        await journal.append(e, [started("a"), running("a", "UPID:1:"), started("b", 102)])
        with pytest.raises(IllegalTransition, match="belongs to operation a"):
            await journal.append(e, [running("b", "UPID:1:")])
        with pytest.raises(IllegalTransition, match="belongs to operation b"):
            await journal.append(e, [running("b", "UPID:2:"), started("c", 103), running("c", "UPID:2:")])
        answers = await asyncio.gather(
            journal.append(e, [started("c", 103), running("c", "UPID:3:")]),
            journal.append(e, [running("b", "UPID:3:")]),
            return_exceptions=True,
        )
        assert [type(a) for a in answers] == [tuple, IllegalTransition]
        asked = frozenset({"UPID:1:", "UPID:2:", "UPID:3:", "UPID:4:"})
        assert await journal.claimed_upids(asked) == {"UPID:1:", "UPID:3:"}
        assert await journal.claimed_upids(frozenset()) == frozenset()

    tell(story)


def test_an_operation_may_find_its_own_task_again(tell):
    async def story(journal, e):
        await journal.append(e, [started("a"), running("a", "UPID:1:"), failed("a", Reason.PRESUMED_NOT_STARTED)])
        await journal.append(e, [draft("a", Contradicted(what="seen")), running("a", "UPID:1:")])
        view = await journal.op(OpId("a"))
        assert view is not None
        assert view.upid == "UPID:1:"

    tell(story)


def test_guests_are_ours_from_adoption_to_release(tell):
    async def story(journal, e):
        await journal.append(
            e, [draft("", Adopted(vmid=Vmid(101), uid="u1")), draft("", Adopted(vmid=Vmid(102), uid="u2"))]
        )
        await journal.append(e, [draft("", Adopted(vmid=Vmid(101), uid="u3"))])
        assert await journal.adopted() == {101: "u3", 102: "u2"}
        await journal.append(e, [draft("", Released(vmid=Vmid(101), uid="u1"))])
        assert await journal.adopted() == {101: "u3", 102: "u2"}
        await journal.append(e, [draft("", Released(vmid=Vmid(101), uid="u3"))])
        assert await journal.adopted() == {102: "u2"}

    tell(story)


def test_guests_are_paused_by_name_or_all_at_once(tell):
    async def story(journal, e):
        await journal.append(e, [draft("", Paused(guests=("a", "b"))), draft("", Paused())])
        assert await journal.paused() == {"a", "b", "*"}
        await journal.append(e, [draft("", Resumed(guests=("a",)))])
        assert await journal.paused() == {"b", "*"}
        await journal.append(e, [draft("", Resumed())])
        assert await journal.paused() == frozenset()

    tell(story)


def test_tokens_are_planned_and_then_retired(tell):
    async def story(journal, e):
        one, two, foreign = TokenId("t1"), TokenId("t2"), TokenId("t9")
        nodes = (NodeName("pve1"),)
        await journal.append(e, [draft("", TokenPlanned(token=one)), draft("", TokenPlanned(token=two))])
        await journal.append(e, [draft("", TokenRetired(token=t, nodes=nodes)) for t in (one, one, foreign)])
        assert await journal.tokens() == ({one, two}, {one})

    tell(story)


def test_drafts_that_only_a_mistake_can_make_are_refused(tell):
    async def story(journal, e):
        for wrong in (
            draft("", EpochTaken(epoch=Epoch(7), holder="h", token=TOKEN)),
            draft("op", Paused()),
            draft("", TaskRunning(upid="UPID:1:")),
        ):
            with pytest.raises(InvariantBroken):
                await journal.append(e, [wrong])
        for wrong in (
            draft("", Paused(guests=("x" * RECORD_MAX_BYTES,))),
            draft("", Paused(guests=("\ud800",))),
            draft("\ud800", started("").event),
            started("a", at_ms=-1),
            started("a", vmid=0),
            started("a", vmid=2**70),
            draft("", Adopted(vmid=Vmid(2**70), uid="u")),
        ):
            with pytest.raises(BadInput):
                await journal.append(e, [wrong])
        assert len(await journal.records()) == 1
        await journal.append(e, [started("a")])

    tell(story)


def test_everything_is_there_after_closing_and_opening(opener, tmp_path):
    async def story():
        journal = await opener(tmp_path / "journal.db")
        e = await epoch(journal)
        await journal.append(e, [started("a"), running("a"), started("b", 102), draft("", Paused())])
        before = (await journal.records(), await journal.ops(), await journal.in_flight())
        await journal.close()
        journal = await opener(tmp_path / "journal.db")
        assert (await journal.records(), await journal.ops(), await journal.in_flight()) == before
        assert await journal.paused() == {"*"}
        later = await epoch(journal)
        assert later == e + 1
        await journal.append(later, [succeeded("a")])
        with pytest.raises(IllegalTransition):
            await journal.append(later, [running("b", "UPID:pve1:a:")])
        await journal.close()

    asyncio.run(story())


def test_a_closed_journal_takes_and_says_nothing(opener, tmp_path):
    async def story():
        journal = await opener(tmp_path / "journal.db")
        e = await epoch(journal)
        under_way = [asyncio.create_task(journal.append(e, [started(f"op-{n}", 200 + n)])) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(journal.close(), journal.close())
        await journal.close()
        assert all(len(records) == 1 for records in await asyncio.gather(*under_way))
        for call in (journal.append(e, [started("late")]), epoch(journal), journal.records(), journal.in_flight()):
            with pytest.raises(JournalFailed, match="closed"):
                await call
        journal = await opener(tmp_path / "journal.db")
        assert len(await journal.in_flight()) == 20
        await journal.close()

    asyncio.run(story())


STEPS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from([started, running, succeeded, failed, "presumed", "contradicted", "fencing"]),
        ),
        min_size=1,
        max_size=3,
    ),
    max_size=15,
)


def _step(op, step):
    extra = {
        "presumed": lambda: failed(op, Reason.PRESUMED_NOT_STARTED),
        "contradicted": lambda: draft(op, Contradicted(what="seen")),
        "fencing": lambda: draft(op, Fencing(counter=1, digest=Digest("d"))),
    }
    return extra[step]() if isinstance(step, str) else step(op)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(appends=STEPS, together=st.booleans())
def test_whatever_is_appended_the_operations_are_the_fold_of_what_was_taken(
    opener, tmp_path_factory, appends, together
):
    async def story():
        journal = await opener(tmp_path_factory.mktemp("property") / "journal.db")
        e = await epoch(journal)
        model = {}
        calls = [journal.append(e, [_step(op, step) for op, step in steps]) for steps in appends]
        if together:
            answers = await asyncio.gather(*calls, return_exceptions=True)
        else:
            answers = [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
        for steps, answer in zip(appends, answers, strict=True):
            trial = dict(model)
            try:
                for op, step in steps:
                    event = _step(op, step).event
                    assert isinstance(event, OpEvent)
                    trial[op] = lifecycle.next_state(trial.get(op), event)
            except IllegalTransition:
                assert isinstance(answer, IllegalTransition)
            else:
                assert isinstance(answer, tuple)
                model = trial
        views = {view.op_id: view for view in await journal.ops()}
        assert {op: view.state for op, view in views.items()} == model
        for op, view in views.items():
            assert view == lifecycle.fold(await journal.records(op_id=OpId(op)))
        await journal.close()

    asyncio.run(story())
