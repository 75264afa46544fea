"""Compare what manifests want with what PVE shows: what mends it, what needs people, and what stands in the way.

Pure: the same values give the same plan. The loop plans a guest again after each operation and sends only the first
one (`next_op`), so a plan never has to foresee how an operation ends. Planning a converged world gives no operation.
"""

from collections.abc import Mapping, Sequence

import msgspec

from trueup.core import obstacles
from trueup.core.ordering import check_order
from trueup.core.plan_config import ConfigChange, config_change, rebuild
from trueup.core.plan_context import Context, why_closed
from trueup.core.plan_copies import copies, together
from trueup.core.plan_create import creation
from trueup.core.plan_memo import Memo
from trueup.core.plan_part import NOTHING, Part, planned
from trueup.core.plan_place import membership, migration
from trueup.core.plan_power import power_change, restart, wanted_power
from trueup.core.plan_template import template_held, template_op, templating
from trueup.model.guests import Clone, Desired, Observed, Power
from trueup.model.ids import NodeName, Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Approval, Bucket, Diff, GuestPlan, Plan, PlannedOp

__all__ = ["Context", "check_order", "next_op", "plan", "plan_guest", "runnable", "why_closed"]

_WAITS = frozenset({Kind.CREATE, Kind.CLONE, Kind.RESTORE_NEW, Kind.START})
"""What `after` holds back: coming into being and being started."""

_POWER = frozenset({Kind.START, Kind.SHUTDOWN, Kind.STOP, Kind.REBOOT})
"""Operations that leave a guest what it is."""


def plan(
    desired: Sequence[Desired], observed: Mapping[Vmid, Observed], context: Context, memo: Memo | None = None
) -> Plan:
    """The plan for all guests, in the order of creation and start. A `memo` of the last plan saves work, no more.

    `observed` holds every declared guest that exists, the clone sources, and guests with our marker whose manifest is
    gone. A guest that exists but could not be read belongs into `context.unread`.

    Raises:
        BadInput: the order of `after` cannot be had (`check_order` tells that when manifests are loaded).
    """
    memo = Memo() if memo is None else memo
    ordered = memo.begin(desired, context)
    declared = {want.name: want for want in ordered}
    plans: dict[str, GuestPlan] = {}
    for want in ordered:
        found = memo.known(want, observed.get(want.vmid), context)
        if found is None:
            found = plan_guest(want, declared, observed, context)
            memo.keep(want, observed.get(want.vmid), context, found)
        plans[want.name] = _stuck(found, plans)
    orphans = _orphans({want.vmid for want in ordered}, observed, context)
    return Plan(guests=(*plans.values(), *orphans))


def plan_guest(
    want: Desired, declared: Mapping[str, Desired], observed: Mapping[Vmid, Observed], context: Context
) -> GuestPlan:
    """The plan for one guest. `declared` holds the manifests by name, for `after` and for declared clone sources."""
    seen = observed.get(want.vmid)
    if want.vmid in context.unread:
        return _bare(want, blocked_by=f"it cannot be read: {context.unread[want.vmid]}")
    waiting = _waiting(want, declared, observed, context)
    if seen is None:
        return _missing(want, observed, context, waiting, _source_to_be(want, declared, observed, context))
    return _existing(want, seen, context, waiting)


def next_op(guest: GuestPlan) -> PlannedOp | None:
    """The one operation that may be issued now; None if there is none, or if it has to wait for other guests."""
    if guest.bucket is Bucket.BLOCKED or not guest.ops:
        return None
    first = guest.ops[0]
    return None if guest.waits_for and first.kind in _WAITS else first


def runnable(whole: Plan) -> tuple[PlannedOp, ...]:
    """All operations that may be issued now, at most one for each guest, in order."""
    return tuple(op for op in map(next_op, whole.guests) if op is not None)


def _missing(
    want: Desired,
    observed: Mapping[Vmid, Observed],
    context: Context,
    waiting: Mapping[str, str],
    source_to_be: Desired | None,
) -> GuestPlan:
    if source_to_be is not None:
        lacks = "is no template yet" if source_to_be.vmid in observed else "does not exist yet"
        note = f"after {source_to_be.name}, which it is cloned from and which {lacks}"
        waiting = {**waiting, source_to_be.name: note}
    made = creation(want, observed, context, source_to_be)
    blocked = made.impossible or obstacles.circumstances(want.vmid, want.name, made.nodes, context)
    ops = () if made.op is None else (made.op, *_config_ops(want, want.node, made.follows))
    diff, notes = made.diff, made.notes
    if wanted_power(want) is Power.RUNNING:
        ops += (planned(want, want.node, Kind.START, {}, {"power": want.power.value}),) if ops else ()
        diff += (Diff(key="power", was="", want=want.power.value, why="started once it is there"),)
    if want.template:
        held = template_held(want, context)
        ops += (template_op(want, want.node),) if ops and not held else ()
        diff += (Diff(key="template", was="", want="1", why=held or "a template once it is there, for good"),)
        notes += _said(held)
    return msgspec.structs.replace(
        _bare(want, blocked_by=blocked),
        bucket=Bucket.BLOCKED if blocked else Bucket.CREATE,
        ops=ops,
        diff=diff,
        unsupported=made.unsupported,
        notes=(*notes, *waiting.values()),
        waits_for=tuple(waiting),
    )


def _existing(want: Desired, seen: Observed, context: Context, waiting: Mapping[str, str]) -> GuestPlan:
    foreign = obstacles.ownership(want, seen, context)
    if seen.type is not want.type:
        return _other_type(want, seen, foreign, context)
    config = config_change(want, seen, context)
    closed = context.closed.get(want.vmid, "")  # before whose it is: a clone of ours at work has no marker yet
    obstacle = closed or foreign or config.impossible or _now(want, seen, context)
    part = _parts(want, seen, config, context, copied=not obstacle)
    base = msgspec.structs.replace(
        _bare(want), node=seen.node, diff=(*config.diff, *part.diff), unsupported=config.unsupported
    )
    notes = (*config.notes, *part.notes)
    if not base.diff and not config.impossible:
        unadopted = seen.marker is None and seen.lock not in obstacles.HALF_MADE
        if foreign and not unadopted:
            return _block(base, obstacle, notes)
        return msgspec.structs.replace(
            base, notes=(*notes, *_said(obstacle)), approvals=part.offers, unadopted=unadopted
        )
    if foreign:
        return _block(base, obstacle, notes)
    ops = (*_config_ops(want, seen.node, config), *part.ops)
    starts = any(op.kind in _WAITS for op in ops)
    full = msgspec.structs.replace(
        base,
        ops=ops,
        approvals=(*config.approvals, *part.offers),
        waits_for=tuple(waiting) if starts else (),
    )
    notes += tuple(waiting.values()) if starts else ()
    if obstacle:
        return _block(full, obstacle, notes)
    if part.held and not (ops or config.approvals):
        return _block(full, part.held, notes)
    return msgspec.structs.replace(full, bucket=_bucket(config, ops), notes=(*notes, *_said(part.held)))


def _parts(want: Desired, seen: Observed, config: ConfigChange, context: Context, *, copied: bool) -> Part:
    """All but the config, in the order in which it is done.

    A guest is stopped before it is moved and moved before it is started: so it is moved at rest where it can be. What
    may fail for reasons of a storage's own, its copies, comes last.
    """
    power = power_change(want, seen, context)
    up = wanted_power(want) is Power.RUNNING
    return together(
        membership(want, seen),
        NOTHING if up else power,
        migration(want, seen, context),
        templating(want, seen, config, context),
        power if up else NOTHING,
        restart(want, seen, context),
        copies(want, seen, context) if copied else NOTHING,
    )


def _now(want: Desired, seen: Observed, context: Context) -> str:
    return obstacles.circumstances(want.vmid, want.name, (seen.node,), context) or obstacles.lock(seen)


def _bucket(config: ConfigChange, ops: tuple[PlannedOp, ...]) -> Bucket:
    """Offers do not count: nobody has to take them."""
    if config.approvals:
        return Bucket.NEEDS_APPROVAL
    if any(op.kind not in _POWER for op in ops):
        return Bucket.UPDATE
    return Bucket.POWER if ops else Bucket.UNCHANGED


def _other_type(want: Desired, seen: Observed, foreign: str, context: Context) -> GuestPlan:
    """A VM where a container is wanted, or the other way round: only a new guest can have it."""
    why = f"vmid {seen.vmid} is a {seen.type.value} guest"
    diff = Diff(key="kind", was=seen.type.value, want=want.type.value, why="only a new guest can have that")
    base = msgspec.structs.replace(_bare(want), node=seen.node, diff=(diff,))
    obstacle = foreign or _now(want, seen, context)
    if obstacle:
        return _block(base, obstacle, ())
    approval = rebuild(want.vmid, why)
    return msgspec.structs.replace(base, bucket=Bucket.NEEDS_APPROVAL, approvals=(approval,))


def _config_ops(want: Desired, node: NodeName, change: ConfigChange) -> tuple[PlannedOp, ...]:
    ops: list[PlannedOp] = []
    if change.writes:
        kind = Kind.TAG if set(change.goal) == {"tags"} and change.description is None else Kind.CONFIGURE
        op = planned(want, node, kind, change.params, change.goal)
        ops.append(msgspec.structs.replace(op, description=change.description))
    ops.extend(planned(want, node, Kind.DETACH, {"delete": disk}, {disk: ""}) for disk in change.detaches)
    for disk, size in change.grows.items():
        ops.append(planned(want, node, Kind.GROW, {"disk": disk, "size": size}, {disk: size}))
    return tuple(ops)


def _bare(want: Desired, blocked_by: str = "") -> GuestPlan:
    return GuestPlan(
        vmid=want.vmid,
        name=want.name,
        type=want.type,
        node=want.node,
        bucket=Bucket.BLOCKED if blocked_by else Bucket.UNCHANGED,
        blocked_by=blocked_by,
    )


def _block(guest: GuestPlan, why: str, notes: tuple[str, ...]) -> GuestPlan:
    return msgspec.structs.replace(guest, bucket=Bucket.BLOCKED, blocked_by=why, notes=notes)


def _said(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


# -- `after` -----------------------------------------------------------------------------------------------------------


def _waiting(
    want: Desired, declared: Mapping[str, Desired], observed: Mapping[Vmid, Observed], context: Context
) -> dict[str, str]:
    """The guests that have to be up first and are not, by name, each with a note that says how it is."""
    found: dict[str, str] = {}
    for name in want.after:
        other = declared.get(name)
        state = "not declared" if other is None else _not_up(other, observed.get(other.vmid), context)
        if state:
            found[name] = f"after {name}, which {state}"
    return found


def _source_to_be(
    want: Desired, declared: Mapping[str, Desired], observed: Mapping[Vmid, Observed], context: Context
) -> Desired | None:
    """The manifest of the clone source, if the source has yet to be made, or to become a template, itself."""
    if not isinstance(want.source, Clone):
        return None
    source = want.source.source
    other = next((other for other in declared.values() if other.vmid == source), None)
    if other is None or source in context.unread:
        return None
    seen = observed.get(source)
    to_be = seen is None or (other.template and not seen.template and seen.type is other.type)
    return other if to_be else None


def _not_up(other: Desired, seen: Observed | None, context: Context) -> str:
    """How a guest is that is not up yet; '' if it runs, or is in the state that its manifest wants."""
    if other.vmid in context.unread:
        return "cannot be read"
    if seen is None:
        return "does not exist yet"
    if seen.lock in obstacles.HALF_MADE:
        return "is being made"
    if not obstacles.is_ours(seen, context) and seen.name != other.name:
        return "is another guest"
    if other.template:
        return "" if seen.template else "is no template yet"
    up = seen.template or seen.status is Power.RUNNING or other.power in {Power.IGNORE, seen.status}
    return "" if up else f"is {seen.status.value}"


def _stuck(guest: GuestPlan, before: Mapping[str, GuestPlan]) -> GuestPlan:
    """A guest that waits for one that will not move is blocked; one that waits for its turn is not."""
    if not guest.waits_for or guest.bucket is Bucket.BLOCKED or next_op(guest) is not None:
        return guest
    for name in guest.waits_for:
        other = before[name]
        if next_op(other) is None and not (other.waits_for and other.bucket is not Bucket.BLOCKED):
            why = other.blocked_by or "nothing is planned that would change it"
            return _block(guest, f"waits for {name}: {why}", guest.notes)
    return guest


# -- guests whose manifest is gone -------------------------------------------------------------------------------------


def _orphans(declared: set[Vmid], observed: Mapping[Vmid, Observed], context: Context) -> tuple[GuestPlan, ...]:
    """Guests of ours without a manifest. Only a signed request may destroy one; it is never done by the loop."""
    ours = [observed[vmid] for vmid in sorted(observed.keys() - declared) if obstacles.is_ours(observed[vmid], context)]
    return tuple(_orphan(seen, context) for seen in ours)


def _orphan(seen: Observed, context: Context) -> GuestPlan:
    why = "it is ours, and its manifest is gone"
    return GuestPlan(
        vmid=seen.vmid,
        name=seen.name,
        type=seen.type,
        node=seen.node,
        bucket=Bucket.NEEDS_APPROVAL,
        diff=(Diff(key="guest", was=seen.name, want="", why=why),),
        approvals=(Approval(kind=Kind.DESTROY, why=why, command=f"trueup request destroy {seen.vmid}"),),
        notes=_said(context.closed.get(seen.vmid, "") or obstacles.lock(seen)),
    )
