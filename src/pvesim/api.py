"""The table of calls: method and path, who serves it, its parameters, the function that does it.

Rule kept here: what is not in this table is not simulated and is answered 501, never with a pretended success.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from pvesim import guest_options as options
from pvesim import routes_access, routes_cluster, routes_guests
from pvesim.kernel import Command
from pvesim.machine import Call, Machine
from pvesim.ops_clone import clone
from pvesim.ops_config import post, put
from pvesim.ops_create import create
from pvesim.ops_destroy import destroy
from pvesim.ops_power import shutdown, start, stop
from pvesim.ops_resize import resize
from pvesim.schema import BOOLEAN, COUNT, OPTIONAL_VMID, TEXT, Finder, Param, Params, check
from pvesim.wire import Json, Listing

Result: TypeAlias = "Json | Listing"
Handler: TypeAlias = Callable[[Machine, Call], "Result | Generator[Command, object, Json]"]
METHODS = ("GET", "POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call; `protected` ones are served by pvedaemon, of which a node has few workers."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    protected: bool = False
    params: Params
    more: Finder | None = None
    fixed: Mapping[str, str]

    def checked(self, call: Call) -> dict[str, str]:
        """The call's parameters, or 400."""
        return check(call.raw, call.names, self.params, self.more)


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
_NONE: Params = {}


def _route(spec: str, handler: Handler, params: Params = _NONE, more: Finder | None = None, **fixed: str) -> Route:
    """`spec` is the method, `!` for protected calls, and the path with {names}."""
    method, _, path = spec.partition(" ")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return Route(
        method=method.rstrip("!"), protected=method.endswith("!"), pattern=re.compile(f"^{pattern}$"),
        handler=handler, params=params, more=more, fixed=fixed,
    )  # fmt: skip


_TOKENS = "/access/users/{userid}/token"
_NODE = "/nodes/{node}"
_CLUSTER_ROUTES = [
    _route("GET /version", routes_cluster.version),
    _route(f"GET {_NODE}/version", routes_cluster.version),
    _route("GET /access/permissions", routes_cluster.permissions, {"path": TEXT, "userid": TEXT}),
    _route(f"GET {_TOKENS}", routes_access.list_tokens),
    _route(f"GET {_TOKENS}/{{tokenid}}", routes_access.get_token),
    _route(f"POST! {_TOKENS}/{{tokenid}}", routes_access.create_token, _TOKEN),
    _route(f"PUT! {_TOKENS}/{{tokenid}}", routes_access.update_token, _TOKEN),
    _route(f"DELETE! {_TOKENS}/{{tokenid}}", routes_access.delete_token),
    _route("GET! /cluster/status", routes_cluster.state),
    _route("GET /cluster/resources", routes_cluster.resources, _RESOURCES),
    _route("GET /cluster/tasks", routes_cluster.cluster_tasks),
    _route("GET /cluster/nextid", routes_cluster.nextid, options.NEXTID),
    _route("GET /cluster/log", routes_cluster.cluster_log, {"max": COUNT}),
    _route("GET /nodes", routes_cluster.nodes),
    _route(f"GET {_NODE}/status", routes_cluster.status),
    _route(f"GET! {_NODE}/storage", routes_cluster.storages, _STORAGES),
    _route(f"GET! {_NODE}/storage/{{storage}}/content", routes_cluster.content, _CONTENT),
    _route(f"GET {_NODE}/tasks", routes_cluster.tasks, _TASK_LIST),
    _route(f"GET {_NODE}/tasks/{{upid}}", routes_cluster.task_index),
    _route(f"GET! {_NODE}/tasks/{{upid}}/status", routes_cluster.task_status),
    _route(f"GET! {_NODE}/tasks/{{upid}}/log", routes_cluster.task_log, _TASK_LOG),
    _route(f"DELETE! {_NODE}/tasks/{{upid}}", routes_cluster.abort_task),
]


def _guest_routes(kind: str) -> list[Route]:
    """The calls that exist for both guest types."""
    qemu = kind == "qemu"
    option = options.qemu_option if qemu else options.lxc_option
    many, one = f"{_NODE}/{kind}", f"{_NODE}/{kind}/{{vmid}}"

    def route(spec: str, handler: Handler, params: Params = _NONE, more: Finder | None = None) -> Route:
        return _route(spec, handler, params, more, type=kind)

    routes = [
        route(f"GET! {many}", routes_guests.guest_list, {"full": BOOLEAN} if qemu else _NONE),
        route(f"GET {one}", routes_guests.guest_index),
        route(f"GET {one}/config", routes_guests.config, options.GET_CONFIG),
        route(f"GET {one}/pending", routes_guests.pending),
        route(f"GET! {one}/status/current", routes_guests.current),
        route(f"POST! {many}", create, options.CREATE_QEMU if qemu else options.CREATE_LXC, option),
        route(f"POST! {one}/clone", clone, options.CLONE_QEMU if qemu else options.CLONE_LXC),
        route(f"DELETE! {one}", destroy, options.DESTROY_QEMU if qemu else options.DESTROY_LXC),
        route(f"PUT! {one}/config", put, options.PUT_QEMU if qemu else options.PUT_LXC, option),
        route(f"PUT! {one}/resize", resize, options.RESIZE_QEMU if qemu else options.RESIZE_LXC),
        route(f"POST! {one}/status/start", start, options.START_QEMU if qemu else options.START_LXC),
        route(f"POST! {one}/status/stop", stop, options.STOP_QEMU if qemu else options.STOP_LXC),
        route(f"POST! {one}/status/shutdown", shutdown, options.SHUTDOWN_QEMU if qemu else options.SHUTDOWN_LXC),
    ]
    if qemu:
        routes.append(route(f"POST! {one}/config", post, options.POST_QEMU, option))
    return routes


ROUTES = (*_CLUSTER_ROUTES, *_guest_routes("qemu"), *_guest_routes("lxc"))


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The call for a request, with the names in its path."""
    for route in ROUTES:
        if route.method != method:
            continue
        found = route.pattern.match(path)
        if found is not None:
            names = {key: unquote(value) for key, value in found.groupdict().items()}
            return route, {**names, **route.fixed}
    return None
