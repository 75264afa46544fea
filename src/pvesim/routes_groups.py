"""Calls about groups of users.

Rule kept here: who is in a group stands with the users; a group by itself is a name that the access list can hold.
Texts from PVE's source (pve-access-control, PVE::API2::Group): there is no recording of these calls.
"""

from __future__ import annotations

import re

from pvesim.access import Holder
from pvesim.machine import Call, Machine
from pvesim.wire import Json, bad_parameters, died, forbidden

_SEES = ("User.Modify", "Sys.Audit", "Group.Allocate")
_NAME = re.compile(r"^[A-Za-z0-9._-]+$")


def _writable(m: Machine, call: Call) -> None:
    m.guests.need_writable(call.node, "user.cfg", call.hand())


def groups(m: Machine, call: Call) -> Json:
    """GET /access/groups: those that the caller has something to say about."""
    access = m.tokens.access
    rows: list[Json] = []
    for name, comment in sorted(access.groups.items()):
        if call.who.may(*_SEES, path=f"/access/groups/{name}"):
            row: dict[str, Json] = {"groupid": name, "users": ",".join(access.members(name))}
            rows.append(row | ({} if comment is None else {"comment": comment}))
    return rows


def group(m: Machine, call: Call) -> Json:
    """GET /access/groups/G."""
    name, access = call.names["groupid"], m.tokens.access
    if not call.who.may("Sys.Audit", "Group.Allocate", path="/access/groups"):
        raise forbidden(" (/access/groups, Sys.Audit|Group.Allocate)")
    access.need_group(name)
    row: dict[str, Json] = {"members": list[Json](access.members(name))}
    comment = access.groups[name]
    return row | ({} if comment is None else {"comment": comment})


def create_group(m: Machine, call: Call) -> Json:
    """POST /access/groups."""
    name, access = call.params["groupid"], m.tokens.access
    if not _NAME.match(name):
        raise bad_parameters({"groupid": f"invalid format - group name '{name}' contains invalid characters\n"})
    call.who.need("/access/groups", "Group.Allocate")
    if name in access.groups:
        raise died(f"create group failed: group '{name}' already exists")
    _writable(m, call)
    access.groups[name] = call.params.get("comment")
    call.hand().touched()
    return None


def update_group(m: Machine, call: Call) -> Json:
    """PUT /access/groups/G."""
    name, access = call.names["groupid"], m.tokens.access
    call.who.need("/access/groups", "Group.Allocate")
    if name not in access.groups:
        raise died(f"update group failed: group '{name}' does not exist")
    _writable(m, call)
    access.groups[name] = call.params.get("comment", access.groups[name])
    call.hand().touched()
    return None


def delete_group(m: Machine, call: Call) -> Json:
    """DELETE /access/groups/G: its entries in the access list go with it, its users stay."""
    name, access = call.names["groupid"], m.tokens.access
    call.who.need("/access/groups", "Group.Allocate")
    if name not in access.groups:
        raise died(f"delete group failed: group '{name}' does not exist")
    _writable(m, call)
    del access.groups[name]
    for user in access.users.values():
        user.groups = [other for other in user.groups if other != name]
    access.forget(Holder(kind="group", name=name))
    call.hand().touched()
    return None
