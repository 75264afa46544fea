"""Where a guest belongs: on which node, and in which pool.

A stopped guest is moved safely. A running VM is moved while it runs and a running container is restarted by it, so both
follow the manifest's `disruption`. Where HA manages a guest, the node is HA's choice and no difference.
"""

from collections.abc import Iterator

from trueup.core import disks, obstacles, properties
from trueup.core.plan_context import Context
from trueup.core.plan_part import NOTHING, Part, planned
from trueup.core.plan_power import ha_managed, may_not_interrupt, wanted_power
from trueup.model.guests import Desired, Observed, Power
from trueup.model.ids import GuestType
from trueup.model.ops import Kind
from trueup.model.plan import Diff


def migration(want: Desired, seen: Observed, context: Context) -> Part:
    """Move the guest to the node of its manifest."""
    if seen.node == want.node or ha_managed(seen):
        return NOTHING
    running = seen.status is Power.RUNNING
    held = obstacles.node_trouble(want.node, context) or _bound(seen) or _held(want, seen, context)
    stays_up = running and wanted_power(want) is not Power.STOPPED
    params: dict[str, str] = {"target": want.node}
    how = "it is on another node; it is moved while stopped"
    if stays_up and seen.type is GuestType.LXC:
        params["restart"] = "1"
        how = "it is on another node; a running container is restarted there"
    elif stays_up:
        params["online"] = "1"
        if _maybe_local(seen, context):
            params["with-local-disks"] = "1"
        how = "it is on another node; it is moved while it runs"
    diff = Diff(key="node", was=seen.node, want=want.node, why=held or how)
    ops = () if held else (planned(want, seen.node, Kind.MIGRATE, params, {"node": want.node}),)
    return Part(ops=ops, diff=(diff,), held=held)


def membership(want: Desired, seen: Observed) -> Part:
    """Put the guest into the pool of its manifest; a manifest without one leaves it where it is."""
    if not want.pool or want.pool == seen.pool:
        return NOTHING
    why = "it is in no pool" if not seen.pool else "it is in another pool"
    return Part(
        ops=(planned(want, seen.node, Kind.POOL, {}, {"pool": want.pool}),),
        diff=(Diff(key="pool", was=seen.pool, want=want.pool, why=why),),
    )


def _held(want: Desired, seen: Observed, context: Context) -> str:
    """What the manifest, or what is not known, says against it now."""
    if seen.status is Power.STOPPED:
        return ""
    if seen.status is Power.UNKNOWN:
        return "PVE does not tell whether it runs, so it is not moved"
    why = may_not_interrupt(want.restart, context.now_ms)
    return f"on {seen.node} instead of {want.node}: {why}" if why else ""


def _bound(seen: Observed) -> str:
    """What ties the guest to its node, by PVE's own checks before it moves anything; '' if nothing does.

    Sources: qemu-server, check_local_resources and QemuMigrate; pve-container, LXC::Migrate. Local volumes are no tie:
    PVE copies them.
    """
    reasons = list(_vm_ties(seen) if seen.type is GuestType.QEMU else _container_ties(seen))
    if not reasons:
        return ""
    return f"it cannot be moved: {'; '.join(reasons)}"


def _vm_ties(seen: Observed) -> Iterator[str]:
    for key, value in sorted(seen.config.items()):
        name = key.rstrip("0123456789")
        parts = properties.parse(seen.type, key, value) or {}
        passed = name in {"hostpci", "usb"} and not parts.get("mapping") and not value.startswith("spice")
        if passed or name in {"parallel", "ivshmem", "virtiofs"} or (name == "serial" and value != "socket"):
            yield f"{key} is a device of {seen.node} (take it away, or use a mapping)"
        elif properties.is_disk(seen.type, key) and _volume(seen, key).startswith("/"):
            yield f"{key} is a device or file of {seen.node}"
        elif properties.is_disk(seen.type, key) and _volume(seen, key) == "cdrom":
            yield f"{key} is the CD-ROM drive of {seen.node} (write `{key}: none,media=cdrom`)"


def _container_ties(seen: Observed) -> Iterator[str]:
    for key in sorted(seen.config):
        if not properties.is_disk(seen.type, key) or key.startswith("unused"):
            continue
        options = disks.seen(seen.type, key, seen.config[key]).options
        if _volume(seen, key).startswith("/") and options.get("shared") != "1":
            yield f"{key} is a folder or device of {seen.node} (add shared=1 if every node has the same)"


def _maybe_local(seen: Observed, context: Context) -> bool:
    """Whether PVE may have to copy disks: it refuses to without being told, and being told for nothing does no harm."""
    for key, value in seen.config.items():
        if not properties.is_disk(seen.type, key) or key.startswith("unused"):
            continue
        disk = disks.seen(seen.type, key, value)
        if disk.storage and not disk.cdrom and disk.storage not in (context.shared or ()):
            return True
    return False


def _volume(seen: Observed, key: str) -> str:
    return disks.seen(seen.type, key, seen.config[key]).volume
