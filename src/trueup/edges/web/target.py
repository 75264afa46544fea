"""What a request is about, as the cluster shows it now: disks, snapshots, backups, and who depends on the guest.

Rule kept here: a page costs PVE at most one look at one guest in a while, however many people read it, and waits for it
a bounded time. What could not be read is said to be unknown, never to be absent.
"""

import asyncio
from collections.abc import Iterable

import msgspec

from trueup.core import disks
from trueup.core.property_formats import is_disk
from trueup.edges.looking import LookingPve
from trueup.edges.web.board import Board
from trueup.engine.observer import Observer
from trueup.model import limits
from trueup.model.errors import ReadFailed
from trueup.model.gate import Target
from trueup.model.guests import Backup, Clone, Observed, Snapshot
from trueup.model.ids import GuestType, Vmid
from trueup.ports import Clock, Pve


class DiskFact(msgspec.Struct, frozen=True, kw_only=True):
    """One disk. `size` is in PVE's spelling, '' = not shown."""

    key: str
    volume: str
    size: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `problem` says why there is nothing; None for snapshots or backups = not known."""

    guest: Observed | None = None
    disks: tuple[DiskFact, ...] = ()
    snapshots: tuple[Snapshot, ...] | None = None
    backups: tuple[Backup, ...] | None = None
    dependents: tuple[str, ...] = ()
    problem: str = ""

    @property
    def last_backup(self) -> Backup | None:
        """The newest one."""
        return max(self.backups or (), key=lambda backup: backup.made_s, default=None)


class Looks:
    """Looks at guests, one at a time for each, and remembers each for a moment."""

    def __init__(self, board: Board, clock: Clock) -> None:
        """Nothing was looked at yet."""
        self._board = board
        self._clock = clock
        self._known: dict[Vmid, tuple[float, asyncio.Task[Facts]]] = {}

    async def at(self, vmid: Vmid, pve: Pve | None) -> Facts:
        """What one guest is now; never raises."""
        now = self._clock.monotonic()
        self._known = {key: known for key, known in self._known.items() if now - known[0] < limits.GUEST_LOOK_KEPT_S}
        if vmid not in self._known:
            self._known[vmid] = (now, asyncio.create_task(self._look(vmid, pve)))
        facts = await asyncio.shield(self._known[vmid][1])
        return msgspec.structs.replace(facts, dependents=tuple(dependents(self._board, vmid)))

    async def _look(self, vmid: Vmid, pve: Pve | None) -> Facts:
        if pve is None or self._board.survey is None:
            return Facts(problem="the agent has made no pass yet")
        row = self._board.survey.world.rows.get(vmid)
        if row is None:
            return Facts(problem="the last pass did not see this guest: it is gone, or the token may not see it")
        looking = LookingPve(pve)
        try:
            async with asyncio.timeout(limits.GUEST_LOOK_S):
                guest = await Observer(looking).one(row)
                snapshots = await looking.snapshots(guest.node, guest.type, vmid)
        except (ReadFailed, TimeoutError) as error:
            why = error.what if isinstance(error, ReadFailed) else "PVE did not answer in time"
            return Facts(problem=f"the guest could not be looked at: {why}")
        return Facts(
            guest=guest,
            disks=tuple(_disks(guest.type, guest.config.items())),
            snapshots=tuple(sorted(snapshots, key=lambda snapshot: snapshot.taken_s)),
            backups=await self._backups(guest, looking),
        )

    async def _backups(self, guest: Observed, looking: LookingPve) -> tuple[Backup, ...] | None:
        """Those on the storage that the manifest backs it up to; nobody says where others may be."""
        want = self._board.want(guest.vmid)
        if want is None or want.backups is None:
            return None
        try:
            async with asyncio.timeout(limits.GUEST_LOOK_S):
                found = await looking.backups(guest.node, want.backups.storage)
        except (ReadFailed, TimeoutError):
            return None
        return tuple(backup for backup in found if backup.vmid == guest.vmid)


def same_guest(target: Target, guest: Observed) -> str:
    """How the guest compares with what its signers saw: 'same', 'changed' (its config), or 'another'."""
    if guest.identity != target.identity:
        return "another"
    return "same" if guest.digest == target.digest else "changed"


def dependents(board: Board, vmid: Vmid) -> Iterable[str]:
    """Who needs this guest: those that start after it, its linked clones, and those that are cloned from it."""
    me = board.want(vmid)
    for want in board.desired.values():
        if me is not None and me.name in want.after:
            yield f"{want.name} ({want.vmid}) starts after it"
        if isinstance(want.source, Clone) and want.source.source == vmid:
            yield f"{want.name} ({want.vmid}) is declared as a {'' if want.source.full else 'linked '}clone of it"
    guests = board.survey.world.guests.values() if board.survey else ()
    for guest in guests:
        if guest.vmid != vmid and any(_rests_on(volume, vmid) for volume in guest.config.values()):
            yield f"{guest.name or guest.vmid} ({guest.vmid}) is a linked clone: its disks rest on this guest's"


def _rests_on(value: str, vmid: Vmid) -> bool:
    """PVE names a linked clone's volume after its base: `local-lvm:base-9000-disk-0/vm-101-disk-0`."""
    return f"base-{vmid}-disk-" in value or f"basevol-{vmid}-disk-" in value


def _disks(kind: GuestType, config: Iterable[tuple[str, str]]) -> Iterable[DiskFact]:
    for key, value in sorted(config):
        if not is_disk(kind, key):
            continue
        disk = disks.seen(kind, key, value)
        if not disk.cdrom:
            yield DiskFact(key=key, volume=disk.volume, size=disks.format_size(disk.size) if disk.size else "")
