"""In which order guests are made and started: after those that they name in `after`, and after their clone source.

An order that cannot be had is refused before anything is planned, with the place in the manifest that asks for it.
"""

import heapq
from collections.abc import Mapping, Sequence

from trueup.model.errors import BadInput
from trueup.model.guests import Clone, Desired
from trueup.model.ids import Vmid


def check_order(desired: Sequence[Desired]) -> None:
    """Refuse names in `after` that nobody declares, and circles.

    Raises:
        BadInput: names the manifest that asks for it.
    """
    in_order(desired)


def in_order(desired: Sequence[Desired]) -> tuple[Desired, ...]:
    """The guests, each behind those that it needs, and otherwise by vmid.

    Raises:
        BadInput: an unknown name, or a circle.
    """
    by_name = {want.name: want for want in desired}
    by_vmid = {want.vmid: want for want in desired}
    needs = {want.vmid: _needs(want, by_name, by_vmid) for want in desired}
    needed_by: dict[Vmid, list[Vmid]] = {want.vmid: [] for want in desired}
    for vmid, others in needs.items():
        for other in others:
            needed_by[other].append(vmid)
    left = {vmid: len(others) for vmid, others in needs.items()}
    ready = [vmid for vmid, count in left.items() if count == 0]
    heapq.heapify(ready)
    found: list[Desired] = []
    while ready:
        vmid = heapq.heappop(ready)
        found.append(by_vmid[vmid])
        for other in needed_by[vmid]:
            left[other] -= 1
            if left[other] == 0:
                heapq.heappush(ready, other)
    if len(found) < len(by_vmid):
        raise _circle(needs, by_vmid, done={want.vmid for want in found})
    return tuple(found)


def _needs(want: Desired, by_name: Mapping[str, Desired], by_vmid: Mapping[Vmid, Desired]) -> set[Vmid]:
    needs: set[Vmid] = set()
    for name in want.after:
        other = by_name.get(name)
        if other is None:
            raise BadInput(
                what=f"{want.name} comes after {name!r}, which no manifest declares",
                where=want.origin,
                remedy="correct the name in `after`, or declare that guest",
            )
        needs.add(other.vmid)
    if isinstance(want.source, Clone) and want.source.source in by_vmid:
        needs.add(want.source.source)
    return needs


def _circle(needs: Mapping[Vmid, set[Vmid]], by_vmid: Mapping[Vmid, Desired], done: set[Vmid]) -> BadInput:
    """Follow what is needed until a guest comes up again: what lies between is the circle."""
    at = min(vmid for vmid in needs if vmid not in done)
    path: list[Vmid] = []
    while at not in path:
        path.append(at)
        at = min(vmid for vmid in needs[at] if vmid not in done)
    circle = [*path[path.index(at) :], at]
    names = " after ".join(by_vmid[vmid].name for vmid in circle)
    return BadInput(
        what=f"the order goes in a circle: {names}",
        where=by_vmid[at].origin,
        remedy="take one of them out of `after`, or clone from another guest",
    )
