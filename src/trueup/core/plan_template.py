"""Whether a guest has to become a template. That cannot be undone, so it follows the manifest's `disruption`.

PVE wants it stopped and without snapshots. What the manifest says of its config comes first: a template is what others
are cloned from.
"""

from trueup.core.plan_config import ConfigChange
from trueup.core.plan_context import Context
from trueup.core.plan_part import NOTHING, Part, planned
from trueup.core.plan_power import may_not_interrupt
from trueup.model.guests import Desired, Observed, Power
from trueup.model.ids import NodeName
from trueup.model.ops import Kind
from trueup.model.plan import Diff, PlannedOp


def templating(want: Desired, seen: Observed, config: ConfigChange, context: Context) -> Part:
    """Turn the guest into a template, once it is stopped and as its manifest wants it."""
    if not want.template or seen.template:
        return NOTHING
    held = _held(want, seen, config, context)
    diff = Diff(key="template", was="", want="1", why=held or "it becomes a template, for good")
    return Part(ops=() if held else (template_op(want, seen.node),), diff=(diff,), held=held)


def template_op(want: Desired, node: NodeName) -> PlannedOp:
    """The operation."""
    return planned(want, node, Kind.TEMPLATE, {}, {"template": "1"})


def template_held(want: Desired, context: Context) -> str:
    """Why the manifest does not let it become a template now; '' if it does."""
    why = may_not_interrupt(want.restart, context.now_ms)
    return f"becoming a template cannot be undone: {why}" if why else ""


def _held(want: Desired, seen: Observed, config: ConfigChange, context: Context) -> str:
    if seen.status is Power.UNKNOWN:
        return "PVE does not tell whether it runs, so it does not become a template"
    if config.approvals:
        return "it becomes a template only once its config is as wanted"
    if seen.snapshots:
        one = min(seen.snapshots)
        return (
            f"PVE makes no template of a guest with snapshots ({', '.join(sorted(seen.snapshots)[:3])}; "
            f"`trueup request snapshot-delete {seen.vmid} --param snapshot={one}`)"
        )
    return template_held(want, context)
