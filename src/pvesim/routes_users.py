"""Calls about users, roles and the access list.

Rule kept here: these write one file, which needs quorum, and nobody hands out more than he has himself.
"""

from __future__ import annotations

import re

from pvesim.access import ALL_PRIVILEGES, BUILTIN, Holder, User, is_path, normalized, role_row
from pvesim.machine import Call, Machine
from pvesim.wire import Json, bad_parameters, died, forbidden


def _writable(m: Machine, call: Call) -> None:
    m.guests.need_writable(call.node, "user.cfg", call.hand())


def _parts(raw: str) -> list[str]:
    return [part for part in re.split(r"[;, ]+", raw) if part]


def roles(m: Machine, call: Call) -> Json:
    """GET /access/roles."""
    del call
    return [role_row(name, privileges) for name, privileges in m.tokens.access.roles.items()]


def role(m: Machine, call: Call) -> Json:
    """GET /access/roles/R."""
    return dict.fromkeys(sorted(m.tokens.access.need_role(call.names["roleid"])), 1)


def _privileges(call: Call, prefix: str) -> frozenset[str]:
    wanted = frozenset(_parts(call.params.get("privs", "")))
    wrong = sorted(wanted - set(ALL_PRIVILEGES))
    if wrong:
        raise died(f"{prefix}: invalid privilege '{wrong[0]}'")
    return wanted


def create_role(m: Machine, call: Call) -> Json:
    """POST /access/roles."""
    name, access = call.params["roleid"], m.tokens.access
    if name.upper().startswith("PVE"):
        raise bad_parameters({"roleid": "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"})
    if name in access.roles:
        raise died(f"create role failed: role '{name}' already exists")
    privileges = _privileges(call, "create role failed")
    _writable(m, call)
    access.roles[name] = privileges
    call.hand().touched()
    return None


def _own_role(m: Machine, call: Call, verb: str) -> str:
    name = call.names["roleid"]
    if name in BUILTIN:
        raise died(f"auto-generated role '{name}' cannot be {verb}")
    m.tokens.access.need_role(name)
    return name


def update_role(m: Machine, call: Call) -> Json:
    """PUT /access/roles/R."""
    name = _own_role(m, call, "modified")
    privileges = _privileges(call, "update role failed")
    _writable(m, call)
    kept = m.tokens.access.roles[name] if call.flag("append") else frozenset[str]()
    m.tokens.access.roles[name] = kept | privileges
    call.hand().touched()
    return None


def delete_role(m: Machine, call: Call) -> Json:
    """DELETE /access/roles/R."""
    name = _own_role(m, call, "deleted")
    _writable(m, call)
    del m.tokens.access.roles[name]
    call.hand().touched()
    return None


def _user_row(user: User) -> dict[str, Json]:
    row: dict[str, Json] = {"enable": int(user.enable), "expire": user.expire, **user.more}
    if user.comment is not None:
        row["comment"] = user.comment
    return row


def users(m: Machine, call: Call) -> Json:
    """GET /access/users."""
    everybody = call.who.may("User.Modify", "Sys.Audit", path="/access/groups")
    rows: list[Json] = []
    for name, user in sorted(m.tokens.access.users.items()):
        if not (everybody or name == call.who.user or call.who.may_for_user(name, "User.Modify", "Sys.Audit")):
            continue
        row = {"userid": name, "realm-type": name.rpartition("@")[2]} | _user_row(user)
        if call.flag("full"):
            row["groups"] = ",".join(user.groups)
            row["tokens"] = [token.row() for token in m.tokens.of_user(name)]
        rows.append(row)
    return rows


def user(m: Machine, call: Call) -> Json:
    """GET /access/users/U."""
    m.tokens.need_user(call.names["userid"])
    if not call.who.may_for_user(call.names["userid"], "User.Modify", "Sys.Audit"):
        raise forbidden("")
    found = m.tokens.access.users[call.names["userid"]]
    tokens = {token.tokenid: {"privsep": int(token.privsep), "expire": token.expire}
              for token in m.tokens.of_user(call.names["userid"])}  # fmt: skip
    return _user_row(found) | {"groups": list(found.groups)} | ({"tokens": tokens} if tokens else {})


def create_user(m: Machine, call: Call) -> Json:
    """POST /access/users."""
    name, access = call.params["userid"], m.tokens.access
    realm = name.rpartition("@")[2]
    call.who.need(f"/access/realm/{realm}", "Realm.AllocateUser")
    _need_groups(call)
    if name in access.users:
        raise died(f"create user failed: user '{name}' already exists")
    _known_groups(m, call, "create")
    _writable(m, call)
    made = User()
    _apply(made, call)
    access.users[name] = made
    call.hand().touched()
    return None


def _need_groups(call: Call) -> None:
    """Whoever has no right on all groups needs it on each that he names, and must name one (`groups_param`)."""
    if call.who.may("User.Modify", path="/access/groups"):
        return
    named = _parts(call.params.get("groups", ""))
    if not named:
        raise forbidden(" (/access/groups, User.Modify)")
    for group in named:
        call.who.need(f"/access/groups/{group}", "User.Modify")


def _known_groups(m: Machine, call: Call, verb: str) -> None:
    for group in _parts(call.params.get("groups", "")):
        if group not in m.tokens.access.groups:
            raise died(f"{verb} user failed: no such group '{group}'")


def _apply(target: User, call: Call) -> None:
    params = call.params
    target.enable = params.get("enable", str(int(target.enable))) == "1"
    target.expire = int(params.get("expire", str(target.expire)))
    target.comment = params.get("comment", target.comment)
    if "groups" in params:
        kept = target.groups if call.flag("append") else []
        target.groups = list(dict.fromkeys([*kept, *_parts(params["groups"])]))
    target.more |= {key: params[key] for key in ("firstname", "lastname", "email") if key in params}


def update_user(m: Machine, call: Call) -> Json:
    """PUT /access/users/U."""
    m.tokens.need_user(call.names["userid"])
    _need_groups(call)
    if not call.who.may_for_user(call.names["userid"], "User.Modify"):
        raise forbidden("")
    _known_groups(m, call, "update")
    _writable(m, call)
    _apply(m.tokens.access.users[call.names["userid"]], call)
    call.hand().touched()
    return None


def delete_user(m: Machine, call: Call) -> Json:
    """DELETE /access/users/U: its tokens and entries go with it."""
    name, access = call.names["userid"], m.tokens.access
    call.who.need(f"/access/realm/{name.rpartition('@')[2]}", "Realm.AllocateUser")
    if not call.who.may_for_user(name, "User.Modify"):
        raise forbidden("")
    _writable(m, call)
    if access.users.pop(name, None) is not None:
        call.hand().touched()
    access.unlimited.discard(name)
    access.forget(Holder(kind="user", name=name))
    for token in m.tokens.of_user(name):
        access.forget(Holder(kind="token", name=token.full_id))
        del m.tokens.tokens[token.full_id]
    return None


def acl(m: Machine, call: Call) -> Json:
    """GET /access/acl."""
    audit = call.who.may("Sys.Audit", path="/access")
    return [
        {"path": path, "type": holder.kind, "ugid": holder.name, "roleid": name, "propagate": propagate}
        for path, held in m.tokens.access.entries.items()
        if audit or call.who.may("Permissions.Modify", path=path)
        for holder, given in held.items()
        for name, propagate in given.items()
    ]


_MODIFY = (("/storage/", "Datastore.Allocate"), ("/vms/", "VM.Allocate"), ("/pool/", "Pool.Allocate"))


def update_acl(m: Machine, call: Call) -> Json:
    """PUT /access/acl: add entries, or with `delete` remove them."""
    params, access = call.params, m.tokens.access
    if not any(params.get(name) for name in ("users", "groups", "tokens")):
        text = "either 'users', 'groups' or 'tokens' is required."
        raise bad_parameters(dict.fromkeys(("users", "groups", "tokens"), text))
    path, goes = normalized(params["path"]), call.flag("delete")
    if not goes and not is_path(path):
        raise bad_parameters({"path": f"invalid ACL path '{params['path']}'"})
    enough = [privilege for prefix, privilege in _MODIFY if path.startswith(prefix)]
    if not call.who.may("Permissions.Modify", *enough, path=path):
        raise forbidden(f" ({path}, Permissions.Modify)")
    wanted = _parts(params["roles"])
    for name in wanted:
        _may_give(m, call, name, path)
    holders = [
        *(Holder(kind="user", name=name) for name in _parts(params.get("users", ""))),
        *(Holder(kind="group", name=name) for name in _parts(params.get("groups", ""))),
        *(Holder(kind="token", name=name) for name in _parts(params.get("tokens", ""))),
    ]
    for holder in holders:
        _need_holder(m, holder)
    _writable(m, call)
    for holder in holders:
        for name in wanted:
            if goes:
                access.revoke(path, holder, name)
            else:
                access.grant(path, holder, name, propagate=int(params.get("propagate", "1")))
    call.hand().touched()
    return None


def _may_give(m: Machine, call: Call, name: str, path: str) -> None:
    if name not in m.tokens.access.roles:
        raise died(f"ACL update failed: role '{name}' does not exist")
    granted = call.who.granted(path)
    if "Permissions.Modify" not in granted and (name == "NoAccess" or not m.tokens.access.roles[name] <= set(granted)):
        verb = "remove" if call.flag("delete") else "add"
        raise bad_parameters(
            {"role": f"Cannot {verb} role '{name}' - requires 'Permissions.Modify' or superset of privileges."}
        )


def _need_holder(m: Machine, holder: Holder) -> None:
    access = m.tokens.access
    if holder.kind == "user" and holder.name not in access.users:
        raise died(f"ACL update failed: user '{holder.name}' does not exist")
    if holder.kind == "token":
        owner, _, tokenid = holder.name.partition("!")
        m.tokens.need_user(owner)
        m.tokens.need(owner, tokenid)
    if holder.kind == "group" and holder.name not in access.groups:
        raise died(f"ACL update failed: group '{holder.name}' does not exist")
