"""Whether a guest has to be started, stopped or restarted, and whether the loop may.

Starting is safe. Stopping and restarting interrupt, so they follow the manifest's `disruption`: never, allowed, or in a
window. Of a guest that HA manages, PVE hands a start or stop to HA; while HA itself is at work on it, or has given it
up, nothing is asked.
"""

from typing import Final

from trueup.core import windows
from trueup.core.plan_config import waits_for_restart
from trueup.core.plan_context import Context
from trueup.core.plan_part import NOTHING, Part, planned
from trueup.model.errors import BadInput
from trueup.model.guests import Desired, Observed, Power, Restart
from trueup.model.ids import GuestType
from trueup.model.ops import Kind
from trueup.model.plan import Diff
from trueup.model.windows import Window

HA_AT_WORK: Final = frozenset(
    {"queued", "request_start", "request_start_balance", "request_stop", "migrate", "relocate", "fence", "recovery"}
    | {"freeze"}
)
"""Service states in which HA's manager or its agent is about to do something (pve-ha-manager, Manager.pm)."""

NO_RESTART: Final = "the manifest does not allow"


def wanted_power(want: Desired) -> Power:
    """The wanted run state: a template never runs."""
    return Power.STOPPED if want.template else want.power


def power_change(want: Desired, seen: Observed, context: Context) -> Part:
    """Compare the wanted run state with the one seen."""
    power = wanted_power(want)
    if seen.template or power is Power.IGNORE or power is seen.status:
        return Part(notes=(_given_up(seen),)) if seen.ha == "error" else NOTHING
    if seen.status is Power.UNKNOWN:
        return Part(notes=("PVE does not tell whether it runs, so it is neither started nor stopped",))
    held = held_by_ha(seen)
    if power is Power.RUNNING:
        return _change(want, seen, Kind.START, "the guest is stopped", held)
    held = held or may_not_interrupt(want.restart, context.now_ms)
    if want.vmid in context.shutdown_failed:
        return _change(want, seen, Kind.STOP, "it did not shut down by itself: it is stopped hard", held)
    return _change(want, seen, Kind.SHUTDOWN, "the guest runs", held)


def restart(want: Desired, seen: Observed, context: Context) -> Part:
    """A restart for the manifest's values that wait for one. Where it may not be, that is no fault of the guest."""
    waiting = waits_for_restart(want, seen)
    if not waiting or seen.status is not Power.RUNNING or wanted_power(want) is Power.STOPPED:
        return NOTHING
    keys = ",".join(waiting)
    what = f"{', '.join(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for a restart"
    if want.restart == Restart.NEVER:
        return Part(notes=(f"{what}, which {NO_RESTART}",))
    held = held_by_ha(seen) or may_not_interrupt(want.restart, context.now_ms)
    if held:
        return Part(notes=(f"{what}; {held}",))
    return Part(
        ops=(planned(want, seen.node, Kind.REBOOT, {}, {"pending": keys}),),
        diff=(Diff(key="pending", was=keys, want="", why=f"{what}, which the manifest allows"),),
    )


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


def held_by_ha(seen: Observed) -> str:
    """Why HA takes no wish for this guest now; '' if it does, or has no say."""
    if seen.ha == "error":
        return _given_up(seen)
    return f"HA is at work on it (state {seen.ha})" if seen.ha in HA_AT_WORK else ""


def _given_up(seen: Observed) -> str:
    service = f"{'vm' if seen.type is GuestType.QEMU else 'ct'}:{seen.vmid}"
    return (
        f"HA has given it up (state error): it must be disabled and fixed first (`ha-manager set {service} "
        f"--state disabled`, mend it, then `ha-manager set {service} --state started`)"
    )


def _change(want: Desired, seen: Observed, kind: Kind, why: str, held: str) -> Part:
    power = wanted_power(want)
    diff = Diff(key="power", was=seen.status.value, want=power.value, why=held or why)
    ops = () if held else (planned(want, seen.node, kind, {}, {"power": power.value}),)
    return Part(ops=ops, diff=(diff,), held=held)
