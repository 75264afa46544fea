"""Logins that fail: whoever tries again and again waits longer and longer, and nobody else does.

Rule kept here: the wait is bounded and forgotten after a while, so that nobody is shut out for good; while it lasts,
not even the right token is looked at. Sources behind one proxy, and all programs of this machine, are one source.
"""

import ipaddress
import math
from typing import Final

import msgspec

from trueup.model import login_limits
from trueup.ports import Clock

_NETWORK_BITS: Final = 64
"""One customer of IPv6 has so many bits of addresses to come from."""


class _Failed(msgspec.Struct):
    times: int
    last: float


class Attempts:
    """Failed logins by source, in memory."""

    def __init__(self, clock: Clock) -> None:
        """Nobody has failed yet."""
        self._clock = clock
        self._failed: dict[str, _Failed] = {}

    def wait_s(self, host: str) -> int:
        """For how many seconds nobody from there may try; 0 = now."""
        failed = self._failed.get(_source(host))
        if failed is None or failed.times < login_limits.TRIES:
            return 0
        pause = min(login_limits.WAIT_MAX_S, 2.0 ** (failed.times - login_limits.TRIES + 1))
        return max(0, math.ceil(failed.last + pause - self._clock.monotonic()))

    def failed(self, host: str) -> None:
        """A wrong token came from there."""
        now, source = self._clock.monotonic(), _source(host)
        kept = {name: one for name, one in self._failed.items() if now - one.last < login_limits.FORGOTTEN_S}
        before = kept.pop(source, None)
        while len(kept) >= login_limits.SOURCES_MAX:
            kept.pop(next(iter(kept)))  # the one that failed longest ago
        kept[source] = _Failed(times=min(before.times, login_limits.TRIES + 8) + 1 if before else 1, last=now)
        self._failed = kept

    def succeeded(self, host: str) -> None:
        """Somebody from there has the token."""
        self._failed.pop(_source(host), None)


def _source(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host  # '' over the unix socket, where nobody logs in
    if address.version == 6 and address.ipv4_mapped is None:  # noqa: PLR2004 - the version of IP
        return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
    return str(address)
