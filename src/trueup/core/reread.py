"""Which guests' configs a pass reads anew. Pure.

The lists that every pass reads tell a lot about each guest, so a config is only read again where they differ from the
last time, and otherwise slowly in turn: a change that no list shows is seen within `bound_s` at the latest. Whatever is
sent rests on a look of its own right before it, never on what is remembered here.
"""

from collections.abc import Mapping
from heapq import nsmallest

import msgspec
from msgspec.structs import replace

from trueup.model import limits
from trueup.model.guests import ResourceRow
from trueup.model.ids import Vmid


class Remembered(msgspec.Struct, kw_only=True, gc=False):
    """The row of the list when the config was read, and the instant of that on the monotonic clock.

    `uptime_s` is that row's (None: as it stands there); the row itself may be a newer one that differs in nothing else.
    """

    row: ResourceRow
    at: float
    uptime_s: int | None = None


def due(
    known: Mapping[Vmid, Remembered],
    rows: Mapping[Vmid, ResourceRow],
    now: float,
    since_last_s: float,
    bound_s: float = limits.REREAD_BOUND_S,
) -> set[Vmid]:
    """Return whom to read in this pass; `since_last_s` is the time since the one before.

    Passes of even pace re-read everybody within half of `bound_s`; who would be older than `bound_s` by the next pass
    is read in any case.
    """
    suspicious = {vmid for vmid, row in rows.items() if vmid not in known or _differs(known[vmid], row, now)}
    quiet = [vmid for vmid in rows if vmid not in suspicious]
    share = 2 * len(quiet) * since_last_s / bound_s
    turn = max(limits.REREAD_LEAST, int(share) + 1)
    longest_ago = nsmallest(turn, quiet, key=lambda vmid: (known[vmid].at, vmid))
    old = {vmid for vmid in quiet if now - known[vmid].at + since_last_s > bound_s}
    return suspicious | old | set(longest_ago)


def _differs(before: Remembered, row: ResourceRow, now: float) -> bool:
    """Whether the lists hint at a change: any value, a lock (its holder writes the config), or a restart in between."""
    if row.lock:
        return True
    same_uptime = row if row.uptime_s == before.row.uptime_s else replace(row, uptime_s=before.row.uptime_s)
    if same_uptime != before.row:
        return True
    uptime_s = before.row.uptime_s if before.uptime_s is None else before.uptime_s
    return bool(uptime_s) and row.uptime_s + limits.LISTS_LAG_S < uptime_s + (now - before.at)
