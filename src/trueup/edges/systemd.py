"""What systemd wants to hear (sd_notify(3)), where it listens: that we are ready, alive, stopping, and how we do."""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

from trueup.ports import Clock

_US_PER_S: Final = 1_000_000
_PER_INTERVAL: Final = 2
"""Signs of life within one watchdog interval, as systemd advises."""


class Systemd:
    """Speaks to the service manager; says nothing where there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read where it listens."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._watchdog_s = int(usec) / _US_PER_S if usec.isdigit() and meant else 0.0

    def ready(self) -> None:
        """The agent has recovered and works."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The agent was told to stop."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """How it does, in one line."""
        self._tell(f"STATUS={text.splitlines()[0] if text else ''}")

    async def watchdog(self, clock: Clock) -> None:
        """Give signs of life for as long as the loop turns; return at once if nobody waits for them."""
        while self._watchdog_s and self._address:
            self._tell("WATCHDOG=1")
            await clock.sleep(self._watchdog_s / _PER_INTERVAL)

    def _tell(self, line: str) -> None:
        if not self._address:
            return
        name = self._address
        address = "\0" + name[1:] if name.startswith("@") else name
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect(address)
            to.sendall(line.encode())
