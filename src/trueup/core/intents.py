"""From a planned operation to the very request: its path, its parameters, our marker, PVE's digest.

Everything that finds the effect again after a crash is chosen here, before the request leaves: the marker's uid and
operation id, the vmid, the digest. Secrets are sent but never journaled.
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from trueup.core import marker as markers
from trueup.core import properties
from trueup.core.kinds import KINDS, TaskId
from trueup.model.errors import require
from trueup.model.guests import Marker, Observed
from trueup.model.ids import Digest, GuestType, OpId, TokenId
from trueup.model.ops import Intent, Kind
from trueup.model.plan import PlannedOp

REDACTED = "***"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender adds: ids, its token and its times. `uid` is the marker uid for a guest that is to be made."""

    op_id: OpId
    uid: str
    installation: str
    token: TokenId
    now_ms: int
    send_by_ms: int


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The intent for the journal, and the parameters as they are sent (with secrets, never journaled)."""

    intent: Intent
    params: Mapping[str, str]


def prepare(op: PlannedOp, observed: Observed | None, stamp: Stamp) -> Prepared:
    """Make the request of one planned operation.

    `observed` is the guest as it is now, None for a guest that is to be made.

    Raises:
        KeyError: PVE has no such call for this type of guest.
    """
    spec = KINDS[op.kind]
    route = spec.route(op.type)
    mark = _next_marker(op, observed, stamp) if spec.marks or spec.lifts else None
    params = dict(op.params)
    params.update(_ADDED.get(op.kind, _nothing)(op, stamp))
    params.update(_ASKED.get(op.kind, _unchanged)(op, observed))
    require("skiplock" not in params, "a lock is never skipped")
    if mark is not None and spec.marks:
        text = op.description if op.description is not None else (observed.description if observed else "")
        params["description"] = markers.render(text, mark)
    if spec.guarded:
        require(observed is not None and observed.digest, "a guarded write needs the digest that was read")
        params["digest"] = observed.digest if observed else ""
    source = op.source if spec.task_id is TaskId.SOURCE else None
    node = op.source_node or op.node if spec.task_id is TaskId.SOURCE else op.node
    intent = Intent(
        kind=op.kind,
        type=op.type,
        vmid=op.vmid,
        node=node,
        name=op.name,
        method=route.method,
        path=route.path.format(
            node=node, type=op.type.value, vmid=op.vmid, source=source, **{key: _named(op, key) for key in _NAMED}
        ),
        params=redact(params),
        goal=redact(_goal(op, stamp)),
        source=source,
        task_type=route.ha_task if observed is not None and route.ha_task and is_managed(observed) else route.task,
        task_id=_task_id(op, spec.task_id),
        token=stamp.token,
        identity=observed.identity if observed else None,
        digest=observed.digest if observed else Digest(""),
        marker=mark or (observed.marker if observed else None),
        labels=op.labels,
        sent_not_before_s=stamp.now_ms // 1000,
        send_by_ms=stamp.send_by_ms,
    )
    return Prepared(intent=intent, params=params)


def prepare_one_shot(op: PlannedOp, observed: Observed, stamp: Stamp) -> Prepared:
    """Make the request of an operation that people signed for this very guest. Raises KeyError as `prepare`."""
    prepared = prepare(op, observed, stamp)
    return msgspec.structs.replace(prepared, intent=msgspec.structs.replace(prepared.intent, one_shot=True))


def again(accepted: Intent, observed: Observed, stamp: Stamp) -> Prepared:
    """Make the request of an accepted one-shot anew, for the guest as it is now: only so are its times and mark fresh.

    What was signed stays as it is; only the place is the guest's own of now. Raises KeyError as `prepare`.
    """
    spec = KINDS[accepted.kind]
    op = PlannedOp(
        kind=accepted.kind,
        type=accepted.type,
        vmid=accepted.vmid,
        # A volume stays where it is when its guest moves.
        node=accepted.node if spec.task_id is TaskId.STORAGE else observed.node,
        name=observed.name or accepted.name,
        params={key: value for key, value in accepted.params.items() if key not in _MADE_ANEW},
        goal=accepted.goal,
        labels=accepted.labels,
    )
    return prepare_one_shot(op, observed, stamp)


def guard(intent: Intent, observed: Observed) -> dict[str, str]:
    """The write before a destroy: by its digest it proves which guest this is; it writes our mark, lifts protection."""
    require(intent.marker is not None, "a guard writes a mark")
    text = markers.render(observed.description, intent.marker) if intent.marker else ""
    return {"description": text, "delete": "protection", "digest": observed.digest}


def is_managed(guest: Observed) -> bool:
    """Whether PVE hands this guest's power and migration to its HA manager (`ignored` is as good as not managed)."""
    return guest.ha not in {"", "ignored"}


def redact(params: Mapping[str, str]) -> dict[str, str]:
    """Replace the values of secret keys; secrets never reach the journal."""
    return {key: REDACTED if properties.is_secret(key) else value for key, value in params.items()}


def _named(op: PlannedOp, key: str) -> str:
    return quote(op.goal.get(key, ""), safe="")


def _task_id(op: PlannedOp, what: TaskId) -> str:
    """What PVE will write into the id field of the UPID."""
    ids = {
        TaskId.VMID: str(op.vmid),
        TaskId.SOURCE: str(op.source),
        TaskId.STORAGE: f"{op.vmid}@{op.goal.get('storage', '')}",
    }
    return ids.get(what, "")


def _next_marker(op: PlannedOp, observed: Observed | None, stamp: Stamp) -> Marker:
    """The same uid with a higher counter for a guest of ours, a new uid for one that is to be made."""
    before = observed.marker if observed else None
    if before is not None and markers.is_copy(before, op.vmid):
        before = None  # a clone's or a restore's: two guests must not share a uid
    return Marker(
        uid=before.uid if before else stamp.uid,
        installation=stamp.installation,
        vmid=op.vmid,
        op_id=stamp.op_id,
        counter=before.counter + 1 if before else 1,
    )


def _goal(op: PlannedOp, stamp: Stamp) -> Mapping[str, str]:
    """A backup's note carries our id: it is the only thing in an archive that does."""
    return {**op.goal, "note": stamp.op_id} if op.kind is Kind.BACKUP else op.goal


def _nothing(_op: PlannedOp, _stamp: Stamp) -> Mapping[str, str]:
    return {}


def _create(op: PlannedOp, _stamp: Stamp) -> Mapping[str, str]:
    return {"vmid": str(op.vmid), ("name" if op.type is GuestType.QEMU else "hostname"): op.name}


def _restore_new(op: PlannedOp, stamp: Stamp) -> Mapping[str, str]:
    # `unique`: new MACs and a new uuid; the vmid is new, so this is another guest than the one in the archive.
    extra = {"restore": "1"} if op.type is GuestType.LXC else {}
    return {**_create(op, stamp), **extra, "unique": "1"}


def _pool(op: PlannedOp, _stamp: Stamp) -> Mapping[str, str]:
    return {"vms": str(op.vmid), "allow-move": "1"}


def _backup(op: PlannedOp, stamp: Stamp) -> Mapping[str, str]:
    return {"vmid": str(op.vmid), "notes-template": f"{op.name}, by trueup {stamp.op_id}", "remove": "0"}


def _clone(op: PlannedOp, _stamp: Stamp) -> Mapping[str, str]:
    params = {"newid": str(op.vmid), ("name" if op.type is GuestType.QEMU else "hostname"): op.name}
    if op.source_node is not None and op.source_node != op.node:
        params["target"] = op.node
    return params


def _unchanged(_op: PlannedOp, _observed: Observed | None) -> Mapping[str, str]:
    return {}


def _destroy(op: PlannedOp, _observed: Observed | None) -> Mapping[str, str]:
    """Volumes that no config names are left alone unless somebody signed for them; PVE's own default is not trusted."""
    return {"destroy-unreferenced-disks": op.params.get("destroy-unreferenced-disks", "0")}


def _restore(op: PlannedOp, observed: Observed | None) -> Mapping[str, str]:
    """Over the guest that is there (`force`); a container onto its own storage, where PVE would take `local`."""
    params = {"vmid": str(op.vmid), "force": "1"}
    if op.type is GuestType.QEMU or "storage" in op.params or observed is None:
        return params
    return {**params, "storage": observed.config.get("rootfs", "").partition(":")[0] or "local"}


_NAMED = ("pool", "snapshot", "storage", "volume")
"""Parts of paths that come out of the goal."""

_MADE_ANEW = frozenset({"description", "digest"})

_ASKED: Mapping[Kind, Callable[[PlannedOp, Observed | None], Mapping[str, str]]] = {
    Kind.DESTROY: _destroy,
    Kind.RESTORE: _restore,
}
"""What destructive kinds say besides what was signed, from the guest that they are done to."""

_ADDED: Mapping[Kind, Callable[[PlannedOp, Stamp], Mapping[str, str]]] = {
    Kind.CREATE: _create,
    Kind.CLONE: _clone,
    Kind.RESTORE_NEW: _restore_new,
    Kind.POOL: _pool,
    Kind.BACKUP: _backup,
}
