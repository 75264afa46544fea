"""What the agent of one cluster gets from the process that it is in: signals, HTTP, and the service manager's ear.

`Alone` is a process that serves one cluster. In `fleet` many agents share one, and none of them knows of the others.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from trueup.edges.log import Log
from trueup.edges.stopping import Stopping
from trueup.edges.systemd import Systemd
from trueup.edges.web.doors import Doors, open_token
from trueup.edges.web.serving import serving
from trueup.edges.web.site import Site, app
from trueup.model.settings import HttpSettings
from trueup.ports import Clock

Heard = Callable[[], None]


class Host(Protocol):
    """The process, as one cluster's agent sees it. Nothing of it is used after the agent has ended."""

    @property
    def root(self) -> str:
        """The prefix of this cluster's paths over HTTP; '' = it is the only one."""
        ...

    @property
    def systemd(self) -> Systemd:
        """Hears how the agent does."""
        ...

    def doors(self) -> Doors:
        """Who lets in over HTTP. Raises BadInput: the token cannot be used."""
        ...

    def serving(self, site: Site) -> AbstractAsyncContextManager[None]:
        """Serve this site while it is open. Raises BadInput: the address or the certificate cannot be used."""
        ...

    def stopping(self, stopping: Stopping) -> AbstractContextManager[None]:
        """Tell it of signals to stop while this is open."""
        ...

    def reloading(self, heard: Heard) -> AbstractContextManager[None]:
        """Tell it of SIGHUP while this is open."""
        ...


class Alone:
    """A process for one cluster, with signals and an address of its own."""

    root = ""

    def __init__(self, settings: HttpSettings, log: Log, clock: Clock) -> None:
        """Serve where `settings` say."""
        self.systemd = Systemd(os.environ)
        self._settings = settings
        self._log = log
        self._clock = clock
        self._said = ""

    def doors(self) -> Doors:
        """See `Host`."""
        made, self._said = doors(self._settings, self._clock)
        return made

    @asynccontextmanager
    async def serving(self, site: Site) -> AsyncGenerator[None]:
        """See `Host`."""
        async with serving(self._settings, app(site)) as url:
            say_listening(self._log, url, self._said)
            yield

    def stopping(self, stopping: Stopping) -> AbstractContextManager[None]:
        """See `Host`."""
        return stopping.listening()

    @contextmanager
    def reloading(self, heard: Heard) -> Generator[None]:
        """See `Host`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, heard)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)


def doors(settings: HttpSettings, clock: Clock) -> tuple[Doors, str]:
    """Who lets in, by the token of these settings, and a line about that token ('' = none). Raises BadInput."""
    token, said = open_token(settings.token_file)
    return Doors(token, clock, tls=settings.tls_cert is not None), said


def say_listening(log: Log, url: str, about_token: str) -> None:
    """What whoever started the agent needs to reach it."""
    if about_token:
        log.warning("http_token", text=about_token)
    log.info("listening", url=url)
