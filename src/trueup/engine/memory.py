"""What the loop remembers of guests between two passes, so that a quiet cluster costs a few lists and no more.

Nothing is remembered across a start, of a guest that could not be read, or of one that we have worked on since.
"""

from collections.abc import Mapping

from trueup.core import reread
from trueup.core.reread import Remembered
from trueup.model.guests import Observed, ResourceRow
from trueup.model.ids import Vmid
from trueup.ports import Clock


class Memory:
    """The last look at each guest."""

    def __init__(self, clock: Clock) -> None:
        """Measure age on the monotonic clock."""
        self._clock = clock
        self._known: dict[Vmid, Remembered] = {}
        self._guests: dict[Vmid, Observed] = {}
        self._last_pass = clock.monotonic()

    def kept(self, rows: Mapping[Vmid, ResourceRow]) -> dict[Vmid, Observed]:
        """Of the guests that a pass wants to see, those that need not be read anew; others are forgotten."""
        now = self._clock.monotonic()
        for gone in self._known.keys() - rows.keys():
            self.forget(gone)
        due = reread.due(self._known, rows, now, now - self._last_pass)
        self._last_pass = now
        kept: dict[Vmid, Observed] = {}
        for vmid, row in rows.items():
            if vmid not in due:
                kept[vmid] = self._guests[vmid]
                self._known[vmid].row = row  # equal but for its uptime: whoever looks at this pass has the same one
        return kept

    def saw(self, row: ResourceRow, guest: Observed, began: float) -> None:
        """Remember a config that was read after `began` (monotonic)."""
        self._known[guest.vmid] = Remembered(row=row, at=began, uptime_s=row.uptime_s)
        self._guests[guest.vmid] = guest

    def forget(self, vmid: Vmid) -> None:
        """We, or something that we judged, may have changed it."""
        self._known.pop(vmid, None)
        self._guests.pop(vmid, None)
