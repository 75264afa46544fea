"""Serving HTTP inside the agent's own loop: the agent owns the signals and the sockets, uvicorn only serves.

Rule kept here: a client costs a bounded amount of the agent. Connections are counted, a request has to arrive in time,
and an answer has to be taken in time; whoever does not is hung up on.
"""

import asyncio
import logging
import os
import resource
import socket
import stat
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar, Final

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from trueup.edges.web import problems
from trueup.edges.web.doors import TRUSTED
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.settings import HttpSettings

_GRACE_S: Final = 2
"""For answers that are under way when the agent stops."""

_OTHER_FILES: Final = 256
"""Open files of an agent beside its clients: the journal, connections to PVE, manifests."""

_CLUSTER_FILES: Final = 64
"""So many more for each further cluster that an agent serves."""

_HEADERS_MAX_BYTES: Final = 32 * 1024
"""Request line and headers together."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


class _Patient(H11Protocol):
    """One connection, with bounds on how long it may keep us waiting."""

    others: ClassVar[int] = _OTHER_FILES
    """Open files that are none of its business, and are not taken away by clients."""

    _asking: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - uvicorn's own narrowing
        """Take it, unless there are too many."""
        if len(self.connections) >= _most(self.others):
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """A request begins when its first byte comes, and has to be whole in time."""
        super().data_received(data)
        cycle = self.cycle  # None before the first request, whatever uvicorn's annotation says
        if not cycle or cycle.response_complete:
            self._await_request()
        else:
            self._asking = _stopped(self._asking)

    def pause_writing(self) -> None:
        """The client does not take what we send: it has some time to begin again."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(limits.HTTP_REQUEST_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._taking = _stopped(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._asking, self._taking = _stopped(self._asking), _stopped(self._taking)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are for its own log
        """What is no HTTP gets a problem document too."""
        error = problems.Problem(HTTPStatus.BAD_REQUEST, "this is no HTTP request that can be understood")
        body = msgspec.json.encode(problems.document(error))
        headers = [
            ("content-type", problems.MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        try:
            for event in (
                h11.Response(status_code=HTTPStatus.BAD_REQUEST, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer was under way already
        self.transport.close()

    def _await_request(self) -> None:
        self._asking = self._asking or self.loop.call_later(limits.HTTP_REQUEST_TIMEOUT_S, self.transport.abort)


def _make_room(others: int) -> None:
    """Allow ourselves as many files as all connections need, if the machine's hard limit permits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = limits.HTTP_CONNECTIONS_MAX + others
    if soft != resource.RLIM_INFINITY and soft < want:
        room = want if hard == resource.RLIM_INFINITY else min(want, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))


def _most(others: int) -> int:
    """Connections at once: they never take the files that the journal and PVE need."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = limits.HTTP_CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else max(soft - others, soft // 2)
    return min(limits.HTTP_CONNECTIONS_MAX, room)


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


@asynccontextmanager
async def serving(settings: HttpSettings, app: ASGIApp, *, clusters: int = 1) -> AsyncGenerator[str]:
    """Serve while this is open, for an agent with so many clusters; gives the address.

    Raises:
        BadInput: the address is taken, or the certificate cannot be used.
    """
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # ours is the only log
    logging.getLogger("uvicorn").propagate = False
    others = _OTHER_FILES + (clusters - 1) * _CLUSTER_FILES
    _make_room(others)
    listening = _listen(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_served(_config(settings, app, others), listening))
        if settings.socket is not None:
            beside = _listen_beside(settings.socket)
            stack.callback(settings.socket.unlink, missing_ok=True)
            await stack.enter_async_context(_served(_plain(_trusting(app), others), beside))
        yield _shown(listening, tls=settings.tls_cert is not None)


@asynccontextmanager
async def _served(config: uvicorn.Config, listening: socket.socket) -> AsyncGenerator[None]:
    server = _Server(config)
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        listening.close()
        raise BadInput(what=f"the certificate cannot be used: {error}", where=str(config.ssl_certfile)) from error
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _config(settings: HttpSettings, app: ASGIApp, others: int) -> uvicorn.Config:
    config = _plain(app, others)
    config.ssl_certfile, config.ssl_keyfile = settings.tls_cert, settings.tls_key
    return config


def _plain(app: ASGIApp, others_: int) -> uvicorn.Config:
    class Patient(_Patient):
        others = others_

    return uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADERS_MAX_BYTES,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _trusting(app: ASGIApp) -> ASGIApp:
    """The same, for those whom the socket's file mode let in."""

    async def trusted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, TRUSTED: True}, receive, send)

    return trusted


def _listen(settings: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise BadInput(
            what=f"cannot listen: {error.strerror}",
            where=f"{settings.host}:{settings.port}",
            remedy="choose another address in [http] listen, or end what listens there",
        ) from error


def _listen_beside(path: Path) -> socket.socket:
    """A unix socket for our own user; whoever holds the journal is alone, so a socket that is there is a dead one's."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        made.bind(str(path))
        made.listen()
    except OSError as error:
        made.close()
        what = f"cannot listen: {error.strerror or error}"
        raise BadInput(what=what, where=str(path), remedy="choose another path in [http] socket") from error
    finally:
        os.umask(before)
    return made


def _shown(listening: socket.socket, *, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
