"""The registry of operation kinds: all that trueup knows of a kind stands in one entry of `KINDS`.

A new kind is one entry here with its probe (`core.probes`) and its fence, the making of its request
(`core.intents`) and one behaviour of the simulator. Nothing else in trueup asks for a kind by name.

Sources of calls, task types and UPID ids: PVE's API as recorded; pve-manager, qemu-server and pve-container.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from trueup.core import probes
from trueup.core.probes import Finding, Sight
from trueup.model.ids import GuestType
from trueup.model.ops import Intent, Kind

Probe = Callable[[Intent, Sight], Finding]


class Tier(StrEnum):
    """What a kind may cost, and so who may ask for it.

    The loop; the loop within the manifest's `disruption` rules; or only people who sign.
    """

    SAFE = "safe"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"


class Fence(StrEnum):
    """What makes PVE refuse a dead agent's request, should it still arrive (tried on the real API).

    DIGEST: the request carried the config's digest; a new counter in our marker changes it for ever.
    PROTECTION: a destroy; `protection=1` and a new counter in one write, which must stay.
    GOAL: no fence is needed, since a late effect is what the loop wants or what it puts right.
    TOKEN: nothing in PVE stops it but the death of its API token, and otherwise only time speaks.
    """

    DIGEST = "digest"
    PROTECTION = "protection"
    GOAL = "goal"
    TOKEN = "token"  # noqa: S105 - the name of a fence


STATE_FENCES = frozenset({Fence.DIGEST, Fence.PROTECTION})


class TaskId(StrEnum):
    """What PVE writes into the id field of the UPID."""

    VMID = "vmid"
    SOURCE = "source"
    STORAGE = "vmid@storage"
    NONE = ""


class Reads(StrEnum):
    """What the probe has to see: the guest, only its node and whether it runs (which comes in bulk), or more."""

    GUEST = "guest"
    STATE = "state"
    SNAPSHOTS = "snapshots"
    BACKUPS = "backups"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One call of PVE's API.

    `task` is the task type in the UPID ('' = the call is synchronous). `ha_task` is what PVE makes instead for a guest
    that HA manages: a task that ends when the wish is queued, while the HA manager does the work as root@pam later.
    """

    method: str
    path: str
    task: str = ""
    ha_task: str = ""


class KindSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One kind.

    `marks`: the request carries our marker. `guarded`: it carries PVE's `digest`. `lifts`: the request itself carries
    neither, so a guarded write goes before it that writes our marker and lifts `protection`; every end but success
    puts `protection` back first. `end_is_end`: the end of the task
    is the end of the operation; where it is not, the guest's state is looked at as well. `one_shot_fence`: for a
    signed one-shot, whose late effect nobody wants. `needs_quorum`: without quorum PVE would do the half of it that
    cannot be undone before it fails. `reads`: what the probe looks at. `carried_out`: this version
    can issue it; the others are known to recovery and named by the planner.
    """

    kind: Kind
    tier: Tier
    routes: Mapping[GuestType, Route]
    task_id: TaskId
    probe: Probe
    fence: Fence
    one_shot_fence: Fence | None = None
    marks: bool = False
    guarded: bool = False
    lifts: bool = False
    end_is_end: bool = True
    needs_quorum: bool = False
    reads: Reads = Reads.GUEST
    carried_out: bool = False

    def fence_for(self, intent: Intent) -> Fence:
        """The fence of this very operation."""
        return self.one_shot_fence if intent.one_shot and self.one_shot_fence else self.fence

    def route(self, guest: GuestType) -> Route:
        """The call for this type of guest. Raises KeyError where PVE has none."""
        return self.routes[guest]


def _both(method: str, path: str, qemu: str, lxc: str, *, ha: str = "") -> dict[GuestType, Route]:
    return {
        GuestType.QEMU: Route(method=method, path=path, task=qemu, ha_task=ha),
        GuestType.LXC: Route(method=method, path=path, task=lxc, ha_task=ha),
    }


_GUEST = "/nodes/{node}/{type}/{vmid}"
_CONFIG = {
    # QEMU's POST forks a task, which leaves a trace and has no 30 s limit; LXC only has the synchronous PUT.
    GuestType.QEMU: Route(method="POST", path=_GUEST + "/config", task="qmconfig"),
    GuestType.LXC: Route(method="PUT", path=_GUEST + "/config"),
}

_SPECS = (
    KindSpec(
        kind=Kind.CREATE,
        tier=Tier.SAFE,
        routes=_both("POST", "/nodes/{node}/{type}", "qmcreate", "vzcreate"),
        task_id=TaskId.VMID,
        probe=probes.created,
        fence=Fence.GOAL,  # the vmid is the cluster's own lock: a late one finds it taken
        marks=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.CLONE,
        tier=Tier.SAFE,
        routes=_both("POST", "/nodes/{node}/{type}/{source}/clone", "qmclone", "vzclone"),
        task_id=TaskId.SOURCE,
        probe=probes.created,
        fence=Fence.GOAL,
        marks=True,
        end_is_end=False,  # the UPID names the source only: the target's marker confirms which clone it was
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.CONFIGURE,
        tier=Tier.SAFE,
        routes=_CONFIG,
        task_id=TaskId.VMID,
        probe=probes.configured,
        fence=Fence.DIGEST,
        marks=True,
        guarded=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.TAG,
        tier=Tier.SAFE,
        routes=_CONFIG,
        task_id=TaskId.VMID,
        probe=probes.configured,
        fence=Fence.DIGEST,
        marks=True,
        guarded=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.RESTORE_NEW,
        tier=Tier.SAFE,
        routes=_both("POST", "/nodes/{node}/{type}", "qmrestore", "vzrestore"),
        task_id=TaskId.VMID,
        probe=probes.created,
        fence=Fence.GOAL,
        marks=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.POOL,
        tier=Tier.SAFE,
        routes=_both("PUT", "/pools/{pool}", "", ""),
        task_id=TaskId.NONE,
        probe=probes.pooled,
        fence=Fence.GOAL,  # a late one only puts the guest where the manifest wants it
        carried_out=True,
        end_is_end=False,
    ),
    KindSpec(
        kind=Kind.DETACH,
        tier=Tier.SAFE,
        routes=_CONFIG,
        task_id=TaskId.VMID,
        probe=probes.disk_removed,  # the volume stays, as unusedN: nothing is destroyed
        fence=Fence.DIGEST,
        marks=True,
        guarded=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.GROW,
        tier=Tier.SAFE,
        routes=_both("PUT", _GUEST + "/resize", "resize", "resize"),
        task_id=TaskId.VMID,
        probe=probes.grown,
        fence=Fence.DIGEST,
        guarded=True,
        carried_out=True,
        needs_quorum=True,
    ),
    KindSpec(
        kind=Kind.START,
        tier=Tier.SAFE,
        routes=_both("POST", _GUEST + "/status/start", "qmstart", "vzstart", ha="hastart"),
        task_id=TaskId.VMID,
        probe=probes.powered,
        fence=Fence.GOAL,
        one_shot_fence=Fence.TOKEN,
        end_is_end=False,
        carried_out=True,
        reads=Reads.STATE,
    ),
    KindSpec(
        kind=Kind.SHUTDOWN,
        tier=Tier.DISRUPTIVE,
        routes=_both("POST", _GUEST + "/status/shutdown", "qmshutdown", "vzshutdown", ha="hastop"),
        task_id=TaskId.VMID,
        probe=probes.powered,
        fence=Fence.GOAL,
        one_shot_fence=Fence.TOKEN,
        end_is_end=False,
        carried_out=True,
        reads=Reads.STATE,
    ),
    KindSpec(
        kind=Kind.STOP,
        tier=Tier.DISRUPTIVE,
        routes=_both("POST", _GUEST + "/status/stop", "qmstop", "vzstop", ha="hastop"),
        task_id=TaskId.VMID,
        probe=probes.powered,
        fence=Fence.GOAL,
        one_shot_fence=Fence.TOKEN,
        end_is_end=False,
        carried_out=True,
        reads=Reads.STATE,
    ),
    KindSpec(
        kind=Kind.REBOOT,
        tier=Tier.DISRUPTIVE,
        routes=_both("POST", _GUEST + "/status/reboot", "qmreboot", "vzreboot"),
        task_id=TaskId.VMID,
        probe=probes.rebooted,
        fence=Fence.TOKEN,  # a second interruption is nothing that the loop could put right
        end_is_end=False,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.SNAPSHOT,
        tier=Tier.SAFE,
        routes=_both("POST", _GUEST + "/snapshot", "qmsnapshot", "vzsnapshot"),
        task_id=TaskId.VMID,
        probe=probes.snapshot_taken,
        fence=Fence.GOAL,  # the name was chosen for this operation: a late one finds it used
        marks=True,
        carried_out=True,
        reads=Reads.SNAPSHOTS,
    ),
    KindSpec(
        kind=Kind.BACKUP,
        tier=Tier.SAFE,
        routes=_both("POST", "/nodes/{node}/vzdump", "vzdump", "vzdump"),
        task_id=TaskId.VMID,
        probe=probes.backed_up,
        fence=Fence.GOAL,  # a late backup is one more backup; its note tells whose it is
        carried_out=True,
        reads=Reads.BACKUPS,
    ),
    KindSpec(
        kind=Kind.MIGRATE,
        tier=Tier.DISRUPTIVE,
        routes=_both("POST", _GUEST + "/migrate", "qmigrate", "vzmigrate", ha="hamigrate"),
        task_id=TaskId.VMID,
        probe=probes.moved,
        fence=Fence.GOAL,
        one_shot_fence=Fence.TOKEN,
        end_is_end=False,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.TEMPLATE,
        tier=Tier.DISRUPTIVE,
        routes=_both("POST", _GUEST + "/template", "qmtemplate", "vztemplate"),
        task_id=TaskId.VMID,
        probe=probes.templated,
        fence=Fence.TOKEN,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.DESTROY,
        tier=Tier.DESTRUCTIVE,
        routes=_both("DELETE", _GUEST, "qmdestroy", "vzdestroy"),
        task_id=TaskId.VMID,
        probe=probes.destroyed,
        fence=Fence.PROTECTION,
        lifts=True,
        end_is_end=False,
        needs_quorum=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.ROLLBACK,
        tier=Tier.DESTRUCTIVE,
        routes=_both("POST", _GUEST + "/snapshot/{snapshot}/rollback", "qmrollback", "vzrollback"),
        task_id=TaskId.VMID,
        probe=probes.rolled_back,
        fence=Fence.TOKEN,
        needs_quorum=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.SNAPSHOT_DELETE,
        tier=Tier.DESTRUCTIVE,
        routes=_both("DELETE", _GUEST + "/snapshot/{snapshot}", "qmdelsnapshot", "vzdelsnapshot"),
        task_id=TaskId.VMID,
        probe=probes.snapshot_gone,
        fence=Fence.TOKEN,
        needs_quorum=True,
        reads=Reads.SNAPSHOTS,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.RESTORE,
        tier=Tier.DESTRUCTIVE,
        routes=_both("POST", "/nodes/{node}/{type}", "qmrestore", "vzrestore"),
        task_id=TaskId.VMID,
        probe=probes.restored,
        fence=Fence.TOKEN,
        marks=True,
        needs_quorum=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.DISK_REMOVE,
        tier=Tier.DESTRUCTIVE,
        routes=_CONFIG,
        task_id=TaskId.VMID,
        probe=probes.disk_removed,
        fence=Fence.DIGEST,
        marks=True,
        guarded=True,
        needs_quorum=True,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.BACKUP_DELETE,
        tier=Tier.DESTRUCTIVE,
        routes=_both("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}", "imgdel", "imgdel"),
        task_id=TaskId.STORAGE,
        probe=probes.archive_gone,
        fence=Fence.TOKEN,
        reads=Reads.BACKUPS,
        carried_out=True,
    ),
    KindSpec(
        kind=Kind.UNLOCK,
        tier=Tier.DESTRUCTIVE,
        routes={GuestType.QEMU: Route(method="PUT", path=_GUEST + "/config")},  # root@pam's ticket only; no LXC form
        task_id=TaskId.NONE,
        probe=probes.unlocked,
        fence=Fence.TOKEN,
    ),
)

KINDS: Mapping[Kind, KindSpec] = {spec.kind: spec for spec in _SPECS}
