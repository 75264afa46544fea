"""People are told of what needs them.

That is: unresolved operations, approvals that are waited for, failures that repeat, contradictions and other alarms, a
lost lead, an agent that ends.

Rules kept here: nothing waits for a message and nothing fails by one; each piece of news is told once; what comes
quickly is told together, and there is a most of messages in an hour.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from trueup.edges.log import redacted
from trueup.edges.parts import Notifier, Parts
from trueup.model import limits
from trueup.model.gate import Requested
from trueup.model.ids import Epoch, Vmid
from trueup.model.notes import Note, What
from trueup.model.ops import Accepted, Draft, Kind, OpState, OpView, Record
from trueup.ports import Clock, Journal

if TYPE_CHECKING:
    from trueup.model.settings import StoreSettings

PASS_NOT_MADE: Final = "this pass was not made"  # noqa: S105 - how the engine begins this alarm
"""A single one is a network that hiccupped; the log has it."""

_NUMBERS: Final = re.compile(r"\d+")


class Alarms:
    """A listener of the engine that passes on what needs a person. It outlives the agent's leads."""

    def __init__(self, clock: Clock, cluster: str, notifier: Notifier | None, warn: Callable[[str], object]) -> None:
        """Tell through `notifier`, None for nobody; say by `warn` what could not be told."""
        self._clock = clock
        self._cluster = cluster
        self._notifier = notifier
        self._warn = warn
        self._waiting: list[str] = []
        self._left_out = 0
        self._news = asyncio.Event()
        self._told: dict[str, None] = {}
        self._failures: dict[tuple[Vmid, Kind], int] = {}
        self._passes_failed = 0
        self._sent: deque[float] = deque()
        self._sending: asyncio.Future[tuple[str, ...]] | None = None

    # -- what is told --------------------------------------------------------------------------------------------------

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""
        match note.what:
            case What.OP_OPEN if note.op is not None and note.op.unresolved is not None:
                self._tell(f"open {note.op.op_id}", f"UNRESOLVED: {_name(note.op)} ({note.text}); {_show(note.op)}")
            case What.OP_ENDED if note.op is not None:
                self._ended(note.op, note.text)
            case What.PASS_ENDED:
                self._passes_failed = 0
            case What.ALARM:
                self._alarm(note)
            case _:
                pass

    def recorded(self, records: Sequence[Record]) -> None:
        """The journal took these in one append: a request that was not accepted at once waits for people."""
        accepted = {record.op_id for record in records if isinstance(record.event, Accepted)}
        for record in records:
            if isinstance(record.event, Requested) and record.op_id not in accepted:
                request, missing = record.event.request, record.event.ruling.missing
                what = f"{request.kind} of {request.target.vmid}, asked for by {request.requested_by}"
                text = f"APPROVAL NEEDED: {what}: {missing or 'signatures'}; see `trueup requests`"
                self._tell(f"asked {record.op_id}", text)

    def lost_lead(self, why: str) -> None:
        """Our agent leads no more."""
        self._tell("", f"LOST THE LEAD: {why}; this agent changes nothing any more and stands by")

    def ends(self, why: str) -> None:
        """Our agent ends by an error."""
        self._tell("", f"THE AGENT ENDS: {why}")

    def _ended(self, op: OpView, text: str) -> None:
        of = (op.intent.vmid, op.intent.kind)
        if op.state is not OpState.FAILED:
            self._failures.pop(of, None)
            return
        count = self._failures[of] = self._failures.get(of, 0) + 1
        if count == limits.NOTIFY_FAILURES:
            self._tell("", f"FAILED {count} TIMES: {_name(op)} ({text}); {_show(op)}")

    def _alarm(self, note: Note) -> None:
        if note.text.startswith(PASS_NOT_MADE):
            self._passes_failed += 1
            if self._passes_failed == limits.NOTIFY_FAILURES:
                self._tell("", f"ALARM, {self._passes_failed} times in a row: {note.text}")
            return
        of = note.op.op_id if note.op else ""
        text = f"ALARM: {note.text}{f'; {_show(note.op)}' if note.op else ''}"
        self._tell(f"alarm {of} {_NUMBERS.sub('#', note.text) if of else note.text}", text)

    def _tell(self, once: str, text: str) -> None:
        """Put it down; `once` is what makes it the same as another one ('' = it is always news)."""
        if self._notifier is None or once in self._told:
            return
        if once:
            self._told[once] = None
            if len(self._told) > limits.NOTIFY_REMEMBERED_MAX:
                del self._told[next(iter(self._told))]
        if len(self._waiting) < limits.NOTIFY_LINES_MAX:
            self._waiting.append(redacted(" ".join(text.split())))
        else:
            self._left_out += 1
        self._news.set()

    # -- how it is told ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def telling(self) -> AsyncGenerator[None]:
        """Tell while this is open; at its end, for a moment, what is left."""
        if self._notifier is None:
            yield
            return
        self._news = asyncio.Event()
        if self._waiting:
            self._news.set()
        work = asyncio.create_task(self._keep_telling(self._notifier))
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            await self._sent_within(limits.NOTIFY_AT_END_S)
            await self._send(self._notifier, limits.NOTIFY_AT_END_S)

    async def _keep_telling(self, notifier: Notifier) -> None:
        while True:
            await self._news.wait()
            await self._clock.sleep(max(limits.NOTIFY_GATHER_S, self._until_allowed()))
            await self._send(notifier, limits.NOTIFY_TIMEOUT_S)

    def _until_allowed(self) -> float:
        now = self._clock.monotonic()
        while self._sent and now - self._sent[0] >= limits.NOTIFY_PER_S:
            self._sent.popleft()
        return limits.NOTIFY_PER_S - (now - self._sent[0]) if len(self._sent) >= limits.NOTIFY_MESSAGES_MAX else 0.0

    async def _send(self, notifier: Notifier, within_s: float) -> None:
        if not self._waiting:
            return
        lines, more = self._waiting, self._left_out
        self._waiting, self._left_out = [], 0
        self._news.clear()
        self._sent.append(self._clock.monotonic())
        text = "\n".join([*lines, *([f"and {more} more; see `trueup status`"] if more else [])])
        first = lines[0].partition(":")[0].lower()
        title = f"trueup {self._cluster}: {first}{' and more' if len(lines) > 1 else ''}"
        self._sending = asyncio.ensure_future(notifier.tell(title, text))
        await self._sent_within(within_s)

    async def _sent_within(self, within_s: float) -> None:
        """Wait for the message that is on its way; who waits may be cancelled, and the message goes on."""
        sending = self._sending
        if sending is None:
            return
        done, _ = await asyncio.wait({sending}, timeout=within_s)
        self._sending = None
        if not done:
            sending.cancel()
            self._warn(f"nobody took the message within {within_s:g} s")
            return
        for problem in sending.result():
            self._warn(problem)


def _name(op: OpView) -> str:
    return f"{op.intent.kind.value} of {op.intent.vmid}{f' {op.intent.name}' if op.intent.name else ''}"


def _show(op: OpView) -> str:
    return f"`trueup ops show {op.op_id}`"


# -- where it hears of requests ----------------------------------------------------------------------------------------


class _HeardJournal:
    """`ports.Journal`: all but appends goes straight to the journal itself."""

    def __init__(self, journal: Journal, alarms: Alarms) -> None:
        self._journal = journal
        self._alarms = alarms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        records = await self._journal.append(epoch, drafts)
        self._alarms.recorded(records)
        return records


def heard(parts: Parts, alarms: Alarms) -> Parts:
    """The same parts, whose journal tells of requests once they are durable."""

    def journal(store: "StoreSettings") -> Journal:
        return cast("Journal", _HeardJournal(parts.journal(store), alarms))

    return replace(parts, journal=journal)
