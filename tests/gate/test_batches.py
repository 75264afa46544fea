"""Requests that come at once are judged together: each hears what it would alone, and nothing is let in twice."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from tests.gate.test_attacks import good
from tests.gate.world import Scene, play, request, signed
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.journal import PostgresJournal
from trueup.adapters.system import SystemClock
from trueup.engine.gate import Gate
from trueup.model import limits
from trueup.model.errors import JournalFailed
from trueup.model.gate import Denied, Refusal, Requested
from trueup.model.gate_answers import Outcome
from trueup.model.gate_moment import Lookup
from trueup.model.ops import Accepted

AT_ONCE = 64


class Watched:
    """A journal that counts its calls; `before` is awaited once, after what requests are judged by was read."""

    def __init__(self, journal) -> None:
        self._journal = journal
        self.calls: list[str] = []
        self.lookups: list[Lookup] = []
        self.before: Callable[[], Awaitable[object]] | None = None
        self.append_fails = False

    def __getattr__(self, name):
        self.calls.append(name)
        return getattr(self._journal, name)

    async def moment(self, lookup):
        self.calls.append("moment")
        self.lookups.append(lookup)
        found = await self._journal.moment(lookup)
        if lookup.keys and self.before is not None:
            before, self.before = self.before, None
            await before()
        return found

    async def append(self, epoch, drafts):
        self.calls.append("append")
        if self.append_fails:
            raise JournalFailed(what="the disk is gone")
        return await self._journal.append(epoch, drafts)


def watch(scene: Scene) -> tuple[Watched, Gate]:
    """A gate over a watched journal, beside the scene's own gate."""
    journal = Watched(scene.journal)
    plain, scene.deck = scene.deck, dataclasses.replace(scene.deck, journal=journal)  # type: ignore[arg-type]
    gate = scene.new_gate()
    scene.deck = plain
    return journal, gate


async def all_of(gate: Gate, contents):
    return await asyncio.gather(*(gate.submit(content, "x") for content in contents))


async def gather_behind(journal: Watched, gate: Gate, first: bytes, rest: list[bytes]):
    """Hold the first while it is judged, until all others wait behind it; what lets it go, and the answers to come."""
    go = asyncio.Event()
    journal.before = go.wait
    ahead = asyncio.ensure_future(gate.submit(first, "x"))
    while journal.before is not None:
        await asyncio.sleep(0.001)
    waiting = [asyncio.ensure_future(gate.submit(content, "x")) for content in rest]
    while len(gate._admission._queue._waiting) < 1 + len(rest):
        await asyncio.sleep(0.001)
    return go, [ahead, *waiting]


async def gathered(journal: Watched, gate: Gate, first: bytes, rest: list[bytes]) -> list:
    """The answers to the rest, which were judged together after the first."""
    go, coming = await gather_behind(journal, gate, first, rest)
    go.set()
    return (await asyncio.gather(*coming))[1:]


async def one_was_let_in(scene: Scene, answers) -> None:
    assert sorted(one.outcome for one in answers) == ["accepted"] + ["repetition"] * (len(answers) - 1)
    assert len({one.request for one in answers}) == 1
    assert len(await scene.events(Requested)) == len(await scene.events(Accepted)) == 1
    assert await scene.events(Denied) == []


def test_of_one_nonce_one_is_let_in_however_many_come_at_once(tmp_path):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        await one_was_let_in(scene, await all_of(gate, [good()] * (2 * limits.GATE_BATCH_MAX + 2)))
        assert journal.calls.count("append") == 1

    play(tmp_path, story, inline=False)


def test_of_one_key_one_is_let_in_however_many_come_at_once(tmp_path):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        answers = await all_of(gate, [good(idempotency_key="one") for _ in range(AT_ONCE)])
        await one_was_let_in(scene, answers)
        assert journal.calls.count("append") == 1
        assert sum("in progress" in one.reason for one in answers) == AT_ONCE - 1

    play(tmp_path, story, inline=False)


@pytest.mark.parametrize("same", ["nonce", "key"])
def test_those_that_speak_of_one_thing_are_not_judged_together(tmp_path, same):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        content = good(idempotency_key="one")
        rest = [content if same == "nonce" else good(idempotency_key="one") for _ in range(5)]
        answers = await gathered(journal, gate, good(), rest)
        assert [one.outcome for one in answers] == [Outcome.ACCEPTED, *[Outcome.REPETITION] * 4]
        assert journal.calls.count("append") == 2

    play(tmp_path, story, inline=False)


def test_of_one_nonce_one_is_let_in_by_two_gates(tmp_path):
    async def story(scene: Scene) -> None:
        content, other = good(), scene.new_gate()
        both = await asyncio.gather(all_of(scene.gate, [content] * 32), all_of(other, [content] * 32))
        await one_was_let_in(scene, [*both[0], *both[1]])

    play(tmp_path, story, inline=False)


class InPostgres(Scene):
    """The same scene over a journal in PostgreSQL, which has to be entered."""

    url = ""

    async def open(self) -> Scene:
        await self.journal.close()
        address = parse(self.url, "gate")
        self.journal = PostgresJournal(address, holder="test", lease_s=60, clock=SystemClock())  # type: ignore[assignment]
        await self.journal.enter()
        return await super().open()


def test_of_one_nonce_one_is_let_in_with_a_database(tmp_path, database):
    async def story(scene: Scene) -> None:
        content, other = good(), scene.new_gate()
        both = await asyncio.gather(all_of(scene.gate, [content] * 32), all_of(other, [content] * 32))
        await one_was_let_in(scene, [*both[0], *both[1]])

    play(tmp_path, story, scene=type("There", (InPostgres,), {"url": database}))


def test_what_comes_at_once_costs_few_reads_and_one_append_each(tmp_path):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        contents = [good(reason=f"ticket {number}") for number in range(AT_ONCE)]
        answers = await gathered(journal, gate, good(), contents)
        assert {one.outcome for one in answers} == {Outcome.ACCEPTED}
        assert len({one.request for one in answers}) == AT_ONCE
        assert set(journal.calls) == {"moment", "append"}
        assert journal.calls.count("append") == AT_ONCE + 1
        assert journal.calls.count("moment") <= 6

    play(tmp_path, story, inline=False)


def test_those_before_it_in_a_batch_count_for_a_budget(tmp_path):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        templates = [signed(request("template"), "alice") for _ in range(3)]
        answers = await gathered(journal, gate, good(), templates)
        assert [one.refusal for one in answers] == [None, Refusal.BUDGET, Refusal.BUDGET]

    play(tmp_path, story, inline=False)


def test_those_before_it_in_a_batch_take_room_for_nonces(tmp_path, monkeypatch):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        monkeypatch.setattr(limits, "NONCES_MAX", 3)
        answers = await gathered(journal, gate, good(), [good() for _ in range(4)])
        assert [one.refusal for one in answers] == [None, None, Refusal.NONCES_FULL, Refusal.NONCES_FULL]
        assert journal.lookups[-1].counted  # where it seems full it is counted anew

    play(tmp_path, story, inline=False)


def test_what_the_journal_refuses_is_judged_again(tmp_path):
    """Between reading and writing, somebody else lets the same request in."""

    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        content = good()

        async def meanwhile() -> None:
            await scene.gate.submit(content, "x")

        journal.before = meanwhile
        answer = await gate.submit(content, "x")
        assert answer.outcome is Outcome.REPETITION
        assert (await scene.op(answer.op)).op_id == answer.request
        assert await scene.events(Denied) == []

    play(tmp_path, story)


def test_nobody_is_turned_away_for_what_the_journal_refused(tmp_path):
    """The budget of one was given to a request that was not let in after all: the next one gets it."""

    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        taken = signed(request("template", idempotency_key="taken"), "alice")
        free = signed(request("template"), "alice")
        go, coming = await gather_behind(journal, gate, good(), [taken, free])

        async def meanwhile() -> None:
            assert (await scene.gate.submit(good(idempotency_key="taken"), "x")).outcome is Outcome.ACCEPTED

        journal.before = meanwhile
        go.set()
        answers = await asyncio.gather(*coming)
        assert [one.refusal for one in answers] == [None, Refusal.KEY_DIFFERS, None]
        assert answers[2].outcome is Outcome.ACCEPTED

    play(tmp_path, story, inline=False)


@pytest.mark.parametrize("at", ["reading", "writing"])
def test_whoever_goes_away_leaves_the_others_their_answers(tmp_path, at):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        mine, contents = good(), [good() for _ in range(5)]
        go, (first, *others) = await gather_behind(journal, gate, mine, contents)
        if at == "writing":
            go.set()
            while "append" not in journal.calls:
                await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.wait_for(asyncio.gather(*others), 60)
        assert {one.outcome for one in answers} <= {Outcome.ACCEPTED, Outcome.REPETITION}
        again = await gate.submit(mine, "x")
        assert again.outcome is (Outcome.ACCEPTED if at == "reading" else Outcome.REPETITION)
        assert len(await scene.events(Accepted)) == len(await scene.events(Requested)) == 6

    play(tmp_path, story, inline=False)


def test_when_the_journal_fails_everybody_hears_it(tmp_path):
    async def story(scene: Scene) -> None:
        journal, gate = watch(scene)
        journal.append_fails = True
        waiting = (gate.submit(good(), "x") for _ in range(5))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in results] == [JournalFailed] * 5

    play(tmp_path, story, inline=False)
