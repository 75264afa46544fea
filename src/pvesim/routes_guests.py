"""Calls that look at guests.

Rule kept here: absence is an error with the config's name in it, on every node but the guest's own.
"""

from __future__ import annotations

from pvesim.machine import Call, Machine
from pvesim.rows import current_row, guest_row
from pvesim.texts import pending_rows, typed
from pvesim.wire import Json, bad_parameters, died


def guest_list(m: Machine, call: Call) -> Json:
    """GET /nodes/N/{qemu,lxc}."""
    return [
        guest_row(m, guest)
        for guest in m.guests.guests.values()
        if (guest.type, guest.node) == (call.guest_type, call.node)
        and call.who.may("VM.Audit", path=f"/vms/{guest.vmid}")
    ]


def config(m: Machine, call: Call) -> Json:
    """GET config: with pending values applied unless `current=1`."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    if "snapshot" in call.params:
        if call.flag("current"):
            raise bad_parameters(
                {
                    "snapshot": "cannot use 'snapshot' parameter with 'current'",
                    "current": "cannot use 'snapshot' parameter with 'current'",
                }
            )
        snap = guest.config.snapshots.get(call.params["snapshot"])
        if snap is None:
            raise died(f"snapshot '{call.params['snapshot']}' does not exist")
        return typed(guest.type, snap) | {"digest": guest.digest}
    values = guest.values if call.flag("current") else guest.config.effective()
    shown = typed(guest.type, values)
    if "cipassword" in shown:
        shown["cipassword"] = "**********"
    shown["digest"] = guest.digest
    return shown


def pending(m: Machine, call: Call) -> Json:
    """GET pending."""
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    return pending_rows(guest.type, guest.config, guest.digest)


def current(m: Machine, call: Call) -> Json:
    """GET status/current."""
    return current_row(m, m.guests.need(call.guest_type, call.node, call.vmid))


def guest_index(m: Machine, call: Call) -> Json:
    """GET /nodes/N/{qemu,lxc}/V: answers for guests that do not exist, too."""
    del m, call
    return [{"subdir": name} for name in ("config", "pending", "status", "resize", "snapshot", "firewall")]
