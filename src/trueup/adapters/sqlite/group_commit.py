"""Appends on their way to the disk: gathered while a commit is under way, and written by the next one together.

One thread owns the store. Callers are answered on their own loop, after the commit that holds their records. A caller
that is cancelled while it waits does not undo its append: it was on its way, and is written or refused unheard.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from trueup.adapters.journal_admission import Append
from trueup.adapters.sqlite.store import Store, Verdict
from trueup.model.errors import JournalFailed, TrueupError
from trueup.model.ids import Epoch
from trueup.model.limits import GROUP_RECORDS_MAX, JOURNAL_QUEUE_MAX
from trueup.model.ops import Draft, EpochTaken, Record

T = TypeVar("T")


class Writer(Protocol):
    """How appends reach the store."""

    async def append(self, append: Append) -> tuple[Record, ...]:
        """Return the records once they are durable."""
        ...

    async def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """Return the new epoch once its record is durable."""
        ...

    async def close(self) -> None:
        """Write what is queued, then let go of the store."""
        ...


class InlineWriter:
    """Each call is done before anything else runs: no thread and no grouping, the same store."""

    def __init__(self, store: Store) -> None:
        """Take over the store."""
        self._store = store

    async def append(self, append: Append) -> tuple[Record, ...]:
        """See `Writer`."""
        return hear(self._store.append((append,))[0])

    async def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """See `Writer`."""
        return self._store.take_epoch(draft, holder)

    async def close(self) -> None:
        """See `Writer`."""
        self._store.close()


@dataclass(frozen=True, slots=True)
class _Appending:
    append: Append
    answer: asyncio.Future[tuple[Record, ...]]


@dataclass(frozen=True, slots=True)
class _TakingEpoch:
    draft: Draft
    holder: EpochTaken
    answer: asyncio.Future[Epoch]


@dataclass(frozen=True, slots=True)
class _Closing:
    answer: asyncio.Future[None]


_Writing = _Appending | _TakingEpoch
_Job = _Writing | _Closing
_Settle = Callable[[], None]


class GroupCommit:
    """A thread that writes whatever has gathered, in the order in which it was asked for. Serves one event loop."""

    def __init__(self, store: Store) -> None:
        """Take over the store and start the thread."""
        self._store = store
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(JOURNAL_QUEUE_MAX)
        self._closing: asyncio.Future[None] | None = None
        # A daemon: when the interpreter ends without `close`, whoever waits is gone too, and was promised nothing.
        self._thread = threading.Thread(target=self._work, name="journal-writer", daemon=True)
        self._thread.start()

    async def append(self, append: Append) -> tuple[Record, ...]:
        """See `Writer`. Waits while `JOURNAL_QUEUE_MAX` appends are under way."""
        await self._room.acquire()
        answer: asyncio.Future[tuple[Record, ...]] = asyncio.get_running_loop().create_future()
        self._put(_Appending(append, answer))
        return await answer

    async def take_epoch(self, draft: Draft, holder: EpochTaken) -> Epoch:
        """See `Writer`."""
        await self._room.acquire()
        answer: asyncio.Future[Epoch] = asyncio.get_running_loop().create_future()
        self._put(_TakingEpoch(draft, holder, answer))
        return await answer

    async def close(self) -> None:
        """See `Writer`. Appends that were called before are written, later ones are refused. Safe to call twice."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._jobs.put(_Closing(self._closing))
        await asyncio.shield(self._closing)
        self._thread.join()  # it has answered and has nothing left to do

    def _put(self, job: _Writing) -> None:
        if self._closing is not None:
            self._room.release()
            raise JournalFailed(what="the journal is closed", where=str(self._store.path))
        self._jobs.put(job)

    def _answer(self, settled: Sequence[_Settle]) -> None:
        """On the loop: tell everybody of a group."""
        for settle in settled:
            settle()
            self._room.release()

    # --- In the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Work until told to close; the store is then closed by the thread that used it."""
        while True:
            group, closing = self._gather()
            if group:
                _on_loop(group[0].answer.get_loop(), partial(self._answer, self._write(group)))
            if closing is not None:
                self._store.close()
                _on_loop(closing.get_loop(), partial(_settle, closing, None))
                return

    def _gather(self) -> tuple[list[_Writing], asyncio.Future[None] | None]:
        """Wait for a job and take those that wait behind it, up to a group's size or the order to close."""
        group: list[_Writing] = []
        records = 0
        job = self._jobs.get()
        while not isinstance(job, _Closing):
            group.append(job)
            records += len(job.append.drafts) if isinstance(job, _Appending) else 1
            if records >= GROUP_RECORDS_MAX:
                return group, None
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, None
        return group, job.answer

    def _write(self, group: Sequence[_Writing]) -> list[_Settle]:
        """Write a group in order, appends that stand together in one transaction; return how to tell the callers."""
        settles: list[_Settle] = []
        together: list[_Appending] = []
        for job in group:
            if isinstance(job, _Appending):
                together.append(job)
            else:
                settles += self._append(together)
                settles.append(self._take_epoch(job))
                together = []
        return settles + self._append(together)

    def _append(self, jobs: Sequence[_Appending]) -> list[_Settle]:
        if not jobs:
            return []
        try:
            verdicts = self._store.append([job.append for job in jobs])
        except Exception as error:  # noqa: BLE001 - one of the thread's two broad guards: nobody waits for ever
            return [partial(_settle, job.answer, error) for job in jobs]
        return [partial(_settle, job.answer, verdict) for job, verdict in zip(jobs, verdicts, strict=True)]

    def _take_epoch(self, job: _TakingEpoch) -> _Settle:
        try:
            return partial(_settle, job.answer, self._store.take_epoch(job.draft, job.holder))
        except Exception as error:  # noqa: BLE001 - the other one
            return partial(_settle, job.answer, error)


def _settle(answer: asyncio.Future[T], result: T | Exception) -> None:
    """Give a caller its answer, unless it was cancelled and waits no more."""
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _on_loop(loop: asyncio.AbstractEventLoop, what: _Settle) -> None:
    """Do something on the loop that waits."""
    with suppress(RuntimeError):  # it is closed, and with it everybody who waited
        loop.call_soon_threadsafe(what)


def hear(verdict: Verdict) -> tuple[Record, ...]:
    """Return an append's records, or raise why it was refused."""
    if isinstance(verdict, TrueupError):
        raise verdict
    return verdict
