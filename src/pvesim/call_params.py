"""The parameters of calls that are not about a guest's config.

Rule kept here: a parameter is known because it stands here; whatever else is sent is refused as PVE refuses it.
"""

from __future__ import annotations

import re

from pvesim.guest_options import MOVABLE_LXC, MOVABLE_QEMU
from pvesim.schema import (
    BOOLEAN,
    COUNT,
    DIGEST,
    NODE,
    OPTIONAL_VMID,
    ROOT_ONLY,
    TEXT,
    Param,
    Params,
)

_VMID = re.compile(r"^[1-9]\d{2,8}$")


def _vmids(raw: str) -> str | None:
    wrong = next((part for part in re.split(r"[;, ]+", raw) if part and not _VMID.match(part)), None)
    return None if wrong is None else "invalid format - value does not look like a valid VM ID\n"


VMIDS = Param(check=_vmids)

VZDUMP: Params = {
    "vmid": VMIDS, "storage": TEXT, "mode": Param(enum=("snapshot", "suspend", "stop")),
    "compress": Param(enum=("0", "1", "gzip", "lzo", "zstd")), "remove": BOOLEAN, "protected": BOOLEAN,
    "notes-template": Param(max_length=1024), "all": BOOLEAN, "exclude": VMIDS, "pool": TEXT, "quiet": BOOLEAN,
    "prune-backups": TEXT, "mailto": TEXT, "mailnotification": Param(enum=("always", "failure")),
    "notification-mode": Param(enum=("auto", "legacy-sendmail", "notification-system")), "bwlimit": COUNT,
    "ionice": Param(type="integer", minimum=0, maximum=8), "lockwait": COUNT, "stopwait": COUNT, "zstd": COUNT,
    "pigz": Param(type="integer"), "fleecing": TEXT, "performance": TEXT, "job-id": TEXT, "stdexcludes": BOOLEAN,
    "exclude-path": TEXT,
}  # fmt: skip

_TARGET = Param(required=True, check=NODE.check)


def _root_only(_: str) -> str | None:
    return "Only root may use this option."


_ROOT_TEXT = Param(check=_root_only)
MIGRATE_QEMU: Params = {
    "target": _TARGET, "online": BOOLEAN, "force": Param(type="boolean", check=_root_only),
    "migration_type": _ROOT_TEXT, "migration_network": _ROOT_TEXT, "with-local-disks": BOOLEAN,
    "targetstorage": TEXT, "bwlimit": COUNT, "with-conntrack-state": BOOLEAN,
}  # fmt: skip
MIGRATE_LXC: Params = {
    "target": _TARGET, "target-storage": TEXT, "online": BOOLEAN, "restart": BOOLEAN,
    "timeout": Param(type="integer"), "bwlimit": Param(type="number", minimum=0),
}  # fmt: skip
MIGRATE_TO: Params = {"target": NODE}
_MOVE: Params = {
    "storage": TEXT, "delete": BOOLEAN, "digest": DIGEST, "bwlimit": Param(type="number", minimum=0),
    "target-vmid": OPTIONAL_VMID, "target-digest": DIGEST,
}  # fmt: skip
MOVE_QEMU: Params = {
    **_MOVE, "disk": Param(required=True, enum=MOVABLE_QEMU), "format": Param(enum=("raw", "qcow2", "vmdk")),
    "target-disk": Param(enum=MOVABLE_QEMU),
}  # fmt: skip
MOVE_LXC: Params = {
    **_MOVE, "volume": Param(required=True, enum=MOVABLE_LXC), "target-volume": Param(enum=MOVABLE_LXC),
}  # fmt: skip
UNLINK: Params = {"idlist": Param(required=True), "force": BOOLEAN}

_HA: Params = {
    "state": Param(enum=("started", "stopped", "enabled", "disabled", "ignored")), "comment": TEXT, "group": TEXT,
    "max_restart": COUNT, "max_relocate": COUNT, "failback": BOOLEAN, "type": Param(enum=("ct", "vm")),
}  # fmt: skip
HA_LIST: Params = {"type": Param(enum=("ct", "vm"))}
HA_CREATE: Params = {**_HA, "sid": Param(required=True)}
HA_UPDATE: Params = {**_HA, "digest": Param(max_length=64), "delete": TEXT}
HA_MOVE: Params = {"node": _TARGET}
HA_DISARM: Params = {"resource-mode": Param(required=True, enum=("freeze", "ignore"))}

SUSPEND_QEMU: Params = {
    "skiplock": ROOT_ONLY, "todisk": BOOLEAN, "statestorage": Param(needs="todisk"),
}  # fmt: skip
RESUME_QEMU: Params = {"skiplock": ROOT_ONLY, "nocheck": Param(type="boolean", check=_root_only)}

_LIST = TEXT
ROLE_CREATE: Params = {"roleid": Param(required=True), "privs": _LIST}
ROLE_UPDATE: Params = {"privs": _LIST, "append": BOOLEAN}
_USER: Params = {
    "enable": BOOLEAN, "expire": COUNT, "firstname": TEXT, "lastname": TEXT, "email": TEXT, "comment": TEXT,
    "groups": _LIST, "keys": TEXT,
}  # fmt: skip
USER_CREATE: Params = {**_USER, "userid": Param(required=True), "password": TEXT}
USER_UPDATE: Params = {**_USER, "append": Param(type="boolean", needs="groups")}
GROUP_CREATE: Params = {"groupid": Param(required=True), "comment": TEXT}
GROUP_UPDATE: Params = {"comment": TEXT}
ACL_UPDATE: Params = {
    "path": Param(required=True), "roles": Param(required=True), "users": _LIST, "groups": _LIST, "tokens": _LIST,
    "propagate": BOOLEAN, "delete": BOOLEAN,
}  # fmt: skip
POOL_LIST: Params = {"poolid": TEXT, "type": Param(enum=("qemu", "lxc", "storage"))}
POOL_CREATE: Params = {"poolid": Param(required=True), "comment": TEXT}
POOL_UPDATE_OLD: Params = {
    "comment": TEXT, "vms": VMIDS, "storage": TEXT, "delete": BOOLEAN, "allow-move": BOOLEAN,
}  # fmt: skip
POOL_UPDATE: Params = {**POOL_UPDATE_OLD, "poolid": Param(required=True)}
