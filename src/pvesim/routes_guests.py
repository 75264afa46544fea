"""Calls that look at guests.

Rule kept here: absence is an error with the config's name in it, on every node but the guest's own.
"""

from __future__ import annotations

from pvesim.machine import Call, Machine
from pvesim.rows import current_row, guest_row
from pvesim.texts import pending_rows, typed
from pvesim.wire import Json, died


def guest_list(m: Machine, call: Call) -> Json:
    """GET /nodes/N/{qemu,lxc}."""
    if not call.who.may("VM.Audit"):
        return []
    return [
        guest_row(m, guest)
        for guest in m.guests.guests.values()
        if (guest.type, guest.node) == (call.guest_type, call.node)
    ]


def config(m: Machine, call: Call) -> Json:
    """GET config: with pending values applied unless `current=1`."""
    call.who.need(f"/vms/{call.vmid}", "VM.Audit")
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    if "snapshot" in call.params:
        raise died(f"snapshot '{call.params['snapshot']}' does not exist")
    values = guest.values if call.flag("current") else guest.config.effective()
    shown = typed(guest.type, values)
    if "cipassword" in shown:
        shown["cipassword"] = "**********"
    shown["digest"] = guest.digest
    return shown


def pending(m: Machine, call: Call) -> Json:
    """GET pending."""
    call.who.need(f"/vms/{call.vmid}", "VM.Audit")
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    return pending_rows(guest.type, guest.config, guest.digest)


def current(m: Machine, call: Call) -> Json:
    """GET status/current."""
    call.who.need(f"/vms/{call.vmid}", "VM.Audit")
    return current_row(m, m.guests.need(call.guest_type, call.node, call.vmid))


def guest_index(m: Machine, call: Call) -> Json:
    """GET /nodes/N/{qemu,lxc}/V: answers for guests that do not exist, too."""
    del m, call
    return [{"subdir": name} for name in ("config", "pending", "status", "resize", "snapshot", "firewall")]
