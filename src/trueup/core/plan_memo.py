"""Plans of guests that are as declared, kept between two plans: most guests of most passes.

A kept plan is only given out for equal input, and only plans are kept that nothing else bears on: of a guest that is
unchanged, whatever `after` says, and whose manifest has nothing to do with the time of day (no window, no copies by a
schedule). So a plan with a memo is the plan without one, which a property test holds.
"""

from collections.abc import Sequence
from operator import is_

import msgspec

from trueup.core.ordering import in_order
from trueup.core.plan_context import Context
from trueup.model.guests import Desired, Observed, Restart
from trueup.model.ids import NodeName, Vmid
from trueup.model.plan import Bucket, GuestPlan

_TIMELESS = frozenset({Restart.NEVER.value, Restart.ALLOWED.value})


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    """What all guests' plans depend on."""

    installation: str
    paused: frozenset[str]
    quorate: bool
    nodes: dict[NodeName, bool]
    shared: frozenset[str] | None


class _Own(msgspec.Struct, frozen=True, gc=False):
    """What one guest's plan depends on besides, and that plan."""

    want: Desired
    seen: Observed
    adopted: str | None
    closed: str | None
    shutdown_failed: bool
    fenced: bool
    plan: GuestPlan


class Memo:
    """What was planned last. Belongs to one planner of one set of manifests; not to be shared between tasks."""

    def __init__(self) -> None:
        """Know nothing."""
        self._common: _Common | None = None
        self._known: dict[Vmid, _Own] = {}
        self._desired: tuple[Desired, ...] = ()
        self._ordered: tuple[Desired, ...] = ()

    def begin(self, desired: Sequence[Desired], context: Context) -> tuple[Desired, ...]:
        """Forget what does not hold any more, and return the guests in order. Raises BadInput, as `in_order`."""
        common = _Common(
            installation=context.installation,
            paused=context.paused,
            quorate=context.quorate,
            nodes=dict(context.nodes),
            shared=context.shared,
        )
        if common != self._common:
            self._common = common
            self._known.clear()
        if len(desired) != len(self._desired) or not all(map(is_, desired, self._desired)):
            self._ordered = in_order(desired)
            self._desired = tuple(desired)
            for gone in self._known.keys() - {want.vmid for want in desired}:
                del self._known[gone]
        return self._ordered

    def known(self, want: Desired, seen: Observed | None, context: Context) -> GuestPlan | None:
        """The guest's plan, if all that it depends on is as it was."""
        kept = self._known.get(want.vmid)
        if kept is None or seen is None or want.vmid in context.unread or kept != _own(want, seen, context, kept.plan):
            return None
        return kept.plan

    def keep(self, want: Desired, seen: Observed | None, context: Context, plan: GuestPlan) -> None:
        """Keep a plan that `known` may give out later; forget the guest's last one."""
        timeless = want.restart in _TIMELESS and want.snapshots is None and want.backups is None
        if seen is not None and timeless and plan.bucket is Bucket.UNCHANGED and want.vmid not in context.unread:
            self._known[want.vmid] = _own(want, seen, context, plan)
        else:
            self._known.pop(want.vmid, None)


def _own(want: Desired, seen: Observed, context: Context, plan: GuestPlan) -> _Own:
    vmid = want.vmid
    return _Own(
        want,
        seen,
        context.adopted.get(vmid),
        context.closed.get(vmid),
        vmid in context.shutdown_failed,
        vmid in context.fenced,
        plan,
    )
