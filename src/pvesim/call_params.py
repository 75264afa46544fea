"""The parameters of calls that are not about a guest's config.

Rule kept here: a parameter is known because it stands here; whatever else is sent is refused as PVE refuses it.
"""

from __future__ import annotations

import re

from pvesim.schema import BOOLEAN, COUNT, TEXT, Param, Params

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
