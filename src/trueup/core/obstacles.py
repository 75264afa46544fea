"""What keeps trueup from touching a guest, each with what people can do about it. Nothing here is ever forced.

A guest is touched only on clear evidence that it is ours: our marker, of our installation, written for this vmid, with
the uid that the journal knows. Everything else is explained and left alone.
"""

from collections.abc import Mapping

from trueup.core import marker as markers
from trueup.core.plan_context import Context
from trueup.model.guests import Desired, Observed
from trueup.model.ids import GuestType, NodeName, Vmid

HALF_MADE = frozenset({"create", "clone", "restore", "import"})
"""Locks of a guest that is being made: there is no guest yet, and perhaps never will be."""

_LOCKS: Mapping[str, str] = {
    "backup": "a backup is at work, or was cut off (PVE removes this lock when the node boots)",
    "clone": "a clone into this vmid is at work, or was cut off",
    "create": "its creation is at work, or was cut off",
    "destroyed": "its destruction is at work, or was cut off: its disks may be gone",
    "disk": "a disk is being moved or a container cloned, or that was cut off",
    "fstrim": "a trim of its file systems is at work, or was cut off",
    "import": "an import is at work, or was cut off",
    "migrate": "a migration is at work, or was cut off",
    "mounted": "its file systems are mounted on the node",
    "restore": "a restore is at work, or was cut off",
    "rollback": "a rollback is at work, or was cut off: its disks may be half rolled back",
    "snapshot": "a snapshot is being taken, or that was cut off",
    "snapshot-delete": "a snapshot is being deleted, or that was cut off",
    "suspending": "it is being suspended to disk, or that was cut off",
}


def lock(seen: Observed) -> str:
    """Why a locked guest is left alone; '' if it is not locked."""
    if not seen.lock:
        return ""
    tool = "qm" if seen.type is GuestType.QEMU else "pct"
    if seen.lock == "suspended":
        return (
            "it is suspended to disk, which is a state and no leftover: the next start resumes it "
            f"(start it in PVE, or give up its saved memory with `{tool} unlock {seen.vmid}` as root on {seen.node})"
        )
    what = _LOCKS.get(seen.lock, "something is at work, or was cut off")
    look = f"look with `pvenode task list --vmid {seen.vmid}` on {seen.node}"
    then = f"`{tool} {'unmount' if (tool, seen.lock) == ('pct', 'mounted') else 'unlock'} {seen.vmid}` as root there"
    if seen.lock in HALF_MADE | {"destroyed"}:
        then += f", then `{tool} destroy {seen.vmid}`, since only half a guest is left"
    return f"locked by PVE ({seen.lock}): {what} ({look}; once nothing works on it any more: {then})"


def ownership(want: Desired, seen: Observed, context: Context) -> str:
    """Why the guest with this vmid is not ours to change; '' if it is."""
    vmid, marker = seen.vmid, seen.marker
    here = f"vmid {vmid} ({seen.name!r} on {seen.node})"
    if marker is None:
        if seen.lock in HALF_MADE:
            return lock(seen)
        if vmid in context.adopted:
            return (
                f"{here} no longer carries our marker: its description was edited, or it is another guest by now "
                f"(compare, then `trueup adopt {vmid} --take-over`)"
            )
        other = "" if seen.name == want.name else f", or give {want.name} another vmid"
        return f"{here} does not carry our marker (`trueup adopt {vmid}` to take it over{other})"
    if marker.installation != context.installation:
        return (
            f"{here} belongs to another trueup, installation {marker.installation!r} "
            f"(take its manifest out there or here; `trueup adopt {vmid} --take-over` takes it over)"
        )
    if markers.is_copy(marker, vmid):
        return (
            f"{here} carries the marker of vmid {marker.vmid}: it is a copy, made by a clone or a restore "
            f"(`trueup adopt {vmid} --take-over` if it shall be ours)"
        )
    known = context.adopted.get(vmid)
    if known is not None and known != marker.uid:
        return (
            f"{here} is another guest than the one we knew: its marker says {marker.uid}, the journal {known} "
            f"(find out who replaced it, then `trueup adopt {vmid} --take-over`)"
        )
    return ""


def is_ours(seen: Observed, context: Context) -> bool:
    """Whether a guest carries our very own marker, written for it."""
    marker = seen.marker
    if marker is None or marker.installation != context.installation or markers.is_copy(marker, seen.vmid):
        return False
    return context.adopted.get(seen.vmid, marker.uid) == marker.uid


def circumstances(vmid: Vmid, name: str, nodes: tuple[NodeName, ...], context: Context) -> str:
    """What forbids any change now, whatever it is; '' if nothing does. `nodes` are those that have to take part."""
    if vmid in context.closed:
        return context.closed[vmid]
    if "*" in context.paused:
        return "everything is paused (`trueup resume`)"
    if name in context.paused:
        return f"paused (`trueup resume {name}`)"
    if not context.quorate:
        return "the cluster has no quorum: PVE refuses changes, or does half of them (bring nodes back)"
    return next((why for why in (node_trouble(node, context) for node in nodes) if why), "")


def node_trouble(node: NodeName, context: Context) -> str:
    """Why nothing can be done on this node; '' if something can."""
    online = context.nodes.get(node)
    if online is None:
        known = ", ".join(sorted(context.nodes)) or "none is known"
        return f"the cluster has no node {node} (correct `node` in the manifest; nodes: {known})"
    return "" if online else f"node {node} is offline (bring it back)"
