"""When a guest whose operation failed is tried again: later each time, with chance in it, and never forgotten."""

from trueup.model import limits
from trueup.model.ids import Vmid
from trueup.ports import Clock, Entropy


class Backoff:
    """Counts failures per guest."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        """Measure on the monotonic clock."""
        self._clock = clock
        self._entropy = entropy
        self._failures: dict[Vmid, int] = {}
        self._not_before: dict[Vmid, float] = {}

    def failed(self, vmid: Vmid) -> None:
        """Wait twice as long as the last time."""
        count = self._failures.get(vmid, 0) + 1
        self._failures[vmid] = count
        wait_s = min(limits.BACKOFF_MAX_S, limits.BACKOFF_FIRST_S * 2.0 ** min(count - 1, 16))
        wait_s *= 1 + limits.BACKOFF_JITTER * (self._entropy.jitter() - 0.5)
        self._not_before[vmid] = self._clock.monotonic() + wait_s

    def succeeded(self, vmid: Vmid) -> None:
        """Begin anew."""
        self._failures.pop(vmid, None)
        self._not_before.pop(vmid, None)

    def failures(self, vmid: Vmid) -> int:
        """How often in a row it failed."""
        return self._failures.get(vmid, 0)

    def soonest(self, after: float) -> float | None:
        """When the first guest may be tried again, of those that wait beyond `after` (both on the monotonic clock)."""
        return min((at for at in self._not_before.values() if at > after), default=None)

    def waits_s(self, vmid: Vmid) -> float:
        """Seconds until it may be tried again; 0 = now."""
        return max(0.0, self._not_before.get(vmid, 0.0) - self._clock.monotonic())
