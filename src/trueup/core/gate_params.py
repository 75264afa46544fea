"""What a one-shot of each kind may ask for: the parameters people may sign, and the operation that they make.

Everything that is not listed is refused. A kind that the loop does anyway cannot be requested: it belongs into a
manifest.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from trueup.core import intents
from trueup.core.kinds import KINDS
from trueup.model.gate import Refusal, Request
from trueup.model.gate_answers import GateRefused
from trueup.model.guests import Observed
from trueup.model.ids import Digest, GuestType, TokenId
from trueup.model.ops import Intent, Kind
from trueup.model.plan import PlannedOp

_TRUTHS: Final = {"1": "1", "true": "1", "yes": "1", "0": "0", "false": "0", "no": "0"}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}", re.ASCII)  # pve-configid, as snapshots have it
_NODE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_STORAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,61}[A-Za-z0-9]", re.ASCII)
_VOLUME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*:[A-Za-z0-9][A-Za-z0-9_.:/+=@~-]*", re.ASCII)
_DISK: Final = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate|unused|mp)[0-9]{1,3}", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,5}", re.ASCII)


class Param(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter. `form` None = a truth value. `hint` tells people what it looks like."""

    form: re.Pattern[str] | None = None
    needed: bool = False
    hint: str = "true or false"


_FLAG: Final = Param()
_SNAPSHOT: Final = Param(form=_NAME, needed=True, hint="the name of a snapshot")

PARAMS: Final[Mapping[Kind, Mapping[str, Param]]] = {
    Kind.DESTROY: {"purge": _FLAG, "destroy-unreferenced-disks": _FLAG},
    Kind.ROLLBACK: {"snapshot": _SNAPSHOT},
    Kind.SNAPSHOT_DELETE: {"snapshot": _SNAPSHOT},
    Kind.RESTORE: {
        "archive": Param(form=_VOLUME, needed=True, hint="a backup as storage:volume"),
        "storage": Param(form=_STORAGE, hint="the storage of the new disks"),
    },
    Kind.DISK_REMOVE: {"disk": Param(form=_DISK, needed=True, hint="a config key like scsi1, mp0 or unused0")},
    Kind.BACKUP_DELETE: {"volume": Param(form=_VOLUME, needed=True, hint="a backup as storage:volume")},
    Kind.UNLOCK: {},
    Kind.START: {},
    Kind.SHUTDOWN: {"timeout": Param(form=_SECONDS, hint="seconds"), "force": _FLAG},
    Kind.STOP: {},
    Kind.REBOOT: {"timeout": Param(form=_SECONDS, hint="seconds")},
    Kind.MIGRATE: {"target": Param(form=_NODE, needed=True, hint="a node"), "online": _FLAG},
    Kind.TEMPLATE: {},
}
"""The kinds that can be requested, each with the parameters that people may sign."""

OVERWRITES: Final = frozenset({Kind.DESTROY, Kind.RESTORE})
"""Kinds after which the guest that was is no more: `never_destroy` holds them."""


def requestable(kind: str, guest: GuestType) -> Kind:
    """The kind of a request.

    Raises:
        GateRefused: KIND: nobody can request it, at least not for this type of guest.
    """
    known = next((found for found in PARAMS if found == kind), None)
    if known is None:
        loop = any(found == kind for found in Kind)
        text = (
            "operations of this kind follow from manifests and cannot be requested"
            if loop
            else "there is no such kind of operation"
        )
        raise GateRefused(Refusal.KIND, text, f"requestable: {', '.join(sorted(PARAMS))}")
    if guest not in KINDS[known].routes:
        raise GateRefused(Refusal.KIND, f"PVE has no {known} for guests of type {guest}")
    return known


def check_params(kind: Kind, params: Mapping[str, str]) -> dict[str, str]:
    """The parameters in PVE's spelling: truth values are 0 or 1.

    Raises:
        GateRefused: MALFORMED: one is unknown, missing or not of its form.
    """
    known = PARAMS[kind]
    checked: dict[str, str] = {}
    for name, value in params.items():
        param = known.get(name)
        if param is None:
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise GateRefused(Refusal.MALFORMED, f"{kind} has no param of the name that was given", allowed)
        fits = value in _TRUTHS if param.form is None else param.form.fullmatch(value) is not None
        if not fits or ".." in value:
            raise GateRefused(Refusal.MALFORMED, f"param {name} of {kind} is not of its form", param.hint)
        checked[name] = _TRUTHS[value] if param.form is None else value
    missing = [name for name, param in known.items() if param.needed and name not in checked]
    if missing:
        hint = known[missing[0]].hint
        raise GateRefused(Refusal.MALFORMED, f"{kind} needs the param {missing[0]}", hint)
    return checked


def planned(request: Request, guest: Observed) -> PlannedOp:
    """The operation that a request asks for, on the guest as it is now.

    Raises:
        GateRefused: KIND or MALFORMED.
    """
    kind = requestable(request.kind, request.target.type)
    params = check_params(kind, request.params)
    made, goal = _MAKERS[kind](params, guest)
    return PlannedOp(
        kind=kind, type=guest.type, vmid=guest.vmid, node=guest.node, name=guest.name, params=made, goal=goal
    )


def accepted_intent(op: PlannedOp, guest: Observed, token: TokenId, labels: Mapping[str, str]) -> Intent:
    """What is journaled when a request is accepted; the sender makes the exact request anew when it starts.

    Identity and digest are those that were signed: the gate has compared them with the guest.
    """
    spec = KINDS[op.kind]
    route = spec.route(op.type)
    volume = op.goal.get("volume", "")
    return Intent(
        kind=op.kind,
        type=op.type,
        vmid=op.vmid,
        node=op.node,
        name=op.name,
        one_shot=True,
        method=route.method,
        path=route.path.format_map(
            {
                "node": op.node,
                "type": op.type.value,
                "vmid": op.vmid,
                "source": op.vmid,
                "pool": "",
                "snapshot": quote(op.goal.get("snapshot", ""), safe=""),
                "storage": quote(op.goal.get("storage", ""), safe=""),
                "volume": quote(volume, safe=""),
            }
        ),
        params=intents.redact(op.params),
        goal=op.goal,
        task_type=route.task,
        token=token,
        identity=guest.identity,
        digest=Digest(guest.digest),
        marker=guest.marker,
        labels=labels,
    )


_Made = tuple[dict[str, str], dict[str, str]]


def _destroy(params: dict[str, str], _guest: Observed) -> _Made:
    return params, {}


def _snapshot(params: dict[str, str], _guest: Observed) -> _Made:
    return {}, {"snapshot": params["snapshot"]}


def _restore(params: dict[str, str], guest: Observed) -> _Made:
    storage = {"storage": params["storage"]} if "storage" in params else {}
    if guest.type is GuestType.QEMU:
        return {"archive": params["archive"], "force": "1", **storage}, {}
    return {"ostemplate": params["archive"], "restore": "1", "force": "1", **storage}, {}


def _disk_remove(params: dict[str, str], guest: Observed) -> _Made:
    # `force` unlinks the volume itself; without it QEMU keeps it as unusedN. LXC knows no `force`.
    force = {"force": "1"} if guest.type is GuestType.QEMU else {}
    return {"delete": params["disk"], **force}, {params["disk"]: ""}


def _backup_delete(params: dict[str, str], _guest: Observed) -> _Made:
    return {}, {"volume": params["volume"], "storage": params["volume"].partition(":")[0]}


def _unlock(_params: dict[str, str], _guest: Observed) -> _Made:
    return {"delete": "lock"}, {}


def _start(_params: dict[str, str], _guest: Observed) -> _Made:
    return {}, {"power": "running"}


def _stop(_params: dict[str, str], _guest: Observed) -> _Made:
    return {}, {"power": "stopped"}


def _shutdown(params: dict[str, str], _guest: Observed) -> _Made:
    force = {"forceStop": params["force"]} if "force" in params else {}
    return {**({"timeout": params["timeout"]} if "timeout" in params else {}), **force}, {"power": "stopped"}


def _reboot(params: dict[str, str], guest: Observed) -> _Made:
    return params, {"pending": ",".join(guest.pending)}


def _migrate(params: dict[str, str], guest: Observed) -> _Made:
    online = params.get("online") == "1"
    live = {("online" if guest.type is GuestType.QEMU else "restart"): "1"} if online else {}
    return {"target": params["target"], **live}, {"node": params["target"]}


def _template(_params: dict[str, str], _guest: Observed) -> _Made:
    return {}, {}


_MAKERS: Final[Mapping[Kind, Callable[[dict[str, str], Observed], _Made]]] = {
    Kind.DESTROY: _destroy,
    Kind.ROLLBACK: _snapshot,
    Kind.SNAPSHOT_DELETE: _snapshot,
    Kind.RESTORE: _restore,
    Kind.DISK_REMOVE: _disk_remove,
    Kind.BACKUP_DELETE: _backup_delete,
    Kind.UNLOCK: _unlock,
    Kind.START: _start,
    Kind.SHUTDOWN: _shutdown,
    Kind.STOP: _stop,
    Kind.REBOOT: _reboot,
    Kind.MIGRATE: _migrate,
    Kind.TEMPLATE: _template,
}
