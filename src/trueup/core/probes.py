"""Probes tell whether an operation's effect is in the world, and whether it was this operation that put it there.

A probe is a pure function of the journaled intent and of what was seen. It never guesses: what it cannot tell from
what it was given is `UNKNOWABLE`, what could not be read is `UNREADABLE`. A landing is *attributable* only if the
world carries something that this very operation wrote: our marker with its id, a name chosen for it, a note.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.core import incarnation, properties
from trueup.model.guests import Observed, Power
from trueup.model.ops import Intent


class Landing(StrEnum):
    """What a probe found."""

    LANDED = "landed"
    NOT_LANDED = "not_landed"
    PARTIAL = "partial"
    UNKNOWABLE = "unknowable"
    UNREADABLE = "unreadable"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one guest, where it is now.

    `guest` is None if it was not seen; `absent` tells that it is nowhere in the cluster, by a list that would have
    shown it (VM.Audit). `snapshots` maps names to descriptions, `archives` volume ids to notes; None = not read.
    """

    guest: Observed | None = None
    absent: bool = False
    snapshots: Mapping[str, str] | None = None
    archives: Mapping[str, str] | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A probe's answer; `why` is a clause for people."""

    landing: Landing
    attributable: bool = False
    why: str = ""


_UNSEEN = Finding(landing=Landing.UNREADABLE, why="the guest could not be read")
_GONE = Finding(landing=Landing.NOT_LANDED, why="the guest does not exist")


def created(intent: Intent, sight: Sight) -> Finding:
    """Create and clone: the guest is there with the marker that this request carried, and nobody is at work on it."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    ours = guest.marker is not None and intent.marker is not None and guest.marker.uid == intent.marker.uid
    if guest.lock in {"create", "clone", "disk"}:
        return Finding(landing=Landing.PARTIAL, attributable=ours, why=f"the guest is there with lock {guest.lock}")
    if ours:
        return Finding(landing=Landing.LANDED, attributable=True, why="the guest carries the marker of this operation")
    return Finding(landing=Landing.NOT_LANDED, why="the vmid belongs to another guest")


def configured(intent: Intent, sight: Sight) -> Finding:
    """Configure: one write carries the values and our marker, so the marker tells whether the write happened.

    Values that wait for a restart count as written: PVE stores them in one write with the marker. Where somebody
    removed our marker, the values alone speak, and nothing can be attributed.
    """
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    met = [_met(intent, guest, key, want) for key, want in intent.goal.items()]
    if guest.marker is not None and intent.marker is not None:
        if guest.marker.op_id != intent.marker.op_id:
            return Finding(landing=Landing.NOT_LANDED, why="the marker is not the one that this write carried")
        if all(met):
            return Finding(landing=Landing.LANDED, attributable=True, why="marker and values of this write are there")
        return Finding(landing=Landing.PARTIAL, attributable=True, why="the marker is there, some values are not")
    if met and all(met):
        return Finding(landing=Landing.LANDED, why="the values are there, without a marker")
    if any(met):
        return Finding(landing=Landing.PARTIAL, why="some of the values are there, without a marker")
    return Finding(landing=Landing.NOT_LANDED, why="none of the values is there")


def _met(intent: Intent, guest: Observed, key: str, want: str) -> bool:
    if properties.is_secret(key):
        return True  # PVE never shows it; the marker speaks for the write
    have = guest.config.get(key)
    return have is None if want == "" else properties.satisfied(intent.type, key, want, have)


def grown(intent: Intent, sight: Sight) -> Finding:
    """Grow: the disk has at least the size that was asked for."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    for disk, size in intent.goal.items():
        have = properties.disk_size(guest.config.get(disk, ""))
        want = properties.parse_size(size)
        if have is None or want is None:
            return Finding(landing=Landing.UNKNOWABLE, why=f"{disk} shows no size")
        if have < want:
            return Finding(landing=Landing.NOT_LANDED, why=f"{disk} is smaller than {size}")
    return Finding(landing=Landing.LANDED, why="the disk has the size")


def powered(intent: Intent, sight: Sight) -> Finding:
    """Start, stop, shutdown: the guest is in the state. Anybody could have put it there."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    if guest.status is Power.UNKNOWN:
        return Finding(landing=Landing.UNREADABLE, why="PVE does not know whether the guest runs")
    want = intent.goal.get("power", "")
    landing = Landing.LANDED if guest.status == want else Landing.NOT_LANDED
    return Finding(landing=landing, why=f"the guest is {guest.status}")


def moved(intent: Intent, sight: Sight) -> Finding:
    """Migrate: the guest's config is on the target node, and the migration no longer holds its lock."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    if guest.lock == "migrate":
        return Finding(landing=Landing.PARTIAL, why="the guest is locked by a migration")
    landing = Landing.LANDED if guest.node == intent.goal.get("node") else Landing.NOT_LANDED
    return Finding(landing=landing, why=f"the guest is on {guest.node}")


def templated(_intent: Intent, sight: Sight) -> Finding:
    """Template: PVE sets the flag first and converts the disks afterwards, so the flag alone is half of it."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    if not guest.template:
        return Finding(landing=Landing.NOT_LANDED, why="the guest is no template")
    return Finding(landing=Landing.PARTIAL, why="the flag is set; whether all disks are converted does not show")


def destroyed(intent: Intent, sight: Sight) -> Finding:
    """Destroy: the guest that was seen is nowhere. A vmid that was made anew proves nothing about who destroyed it."""
    guest = sight.guest
    if guest is None:
        return Finding(landing=Landing.LANDED, attributable=True, why="the guest is gone") if sight.absent else _UNSEEN
    if guest.lock == "destroyed":
        return Finding(landing=Landing.PARTIAL, why="the guest is being destroyed")
    if not incarnation.still(intent, guest):
        return Finding(landing=Landing.UNKNOWABLE, why="the vmid now belongs to another guest")
    return Finding(landing=Landing.NOT_LANDED, why="the guest is still there")


def snapshot_taken(intent: Intent, sight: Sight) -> Finding:
    """Snapshot: its name, chosen for this operation, is listed, and the guest is not locked by its making."""
    name = intent.goal.get("snapshot", "")
    if sight.snapshots is None:
        return _UNSEEN
    if name not in sight.snapshots:
        return Finding(landing=Landing.NOT_LANDED, why=f"there is no snapshot {name}")
    if sight.guest is not None and sight.guest.lock == "snapshot":
        return Finding(landing=Landing.PARTIAL, why="the snapshot is being made")
    ours = intent.marker is not None and intent.marker.op_id in sight.snapshots[name]
    return Finding(landing=Landing.LANDED, attributable=ours, why=f"snapshot {name} is there")


def snapshot_gone(intent: Intent, sight: Sight) -> Finding:
    """Delete a snapshot: its name is no longer listed; who removed it does not show."""
    name = intent.goal.get("snapshot", "")
    if sight.snapshots is None:
        return _UNSEEN
    if name not in sight.snapshots:
        return Finding(landing=Landing.LANDED, why=f"there is no snapshot {name}")
    if sight.guest is not None and sight.guest.lock == "snapshot-delete":
        return Finding(landing=Landing.PARTIAL, why="the snapshot is being deleted")
    return Finding(landing=Landing.NOT_LANDED, why=f"snapshot {name} is there")


def rolled_back(intent: Intent, sight: Sight) -> Finding:
    """Rollback: PVE renews a VM's `vmgenid`; else only its task can tell, since a description survives it."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    if guest.lock == "rollback":
        return Finding(landing=Landing.PARTIAL, why="the guest is locked by a rollback")
    return _generation(intent, guest) or Finding(
        landing=Landing.UNKNOWABLE, why="a rollback leaves no trace but its task"
    )


def _generation(intent: Intent, guest: Observed) -> Finding | None:
    """What `vmgenid` tells: the generation from before, or a new one, whoever began it. None if there is none."""
    before = intent.identity.vmgenid if intent.identity else ""
    if not before or not guest.identity.vmgenid:
        return None
    if guest.identity.vmgenid == before:
        return Finding(landing=Landing.NOT_LANDED, why="the guest is of the generation from before")
    return Finding(landing=Landing.LANDED, why="the guest is of a new generation")


def backed_up(intent: Intent, sight: Sight) -> Finding:
    """Backup: an archive whose notes carry this operation's id."""
    if sight.archives is None:
        return _UNSEEN
    nonce = intent.goal.get("note", "")
    if nonce and any(nonce in notes for notes in sight.archives.values()):
        return Finding(landing=Landing.LANDED, attributable=True, why="an archive carries this operation's id")
    return Finding(landing=Landing.NOT_LANDED, why="no archive carries this operation's id")


def archive_gone(intent: Intent, sight: Sight) -> Finding:
    """Delete a backup: the volume is no longer listed; who removed it does not show."""
    if sight.archives is None:
        return _UNSEEN
    gone = intent.goal.get("volume", "") not in sight.archives
    return Finding(landing=Landing.LANDED if gone else Landing.NOT_LANDED, why="gone" if gone else "still listed")


def restored(intent: Intent, sight: Sight) -> Finding:
    """Restore over a guest: the request carries our marker, which is written with the restored config, at the end.

    Where the marker was taken out by hand, a VM's `vmgenid`, which PVE renews, still tells that there was one.
    """
    guest = sight.guest
    if guest is None:
        return Finding(landing=Landing.PARTIAL, why="the guest is gone") if sight.absent else _UNSEEN
    if guest.lock in {"create", "restore"}:
        return Finding(landing=Landing.PARTIAL, why=f"the guest is there with lock {guest.lock}")
    if guest.marker is not None and intent.marker is not None and guest.marker.op_id == intent.marker.op_id:
        return Finding(landing=Landing.LANDED, attributable=True, why="the restored guest carries our marker")
    known = _generation(intent, guest)
    if known is not None:
        return known
    if guest.identity == intent.identity:
        # The marker has a number of its own, and a container's volume gets a new name.
        return Finding(landing=Landing.NOT_LANDED, why="the guest is the one from before")
    return Finding(landing=Landing.UNKNOWABLE, why="nothing tells one generation of this guest from the next")


def disk_removed(intent: Intent, sight: Sight) -> Finding:
    """Remove a disk: the key is gone from the config; our marker, written by the same request, makes it ours."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    ours = guest.marker is not None and intent.marker is not None and guest.marker.op_id == intent.marker.op_id
    if any(key in guest.config for key in intent.goal):
        return Finding(landing=Landing.PARTIAL if ours else Landing.NOT_LANDED, attributable=ours, why="still there")
    if intent.one_shot and any(key in guest.pending for key in intent.goal):
        return Finding(landing=Landing.PARTIAL, attributable=ours, why="it goes when the guest is restarted")
    return Finding(landing=Landing.LANDED, attributable=ours, why="the disk is no longer in the config")


def unlocked(_intent: Intent, sight: Sight) -> Finding:
    """Unlock: no config lock is left."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    return Finding(landing=Landing.NOT_LANDED if guest.lock else Landing.LANDED, why=f"lock: {guest.lock or 'none'}")


def rebooted(intent: Intent, sight: Sight) -> Finding:
    """Reboot, asked for because of values that waited for it: they no longer wait, and the guest runs.

    PVE starts the guest again outside of the task, and no counter tells one run from the next.
    """
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    waited = {key for key in intent.goal.get("pending", "").split(",") if key}
    if not waited:
        if intent.one_shot and guest.status is Power.STOPPED:
            return Finding(landing=Landing.PARTIAL, why="the guest is stopped and not started again yet")
        return Finding(landing=Landing.UNKNOWABLE, why="a reboot leaves no trace but its task")
    if guest.status is not Power.RUNNING:
        return Finding(landing=Landing.PARTIAL, why=f"the guest is {guest.status}")
    left = waited & set(guest.pending)
    if left:
        return Finding(landing=Landing.NOT_LANDED, why=f"{', '.join(sorted(left))} still waits for a restart")
    return Finding(landing=Landing.LANDED, why="the guest runs with the values that waited")


def pooled(intent: Intent, sight: Sight) -> Finding:
    """Pool: the guest is a member of it, whoever put it there."""
    guest = sight.guest
    if guest is None:
        return _GONE if sight.absent else _UNSEEN
    landing = Landing.LANDED if guest.pool == intent.goal.get("pool", "") else Landing.NOT_LANDED
    return Finding(landing=landing, why=f"the guest is in pool {guest.pool or 'none'}")
