"""Snapshots and backups by policy: one for each time of its schedule, and never a deletion.

A copy is wanted for the newest time of the schedule unless there is one of ours for that time or later; times that were
missed are not made up for. What is more than `keep` is offered: the request that deletes it is ready, people sign it or
do not, and the guest is as declared either way. What cannot be told (a list that was not read) is left alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trueup.core import marker as markers
from trueup.core.plan_context import Context
from trueup.core.plan_part import NOTHING, Part, planned
from trueup.core.plan_power import may_not_interrupt
from trueup.core.schedule import Due, Schedule, last_due, stamp_of
from trueup.model.errors import BadInput
from trueup.model.guests import Backup, BackupPolicy, Desired, Observed, Power, Snapshot, SnapshotPolicy
from trueup.model.ids import Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Approval, Diff

LIVE_MODE: Final = "snapshot"
"""The one mode of vzdump that does not interrupt a running guest."""

_BY_US: Final = re.compile(r"by trueup ([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})")
"""What `core.intents` writes into a backup's notes: the id of its operation, a UUIDv7."""

_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def copies(want: Desired, seen: Observed, context: Context) -> Part:
    """What the policies ask for now. Backups come first: a storage without snapshots must not keep them from it."""
    return together(_backups(want, seen, context), _snapshots(want, seen, context))


def together(*parts: Part) -> Part:
    """The sum of several parts, in their order."""
    return Part(
        ops=tuple(op for part in parts for op in part.ops),
        diff=tuple(diff for part in parts for diff in part.diff),
        held="; ".join(dict.fromkeys(part.held for part in parts if part.held)),
        notes=tuple(note for part in parts for note in part.notes),
        offers=tuple(offer for part in parts for offer in part.offers),
    )


def snapshot_name(policy: SnapshotPolicy, due: Due) -> str:
    """The name of the snapshot for one time of the schedule."""
    return f"{policy.prefix}-{due.stamp}"


# -- snapshots ---------------------------------------------------------------------------------------------------------


def _snapshots(want: Desired, seen: Observed, context: Context) -> Part:
    policy = want.snapshots
    if policy is None:
        return NOTHING
    if seen.template or want.template:
        return Part(notes=("PVE takes no snapshots of a template",))
    if seen.snapshots is None:
        return Part(notes=("its snapshots were not read, so none is taken",))
    try:
        due = last_due(Schedule.parse(policy.schedule), context.now_ms)
    except BadInput as error:
        return Part(notes=(f"no snapshot is taken: {error}",))
    own = _own_snapshots(policy, seen.snapshots, context)
    offers = _snapshot_offers(policy, own, seen.vmid)
    name = snapshot_name(policy, due)
    if name in seen.snapshots or any(stamp >= due.stamp for stamp in own):
        return Part(notes=_surplus("snapshot", policy.keep, offers), offers=offers)
    return Part(
        ops=(planned(want, seen.node, Kind.SNAPSHOT, {"snapname": name}, {"snapshot": name}),),
        diff=(Diff(key="snapshots", was=_last(own), want=name, why=f"due by its schedule, {policy.schedule}"),),
        notes=_surplus("snapshot", policy.keep, offers),
        offers=offers,
    )


def _own_snapshots(policy: SnapshotPolicy, snapshots: Mapping[str, Snapshot], context: Context) -> dict[str, str]:
    """Names of the policy's snapshots by stamp, those with our marker."""
    own: dict[str, str] = {}
    for name, snapshot in snapshots.items():
        prefix, stamp = name[: len(policy.prefix) + 1], stamp_of(name[len(policy.prefix) + 1 :])
        if prefix != f"{policy.prefix}-" or not stamp:
            continue
        mark = markers.split(snapshot.description)[1]
        if mark is not None and mark.installation == context.installation:
            own[stamp] = name
    return own


def _snapshot_offers(policy: SnapshotPolicy, own: dict[str, str], vmid: Vmid) -> tuple[Approval, ...]:
    surplus = sorted(own)[: -policy.keep]
    return tuple(
        Approval(
            kind=Kind.SNAPSHOT_DELETE,
            why=f"{own[stamp]} is more than the {policy.keep} to be kept",
            command=f"trueup request snapshot-delete {vmid} --param snapshot={own[stamp]}",
        )
        for stamp in surplus
    )


def _last(own: dict[str, str]) -> str:
    return own[max(own)] if own else ""


# -- backups -----------------------------------------------------------------------------------------------------------


def _backups(want: Desired, seen: Observed, context: Context) -> Part:
    policy = want.backups
    if policy is None:
        return NOTHING
    if seen.backups is None:
        return Part(notes=("its backups were not read, so none is made",))
    try:
        due = last_due(Schedule.parse(policy.schedule), context.now_ms)
    except BadInput as error:
        return Part(notes=(f"no backup is made: {error}",))
    own = _own_backups(policy, seen.backups, seen)
    offers = _backup_offers(policy, own, seen.vmid)
    surplus = _surplus("backup", policy.keep, offers)
    if own and _made_ms(own[-1]) >= due.at_ms:
        return Part(notes=surplus, offers=offers)
    held = _interrupts(want, policy, seen, context)
    params = {"storage": policy.storage, "mode": policy.mode, "compress": "zstd"}
    ops = () if held else (planned(want, seen.node, Kind.BACKUP, params, {"storage": policy.storage}),)
    last = own[-1].volume if own else ""
    why = held or f"due by its schedule, {policy.schedule}"
    diff = Diff(key="backups", was=last, want=f"{policy.storage}, {due.stamp}", why=why)
    return Part(ops=ops, diff=(diff,), held=held, notes=surplus, offers=offers)


def _interrupts(want: Desired, policy: BackupPolicy, seen: Observed, context: Context) -> str:
    if policy.mode == LIVE_MODE or seen.status is Power.STOPPED:
        return ""
    why = may_not_interrupt(want.restart, context.now_ms)
    return f"a backup in mode {policy.mode} interrupts it: {why}" if why else ""


def _own_backups(policy: BackupPolicy, backups: Sequence[Backup], seen: Observed) -> list[Backup]:
    """Ours on the policy's storage, of this very guest: the number alone may have been another's; oldest first."""
    since_ms = _uuid7_ms(seen.marker.uid) if seen.marker else 0
    own = [
        backup
        for backup in backups
        if backup.vmid == seen.vmid
        and backup.volume.partition(":")[0] == policy.storage
        and _BY_US.search(backup.notes)
        and _made_ms(backup) >= since_ms
    ]
    return sorted(own, key=_made_ms)


def _backup_offers(policy: BackupPolicy, own: Sequence[Backup], vmid: Vmid) -> tuple[Approval, ...]:
    surplus = [backup for backup in own[: -policy.keep] if not backup.protected]
    return tuple(
        Approval(
            kind=Kind.BACKUP_DELETE,
            why=f"{backup.volume} is more than the {policy.keep} to be kept",
            command=f"trueup request backup-delete {vmid} --param volume={backup.volume}",
        )
        for backup in surplus
    )


def _made_ms(backup: Backup) -> int:
    """When it was made. Our own clock wrote the operation's id; the node's clock, which `made_s` is by, may be late."""
    found = _BY_US.search(backup.notes)
    return max(backup.made_s * 1000, _uuid7_ms(found[1]) if found else 0)


def _uuid7_ms(uid: str) -> int:
    """The instant in a UUIDv7 (RFC 9562, its first 48 bits); 0 for anything else."""
    return int(uid[:8] + uid[9:13], 16) if _UUID7.fullmatch(uid) else 0


def _surplus(what: str, keep: int, offers: tuple[Approval, ...]) -> tuple[str, ...]:
    if not offers:
        return ()
    count = f"{len(offers)} {what}s are" if len(offers) > 1 else f"1 {what} is"
    return (f"{count} more than the {keep} to be kept; deleting needs signatures, and nothing waits for it",)
