"""The calls about the cluster, its nodes, storages, tasks and users.

Rule kept here: a table and nothing else.
"""

from __future__ import annotations

import re

from pvesim import call_params as params
from pvesim import guest_options as options
from pvesim import (
    ops_backup,
    routes_access,
    routes_cluster,
    routes_groups,
    routes_ha,
    routes_pools,
    routes_storage,
    routes_users,
)
from pvesim.routing import Route, need, route
from pvesim.schema import BOOLEAN, COUNT, OPTIONAL_VMID, TEXT, Param, Params

_STATUSES = ("ok", "warning", "error", "unknown")


def _statuses(raw: str) -> str | None:
    wrong = next((s for s in re.split(r"[;, ]+", raw) if s and s not in _STATUSES), None)
    return None if wrong is None else f"invalid format - invalid status '{wrong}'\n"


_TASK_LIST: Params = {
    "start": COUNT, "limit": COUNT, "vmid": OPTIONAL_VMID, "typefilter": TEXT, "userfilter": TEXT,
    "since": Param(type="integer"), "until": Param(type="integer"), "errors": BOOLEAN,
    "source": Param(enum=("archive", "active", "all")), "statusfilter": Param(check=_statuses),
}  # fmt: skip
_TOKEN: Params = {"comment": TEXT, "expire": COUNT, "privsep": BOOLEAN}
_RESOURCES: Params = {"type": Param(enum=("vm", "storage", "node", "sdn"))}
_TASK_LOG: Params = {"start": COUNT, "limit": COUNT, "download": BOOLEAN}
_CONTENT: Params = {"content": TEXT, "vmid": OPTIONAL_VMID}
_STORAGES: Params = {"content": TEXT, "enabled": BOOLEAN, "format": BOOLEAN, "storage": TEXT, "target": TEXT}
_ROLES = need("/access", "Sys.Modify")
_HA_SEE, _HA_DO = need("/", "Sys.Audit"), need("/", "Sys.Console")
_TOKENS = "/access/users/{userid}/token"
_NODE = "/nodes/{node}"
_CONTENT_PATH = f"{_NODE}/storage/{{storage}}/content"
_VOLUME = f"{_CONTENT_PATH}/{{volume}}"

CLUSTER_ROUTES: tuple[Route, ...] = (
    route("GET /version", routes_cluster.version),
    route(f"GET {_NODE}/version", routes_cluster.version),
    route("GET /access/permissions", routes_cluster.permissions, {"path": TEXT, "userid": TEXT}),
    route("GET /access/roles", routes_users.roles),
    route("POST! /access/roles", routes_users.create_role, params.ROLE_CREATE, demands=_ROLES),
    route("GET /access/roles/{roleid}", routes_users.role),
    route("PUT! /access/roles/{roleid}", routes_users.update_role, params.ROLE_UPDATE, demands=_ROLES),
    route("DELETE! /access/roles/{roleid}", routes_users.delete_role, demands=_ROLES),
    route("GET /access/users", routes_users.users, {"enabled": BOOLEAN, "full": BOOLEAN}),
    route("POST! /access/users", routes_users.create_user, params.USER_CREATE),
    route("GET /access/users/{userid}", routes_users.user),
    route("PUT! /access/users/{userid}", routes_users.update_user, params.USER_UPDATE),
    route("DELETE! /access/users/{userid}", routes_users.delete_user),
    route("GET /access/groups", routes_groups.groups),
    route("POST! /access/groups", routes_groups.create_group, params.GROUP_CREATE),
    route("GET /access/groups/{groupid}", routes_groups.group),
    route("PUT! /access/groups/{groupid}", routes_groups.update_group, params.GROUP_UPDATE),
    route("DELETE! /access/groups/{groupid}", routes_groups.delete_group),
    route("GET /access/acl", routes_users.acl),
    route("PUT! /access/acl", routes_users.update_acl, params.ACL_UPDATE),
    route("GET /pools", routes_pools.index, params.POOL_LIST),
    route("POST! /pools", routes_pools.create, params.POOL_CREATE),
    route("PUT! /pools", routes_pools.update, params.POOL_UPDATE),
    route("DELETE! /pools", routes_pools.delete, {"poolid": Param(required=True)}),
    route("GET /pools/{poolid}", routes_pools.get, {"type": params.POOL_LIST["type"]},
          demands=need("/pool/{poolid}", "Pool.Audit")),
    route("PUT! /pools/{poolid}", routes_pools.update, params.POOL_UPDATE_OLD),
    route("DELETE! /pools/{poolid}", routes_pools.delete),
    route(f"GET {_TOKENS}", routes_access.list_tokens),
    route(f"GET {_TOKENS}/{{tokenid}}", routes_access.get_token),
    route(f"POST! {_TOKENS}/{{tokenid}}", routes_access.create_token, _TOKEN),
    route(f"PUT! {_TOKENS}/{{tokenid}}", routes_access.update_token, _TOKEN),
    route(f"DELETE! {_TOKENS}/{{tokenid}}", routes_access.delete_token),
    route("GET! /cluster/status", routes_cluster.state, demands=need("/", "Sys.Audit")),
    route("GET /cluster/resources", routes_cluster.resources, _RESOURCES),
    route("GET /cluster/tasks", routes_cluster.cluster_tasks),
    route("GET /cluster/nextid", routes_cluster.nextid, options.NEXTID),
    route("GET /cluster/log", routes_cluster.cluster_log, {"max": COUNT}),
    route("GET /cluster/ha/resources", routes_ha.index, params.HA_LIST, demands=_HA_SEE),
    route("POST! /cluster/ha/resources", routes_ha.create, params.HA_CREATE, demands=_HA_DO),
    route("GET /cluster/ha/resources/{sid}", routes_ha.get, demands=_HA_SEE),
    route("PUT! /cluster/ha/resources/{sid}", routes_ha.update, params.HA_UPDATE, demands=_HA_DO),
    route("DELETE! /cluster/ha/resources/{sid}", routes_ha.delete, {"purge": BOOLEAN}, demands=_HA_DO),
    route("POST! /cluster/ha/resources/{sid}/migrate", routes_ha.move, params.HA_MOVE, demands=_HA_DO),
    route("POST! /cluster/ha/resources/{sid}/relocate", routes_ha.move, params.HA_MOVE, demands=_HA_DO),
    route("GET /cluster/ha/status/current", routes_ha.current, demands=_HA_SEE),
    route("POST! /cluster/ha/status/disarm-ha", routes_ha.disarm, params.HA_DISARM, demands=_HA_DO),
    route("POST! /cluster/ha/status/arm-ha", routes_ha.arm, demands=_HA_DO),
    route("GET /nodes", routes_cluster.nodes),
    route(f"GET {_NODE}/status", routes_cluster.status, demands=need("/nodes/{node}", "Sys.Audit")),
    route(f"GET! {_NODE}/storage", routes_cluster.storages, _STORAGES),
    route(f"GET! {_CONTENT_PATH}", routes_storage.index, _CONTENT,
          demands=need("/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)),
    route(f"GET! {_VOLUME}", routes_storage.info),
    route(f"PUT! {_VOLUME}", routes_storage.update, {"notes": TEXT, "protected": BOOLEAN}),
    route(f"DELETE! {_VOLUME}", routes_storage.delete, {"delay": Param(type="integer", minimum=1, maximum=30)}),
    route(f"POST! {_NODE}/vzdump", ops_backup.vzdump, params.VZDUMP),
    route(f"GET {_NODE}/tasks", routes_cluster.tasks, _TASK_LIST),
    route(f"GET {_NODE}/tasks/{{upid}}", routes_cluster.task_index),
    route(f"GET! {_NODE}/tasks/{{upid}}/status", routes_cluster.task_status),
    route(f"GET! {_NODE}/tasks/{{upid}}/log", routes_cluster.task_log, _TASK_LOG),
    route(f"DELETE! {_NODE}/tasks/{{upid}}", routes_cluster.abort_task),
)  # fmt: skip
