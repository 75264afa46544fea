"""Signed statements that reached an agent which does not lead: it leaves them in the inbox, the leader takes them.

Rules kept here:
- The inbox carries bytes and decides nothing. Only the leader's gate verifies, and only the leader writes the journal.
- A row goes after the gate has answered, so what it decided is in the journal. Who dies in between meets the row again,
  and the gate answers then as to a repetition: a nonce counts once.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from trueup.core import gate_checks, gate_form
from trueup.core.gate_envelope import parse_envelope
from trueup.edges.spool import Door
from trueup.edges.standing_by import StandingBy
from trueup.model import limits
from trueup.model.errors import BadInput, JournalFailed
from trueup.model.gate import Refusal, RequestState, RequestView
from trueup.model.gate_answers import OPERATION_TYPE, Answer, GateRefused, Outcome
from trueup.model.ids import OpId
from trueup.model.settings import Settings
from trueup.ports import Clock, Journal

Say = Callable[[str], None]

_NOT_NOW: Final = frozenset({Refusal.NO_KEYRING, Refusal.NONCES_FULL, Refusal.UNREADABLE})
"""Refusals that say nothing about the statement. Its sender has gone, so it is tried again here."""

_AGAIN_S: Final = 30.0


class Row(Protocol):
    """A statement as it came, and how: http, spool, stdin or command."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def via(self) -> str:
        """How it came."""
        ...

    @property
    def request(self) -> bytes:
        """Its bytes."""
        ...


class Inbox(Protocol):
    """The inbox, for the leader. All may raise JournalFailed."""

    async def inbox_take(self, after: int = 0) -> Sequence[Row]:
        """The oldest rows behind this number; they stay."""
        ...

    async def inbox_done(self, ids: Sequence[int]) -> None:
        """Take these out."""
        ...

    async def inbox_wait(self, seconds: float) -> None:
        """Wait until something may have come, or so long."""
        ...


class Taker:
    """The leader's side: brings what waits to the gate."""

    def __init__(self, inbox: Inbox, gate: Door, clock: Clock, say: Say) -> None:
        """`say` is told what became of each statement, since its sender has only heard that it is recorded."""
        self._inbox = inbox
        self._gate = gate
        self._clock = clock
        self._say = say
        self._again: dict[int, float] = {}

    async def keep(self) -> None:
        """Look at once, whenever something comes, and now and then. Raises Stale or JournalFailed."""
        while True:
            await self.look()
            await self._inbox.inbox_wait(limits.INBOX_LOOK_S)

    async def look(self) -> None:
        """Take all that waits. Raises Stale or JournalFailed; then a row stays, for whoever leads next."""
        last = 0
        while rows := await self._inbox.inbox_take(last):
            for row in rows:
                last = row.id
                if self._again.get(row.id, 0.0) <= self._clock.monotonic():
                    await self._take(row)

    async def _take(self, row: Row) -> None:
        try:
            answer = await self._gate.submit(row.request, row.via)
        except BadInput as error:
            self._say(f"a statement of the inbox ({row.via}) cannot be taken: {error}")
        else:
            if answer.refusal in _NOT_NOW:
                self._again[row.id] = self._clock.monotonic() + _AGAIN_S
                self._say(f"a statement of the inbox ({row.via}) is tried again: {answer.reason}")
                return
            about = answer.request or answer.op
            why = answer.missing or answer.reason
            self._say(f"from the inbox ({row.via}): {' '.join(filter(None, (answer.state, about, why)))}")
        self._again.pop(row.id, None)
        await self._inbox.inbox_done((row.id,))


def taker(settings: Settings, journal: Journal, gate: Door, clock: Clock, say: Say) -> Taker | None:
    """Who takes what standbys have put down for whoever leads `journal`; None where there are none."""
    return Taker(cast("Inbox", journal), gate, clock, say) if settings.store.postgres is not None else None


class Post:
    """The other side: a door (`web.intake.Intake`, `spool.Door`) that only puts things into the inbox."""

    def __init__(self, standby: StandingBy) -> None:
        """Put them where `standby` can."""
        self._standby = standby

    async def submit(self, content: bytes, via: str) -> Answer:
        """Record a signed statement for the leader; what is known already is answered at once.

        Raises:
            JournalFailed: it is not known to be recorded, or too many wait already.
        """
        try:
            known = await self._known(content)
        except GateRefused as no:
            return Answer(outcome=Outcome.REFUSED, state=Outcome.REFUSED.value, reason=str(no), refusal=no.refusal)
        if known is not None and known.state is not RequestState.PENDING:
            return gate_checks.answer_for(known, await self._standby.op(known.request_id))
        try:
            await self._standby.inbox_put(content, via)
        except BadInput as full:
            raise JournalFailed(what=full.what, remedy=full.remedy) from full
        leader = await self._standby.leader()
        decides = f"the leader {leader.holder} decides" if leader else "whoever leads next decides"
        return Answer(
            outcome=Outcome.PENDING,
            state=Outcome.PENDING.value,
            request=known.request_id if known else OpId(""),
            reason=f"recorded; {decides}",
        )

    async def approve(self, request_id: str, content: bytes, via: str) -> Answer:
        """The same: an envelope with more signatures holds the request. Raises like `submit`."""
        del request_id
        return await self.submit(content, via)

    async def _known(self, content: bytes) -> RequestView | None:
        """The request that these bytes hold, if it is in the journal. Raises GateRefused for what no gate takes."""
        envelope = parse_envelope(content)
        if envelope.payload_type != OPERATION_TYPE:
            return None
        known = await self._standby.request_of_nonce(gate_form.parse_request(envelope.payload).nonce)
        same = known is not None and known.payload_sha256 == hashlib.sha256(envelope.payload).hexdigest()
        return known if same else None
