"""From a planned operation to the very request: its path, its parameters, our marker, PVE's digest.

Everything that finds the effect again after a crash is chosen here, before the request leaves: the marker's uid and
operation id, the vmid, the digest. Secrets are sent but never journaled.
"""

from collections.abc import Callable, Mapping

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
    mark = _next_marker(op, observed, stamp) if spec.marks else None
    params = dict(op.params)
    params.update(_ADDED.get(op.kind, _nothing)(op))
    if mark is not None:
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
        path=route.path.format(node=node, type=op.type.value, vmid=op.vmid, source=source),
        params=redact(params),
        goal=redact(op.goal),
        source=source,
        task_type=route.task,
        task_id={TaskId.VMID: str(op.vmid), TaskId.SOURCE: str(source), TaskId.NONE: ""}[spec.task_id],
        token=stamp.token,
        identity=observed.identity if observed else None,
        digest=observed.digest if observed else Digest(""),
        marker=mark or (observed.marker if observed else None),
        labels=op.labels,
        sent_not_before_s=stamp.now_ms // 1000,
        send_by_ms=stamp.send_by_ms,
    )
    return Prepared(intent=intent, params=params)


def redact(params: Mapping[str, str]) -> dict[str, str]:
    """Replace the values of secret keys; secrets never reach the journal."""
    return {key: REDACTED if properties.is_secret(key) else value for key, value in params.items()}


def _next_marker(op: PlannedOp, observed: Observed | None, stamp: Stamp) -> Marker:
    """The same uid with a higher counter for a guest of ours, a new uid for one that is to be made."""
    before = observed.marker if observed else None
    return Marker(
        uid=before.uid if before else stamp.uid,
        installation=stamp.installation,
        vmid=op.vmid,
        op_id=stamp.op_id,
        counter=before.counter + 1 if before else 1,
    )


def _nothing(_op: PlannedOp) -> Mapping[str, str]:
    return {}


def _create(op: PlannedOp) -> Mapping[str, str]:
    return {"vmid": str(op.vmid), ("name" if op.type is GuestType.QEMU else "hostname"): op.name}


def _clone(op: PlannedOp) -> Mapping[str, str]:
    params = {"newid": str(op.vmid), ("name" if op.type is GuestType.QEMU else "hostname"): op.name}
    if op.source_node is not None and op.source_node != op.node:
        params["target"] = op.node
    return params


_ADDED: Mapping[Kind, Callable[[PlannedOp], Mapping[str, str]]] = {Kind.CREATE: _create, Kind.CLONE: _clone}
