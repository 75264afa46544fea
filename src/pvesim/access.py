"""Who may do what: roles, entries of the access list, pools.

Rule kept here: rights are worked out anew for every question from the entries along the path, as PVE does: the
deepest entry that applies replaces what was inherited, a token's own entry comes before its user's and a user's
before that of his groups, NoAccess beats everything, and a privilege-separated token has what both have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pvesim.wire import ApiError, Json, died, forbidden

ROOT = "root@pam"
_GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "VM": {
        "admin": (
            "VM.Config.Disk", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.HWType",
            "VM.Config.Options", "VM.Allocate", "VM.Clone", "VM.GuestAgent.Unrestricted", "VM.Migrate",
            "VM.Replicate", "VM.Snapshot", "VM.Snapshot.Rollback",
        ),
        "user": (
            "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.Backup", "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite", "VM.PowerMgmt",
        ),
        "audit": ("VM.Audit", "VM.GuestAgent.Audit"),
    },
    "Sys": {
        "root": ("Sys.PowerMgmt", "Sys.Modify", "Sys.Incoming", "Sys.AccessNetwork"),
        "admin": ("Sys.Console", "Sys.Syslog"),
        "audit": ("Sys.Audit",),
    },
    "Datastore": {
        "admin": ("Datastore.Allocate", "Datastore.AllocateTemplate"),
        "user": ("Datastore.AllocateSpace",),
        "audit": ("Datastore.Audit",),
    },
    "SDN": {"admin": ("SDN.Allocate", "SDN.Audit"), "user": ("SDN.Use",), "audit": ("SDN.Audit",)},
    "User": {"root": ("Realm.Allocate",), "admin": ("User.Modify", "Group.Allocate", "Realm.AllocateUser")},
    "Pool": {"admin": ("Pool.Allocate",), "user": ("Pool.Audit",), "audit": ("Pool.Audit",)},
    "Mapping": {"admin": ("Mapping.Modify",), "user": ("Mapping.Use",), "audit": ("Mapping.Audit",)},
}  # fmt: skip
_PATH = re.compile(
    r"^(/|/access(/(groups|realm)(/[\w.-]+)?)?|/nodes(/[\w.-]+)?|/pool(/[\w.-]+){0,3}|/sdn(/.+)?|/storage(/[\w.-]+)?"
    r"|/vms(/[1-9]\d{2,})?|/mapping(/[\w.-]+){0,2})$"
)
ALWAYS_SHOWN = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")


def _builtin() -> dict[str, frozenset[str]]:
    """The roles that PVE brings."""
    roles: dict[str, set[str]] = {"PVEAdmin": set(), "PVEAuditor": set(), "Administrator": {"Permissions.Modify"}}
    for category, levels in _GROUPS.items():
        usual = [*levels.get("admin", ()), *levels.get("user", ()), *levels.get("audit", ())]
        roles["Administrator"].update(usual, levels.get("root", ()))
        roles[f"PVE{category}Admin"] = set(usual)
        roles["PVEAdmin"].update(usual)
        if "user" in levels:
            roles[f"PVE{category}User"] = {*levels["user"], *levels.get("audit", ())}
        roles["PVEAuditor"].update(levels.get("audit", ()))
    roles["PVEAdmin"].discard("Mapping.Modify")
    roles["PVETemplateUser"] = {"VM.Clone", "VM.Audit"}
    roles["NoAccess"] = set()
    return {name: frozenset(privileges) for name, privileges in roles.items()}


BUILTIN = _builtin()
ALL_PRIVILEGES = tuple(sorted(BUILTIN["Administrator"]))


@dataclass(slots=True, kw_only=True)
class User:
    """One user."""

    enable: bool = True
    expire: int = 0
    comment: str | None = None
    groups: list[str] = field(default_factory=list[str])
    more: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True, kw_only=True)
class Pool:
    """One resource pool."""

    comment: str | None = None
    vms: set[int] = field(default_factory=set[int])
    storages: set[str] = field(default_factory=set[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whom an entry is for: `user`, `group` or `token`, and its name."""

    kind: str
    name: str


@dataclass(slots=True)
class Access:
    """Roles, users, entries and pools; `unlimited` users may do everything without an entry."""

    roles: dict[str, frozenset[str]] = field(default_factory=lambda: dict(BUILTIN))
    users: dict[str, User] = field(default_factory=lambda: {ROOT: User()})
    entries: dict[str, dict[Holder, dict[str, int]]] = field(default_factory=dict[str, dict[Holder, dict[str, int]]])
    pools: dict[str, Pool] = field(default_factory=dict[str, Pool])
    groups: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    unlimited: set[str] = field(default_factory=lambda: {ROOT})

    def members(self, group: str) -> list[str]:
        """The users of a group, sorted."""
        return sorted(name for name, user in self.users.items() if group in user.groups)

    def need_group(self, group: str) -> None:
        """A group that must exist."""
        if group not in self.groups:
            raise died(f"group '{group}' does not exist")

    def grant(self, path: str, holder: Holder, role: str, *, propagate: int) -> None:
        """One entry."""
        self.entries.setdefault(path, {}).setdefault(holder, {})[role] = propagate

    def revoke(self, path: str, holder: Holder, role: str) -> None:
        """No longer."""
        held = self.entries.get(path, {}).get(holder, {})
        held.pop(role, None)
        if not held:
            self.entries.get(path, {}).pop(holder, None)

    def forget(self, holder: Holder) -> None:
        """All entries of one holder go."""
        for held in self.entries.values():
            held.pop(holder, None)

    def forget_guest(self, vmid: int) -> None:
        """A destroyed guest loses its entries and its pool."""
        self.entries.pop(f"/vms/{vmid}", None)
        for pool in self.pools.values():
            pool.vms.discard(vmid)

    def pool_of(self, vmid: int) -> str | None:
        """The pool of a guest."""
        return next((name for name, pool in self.pools.items() if vmid in pool.vms), None)

    def need_pool(self, name: str) -> Pool:
        """A pool that a create names."""
        if name not in self.pools:
            raise ApiError(403, f"Permission check failed (pool '{name}' does not exist)\n")
        return self.pools[name]

    def put_in_pool(self, vmid: int, name: str | None) -> None:
        """A new guest enters its pool."""
        if name is not None and name in self.pools:
            for pool in self.pools.values():
                pool.vms.discard(vmid)
            self.pools[name].vms.add(vmid)

    def _roles(self, holders: list[Holder], groups: list[Holder], path: str) -> dict[str, int]:
        found: dict[str, int] = {}
        steps = [
            "/",
            *("/" + "/".join(path.strip("/").split("/")[: n + 1]) for n in range(path.strip("/").count("/") + 1)),
        ]
        wanted = list(dict.fromkeys(steps)) if path != "/" else ["/"]
        for step in wanted:
            held = self.entries.get(step, {})
            for candidates in (*([holder] for holder in holders), groups):
                new = {
                    role: propagate
                    for holder in candidates
                    for role, propagate in held.get(holder, {}).items()
                    if propagate or step == path
                }
                if new:
                    found = new
                    break
        return {"NoAccess": found["NoAccess"]} if "NoAccess" in found else found

    def _with_pools(self, holders: list[Holder], groups: list[Holder], path: str) -> dict[str, int]:
        roles = self._roles(holders, groups, path)
        for name, pool in self.pools.items():
            kind, _, rest = path.strip("/").partition("/")
            member = (kind == "vms" and rest.isdigit() and int(rest) in pool.vms) or (
                kind == "storage" and rest in pool.storages
            )
            if not member or "NoAccess" in roles:
                continue
            given = self._roles(holders, groups, f"/pool/{name}")
            roles = {"NoAccess": 0} if "NoAccess" in given else dict.fromkeys(given, 0) | roles
        return roles

    def _compiled(self, holders: list[Holder], groups: list[Holder], path: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for role, propagate in self._with_pools(holders, groups, path).items():
            for privilege in self.roles.get(role, ()):
                found[privilege] = found.get(privilege, 0) or propagate
        return found

    def of_user(self, user: str, path: str) -> dict[str, int]:
        """A user's privileges on a path, each with whether it propagates."""
        if user in self.unlimited:
            return dict.fromkeys(ALL_PRIVILEGES, 1)
        known = self.users.get(user)
        groups = [Holder(kind="group", name=name) for name in (known.groups if known is not None else [])]
        return self._compiled([Holder(kind="user", name=user)], groups, path)

    def of_token(self, user: str, tokenid: str, path: str, *, privsep: bool) -> dict[str, int]:
        """A token's privileges on a path."""
        whole = self.of_user(user, path)
        if not privsep:
            return whole
        own = self._compiled([Holder(kind="token", name=f"{user}!{tokenid}")], [], path)
        return {name: own[name] and whole[name] for name in own if name in whole}

    def listed_paths(self) -> Iterable[str]:
        """The paths that the listing of somebody's permissions goes through."""
        paths = dict.fromkeys([*ALWAYS_SHOWN, *(path for path, held in self.entries.items() if held)])
        for pool in self.pools.values():
            paths |= dict.fromkeys([*(f"/vms/{v}" for v in pool.vms), *(f"/storage/{s}" for s in pool.storages)])
        return paths

    def need_role(self, name: str) -> frozenset[str]:
        """A role that must exist."""
        if name not in self.roles:
            raise died(f"role '{name}' does not exist")
        return self.roles[name]


def is_path(path: str) -> bool:
    """Whether an entry may be made for it."""
    return _PATH.match(path) is not None


def normalized(path: str) -> str:
    """An access path without doubled or trailing slashes."""
    return re.sub(r"/+", "/", "/" + path).rstrip("/") or "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whoever made a request."""

    user: str
    tokenid: str
    privsep: bool
    access: Access

    @property
    def full_id(self) -> str:
        """`user@realm!tokenid`."""
        return f"{self.user}!{self.tokenid}"

    def granted(self, path: str) -> dict[str, int]:
        """Its privileges on a path."""
        return self.access.of_token(self.user, self.tokenid, path, privsep=self.privsep)

    def may(self, *privileges: str, path: str) -> bool:
        """Whether it has one of the privileges there."""
        if not self.privsep and self.user in self.access.unlimited:
            return True
        granted = self.granted(path)
        return any(privilege in granted for privilege in privileges)

    def need(self, path: str, *privileges: str) -> None:
        """PVE's refusal where it has none of them."""
        if not self.may(*privileges, path=path):
            raise forbidden(f" ({path}, {'|'.join(privileges)})")

    def need_guest(self, vmid: int, pool: str | None, *privileges: str) -> None:
        """The same for a guest that is going to be in a pool: the pool's rights do as well."""
        if pool is None or not self.may(*privileges, path=f"/pool/{pool}"):
            self.need(f"/vms/{vmid}", *privileges)

    def may_for_user(self, user: str, *privileges: str) -> bool:
        """Whether it has one of the privileges on all groups, or on one that the user is in (`userid-group`)."""
        known = self.access.users.get(user, User())
        paths = ("/access/groups", *(f"/access/groups/{group}" for group in known.groups))
        return any(self.may(*privileges, path=path) for path in paths)

    def owns(self, user: str) -> bool:
        """Whether a task of `user` (`u@r` or `u@r!token`) is its own."""
        return user == self.full_id


def role_row(name: str, privileges: Iterable[str]) -> dict[str, Json]:
    """One row of GET /access/roles."""
    return {"roleid": name, "privs": ",".join(sorted(privileges)), "special": int(name in BUILTIN)}
