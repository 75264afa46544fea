"""The machine's clock and chance: the only reader of both. Everybody else takes them from the ports."""

import asyncio
import ctypes
import random
import secrets
import time
from typing import Final

import uuid_utils

_NS_PER_MS: Final = 1_000_000


class SystemClock:
    """See `trueup.ports.Clock`."""

    def now_ms(self) -> int:
        """Wall clock in epoch milliseconds; may step."""
        return time.time_ns() // _NS_PER_MS

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC: never steps, and stands still while the machine sleeps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        await asyncio.sleep(seconds)


class SystemEntropy:
    """See `trueup.ports.Entropy`."""

    def __init__(self) -> None:
        """Take chance from the kernel."""
        self._random = random.SystemRandom()

    def uuid7(self, at_ms: int) -> str:
        """Return a UUIDv7 for this instant; within a millisecond its order is chance."""
        return str(uuid_utils.uuid7(nanoseconds=at_ms * _NS_PER_MS))

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()


def unguessable() -> str:
    """256 bits of the kernel's chance as 43 characters, for tokens and sessions."""
    return secrets.token_urlsafe(32)


def chance(count: int) -> bytes:
    """So many bytes of the kernel's chance, for nonces."""
    return secrets.token_bytes(count)


def give_back_memory() -> None:
    """Hand back to the system what a lot of work has left over. It takes some milliseconds; without glibc, nothing.

    glibc keeps the room of freed values for values to come, even if these are long in coming: malloc_trim(3).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
