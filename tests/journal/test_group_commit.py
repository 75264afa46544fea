"""Appends that wait together share a commit; one alone does not wait for others."""

import asyncio
import threading

import pytest

from tests.journal.samples import draft, epoch, running, started, succeeded
from trueup.adapters.sqlite import group_commit, open_journal, verify
from trueup.model.errors import JournalFailed
from trueup.model.ids import Epoch, OpId
from trueup.model.limits import GROUP_RECORDS_MAX
from trueup.model.ops import Paused


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


def commits_of(journal) -> list[str]:
    """Every commit from here on, as the writer's connection sees it."""
    seen = []
    journal._store._connection.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


def test_64_appenders_share_commits(path):
    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        commits = commits_of(journal)

        async def operation(op: str, vmid: int) -> None:
            for step in (started(op, vmid), running(op), succeeded(op)):
                await journal.append(e, [step])

        async def worker(number: int) -> None:
            for turn in range(5):
                await operation(f"op-{number}-{turn}", 200 + number)

        await asyncio.gather(*(worker(number) for number in range(64)))
        assert len(await journal.records()) == 1 + 64 * 5 * 3
        assert len(await journal.ops()) == 64 * 5
        assert await journal.in_flight() == ()
        assert len(commits) < 64 * 5 * 3 / 4
        await journal.close()
        assert verify(path).ok

    asyncio.run(story())


def test_a_group_ends_at_its_limit(path, monkeypatch):
    """What is called in one breath is cut into groups, and none waits for ever."""

    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        commits = commits_of(journal)
        count = 3 * GROUP_RECORDS_MAX
        await asyncio.gather(*(journal.append(e, [started(f"op-{n}", 200 + n)]) for n in range(count)))
        assert 3 <= len(commits) <= 10
        await journal.close()

    asyncio.run(story())


def test_a_group_is_written_around_a_change_of_epoch(path):
    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        answers = await asyncio.gather(
            journal.append(e, [started("a", 201)]),
            epoch(journal),
            journal.append(e, [started("b", 202)]),
            journal.append(e + 1, [started("c", 203)]),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == ["tuple", "int", "Stale", "tuple"]
        assert [record.epoch for record in await journal.records()] == [1, 1, 2, 2]
        await journal.close()

    asyncio.run(story())


def test_callers_wait_when_the_queue_is_full(path, monkeypatch):
    monkeypatch.setattr(group_commit, "JOURNAL_QUEUE_MAX", 3)

    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        tasks = [asyncio.create_task(journal.append(e, [started(f"op-{n:02}", 200 + n)])) for n in range(30)]
        await asyncio.sleep(0)
        assert isinstance(journal._writer, group_commit.GroupCommit)
        assert journal._writer._jobs.qsize() <= 3
        tasks[20].cancel()  # one that still waits for room is as if it had not been called
        await asyncio.gather(*tasks, return_exceptions=True)
        names = [record.op_id for record in await journal.records(after_seq=1)]
        assert names == [f"op-{n:02}" for n in range(30) if n != 20]
        await journal.close()

    asyncio.run(story())


def test_callers_that_are_cancelled_make_room_for_others(path, monkeypatch):
    monkeypatch.setattr(group_commit, "JOURNAL_QUEUE_MAX", 2)

    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        for number in range(20):
            task = asyncio.create_task(journal.append(e, [started(f"op-{number}", 200 + number)]))
            await asyncio.sleep(0)
            task.cancel()
        await journal.append(e, [started("last")])
        assert (await journal.in_flight())[-1].op_id == "last"
        await journal.close()

    asyncio.run(story())


def test_a_caller_that_waits_for_room_in_a_closing_journal_is_refused(path, monkeypatch):
    monkeypatch.setattr(group_commit, "JOURNAL_QUEUE_MAX", 1)

    async def story():
        journal = open_journal(path)
        e = await epoch(journal)
        tasks = [asyncio.create_task(journal.append(e, [started(f"op-{n}", 200 + n)])) for n in range(5)]
        await asyncio.sleep(0)
        await journal.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], tuple)
        assert all(isinstance(answer, JournalFailed) for answer in answers[1:])
        with pytest.raises(JournalFailed):
            await journal.append(e, [draft("", Paused())])

    asyncio.run(story())


def test_the_writers_thread_ends_with_the_journal(path):
    async def story():
        before = set(threading.enumerate())
        journal = open_journal(path)
        await journal.records()
        assert len(set(threading.enumerate()) - before) == 2
        await journal.close()
        assert set(threading.enumerate()) == before

    asyncio.run(story())


def test_an_inline_journal_has_no_threads(path):
    async def story():
        before = set(threading.enumerate())
        journal = open_journal(path, inline=True)
        e = await epoch(journal)
        await journal.append(e, [started("a")])
        await journal.in_flight()
        assert set(threading.enumerate()) == before
        await journal.close()

    asyncio.run(story())


def test_an_inline_call_never_yields_to_the_loop(path):
    """The simulation numbers its crash points by port calls; nothing else may run inside one."""
    journal = open_journal(path, inline=True)
    for call in (epoch(journal), journal.append(Epoch(1), [started("a")]), journal.op(OpId("a")), journal.close()):
        with pytest.raises(StopIteration):
            call.send(None)


def test_a_loop_that_is_gone_does_not_stop_the_writer(path):
    async def leave():
        journal = open_journal(path)
        e = await epoch(journal)
        asyncio.ensure_future(journal.append(e, [started("a")]))  # noqa: RUF006 - it is abandoned on purpose
        await asyncio.sleep(0)
        return journal

    journal = asyncio.run(leave())
    asyncio.run(journal.close())
    assert verify(path).records == 2
