"""Being told to stop: the first signal asks for a good end, the second one does not wait for it.

Cancelling loses nothing: what PVE was asked for stays in flight in the journal, and the next recovery ends it.
"""

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Counts signals for the task that made it. `on_first` is what a good end takes; None cancels at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Speak through `say`; the task that makes it is the one that is cancelled."""
        self.say = say
        self._task = asyncio.current_task()
        self._on_first: Callable[[], None] | None = None
        self.asked = False
        """Somebody asked for a good end."""

    def gently(self, on_first: Callable[[], None]) -> None:
        """From now on the first signal calls this, and the second one cancels."""
        self._on_first = on_first

    def at_once(self) -> None:
        """Cancel: what is in flight stays in the journal."""
        self.say("stopping at once: what is in flight stays in the journal, and the next recovery ends it")
        self.asked = True
        if self._task is not None:
            self._task.cancel()

    def heard(self) -> None:
        """A signal to stop came."""
        if self.asked or self._on_first is None:
            self.at_once()
            return
        self.asked = True
        self._on_first()

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hear signals while this is open."""
        self._listen()
        try:
            yield
        finally:
            self._ignore()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Leave signals to Python meanwhile: a question on a terminal is ended by Ctrl-C itself."""
        self._ignore()
        try:
            yield
        finally:
            self._listen()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.heard)

    def _ignore(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
