"""The calls about guests.

Rule kept here: a table and nothing else; what exists for both guest types stands once.
"""

from __future__ import annotations

from dataclasses import replace

from pvesim import call_params as params
from pvesim import guest_options as options
from pvesim import ops_migrate, ops_move, ops_snapshot, ops_state, routes_guests
from pvesim.ops_clone import clone
from pvesim.ops_config import post, put, unlink
from pvesim.ops_create import create
from pvesim.ops_destroy import destroy
from pvesim.ops_power import shutdown, start, stop
from pvesim.ops_resize import resize
from pvesim.routing import NO_PARAMS, Handler, Need, Route, need, route
from pvesim.schema import BOOLEAN, COUNT, ROOT_ONLY, Finder, Params

_VM = "/vms/{vmid}"
_AUDIT = need(_VM, "VM.Audit")
_POWER = need(_VM, "VM.PowerMgmt")
_SNAPSHOT = need(_VM, "VM.Snapshot")
_ROLLBACK = need(_VM, "VM.Snapshot", "VM.Snapshot.Rollback", any_of=True)
_SEE_SNAPSHOT = need(_VM, "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit", any_of=True)
_CONFIG_PRIVILEGES = (
    "VM.Config.Disk", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network",
    "VM.Config.HWType", "VM.Config.Options", "VM.Config.Cloudinit",
)  # fmt: skip
_QEMU_CONFIG = need(_VM, *_CONFIG_PRIVILEGES, any_of=True)
_LXC_CONFIG = need(
    _VM, "VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", any_of=True
)


class _Table:
    """The calls of one guest type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.qemu = kind == "qemu"
        self.many = f"/nodes/{{node}}/{kind}"
        self.one = f"{self.many}/{{vmid}}"
        self.routes: list[Route] = []

    def add(
        self,
        spec: str,
        handler: Handler,
        params: Params = NO_PARAMS,
        more: Finder | None = None,
        demands: Need | None = None,
    ) -> None:
        """One more; the path is that below the guest."""
        method, _, path = spec.partition(" ")
        self.routes.append(route(f"{method} {self.one}{path}", handler, params, more, demands, type=self.kind))

    def basic(self) -> None:
        """Existence, config, power."""
        qemu, option = self.qemu, options.qemu_option if self.qemu else options.lxc_option
        self.routes += [
            route(f"GET! {self.many}", routes_guests.guest_list, {"full": BOOLEAN} if qemu else NO_PARAMS,
                  type=self.kind),
            route(f"POST! {self.many}", create, options.CREATE_QEMU if qemu else options.CREATE_LXC, option,
                  type=self.kind),
        ]  # fmt: skip
        self.add("GET ", routes_guests.guest_index)
        self.add("GET /config", routes_guests.config, options.GET_CONFIG, None, _AUDIT)
        self.add("GET /pending", routes_guests.pending, demands=_AUDIT)
        self.add("GET! /status/current", routes_guests.current, demands=_AUDIT)
        self.add("POST! /clone", clone, options.CLONE_QEMU if qemu else options.CLONE_LXC, None, need(_VM, "VM.Clone"))
        self.add(
            "DELETE! ", destroy, options.DESTROY_QEMU if qemu else options.DESTROY_LXC, None, need(_VM, "VM.Allocate")
        )
        self.add(
            "PUT! /config", put, options.PUT_QEMU if qemu else options.PUT_LXC, option,
            _QEMU_CONFIG if qemu else _LXC_CONFIG,
        )  # fmt: skip
        self.add(
            "PUT! /resize", resize, options.RESIZE_QEMU if qemu else options.RESIZE_LXC, None,
            need(_VM, "VM.Config.Disk"),
        )  # fmt: skip
        self.add("POST! /status/start", start, options.START_QEMU if qemu else options.START_LXC, None, _POWER)
        self.add("POST! /status/stop", stop, options.STOP_QEMU if qemu else options.STOP_LXC, None, _POWER)
        self.add(
            "POST! /status/shutdown", shutdown, options.SHUTDOWN_QEMU if qemu else options.SHUTDOWN_LXC, None, _POWER
        )
        if qemu:
            self.add("POST! /config", post, options.POST_QEMU, option, _QEMU_CONFIG)

    def snapshots(self) -> None:
        """Snapshots."""
        take = options.SNAPSHOT_QEMU if self.qemu else options.SNAPSHOT_LXC
        one = "/snapshot/{snapname}"
        self.add("GET! /snapshot", ops_snapshot.index, demands=_AUDIT)
        self.add("POST! /snapshot", ops_snapshot.take, take, None, _SNAPSHOT)
        self.add(f"GET {one}", ops_snapshot.commands)
        self.add(f"DELETE! {one}", ops_snapshot.delete, {"force": BOOLEAN}, None, _SNAPSHOT)
        self.add(f"GET {one}/config", ops_snapshot.get_config, demands=_SEE_SNAPSHOT)
        self.add(f"PUT! {one}/config", ops_snapshot.put_config, options.SNAPSHOT_CONFIG, None, _SNAPSHOT)
        self.add(f"POST! {one}/rollback", ops_snapshot.rollback, {"start": BOOLEAN}, None, _ROLLBACK)
        self.add("GET! /feature", ops_snapshot.feature, options.FEATURE, None, _AUDIT)

    def states(self) -> None:
        """Reboot, reset, suspend, resume, template."""
        self.add("POST! /status/reboot", ops_state.reboot, {"timeout": COUNT}, None, _POWER)
        if self.qemu:
            self.add("POST! /status/reset", ops_state.reset, {"skiplock": ROOT_ONLY}, None, _POWER)
        self.add(
            "POST! /status/suspend", ops_state.suspend, params.SUSPEND_QEMU if self.qemu else NO_PARAMS, None, _POWER
        )
        self.add("POST! /status/resume", ops_state.resume, params.RESUME_QEMU if self.qemu else NO_PARAMS, None, _POWER)
        disk = {"disk": options.RESIZE_QEMU["disk"]} if self.qemu else NO_PARAMS
        optional = {name: replace(param, required=False) for name, param in disk.items()}
        self.add("POST! /template", ops_state.template, optional, None, need(_VM, "VM.Allocate"))

    def moves(self) -> None:
        """Migration, and disks that move or go."""
        qemu = self.qemu
        migrate, disk = need(_VM, "VM.Migrate"), need(_VM, "VM.Config.Disk")
        self.add("GET /migrate", ops_migrate.preconditions, params.MIGRATE_TO, None, migrate)
        self.add(
            "POST! /migrate", ops_migrate.migrate, params.MIGRATE_QEMU if qemu else params.MIGRATE_LXC, None, migrate
        )
        if qemu:
            self.add("POST! /move_disk", ops_move.move, params.MOVE_QEMU, None, disk)
            self.add("PUT! /unlink", unlink, params.UNLINK, None, disk)
        else:
            self.add("POST! /move_volume", ops_move.move, params.MOVE_LXC, None, disk)


def _guest_routes(kind: str) -> list[Route]:
    table = _Table(kind)
    table.basic()
    table.snapshots()
    table.moves()
    table.states()
    return table.routes


GUEST_ROUTES: tuple[Route, ...] = (*_guest_routes("qemu"), *_guest_routes("lxc"))
