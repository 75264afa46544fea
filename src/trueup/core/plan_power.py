"""Whether a guest has to be started or stopped, and whether the loop may.

Starting is safe. Stopping interrupts, so it follows the manifest's `disruption`: never, allowed, or in a window. A
guest that HA manages is started and stopped by HA only.
"""

import msgspec

from trueup.core import windows
from trueup.core.plan_context import Context
from trueup.model.errors import BadInput
from trueup.model.guests import Desired, Observed, Power, Restart
from trueup.model.ids import GuestType
from trueup.model.ops import Kind
from trueup.model.plan import Diff
from trueup.model.windows import Window


class PowerChange(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a guest's power.

    `kind` is None where nothing may be issued; if something differs all the same, `held` says why. `note` names what
    PVE does not tell.
    """

    kind: Kind | None = None
    diff: Diff | None = None
    held: str = ""
    note: str = ""


def power_change(want: Desired, seen: Observed, context: Context) -> PowerChange:
    """Compare the wanted run state with the one seen."""
    if seen.template or want.power is Power.IGNORE or want.power is seen.status:
        return PowerChange()
    if seen.status is Power.UNKNOWN:
        return PowerChange(note="PVE does not tell whether it runs, so it is neither started nor stopped")
    held = _held_by_ha(want, seen)
    if want.power is Power.RUNNING:
        why = held or "the guest is stopped"
        return PowerChange(kind=None if held else Kind.START, diff=_diff(want, seen, why), held=held)
    held = held or may_not_interrupt(want.restart, context.now_ms)
    if held:
        return PowerChange(diff=_diff(want, seen, held), held=held)
    if want.vmid in context.shutdown_failed:
        return PowerChange(kind=Kind.STOP, diff=_diff(want, seen, "it did not shut down by itself: it is stopped hard"))
    return PowerChange(kind=Kind.SHUTDOWN, diff=_diff(want, seen, "the guest runs"))


def may_not_interrupt(restart: str, now_ms: int) -> str:
    """Why a running guest may not be interrupted now; '' if it may."""
    if restart == Restart.ALLOWED:
        return ""
    if restart == Restart.NEVER:
        return "the manifest does not allow an interruption (set `disruption: {restart: allowed}` or a window)"
    try:
        is_open = windows.is_open(Window.parse(restart), now_ms)
    except BadInput as error:
        return str(error)
    return "" if is_open else f"waits for its window: {restart}"


def ha_managed(seen: Observed) -> bool:
    """Whether HA starts, stops and moves this guest. Its state `ignored` means that it keeps off."""
    return seen.ha not in {"", "ignored"}


def _held_by_ha(want: Desired, seen: Observed) -> str:
    if not ha_managed(seen):
        return ""
    service = f"{'vm' if seen.type is GuestType.QEMU else 'ct'}:{seen.vmid}"
    state = "started" if want.power is Power.RUNNING else "stopped"
    return f"managed by HA, which has it in state {seen.ha} (`ha-manager set {service} --state {state}`)"


def _diff(want: Desired, seen: Observed, why: str) -> Diff:
    return Diff(key="power", was=seen.status.value, want=want.power.value, why=why)
