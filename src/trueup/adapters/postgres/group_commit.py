"""Appends on their way to the database: gathered while a commit is under way, and written by the next one together.

One task owns the store. A caller that is cancelled while it waits does not undo its append: it was on its way, and is
written or refused unheard.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from trueup.adapters.journal_admission import Append
from trueup.adapters.postgres.store import Store
from trueup.model.errors import JournalFailed
from trueup.model.ids import Epoch
from trueup.model.limits import GROUP_RECORDS_MAX, JOURNAL_QUEUE_MAX
from trueup.model.ops import Draft, EpochTaken, Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Appending:
    append: Append
    answer: asyncio.Future[tuple[Record, ...]]


@dataclass(frozen=True, slots=True)
class _TakingEpoch:
    draft: Draft
    holder: EpochTaken
    answer: asyncio.Future[Epoch]


_Job = _Appending | _TakingEpoch


class GroupCommit:
    """A task that writes whatever has gathered, in the order in which it was asked for."""

    def __init__(self, store: Store) -> None:
        """Take over the store and start the task."""
        self._store = store
        self._jobs: deque[_Job] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Semaphore(JOURNAL_QUEUE_MAX)
        self._closing = False
        self._task = asyncio.create_task(self._work(), name="journal-writer")

    async def append(self, append: Append) -> tuple[Record, ...]:
        """Return the records once they are durable. Waits while `JOURNAL_QUEUE_MAX` appends are under way."""
        await self._room.acquire()
        answer: asyncio.Future[tuple[Record, ...]] = asyncio.get_running_loop().create_future()
        self._put(_Appending(append, answer))
        return await answer

    async def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """Return the new epoch once its record is durable."""
        await self._room.acquire()
        answer: asyncio.Future[Epoch] = asyncio.get_running_loop().create_future()
        self._put(_TakingEpoch(draft, holder, answer))
        return await answer

    async def close(self) -> None:
        """Write what is queued, then let go of the store. Later appends are refused. Safe to call twice."""
        self._closing = True
        self._news.set()
        await asyncio.shield(self._task)

    def _put(self, job: _Job) -> None:
        if self._closing:
            self._room.release()
            raise JournalFailed(what="the journal is closed", where=self._store.where)
        self._jobs.append(job)
        self._news.set()

    async def _work(self) -> None:
        try:
            while self._jobs or not self._closing:
                await self._news.wait()
                self._news.clear()
                while self._jobs:
                    await self._write(self._gather())
                if self._closing:
                    self._news.set()
        finally:
            await self._store.close()

    def _gather(self) -> list[_Job]:
        """What waits: appends that stand together, up to a group's size; or one epoch."""
        group: list[_Job] = []
        records = 0
        while self._jobs and records < GROUP_RECORDS_MAX:
            job = self._jobs[0]
            if isinstance(job, _TakingEpoch):
                if group:
                    break
                return [self._jobs.popleft()]
            records += len(job.append.drafts)
            group.append(self._jobs.popleft())
        return group

    async def _write(self, jobs: Sequence[_Job]) -> None:
        """Write a group and tell its callers, whatever comes of it."""
        try:
            match jobs:
                case [_TakingEpoch() as job]:
                    _settle(job.answer, await self._store.take_epoch(job.draft, job.holder))
                case _:
                    appending = [job for job in jobs if isinstance(job, _Appending)]
                    verdicts = await self._store.append([job.append for job in appending])
                    for job, verdict in zip(appending, verdicts, strict=True):
                        _settle(job.answer, verdict)
        except Exception as error:  # noqa: BLE001 - the task's broad guard: nobody waits for ever
            for job in jobs:
                _refuse(job, error)
        except asyncio.CancelledError:
            for job in jobs:
                job.answer.cancel()
            raise
        finally:
            for _ in jobs:
                self._room.release()


def _refuse(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _settle(answer: asyncio.Future[T], result: T | Exception) -> None:
    """Give a caller its answer, unless it was cancelled and waits no more."""
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
