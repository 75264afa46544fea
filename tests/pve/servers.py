"""TLS servers of a few lines that behave as badly as a test wants, and count what reached them."""

import asyncio
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, TypeVar

import trustme

from trueup.adapters.pve_http import Login
from trueup.model.ids import TokenId
from trueup.model.settings import CaFile, Secret, Trust

SECRET = "0b1c2d3e-secret-secret-secret"
TOKEN = TokenId("agent@pve!epoch1")

T = TypeVar("T")


def run(story: Coroutine[Any, Any, T]) -> T:
    async def to_the_end() -> T:
        try:
            return await asyncio.wait_for(story, 30)
        finally:
            await _all_sockets_closed()

    return asyncio.run(to_the_end())


async def _all_sockets_closed() -> None:
    """TLS says goodbye in the background; a loop that ends before that leaves sockets to the garbage collector."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    for _ in range(500):
        if len(selector.get_map()) <= 1:  # the loop's own wake-up socket
            return
        await asyncio.sleep(0.002)


class RealClock:
    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SteppedClock(RealClock):
    """A clock that stands where it is put."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw: bytes


Behaviour = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes = b'{"data":null}', *, status: str = "200 OK", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nDate: Mon, 23 Nov 2026 15:52:35 GMT\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode("utf-8", "surrogateescape") + body


def answering(data: bytes) -> Behaviour:
    async def behave(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return behave


async def hangs_up(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def says_nothing(_request: Request, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@dataclass
class Server:
    behave: Behaviour
    url: str = ""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    bytes_read: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                request = await self._request(reader)
                self.requests.append(request)
                await self.behave(request, reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            byte = await reader.readexactly(1)
            self.bytes_read += 1
            raw += byte
        lines = raw.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body, raw + body)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)


@dataclass
class House:
    """A certificate authority with its file."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def context(self, name: str = "localhost") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        return context

    @asynccontextmanager
    async def server(self, behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server, None]:
        server = Server(behave)
        async with listening(server.serve, tls or self.context()) as port:
            server.port = port
            server.url = f"https://localhost:{port}"
            yield server
            await server.stop()

    def login(self, *urls: str, trust: Trust | None = None) -> Login:
        return Login(endpoints=urls, trust=trust or CaFile(path=self.ca_file), token=TOKEN, secret=Secret(SECRET))


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> AsyncGenerator[int, None]:
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await asyncio.sleep(0)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
