"""How guests stand: in sync or not, and how they do; for `trueup status`, for HTTP and for the page alike."""

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from trueup.edges.cli import shapes
from trueup.edges.cli.output import Json, iso
from trueup.edges.journal_head import Head
from trueup.engine.observer import World
from trueup.engine.surveyor import Survey
from trueup.model.gate import RequestView
from trueup.model.guests import Power
from trueup.model.ids import Vmid
from trueup.model.ops import EpochTaken, OpView
from trueup.model.plan import Bucket, GuestPlan
from trueup.model.settings import Mode

IN_SYNC, DRIFTED, BLOCKED, UNMANAGED, UNKNOWN = "in_sync", "drifted", "blocked", "unmanaged", "unknown"
SYNCS: Final = (IN_SYNC, DRIFTED, BLOCKED, UNMANAGED, UNKNOWN)
HEALTHS: Final = ("running", "stopped", "locked", "absent", "unknown")


class GuestStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One guest: whether it is as its manifest says, and how it does."""

    vmid: Vmid
    name: str
    sync: str
    health: str
    blocked_by: str = ""


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """Who took the last epoch, and whether somebody holds the journal now; epoch 0 = it is about to take its own."""

    epoch: int
    holder: str
    alive: bool


class LeaseHolder(Protocol):
    """Who holds the lease of a journal that several agents share."""

    @property
    def holder(self) -> str:
        """Host and pid."""
        ...

    @property
    def epoch(self) -> int:
        """Its epoch; 0 = none taken yet."""
        ...


@runtime_checkable
class Leased(Protocol):
    """A journal that several agents share."""

    async def leader(self) -> LeaseHolder | None:
        """Who holds its lease now; None = nobody."""
        ...


async def leader_of(journal: Leased, epochs: Sequence[EpochTaken]) -> Leader | None:
    """Who leads a journal that several agents share, by the database's word; None = nobody ever did."""
    now = await journal.leader()
    if now is not None:
        return Leader(epoch=now.epoch, holder=now.holder, alive=True)
    return Leader(epoch=epochs[-1].epoch, holder=epochs[-1].holder, alive=False) if epochs else None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `problems` say what could not be read, `doubts` why the journal may not know all that was done.

    `pending` are requests that wait for signatures, the newest first.
    """

    guests: tuple[GuestStatus, ...]
    in_flight: tuple[OpView, ...]
    leader: Leader | None
    paused: tuple[str, ...]
    mode: str = Mode.ENFORCE.value
    doubts: tuple[str, ...] = ()
    head: Head | None = None
    problems: tuple[str, ...] = ()
    pending: tuple[RequestView, ...] = ()

    @property
    def unresolved(self) -> tuple[OpView, ...]:
        """Those of `in_flight` that recovery could not settle."""
        return tuple(op for op in self.in_flight if op.unresolved is not None)


def unresolved_first(ops: Sequence[OpView]) -> tuple[OpView, ...]:
    """What needs a person goes before what is at work, the oldest first."""
    return tuple(sorted(ops, key=lambda op: (op.unresolved is None, op.started_at_ms)))


def seen(survey: Survey) -> list[GuestStatus]:
    """Every guest that one look showed, by vmid."""
    planned = [_planned(guest, survey) for guest in survey.plan.guests]
    known = {guest.vmid for guest in planned}
    others = [
        GuestStatus(vmid=row.vmid, name=row.name, sync=UNMANAGED, health=_health(row.vmid, survey.world))
        for row in survey.world.rows.values()
        if row.vmid not in known
    ]
    return sorted([*planned, *others], key=lambda guest: guest.vmid)


def _planned(guest: GuestPlan, survey: Survey) -> GuestStatus:
    sync = {Bucket.UNCHANGED: IN_SYNC, Bucket.BLOCKED: BLOCKED}.get(guest.bucket, DRIFTED)
    blocked_by = guest.blocked_by
    if guest.vmid in survey.world.unread:
        sync = UNKNOWN
    elif guest.unadopted:
        sync, blocked_by = BLOCKED, "; ".join(guest.notes) or "it does not carry our marker"
    return GuestStatus(
        vmid=guest.vmid,
        name=guest.name,
        sync=sync,
        health=_health(guest.vmid, survey.world),
        blocked_by=blocked_by,
    )


def _health(vmid: Vmid, world: World) -> str:
    row = world.rows.get(vmid)
    if row is None:
        return "absent"
    if vmid in world.unread:
        return "unknown"
    if row.lock:
        return "locked"
    guest = world.guests.get(vmid)
    power = guest.status if guest is not None and guest.status is not Power.UNKNOWN else row.status
    return power.value if power in {Power.RUNNING, Power.STOPPED} else "unknown"


def unknown(vmid: Vmid, name: str, why: str) -> GuestStatus:
    """A guest that could not be looked at."""
    return GuestStatus(vmid=vmid, name=name, sync=UNKNOWN, health="unknown", blocked_by=why)


def guest_json(guest: GuestStatus) -> dict[str, Json]:
    """One guest as data."""
    return {
        "vmid": guest.vmid,
        "name": guest.name,
        "sync": guest.sync,
        "health": guest.health,
        "blocked_by": guest.blocked_by or None,
    }


def as_json(found: Status) -> dict[str, Json]:
    """All of it as data."""
    leader = found.leader
    return {
        "guests": [guest_json(guest) for guest in found.guests],
        "in_flight": shapes.ops(found.in_flight),
        "unresolved": shapes.ops(found.unresolved),
        "pending": [
            {
                "request_id": view.request_id,
                "kind": view.request.kind,
                "vmid": view.request.target.vmid,
                "requested_by": view.request.requested_by,
                "missing": view.ruling.missing or None,
                "approve_by": iso(view.request.approve_by_ms),
            }
            for view in found.pending
        ],
        "leader": {"epoch": leader.epoch, "holder": leader.holder, "alive": leader.alive} if leader else None,
        "paused": list(found.paused),
        "mode": found.mode,
        "doubts": list(found.doubts),
        "head": head_json(found.head),
        "problems": list(found.problems),
    }


def head_json(head: Head | None) -> Json:
    """Where the journal's chain ends, to be kept outside of it."""
    return {"seq": head.seq, "hash": head.hash, "epoch": head.epoch, "at": iso(head.at_ms)} if head else None
