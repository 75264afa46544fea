"""The clock that jumps: in order, never past anything that is due, and not for ever."""

import asyncio

import pytest

from pvesim.world import Request
from tests.simulation.cluster import SimCluster
from tests.simulation.harness import SECRET, TOKEN
from tests.simulation.scenarios import SPEC
from tests.simulation.virtual_time import Deadlock, VirtualTimeLoop, run


def test_calls_come_in_the_order_of_their_times_and_those_of_one_time_as_they_were_made() -> None:
    seen: list[tuple[str, float]] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        for name, at_s in (("b", 2.0), ("a", 1.0), ("c", 2.0), ("never", 1.5), ("d", 2.0)):
            handle = loop.call_at(at_s, lambda name=name: seen.append((name, loop.time())))
            if name == "never":
                handle.cancel()
        await asyncio.sleep(3.0)

    run(story())
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 2.0)]


def test_who_is_never_woken_fails() -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(story())


def test_the_clock_skips_nothing_that_is_due() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        gone, due = loop.call_at(1.0, int), loop.call_at(5.0, int)
        gone.cancel()
        assert not loop.skip_to(6.0)
        assert not loop.skip_to(5.0), "at one instant, one comes after the other"
        assert loop.skip_to(4.0)
        assert loop.time() == 4.0
        due.cancel()
        soon = loop.call_soon(int)
        assert not loop.skip_to(6.0), "what is ready comes first"
        soon.cancel()

    run(story())


def test_the_world_goes_no_further_than_to_what_others_do() -> None:
    """While it moves on by itself, somebody else's call finds it as it is at the time of that call."""

    async def story() -> None:
        cluster = _cluster()
        seen: list[bool] = []
        ticket = cluster.submit(_version())
        loop = asyncio.get_running_loop()
        answer = cluster._answers[ticket]
        loop.call_at(0.0005, lambda: seen.append(answer.done()))
        assert (await cluster.answer(ticket)).status == 200
        assert seen == [False]
        assert 0.001 < loop.time() < 0.1

    run(story())


def test_an_answer_that_comes_too_late_is_not_waited_for() -> None:
    async def story() -> None:
        cluster = _cluster()
        with pytest.raises(TimeoutError):
            await cluster.answer(cluster.submit(_version()), within_s=0.0005)
        assert asyncio.get_running_loop().time() == 0.0005
        assert (await cluster.answer(cluster.submit(_version()), within_s=1.0)).status == 200

    run(story())


def _cluster() -> SimCluster:
    return SimCluster({"tokens": [{"id": TOKEN, "secret": SECRET}], "users": ["agent@pve"], **SPEC}, seed=1)


def _version() -> Request:
    return Request(node="pve1", method="GET", path="/version", authorization=f"PVEAPIToken={TOKEN}={SECRET}")
