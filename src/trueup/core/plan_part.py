"""One aspect of a guest's plan: what differs, what mends it, and what holds that back. A guest's plan is their sum."""

from collections.abc import Mapping

import msgspec

from trueup.model.guests import Desired
from trueup.model.ids import NodeName
from trueup.model.ops import Kind
from trueup.model.plan import Approval, Diff, PlannedOp


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one aspect adds.

    `held` says why nothing is issued although something differs; where nothing else can be done for the guest either,
    it blocks the guest. `offers` are approvals that nobody has to give for the guest to be as declared.
    """

    ops: tuple[PlannedOp, ...] = ()
    diff: tuple[Diff, ...] = ()
    held: str = ""
    notes: tuple[str, ...] = ()
    offers: tuple[Approval, ...] = ()


NOTHING = Part()


def planned(want: Desired, node: NodeName, kind: Kind, params: Mapping[str, str], goal: Mapping[str, str]) -> PlannedOp:
    """One operation on this guest, on the node where it is."""
    return PlannedOp(
        kind=kind,
        type=want.type,
        vmid=want.vmid,
        node=node,
        name=want.name,
        params=params,
        goal=goal,
        labels=want.labels,
    )
