"""Serving HTTP inside the agent's own loop: the agent owns the signals and the socket, uvicorn only serves."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from trueup.model.errors import BadInput
from trueup.model.limits import EVENT_STREAMS_MAX
from trueup.model.settings import HttpSettings

_GRACE_S: Final = 2
"""For answers that are under way when the agent stops."""

_AT_ONCE: Final = 2 * EVENT_STREAMS_MAX
"""Connections at once; more are answered with 503."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serving(settings: HttpSettings, app: Starlette) -> AsyncGenerator[str]:
    """Serve while this is open; gives the address.

    Raises:
        BadInput: the address is taken, or the certificate cannot be used.
    """
    listening = _listen(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    server = _Server(config)
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        listening.close()
        raise BadInput(what=f"the certificate cannot be used: {error}", where=str(settings.tls_cert)) from error
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield _shown(listening, tls=settings.tls_cert is not None)
    finally:
        server.should_exit = True
        await task


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


def _shown(listening: socket.socket, *, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
