"""Ports that are listened to: the same calls, counted and timed, and each durable record heard of.

Rule kept here: whoever listens changes nothing. A call, its result and its error go through as they are; what the
listener does is short, and cannot fail.
"""

import dataclasses
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from trueup.edges.metrics import Metrics
from trueup.edges.parts import Credential, Parts
from trueup.model.errors import TrueupError
from trueup.model.ids import Epoch, TokenId
from trueup.model.ops import Draft, Record
from trueup.ports import Clock, Journal, Pve

if TYPE_CHECKING:
    from trueup.adapters.pve_schema import Looked
    from trueup.model.settings import Settings, StoreSettings

Heard = Callable[[Sequence[Record]], None]


class HeardJournal:
    """`ports.Journal`: all but appends goes straight to the journal itself."""

    def __init__(self, journal: Journal, clock: Clock, metrics: Metrics, heard: Heard) -> None:
        """Tell `heard` of each record once it is durable."""
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        """Everything else, whatever the port holds."""
        return getattr(self._journal, name)

    async def take_epoch(self, *, holder: str, token: TokenId, record_id: str, at_ms: int) -> Epoch:
        """See `ports.Journal`."""
        epoch = await self._journal.take_epoch(holder=holder, token=token, record_id=record_id, at_ms=at_ms)
        newest = await self._newest()
        self._heard(newest)
        return epoch

    async def _newest(self) -> Sequence[Record]:
        """The record of the epoch itself, which `take_epoch` does not return: the head from here on."""
        head = getattr(self._journal, "head", None)
        return await self._journal.records(after_seq=head.seq - 1, limit=1) if head is not None else ()

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        """See `ports.Journal`."""
        began = self._clock.monotonic()
        self._metrics.appending()
        try:
            records = await self._journal.append(epoch, drafts)
        except BaseException as error:
            self._metrics.not_appended(type(error).__name__)
            raise
        self._metrics.appended(records, self._clock.monotonic() - began)
        if records:
            self._heard(records)
        return records


class TimedPve:
    """`ports.Pve`: each call is counted and timed."""

    def __init__(self, pve: Pve, clock: Clock, metrics: Metrics) -> None:
        """Pass everything on to `pve`."""
        self.inner = pve
        self._clock = clock
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        """What the port holds; calls are wrapped."""
        found = getattr(self.inner, name)
        return self._timed(name, found) if inspect.iscoroutinefunction(found) else found

    def _timed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._clock.monotonic()
            failed: TrueupError | None = None
            try:
                return await call(*args, **kwargs)
            except TrueupError as error:
                failed = error
                raise
            finally:
                self._metrics.called(name, self._clock.monotonic() - began, failed)

        return timed


def listened(parts: Parts, metrics: Metrics, heard: Heard) -> Parts:
    """The same parts, listened to."""
    clock = parts.clock()

    def journal(store: "StoreSettings") -> Journal:
        return cast("Journal", HeardJournal(parts.journal(store), clock, metrics, heard))

    @asynccontextmanager
    async def pve(settings: "Settings", who: Credential) -> AsyncGenerator[Pve]:
        async with parts.pve(settings, who) as opened:
            yield cast("Pve", TimedPve(opened, clock, metrics))

    async def options(pve: Pve, settings: "Settings") -> "Looked":
        inner = cast("Any", pve)
        return await parts.options(inner.inner if isinstance(inner, TimedPve) else pve, settings)

    return dataclasses.replace(parts, journal=journal, pve=pve, options=options)
