"""A plan: for each guest what differs, which operations would mend it, and what stands in the way."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.ids import GuestType, NodeName, Vmid
from trueup.model.ops import Kind


class Bucket(StrEnum):
    """Each guest of a plan is in exactly one; in this order where several would fit: what stops it comes first."""

    BLOCKED = "blocked"
    NEEDS_APPROVAL = "needs_approval"
    CREATE = "create"
    UPDATE = "update"
    POWER = "power"
    UNCHANGED = "unchanged"


class Diff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One difference. `was` and `want` are PVE's spelling ('' = not there); `why` says what follows from it."""

    key: str
    was: str
    want: str
    why: str


class PlannedOp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An operation that would be issued, before it has an id.

    `params` are the kind's own parameters in PVE's spelling, without vmid, digest and description, which are added
    when it is sent (`core.kinds.prepare`). `goal` is what the probe will look for, in the kind's keys:
    create, clone: {}; configure: key to wanted property string ('' = deleted); grow: {disk: size, e.g. '64G'};
    start, stop, shutdown: {'power': 'running' | 'stopped'}. `description` is the user's text to be written with it
    (None = keep what is there). `source` and `source_node` belong to a clone.
    """

    kind: Kind
    type: GuestType
    vmid: Vmid
    node: NodeName
    name: str
    params: Mapping[str, str] = {}
    goal: Mapping[str, str] = {}
    description: str | None = None
    source: Vmid | None = None
    source_node: NodeName | None = None
    source_type: GuestType | None = None
    labels: Mapping[str, str] = {}


class Approval(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something only a signed one-shot may do: its kind, why, and the command that prepares the request."""

    kind: Kind
    why: str
    command: str


class GuestPlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One guest's part of a plan.

    `ops` come in the order in which they would be issued; only the first is ever sent before the guest is looked at
    again (`core.planner.next_op`). `blocked_by` is the reason nothing is issued, with its remedy, in the bucket
    BLOCKED and '' everywhere else. `waits_for` names the guests that have to be up before this one is made or
    started. `unsupported` names wanted changes that this version cannot carry out. `unadopted`: the guest is as the
    manifest wants it but does not carry our marker; it is left alone until somebody adopts it.
    """

    vmid: Vmid
    name: str
    type: GuestType
    node: NodeName
    bucket: Bucket
    ops: tuple[PlannedOp, ...] = ()
    diff: tuple[Diff, ...] = ()
    approvals: tuple[Approval, ...] = ()
    blocked_by: str = ""
    unsupported: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    unadopted: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All guests, in the order of creation and start."""

    guests: tuple[GuestPlan, ...]

    def count(self, bucket: Bucket) -> int:
        """How many guests are in this bucket."""
        return sum(1 for guest in self.guests if guest.bucket is bucket)
