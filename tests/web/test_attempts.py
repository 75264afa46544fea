"""Logins that fail again and again are slowed, for whoever fails and nobody else."""

import asyncio
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.gate.world import Clock
from tests.web.client import csrf_of
from trueup.edges.web.attempts import Attempts
from trueup.edges.web.doors import Doors
from trueup.edges.web.entrance import Entrance
from trueup.model import login_limits
from trueup.model.settings import Secret

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)  # pyright: ignore[reportArgumentType] - it has all that is asked of it


def fail(attempts: Attempts, times: int, host: str = HERE) -> None:
    for _ in range(times):
        attempts.failed(host)


def test_some_mistakes_are_free_and_then_the_waits_double(attempts: Attempts, clock: Clock) -> None:
    waits = []
    for _ in range(login_limits.TRIES + 10):
        fail(attempts, 1)
        waits.append(attempts.wait_s(HERE))
    assert waits[: login_limits.TRIES + 5] == [0] * (login_limits.TRIES - 1) + [2, 4, 8, 16, 30, 30]
    assert set(waits[login_limits.TRIES + 3 :]) == {int(login_limits.WAIT_MAX_S)}
    assert attempts.wait_s(THERE) == 0
    clock.ms += 29_500
    assert attempts.wait_s(HERE) == 1
    clock.ms += 500
    assert attempts.wait_s(HERE) == 0


def test_the_right_token_and_time_forget(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, login_limits.TRIES)
    attempts.succeeded(HERE)
    fail(attempts, 1)
    assert attempts.wait_s(HERE) == 0
    fail(attempts, login_limits.TRIES)
    clock.ms += int(login_limits.FORGOTTEN_S * 1000)
    fail(attempts, 1)
    assert attempts.wait_s(HERE) == 0


def test_addresses_of_one_network_are_one_source(attempts: Attempts) -> None:
    fail(attempts, login_limits.TRIES - 1, "2001:db8::1")
    fail(attempts, 1, "2001:db8::2%eth0")
    assert attempts.wait_s("2001:db8::ffff") == 2
    assert attempts.wait_s("2001:db8:0:1::1") == 0
    fail(attempts, login_limits.TRIES, "::ffff:192.0.2.7")
    assert attempts.wait_s("::ffff:192.0.2.8") == 0


def test_memory_is_bounded_and_the_oldest_is_forgotten(attempts: Attempts) -> None:
    fail(attempts, login_limits.TRIES, "first")
    for number in range(login_limits.SOURCES_MAX - 1):
        attempts.failed(f"host-{number}")
    assert attempts.wait_s("first") > 0
    attempts.failed("one more")
    assert attempts.wait_s("first") == 0


def test_the_login_asks_first_whether_one_may_try(clock: Clock) -> None:
    """While it waits not even the right token is looked at; then it is let in, and a stranger was never kept out."""
    token = "the-right-token-of-this-test"
    said: list[str] = []
    house: Any = SimpleNamespace(
        doors=Doors(Secret(token), clock, tls=False),  # pyright: ignore[reportArgumentType]
        clock=clock,
        complain=said.append,
        cluster="lab",
        root="",
    )
    entrance = Entrance(house)

    async def ask(given: str | None, host: str = HERE, cookie: str = "", csrf: str = "") -> Response:
        body = urlencode({"token": given or "", "csrf": csrf}).encode()
        headers = [(b"cookie", cookie.encode()), (b"content-type", b"application/x-www-form-urlencoded")]

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        method = "GET" if given is None else "POST"
        scope = {"type": "http", "method": method, "path": "/login", "query_string": b"", "headers": headers}
        return await entrance.login(Request({**scope, "client": (host, 1), "server": ("here", 80)}, receive))

    async def story() -> None:
        form = await ask(None)
        cookie = form.headers["set-cookie"].partition(";")[0]
        csrf = csrf_of(bytes(form.body).decode())
        for _ in range(login_limits.TRIES):
            assert (await ask("wrong", cookie=cookie, csrf=csrf)).status_code == 403
        clock.ms -= 500  # as long as the last one took to be answered
        slowed = await ask(token, cookie=cookie, csrf=csrf)
        assert (slowed.status_code, slowed.headers["retry-after"]) == (429, "2")
        assert "Try again in 2 s" in bytes(slowed.body).decode()
        assert (await ask(token, host=THERE, cookie=cookie, csrf=csrf)).status_code == 303
        clock.ms += 2_000
        assert (await ask(token, cookie=cookie, csrf=csrf)).status_code == 303
        assert (await ask("wrong", cookie=cookie, csrf=csrf)).status_code == 403
        assert len(said) == login_limits.TRIES + 1

    asyncio.run(story())
