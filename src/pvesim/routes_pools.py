"""Calls about resource pools.

Rule kept here: a guest is in one pool at most, and a pool goes only when it is empty.
"""

from __future__ import annotations

import re

from pvesim.access import Pool
from pvesim.machine import Call, Machine
from pvesim.rows import resource_row
from pvesim.wire import ApiError, Json, died


def _pool(m: Machine, name: str) -> Pool:
    pool = m.tokens.access.pools.get(name)
    if pool is None:
        raise died(f"pool '{name}' does not exist")
    return pool


def _row(name: str, pool: Pool) -> dict[str, Json]:
    row: dict[str, Json] = {"poolid": name}
    if pool.comment is not None:
        row["comment"] = pool.comment
    return row


def _members(m: Machine, call: Call, pool: Pool) -> list[Json]:
    wanted = call.params.get("type")
    guests = [m.guests.guests[vmid] for vmid in sorted(pool.vms) if vmid in m.guests.guests]
    rows: list[Json] = [resource_row(m, guest) for guest in guests if wanted in {None, guest.type}]
    if wanted in {None, "storage"}:
        rows += [
            {"id": f"storage/{call.node}/{name}", "storage": name, "node": call.node, "type": "storage"}
            for name in sorted(pool.storages)
        ]
    return rows


def index(m: Machine, call: Call) -> Json:
    """GET /pools, of one pool with its members when `poolid` is given."""
    if "poolid" in call.params:
        name = call.params["poolid"]
        call.who.need(f"/pool/{name}", "Pool.Audit")
        pool = _pool(m, name)
        return [_row(name, pool) | {"members": _members(m, call, pool)}]
    return [
        _row(name, pool)
        for name, pool in sorted(m.tokens.access.pools.items())
        if call.who.may("Pool.Audit", path=f"/pool/{name}")
    ]


def get(m: Machine, call: Call) -> Json:
    """GET /pools/P."""
    pool = _pool(m, call.names["poolid"])
    row = _row(call.names["poolid"], pool) | {"members": _members(m, call, pool)}
    del row["poolid"]
    return row


def create(m: Machine, call: Call) -> Json:
    """POST /pools."""
    name = call.params["poolid"]
    call.who.need(f"/pool/{name}", "Pool.Allocate")
    parent, _, leaf = name.rpartition("/")
    if name in m.tokens.access.pools:
        raise died(f"create pool failed: pool '{name}' already exists")
    if parent and parent not in m.tokens.access.pools:
        raise died(f"create pool failed: parent '{parent}' of pool '{name}' does not exist")
    if not re.match(r"[A-Za-z]", leaf):
        raise died("create pool failed: pool name must start with a letter")
    _writable(m, call)
    m.tokens.access.pools[name] = Pool(comment=call.params.get("comment"))
    call.hand().touched()
    return None


def _writable(m: Machine, call: Call) -> None:
    m.guests.need_writable(call.node, "user.cfg", call.hand())


def _name(call: Call) -> str:
    return call.names.get("poolid") or call.params["poolid"]


def update(m: Machine, call: Call) -> Json:
    """PUT /pools: members come, or with `delete` they go."""
    name = _name(call)
    call.who.need(f"/pool/{name}", "Pool.Allocate")
    try:
        _change(m, call, name)
    except ApiError as error:
        raise ApiError(error.status, f"update pools failed: {error.text}") from error
    return None


def _change(m: Machine, call: Call, name: str) -> None:
    access, old, goes = m.tokens.access, _pool(m, name), call.flag("delete")
    fresh = Pool(comment=call.params.get("comment", old.comment), vms=set(old.vms), storages=set(old.storages))
    taken: list[tuple[Pool, int]] = []
    for vmid in [int(part) for part in re.split(r"[;, ]+", call.params.get("vms", "")) if part]:
        call.who.need(f"/vms/{vmid}", "Permissions.Modify", "VM.Allocate")
        if goes and vmid not in fresh.vms:
            raise died(f"VM {vmid} is not a pool member")
        if not goes and vmid in fresh.vms:
            raise died(f"VM {vmid} is already a pool member")
        other = access.pool_of(vmid)
        if not goes and other is not None:
            if not call.flag("allow-move"):
                raise died(f"VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set")
            call.who.need(f"/pool/{other}", "Pool.Allocate")
            taken.append((access.pools[other], vmid))
        (fresh.vms.discard if goes else fresh.vms.add)(vmid)
    for storage in [part for part in re.split(r"[;, ]+", call.params.get("storage", "")) if part]:
        call.who.need(f"/storage/{storage}", "Permissions.Modify", "Datastore.Allocate")
        if goes != (storage in fresh.storages):
            raise died(f"Storage '{storage}' is {'not' if goes else 'already'} a pool member")
        (fresh.storages.discard if goes else fresh.storages.add)(storage)
    _writable(m, call)
    for pool, vmid in taken:
        pool.vms.discard(vmid)
    if fresh != old:
        call.hand().touched()
    access.pools[name] = fresh


def delete(m: Machine, call: Call) -> Json:
    """DELETE /pools."""
    name = _name(call)
    call.who.need(f"/pool/{name}", "Pool.Allocate")
    pool = _pool(m, name)
    sub = next((other for other in sorted(m.tokens.access.pools) if other.startswith(f"{name}/")), None)
    inside = [f"pool '{sub}'"] if sub is not None else []
    inside += [f"VM {vmid}" for vmid in sorted(pool.vms) if vmid in m.guests.guests]
    inside += [f"storage '{storage}'" for storage in sorted(pool.storages) if storage in m.storages.defined]
    if inside:
        raise died(f"delete pool failed: pool '{name}' is not empty (contains {inside[0]})")
    _writable(m, call)
    del m.tokens.access.pools[name]
    call.hand().touched()
    return None
