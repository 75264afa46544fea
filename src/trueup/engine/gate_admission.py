"""Requests that wait together are judged together: one read, one look at each in order, one commit for all of them.

A request is let in by one append (its nonce, its key, its signatures and its acceptance together). Requests that speak
of the same nonce or the same key are never in one batch: the later one is judged after the earlier one is durable. The
journal checks nonce and key once more. What it refuses is judged again, once, and so is whoever was turned away for the
sake of it.
"""

import asyncio
from collections.abc import Sequence

from trueup.engine.deck import Deck
from trueup.engine.gate_judge import Admitted, Arrived, Judge, Write, lookup_for
from trueup.engine.gate_together import Together
from trueup.model import limits
from trueup.model.errors import IllegalTransition
from trueup.model.gate import Refusal, Requested
from trueup.model.gate_answers import Answer, GateRefused


class Admission:
    """Lets requests in. `turn` is the gate's lock: nothing else of the gate is written meanwhile."""

    def __init__(self, deck: Deck, judge: Judge, turn: asyncio.Lock) -> None:
        """Nothing is read before the first request."""
        self._deck = deck
        self._judge = judge
        self._remembered: int | None = None  # requests whose nonces the journal knows, counted once
        self._queue: Together[Arrived] = Together(self._settle, turn, most=limits.GATE_BATCH_MAX)

    async def take(self, arrived: Arrived) -> Answer:
        """Let a request in, or say why not.

        Raises:
            GateRefused: it is not let in.
            Stale, JournalFailed: the journal refused the record; nothing was let in.
        """
        await self._queue.through(arrived)
        match arrived.outcome:
            case Answer() as answer:
                return answer
            case Exception() as error:
                raise error
            case None:  # narrows the type; `through` returns once it is settled
                raise GateRefused(Refusal.STATE, "it was not judged", "send it again")

    async def _settle(self, waiting: Sequence[Arrived]) -> None:
        batch = _apart(waiting)
        counted = self._remembered is None or self._remembered + len(batch) > limits.NONCES_MAX
        moment = await self._deck.journal.moment(lookup_for(batch, counted=counted))
        # Where it seems full it is counted anew: it may have been pruned.
        admitted = Admitted(count=moment.count if counted else self._remembered or 0, waiting=[])
        verdicts: list[Answer | GateRefused | Write] = []
        for arrived in batch:
            try:
                verdict = self._judge.judge(arrived, moment, admitted)
            except GateRefused as no:
                verdicts.append(no)
                continue
            verdicts.append(verdict)
            if isinstance(verdict, Write):
                admitted.count += isinstance(verdict.events[0], Requested)
                admitted.waiting += [verdict.accepts] if verdict.accepts is not None else []
        self._remembered = admitted.count
        await self._write(list(zip(batch, verdicts, strict=True)))

    async def _write(self, judged: Sequence[tuple[Arrived, Answer | GateRefused | Write]]) -> None:
        """Append what is to be written, all at once, and settle everybody after it is durable."""
        writes = [(arrived, verdict) for arrived, verdict in judged if isinstance(verdict, Write)]
        results = await self._appended([write for _, write in writes])
        failed = {id(arrived): result for (arrived, _), result in zip(writes, results, strict=True) if result}
        doubtful = False
        for arrived, verdict in judged:
            result = failed.get(id(arrived))
            if isinstance(result, IllegalTransition):  # the executor or another statement was faster
                doubtful = True
                arrived.outcome = GateRefused(Refusal.STATE, result.what) if arrived.tried else None
                arrived.tried = True
            elif isinstance(verdict, Write):
                arrived.outcome = result or verdict.then
            elif not doubtful:  # else it may have been turned away for the sake of what is not there
                arrived.outcome = verdict

    async def _appended(self, writes: Sequence[Write]) -> list[Exception | None]:
        """Append each by itself, in order: they share a commit, not a fate. Returns what the journal said to each."""
        if not writes:
            return []
        if len(writes) == 1:
            return [await self._append(writes[0])]
        return await asyncio.gather(*(self._append(write) for write in writes))

    async def _append(self, write: Write) -> Exception | None:
        try:
            await self._deck.record(write.request_id, *write.events)  # the commit point
        except Exception as error:  # noqa: BLE001 - each sender hears what the journal said to their own record
            return error
        return None


def _apart(waiting: Sequence[Arrived]) -> list[Arrived]:
    """Those that can be judged together, in order: of a nonce or a key only the first."""
    nonces: set[str] = set()
    keys: set[str] = set()
    batch: list[Arrived] = []
    for arrived in waiting:
        request = arrived.request
        if request.nonce not in nonces and request.idempotency_key not in keys:
            batch.append(arrived)
        nonces.add(request.nonce)
        keys.add(request.idempotency_key)
    return batch
