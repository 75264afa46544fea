"""Names of things, each with a type of its own, so that a vmid is never mistaken for a counter.

A vmid is reused by PVE and is therefore never an identity by itself (see `model.guests.Identity`).
"""

import re
from enum import StrEnum
from typing import NewType, Self

import msgspec

from trueup.model.errors import BadInput

OpId = NewType("OpId", str)
"""UUIDv7 of an operation, as text. Written into the guest's marker where the kind allows it."""

Vmid = NewType("Vmid", int)
NodeName = NewType("NodeName", str)
Digest = NewType("Digest", str)
"""SHA-1 of a guest's config text as PVE computes it: equal text gives an equal digest, so it proves equality only."""

Epoch = NewType("Epoch", int)
"""Number of an agent incarnation, raised by one at each start; a stale epoch cannot append to the journal."""

TokenId = NewType("TokenId", str)
"""`user@realm!name`, as PVE writes it into UPIDs."""

VMID_MIN = 100
VMID_MAX = 999_999_999


class GuestType(StrEnum):
    """PVE's two kinds of guest; the value is the path segment of PVE's API."""

    QEMU = "qemu"
    LXC = "lxc"


_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
    r":(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):(?P<starttime>[0-9A-Fa-f]{8})"
    r":(?P<type>[^:\s/]+):(?P<id>[^:\s/]*):(?P<user>[^:\s/]+):"
)


class Upid(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """PVE's id of an asynchronous task, parsed (pve-common, PVE::UPID).

    `starttime` is in seconds of the clock of `node`; `user` is the full token id for tasks of a token. The node of
    a task is always taken from here: PVE does not check the node in a task's path against it.
    """

    text: str
    node: NodeName
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a UPID.

        Raises:
            BadInput: the text is no UPID.
        """
        found = _UPID.fullmatch(text)
        if found is None:
            raise BadInput(what=f"not a UPID: {text[:120]!r}")
        return cls(
            text=text,
            node=NodeName(found["node"]),
            pid=int(found["pid"], 16),
            pstart=int(found["pstart"], 16),
            starttime=int(found["starttime"], 16),
            type=found["type"],
            id=found["id"],
            user=found["user"],
        )
