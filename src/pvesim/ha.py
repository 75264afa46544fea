"""What HA knows: the resources as they are configured, and what the manager makes of them.

Rule kept here: a call only changes the wish; what becomes of it is decided by the rounds of manager and agents.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pvesim.guests import Guest
from pvesim.wire import Json

PREFIX = {"qemu": "vm", "lxc": "ct"}
TYPES = {"vm": "qemu", "ct": "lxc"}


@dataclass(slots=True, kw_only=True)
class Resource:
    """One guest under HA: `request` is the configured state, `state` the manager's."""

    sid: str
    request: str = "started"
    max_restart: int = 1
    max_relocate: int = 1
    failback: bool = True
    group: str | None = None
    comment: str | None = None
    state: str = "queued"
    node: str = ""
    target: str | None = None
    wanted: str | None = None
    stop_timeout: int | None = None
    failed_starts: int = 0
    relocated: int = 0
    tried: list[str] = field(default_factory=list[str])
    upid: str | None = None
    last_error: str | None = None

    @property
    def vmid(self) -> int:
        """The guest's number."""
        return int(self.sid.partition(":")[2])

    @property
    def guest_type(self) -> str:
        """The guest's type."""
        return TYPES[self.sid.partition(":")[0]]


@dataclass(slots=True)
class Ha:
    """The resources by id; `disarmed` is None, `freeze` or `ignore`."""

    resources: dict[str, Resource] = field(default_factory=dict[str, Resource])
    disarmed: str | None = None
    running: bool = False
    fenced: dict[str, float] = field(default_factory=dict[str, float])

    def of(self, guest_type: str, vmid: int) -> Resource | None:
        """The resource of a guest, however it is configured."""
        return self.resources.get(f"{PREFIX[guest_type]}:{vmid}")

    def manages(self, guest_type: str, vmid: int) -> bool:
        """Whether calls about the guest go through HA."""
        found = self.of(guest_type, vmid)
        return found is not None and found.request != "ignored" and self.disarmed != "ignore"

    def is_managed(self, guest: Guest, request: str) -> bool:
        """Whether the guest is managed and wanted in this state."""
        found = self.of(guest.type, guest.vmid)
        return self.manages(guest.type, guest.vmid) and found is not None and found.request == request

    def current(self, guest_type: str, vmid: int) -> dict[str, Json]:
        """`ha` in status/current."""
        found = self.of(guest_type, vmid)
        if found is None or not self.manages(guest_type, vmid):
            return {"managed": 0}
        return {"managed": 1, "state": None if found.state == "queued" else found.state}
