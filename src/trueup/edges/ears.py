"""The signals of a process in which several agents work: each of them hears each signal.

Rule kept here: a signal that came before an agent began to listen is not lost on it.
"""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from trueup.edges.stopping import SIGNALS, Stopping


class Ears:
    """Hears for everybody."""

    def __init__(self, on_hangup: Callable[[], bool]) -> None:
        """`on_hangup` is called first on SIGHUP, and says whether the others shall hear of it."""
        self._on_hangup = on_hangup
        self._asked = asyncio.Event()
        self._stoppings: list[Stopping] = []
        self._reloads: list[Callable[[], None]] = []

    @property
    def asked(self) -> bool:
        """Whether somebody asked for an end."""
        return self._asked.is_set()

    @contextmanager
    def open(self) -> Generator[None]:
        """Hear signals while this is open."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            yield
        finally:
            for number in (*SIGNALS, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """A signal to stop came: the first one asks for a good end, each further one does not wait for it."""
        self._asked.set()
        for stopping in [*self._stoppings]:
            stopping.heard()

    def reload(self) -> None:
        """SIGHUP came."""
        if self._on_hangup():
            for heard in [*self._reloads]:
                heard()

    @contextmanager
    def stopping(self, stopping: Stopping) -> Generator[None]:
        """Tell it of signals to stop while this is open, also of one that came before."""
        self._stoppings.append(stopping)
        if self.asked:
            stopping.heard()
        try:
            yield
        finally:
            self._stoppings.remove(stopping)

    @contextmanager
    def reloading(self, heard: Callable[[], None]) -> Generator[None]:
        """Call it on SIGHUP while this is open."""
        self._reloads.append(heard)
        try:
            yield
        finally:
            self._reloads.remove(heard)

    async def stop_within(self, seconds: float) -> bool:
        """Wait so long, or until somebody asks for an end; whether that was it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        return self.asked
