"""Clients that are slow, large, broken or many: each costs the agent a bounded amount, and is told what is wrong."""

import asyncio
import json
import resource
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.operator.living import Agent
from tests.web.client import Client
from trueup.adapters.system import SystemClock
from trueup.edges.web import problems
from trueup.edges.web import serving as serving_module
from trueup.edges.web.doors import Doors
from trueup.edges.web.guard import Guard
from trueup.edges.web.serving import serving
from trueup.model import limits
from trueup.model.settings import HttpSettings, Secret

PATIENCE_S = 0.4
TOKEN = "a-token-for-this-test-alone"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_REQUEST_TIMEOUT_S", PATIENCE_S)


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[str, int]]:
    """An application that takes a body, gives a large answer, or fails."""

    async def take(request: Request) -> Response:
        return Response(str(len(await request.body())))

    async def large(_request: Request) -> Response:
        return Response(b"x" * 50_000_000)

    async def never(_request: Request) -> Response:
        await asyncio.sleep(60)
        return Response()

    async def told(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problems.response(error)

    routes = [Route("/take", take, methods=["POST"]), Route("/large", large), Route("/never", never)]
    doors = Doors(Secret(TOKEN), SystemClock(), tls=False)
    settings = HttpSettings(host="127.0.0.1", port=0, token_file=Path("none"))
    inner = Starlette(routes=routes, exception_handlers={HTTPException: told})
    async with serving(settings, Guard(inner, doors, lambda _: None)) as url:
        parts = urlsplit(url)
        yield parts.hostname or "", parts.port or 0


def head(method: str, path: str, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def until_hung_up(sent: bytes, *, dribble: bytes = b"") -> tuple[bytes, float]:
    """Send this, then `dribble` byte by byte; what came back until the other side hung up, and when."""
    async with served() as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        began = asyncio.get_running_loop().time()
        writer.write(sent)

        async def dribbling() -> None:
            for byte in dribble:
                writer.write(bytes([byte]))
                await asyncio.sleep(PATIENCE_S / 8)

        slowly = asyncio.create_task(dribbling())
        try:
            async with asyncio.timeout(30):
                got = await reader.read()
        except ConnectionError:
            got = b""
        took = asyncio.get_running_loop().time() - began
        slowly.cancel()
        writer.close()
        return got, took


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"GET", b"GET /never HTTP/1.1\r\nHost: x\r\n"])
def test_a_request_that_never_gets_whole_is_hung_up_on(sent: bytes) -> None:
    got, took = asyncio.run(until_hung_up(sent))
    assert got == b""
    assert PATIENCE_S * 0.9 <= took < 10


@pytest.mark.usefixtures("impatient")
def test_a_request_that_dribbles_in_is_hung_up_on() -> None:
    _, took = asyncio.run(until_hung_up(b"", dribble=head("GET", "/never", *(f"X-{at}: y" for at in range(100)))))
    assert took < 10


@pytest.mark.usefixtures("impatient")
def test_a_body_that_does_not_come_is_told() -> None:
    got, _ = asyncio.run(until_hung_up(head("POST", "/take", "Content-Length: 10") + b"12"))
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in got


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_does_not_come_is_told() -> None:
    got, _ = asyncio.run(until_hung_up(head("GET", "/never", "Connection: close")))
    assert got.startswith(b"HTTP/1.1 503 ")


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_nobody_takes_is_given_up() -> None:
    async def story() -> int:
        async with served() as (host, port):
            connection = socket.create_connection((host, port))
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, head("GET", "/large"))
            await asyncio.sleep(PATIENCE_S * 4)
            got = 0
            try:
                while chunk := await asyncio.wait_for(loop.sock_recv(connection, 1 << 20), 10):
                    got += len(chunk)
            except ConnectionError:
                pass
            finally:
                connection.close()
            return got

    assert 0 < asyncio.run(story()) < 50_000_000


def test_large_bodies_are_refused_at_once_or_while_they_come() -> None:
    most = limits.HTTP_BODY_MAX_BYTES
    told, _ = asyncio.run(until_hung_up(head("POST", "/take", f"Content-Length: {most + 1}")))
    assert told.startswith(b"HTTP/1.1 413 ")
    chunk = b"%x\r\n" % 8192 + b"x" * 8192 + b"\r\n"
    many = head("POST", "/take", "Transfer-Encoding: chunked") + chunk * (most // 8192 + 1)
    told, _ = asyncio.run(until_hung_up(many))
    assert told.startswith(b"HTTP/1.1 413 ")
    just = head("POST", "/take", f"Content-Length: {most}", "Connection: close") + b"x" * most
    told, _ = asyncio.run(until_hung_up(just))
    assert told.endswith(str(most).encode())


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
    ],
)
def test_what_is_no_http_is_told_so(sent: bytes) -> None:
    told, _ = asyncio.run(until_hung_up(sent))
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in told
    assert json.loads(told.partition(b"\r\n\r\n")[2])["status"] == 400


def test_more_connections_than_allowed_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_MAX", 3)

    async def story() -> list[bytes]:
        async with served() as (host, port):
            held = [await asyncio.open_connection(host, port) for _ in range(3)]
            await asyncio.sleep(0.2)
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head("POST", "/take", "Content-Length: 0"))
            try:
                refused = await asyncio.wait_for(reader.read(12), 10)
            except ConnectionError:
                refused = b""
            writer.close()
            reader, writer = held[0]
            writer.write(head("POST", "/take", "Content-Length: 0"))
            taken = await asyncio.wait_for(reader.read(12), 10)
            for _, one in held:
                one.close()
            return [refused, taken]

    assert asyncio.run(story()) == [b"", b"HTTP/1.1 200"]


def test_the_agent_answers_all_the_while(client: Client) -> None:
    """Against the real agent: half-open requests beside it cost others nothing."""
    held = [client.raw() for _ in range(50)]
    try:
        for one in held:
            one.sendall(b"GET /v1/status HT")
        assert client.get("/v1/status").status == 200
    finally:
        for one in held:
            one.close()


def test_clients_never_take_the_files_that_the_journal_needs(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    room = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)[0]
    assert room > limits.HTTP_CONNECTIONS_MAX + 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert limits.EVENT_STREAMS_MAX > serving_module._most(256) == 768
