"""Who leads: never two, never beyond the lease, and whoever lost it writes and sends nothing."""

import asyncio
import math

import pytest

from tests.journal.samples import epoch, started
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server
from tests.postgres.test_commit import opened, through, verified
from trueup.adapters.postgres import lease
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.standby import Standby
from trueup.adapters.system import SystemClock
from trueup.engine.led import LedPve
from trueup.model import limits
from trueup.model.errors import BadInput, JournalBusy, JournalFailed, Stale
from trueup.model.pve import Call

CLOCK = SystemClock()


@pytest.mark.parametrize("lease_s", [limits.LEASE_MIN_S, 10.0, limits.LEASE_S, 600.0, limits.LEASE_MAX_S])
def test_a_holder_believes_in_less_than_it_has_and_renews_in_time(lease_s: float) -> None:
    assert lease_s - lease.believed_s(lease_s) >= limits.LEASE_MARGIN_S
    assert lease_s - lease.believed_s(lease_s) >= lease_s * limits.LEASE_DRIFT
    assert 3 * lease.renew_s(lease_s) < lease.believed_s(lease_s)


def test_only_one_leads(database: str) -> None:
    async def story() -> None:
        first = await opened(database, holder="one:1")
        with pytest.raises(JournalBusy, match="one:1 leads"):
            await opened(database, holder="two:2")
        assert await epoch(first) == 1
        await first.close()
        second = await opened(database, holder="two:2")
        assert await epoch(second) == 2
        leader = await second.leader()
        assert leader is not None
        assert (leader.holder, leader.epoch) == ("two:2", 2)
        await second.close()
        assert await verified(database) == 2

    asyncio.run(story())


def test_of_many_that_ask_at_once_one_gets_it(database: str) -> None:
    async def story() -> None:
        answers = await asyncio.gather(*(opened(database, holder=f"h:{n}") for n in range(8)), return_exceptions=True)
        (leader,) = [one for one in answers if not isinstance(one, BaseException)]
        assert sum(isinstance(one, JournalBusy) for one in answers) == 7, answers
        await epoch(leader)
        await leader.close()

    asyncio.run(story())


def test_a_lease_is_kept_for_as_long_as_its_holder_lives(database: str) -> None:
    async def story() -> None:
        journal = await opened(database, lease_s=4)
        for _ in range(6):
            await asyncio.sleep(1)
            assert journal.lead_until() > CLOCK.monotonic()
            with pytest.raises(JournalBusy):
                await opened(database, holder="late:1")
        await journal.close()

    asyncio.run(story())


def test_whoever_is_cut_off_stops_before_another_one_can_lead(postgres: Server, database: str) -> None:
    """The former leader sees neither renewals nor the new leader; it goes by its own clock, and is the first to end."""

    async def story() -> None:
        async with Proxy(postgres.port) as proxy:
            old = await opened(through(database, proxy.port), lease_s=4, holder="old:1")
            e = await epoch(old)
            await asyncio.sleep(1.5)  # renewed at least once
            proxy.down = True
            proxy.cut_all()
            until = old.lead_until()
            while True:
                try:
                    new = await opened(database, lease_s=4, holder="new:2")
                    break
                except JournalBusy:
                    await asyncio.sleep(0.02)
            taken = CLOCK.monotonic()
            assert until < taken, "both led at once"
            assert old.lead_until() < taken
            later = await epoch(new)
            proxy.down = False
            with pytest.raises((Stale, JournalFailed)):
                await old.append(e, [started("stale")])
            with pytest.raises((Stale, JournalFailed)):
                await old.led()
            await new.append(later, [started("a")])
            await old.close()  # gives back nothing that is another's
            assert (await new.leader()) is not None
            await new.append(later, [started("b", 102)])
            await new.close()
            assert await verified(database) == 4

    asyncio.run(story())


def test_a_stale_leader_writes_and_sends_nothing(postgres: Server, database: str) -> None:
    """It slept through its lease, and does not know it yet: the head, the lease and its own clock stop it."""

    class Wire:
        def __init__(self) -> None:
            self.sent: list[Call] = []

        async def send(self, call: Call) -> None:
            self.sent.append(call)

    async def story() -> None:
        old = await opened(database, holder="old:1")
        e = await epoch(old)
        name = database.rpartition("/")[2]
        await asyncio.to_thread(
            postgres.sql, name, "UPDATE trueup.lease SET lease_until = clock_timestamp() - interval '1 second'"
        )
        new = await opened(database, holder="new:2")
        with pytest.raises(Stale, match="another agent leads"):  # before the new one has even taken its epoch
            await old.append(e, [started("stale")])
        with pytest.raises(Stale):
            await epoch(old)
        later = await epoch(new)
        assert later == e + 1
        with pytest.raises(Stale):
            await old.append(e, [started("stale")])
        assert old.lead_until() == -math.inf
        wire = Wire()
        await LedPve(wire, old).send(Call(method="POST", path="/x", params={}, send_by=CLOCK.monotonic() + 30))  # type: ignore[arg-type]
        await LedPve(wire, old).send(Call(method="POST", path="/x", params={}))  # type: ignore[arg-type]
        assert [call.send_by for call in wire.sent] == [-math.inf, -math.inf]
        await LedPve(wire, new).send(Call(method="POST", path="/x", params={}))  # type: ignore[arg-type]
        assert CLOCK.monotonic() < wire.sent[2].send_by <= CLOCK.monotonic() + limits.LEASE_S
        await old.close()
        assert [r.epoch for r in await new.records()] == [1, 2]
        await new.close()

    asyncio.run(story())


def test_an_epoch_is_not_taken_with_a_lease_that_ran_out(postgres: Server, database: str) -> None:
    async def story() -> None:
        journal = await opened(database)
        name = database.rpartition("/")[2]
        await asyncio.to_thread(
            postgres.sql, name, "UPDATE trueup.lease SET lease_until = clock_timestamp() - interval '1 second'"
        )
        with pytest.raises(Stale):
            await epoch(journal)
        await journal.close()

    asyncio.run(story())


def test_who_stands_by_is_told_when_the_lease_is_given_back(database: str) -> None:
    async def story() -> None:
        standby = await Standby.open_beside(parse(database, "lab"), CLOCK)
        assert await standby.chance_to_lead() is None
        leader = await opened(database, lease_s=600)
        await epoch(leader)
        seen = await standby.leader()
        assert seen is not None
        assert seen.epoch == 1

        async def wait() -> float:
            while await standby.chance_to_lead() is not None:
                pass
            return CLOCK.monotonic()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await leader.close()
        released = CLOCK.monotonic()
        assert await waiting - released < limits.STANDBY_LOOK_S + 2
        assert len(await standby.records()) == 1
        await standby.close()

    asyncio.run(story())


def test_what_standbys_are_asked_reaches_the_leader_once(database: str) -> None:
    async def story() -> None:
        standby = await Standby.open_beside(parse(database, "lab"), CLOCK)
        numbers = [await standby.inbox_put(f"request {n}".encode(), "http") for n in range(3)]
        leader = await opened(database)
        await epoch(leader)
        waiting = await leader.inbox_take()
        assert [(w.id, w.request, w.via) for w in waiting] == [
            (number, f"request {n}".encode(), "http") for n, number in enumerate(numbers)
        ]
        assert await leader.inbox_take() == waiting  # taken is not done: a leader may die in between
        await leader.inbox_done(numbers[:2])
        assert [w.id for w in await leader.inbox_take()] == numbers[2:]
        assert len(await leader.records()) == 1  # no epoch, no chain
        with pytest.raises(BadInput, match="bytes"):
            await standby.inbox_put(b"x" * (limits.REQUEST_MAX_BYTES + 1), "http")
        await leader.close()
        await standby.close()

    asyncio.run(story())


def test_an_inbox_is_not_filled_for_ever(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_MAX", 3)

    async def story() -> None:
        standby = await Standby.open_beside(parse(database, "lab"), CLOCK)
        for _ in range(3):
            await standby.inbox_put(b"x", "http")
        with pytest.raises(BadInput, match="wait for a leader"):
            await standby.inbox_put(b"x", "http")
        await standby.close()

    asyncio.run(story())


def test_journals_of_one_database_do_not_meet(database: str) -> None:
    from trueup.adapters.postgres.journal import PostgresJournal

    async def story() -> None:
        journals = [
            PostgresJournal(parse(database, name), holder=name, lease_s=60, clock=CLOCK) for name in ("lab", "prod")
        ]
        for journal in journals:
            await journal.enter()
            e = await epoch(journal)
            await journal.append(e, [started("a")])
        for journal in journals:
            assert len(await journal.records()) == 2
            await journal.close()
        assert await verified(database) == 2

    asyncio.run(story())


def test_a_leader_that_stands_still_in_mid_append_holds_nobody_up_beyond_its_lease(database: str) -> None:
    """It holds the head's lock, with which its successor begins; the server cuts it off within the lease."""

    async def story() -> None:
        first = await opened(database, lease_s=limits.LEASE_MIN_S)
        await epoch(first)
        assert first._keeping._task is not None
        connection = await first._store._connected()
        await connection.execute("BEGIN")
        await connection.fetchrow("SELECT 1 FROM trueup.head FOR UPDATE")
        first._keeping._task.cancel()  # from here on it does nothing, as under SIGSTOP
        began = CLOCK.monotonic()
        second = None
        while second is None:
            try:
                second = await opened(database, holder="two:2")
            except JournalBusy:
                await asyncio.sleep(0.2)
        leads = CLOCK.monotonic()
        assert await epoch(second) == 2
        print(f"led {leads - began:.1f} s, had its epoch {CLOCK.monotonic() - began:.1f} s after the other stood still")
        assert CLOCK.monotonic() - leads < limits.POSTGRES_IDLE_S / 2
        await second.close()
        await first.close()

    asyncio.run(story())
