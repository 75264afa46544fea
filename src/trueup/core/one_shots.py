"""Whether an accepted one-shot may be sent now, on what was just seen of its guest.

Three answers: nothing stands in the way; not now (it waits, until `execute_by` at the most); or never, since it is
not the guest that was signed for, or PVE would refuse, or do something else than what was asked. What can be told
beforehand is told before anything is written, so that a refused destroy has not even lifted `protection`.
"""

from collections.abc import Callable, Collection, Mapping

import msgspec

from trueup.core import incarnation
from trueup.core import marker as markers
from trueup.core.intents import is_managed
from trueup.core.kinds import KINDS, Tier
from trueup.model import limits
from trueup.model.guests import Observed, Power
from trueup.model.ids import GuestType, Vmid
from trueup.model.ops import Intent, Kind, Reason
from trueup.model.pve import TaskRow


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """It will not be sent: the reason for the record, and a sentence for people."""

    reason: Reason
    why: str


class NotYet(msgspec.Struct, frozen=True, kw_only=True):
    """It is not sent now, and looked at again."""

    why: str


def judge(intent: Intent, seen: Observed, *, installation: str, quorate: bool) -> Objection | NotYet | None:
    """What stands in the way of this one-shot; None if nothing does.

    Args:
        intent: as accepted; its identity and digest are what its signers saw.
        seen: the guest as it is now.
        installation: our own id in markers.
        quorate: whether the cluster has quorum.
    """
    spec = KINDS[intent.kind]
    if not spec.carried_out:
        return Objection(reason=Reason.REFUSED, why=_by_hand(intent, seen))
    changed = incarnation.as_signed(intent, seen)
    if changed:
        return Objection(reason=Reason.NOT_AS_SIGNED, why=changed)
    if seen.type is GuestType.LXC and spec.tier is Tier.DESTRUCTIVE and not _marked(seen, installation):
        why = "nothing but our marker tells one container from the next, and this one does not carry it"
        return Objection(reason=Reason.REFUSED, why=f"{why} (adopt it first)")
    refused = _REFUSED_BEFOREHAND.get(intent.kind, _nothing)(intent, seen)
    if refused:
        return Objection(reason=Reason.REFUSED, why=refused)
    if intent.goal.get("power") == seen.status:
        return Objection(reason=Reason.SUPERSEDED, why=f"the guest is {seen.status} already")
    if seen.lock:
        return NotYet(why=f"the guest is locked ({seen.lock})")
    if spec.needs_quorum and not quorate:
        return NotYet(why="the cluster has no quorum")
    return None


def made_since(vmid: Vmid, rows: Collection[TaskRow], since_ms: int, known: Collection[str]) -> TaskRow | None:
    """A task that made, overwrote or destroyed the container with this vmid since then; None if there was none.

    `known` are UPIDs of operations of ours that had ended by then. Nodes' clocks may differ from ours as much as those
    of signers may.
    """
    since_s = since_ms / 1000 - limits.CLOCK_DIFFERENCE_S
    return next((row for row in rows if _makes(row, vmid) and row.upid.starttime >= since_s and _own(row, known)), None)


def _own(row: TaskRow, known: Collection[str]) -> bool:
    return row.upid.text not in known


def _makes(row: TaskRow, vmid: Vmid) -> bool:
    return row.upid.type in {"vzcreate", "vzrestore", "vzdestroy"} and row.upid.id == str(vmid)


def _marked(seen: Observed, installation: str) -> bool:
    mark = seen.marker
    return mark is not None and mark.installation == installation and not markers.is_copy(mark, seen.vmid)


def _by_hand(intent: Intent, seen: Observed) -> str:
    tool = "qm" if seen.type is GuestType.QEMU else "pct"
    return f"PVE lets no API token do this: run `{tool} {intent.kind} {seen.vmid}` as root on {seen.node}"


def _nothing(_intent: Intent, _seen: Observed) -> str:
    return ""


def _destroy(intent: Intent, seen: Observed) -> str:
    if seen.status is not Power.STOPPED:
        return f"the guest is {seen.status}: PVE destroys stopped guests only (stop it first)"
    if seen.ha and intent.params.get("purge") != "1":
        return "HA manages the guest: sign for `purge` as well, or take it out of HA first"
    return ""


def _restore(_intent: Intent, seen: Observed) -> str:
    if seen.config.get("protection") == "1":
        return "the guest is protected: PVE restores over no such guest (lift `protection` first)"
    return _stopped(seen)


def _stopped(seen: Observed) -> str:
    return "" if seen.status is Power.STOPPED else f"the guest is {seen.status}: stop it first"


def _disk_remove(intent: Intent, seen: Observed) -> str:
    missing = [disk for disk in intent.goal if disk not in seen.config]
    if missing:
        return f"the guest has no {', '.join(missing)}"
    if seen.config.get("protection") == "1":
        return "the guest is protected: PVE removes none of its disks (lift `protection` first)"
    used = [disk for disk in intent.goal if not disk.startswith("unused")]
    if used and seen.type is GuestType.LXC:
        return f"PVE deletes only volumes that a container no longer uses: detach {', '.join(used)} first"
    plugged = [disk for disk in used if not disk.startswith(("scsi", "virtio"))]
    return _stopped(seen) if plugged else ""


def _rollback(_intent: Intent, seen: Observed) -> str:
    return "a template cannot be rolled back" if seen.template else ""


def _migrate(intent: Intent, seen: Observed) -> str:
    return f"the guest is on {seen.node} already" if intent.goal.get("node") == seen.node else ""


def _template(_intent: Intent, seen: Observed) -> str:
    return "it is a template already" if seen.template else _stopped(seen)


def _reboot(_intent: Intent, seen: Observed) -> str:
    if is_managed(seen):
        return ""
    return "" if seen.status is Power.RUNNING else f"the guest is {seen.status}: start it instead"


_REFUSED_BEFOREHAND: Mapping[Kind, Callable[[Intent, Observed], str]] = {
    Kind.DESTROY: _destroy,
    Kind.RESTORE: _restore,
    Kind.DISK_REMOVE: _disk_remove,
    Kind.ROLLBACK: _rollback,
    Kind.SNAPSHOT_DELETE: _rollback,
    Kind.MIGRATE: _migrate,
    Kind.TEMPLATE: _template,
    Kind.REBOOT: _reboot,
}
"""Why PVE would refuse, or do something else, by kind."""
