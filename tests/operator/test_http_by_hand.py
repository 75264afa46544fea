"""What the web's errors tell their readers to do is done, and the reader gets what they came for."""

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.operator.following import fits
from tests.web.test_clients import TOKEN, head, impatient, until_hung_up
from trueup.adapters.system import SystemClock
from trueup.edges.web import problems
from trueup.edges.web.doors import Doors
from trueup.edges.web.guard import Guard
from trueup.edges.web.serving import serving
from trueup.model.settings import HttpSettings, Secret

__all__ = ["impatient"]

WHOLE = "send the whole request at once"
LOG = "see the agent's log"
FOLLOWED = {WHOLE, LOG}


def problem(got: bytes) -> dict[str, str]:
    return json.loads(got.partition(b"\r\n\r\n")[2])


@pytest.mark.usefixtures("impatient")
def test_a_body_that_came_too_late_is_sent_whole() -> None:
    request = head("POST", "/take", "Content-Length: 4", "Connection: close")
    got, _ = asyncio.run(until_hung_up(request + b"12"))
    assert got.startswith(b"HTTP/1.1 408 ")
    assert fits(WHOLE, problem(got)["remedy"])
    got, _ = asyncio.run(until_hung_up(request + b"1234"))
    assert got.startswith(b"HTTP/1.1 200 ")


def test_the_log_tells_what_went_wrong() -> None:
    log: list[str] = []
    broken = [True]

    async def page(_: Request) -> Response:
        if broken[0]:
            raise OSError("the journal's disk is gone")
        return Response("here it is")

    async def ours(_request: Request, _error: Exception) -> Response:
        return problems.response(problems.ours())

    async def asks() -> bytes:
        app = Starlette(routes=[Route("/page", page)], exception_handlers={Exception: ours})  # as the site's own
        doors = Doors(Secret(TOKEN), SystemClock(), tls=False)
        guard = Guard(app, doors, log.append)
        async with serving(HttpSettings(host="127.0.0.1", port=0, token_file=Path("none")), guard) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
            writer.write(head("GET", "/page", "Connection: close"))
            got = await reader.read()
            writer.close()
            return got

    got = asyncio.run(asks())
    assert got.startswith(b"HTTP/1.1 500 ")
    assert fits(LOG, problem(got)["remedy"])
    assert log == ["GET /page: OSError: the journal's disk is gone"], "and with that it can be mended"
    broken[0] = False
    assert asyncio.run(asks()).endswith(b"here it is")
