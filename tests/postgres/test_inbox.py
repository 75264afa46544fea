"""The inbox of a real journal, with a gate that says what the test wants: nothing is lost, nothing is in the way."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.journal.samples import epoch
from tests.postgres.test_commit import opened
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.standby import Standby
from trueup.adapters.system import SystemClock
from trueup.edges.inbox import Post, Taker
from trueup.model import limits
from trueup.model.errors import BadInput, JournalFailed
from trueup.model.gate import Refusal
from trueup.model.gate_answers import Answer, Outcome

ACCEPTED = Answer(outcome=Outcome.ACCEPTED, state="accepted")
UNREADABLE = Answer(outcome=Outcome.REFUSED, state="refused", refusal=Refusal.UNREADABLE, reason="PVE does not answer")
BAD_SIGNATURE = Answer(outcome=Outcome.REFUSED, state="refused", refusal=Refusal.SIGNATURE)


class Clock(SystemClock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Gate:
    """Answers one after the other; an exception is raised."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bytes, str]] = []

    async def submit(self, content: bytes, via: str) -> Answer:
        self.heard.append((content, via))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_row_goes_after_the_gate_has_answered_and_not_before(database: str) -> None:
    async def story() -> None:
        standby, leader = await Standby.open_beside(parse(database, "lab"), Clock()), await opened(database)
        for text in (b"a", b"b"):
            await standby.inbox_put(text, "spool")
        died = Gate(ACCEPTED, JournalFailed(what="the disk is full"))
        with pytest.raises(JournalFailed):
            await Taker(leader, died, Clock(), print).look()
        assert [row.request for row in await leader.inbox_take()] == [b"b"]
        gate = Gate(BAD_SIGNATURE)
        await Taker(leader, gate, Clock(), print).look()
        assert gate.heard == [(b"b", "spool")]
        assert await leader.inbox_take() == ()
        await leader.close()
        await standby.close()

    asyncio.run(story())


def test_what_cannot_be_judged_now_is_tried_again_and_holds_nothing_up(database: str) -> None:
    async def story() -> None:
        clock = Clock()
        standby, leader = await Standby.open_beside(parse(database, "lab"), clock), await opened(database)
        for text in (b"a", b"b", b"c"):
            await standby.inbox_put(text, "http")
        gate = Gate(UNREADABLE, BadInput(what="no text"), ACCEPTED, ACCEPTED)
        said: list[str] = []
        taker = Taker(leader, gate, clock, said.append)
        await taker.look()
        await taker.look()
        assert [content for content, _ in gate.heard] == [b"a", b"b", b"c"]
        assert [row.request for row in await leader.inbox_take()] == [b"a"]
        clock.ahead = 31.0
        await taker.look()
        assert [content for content, _ in gate.heard] == [b"a", b"b", b"c", b"a"]
        assert await leader.inbox_take() == ()
        assert "tried again: PVE does not answer" in said[0]
        await leader.close()
        await standby.close()

    asyncio.run(story())


def test_the_leader_is_told_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_LOOK_S", 600.0)

    async def story() -> None:
        standby, leader = await Standby.open_beside(parse(database, "lab"), Clock()), await opened(database)
        await epoch(leader)
        gate = Gate(*[ACCEPTED] * 3)
        keeping = asyncio.create_task(Taker(leader, gate, Clock(), print).keep())
        for number in range(1, 4):
            await asyncio.sleep(0.5)
            await standby.inbox_put(b"x", "http")
            async with asyncio.timeout(20):
                while len(gate.heard) < number or await leader.inbox_take():
                    await asyncio.sleep(0.02)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await leader.close()
        await standby.close()

    asyncio.run(story())


@pytest.mark.parametrize(("content", "refusal"), [(b"{", Refusal.MALFORMED), (b"x" * 70_000, Refusal.TOO_LARGE)])
def test_what_no_gate_takes_is_refused_at_the_standby(database: str, content: bytes, refusal: Refusal) -> None:
    async def story() -> None:
        standby = await Standby.open_beside(parse(database, "lab"), Clock())
        answer = await Post(standby).submit(content, "http")
        assert (answer.outcome, answer.refusal) == (Outcome.REFUSED, refusal)
        leader = await opened(database)
        rows: Sequence[object] = await leader.inbox_take()
        assert rows == ()
        await leader.close()
        await standby.close()

    asyncio.run(story())
