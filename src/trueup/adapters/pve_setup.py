"""Looking at a cluster as an operator does, and making the roles, users and tokens that trueup needs.

Rule kept here: what is needed stands in one table, which the check and the set-up share, so that neither can ask for
more than the other. A set-up only adds what is missing, and never takes anything from anybody.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from trueup.adapters import pve_decode, pve_http
from trueup.adapters.pve_api import OK, PveApi, Read, quoted, read_failed
from trueup.model.errors import ReadFailed
from trueup.model.ids import NodeName, TokenId
from trueup.model.limits import SLOTS_PER_NODE
from trueup.model.pve import Call
from trueup.ports import Clock


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """Privileges that the agent needs on a path, in a role of their own; `below`: on everything under it too."""

    path: str
    role: str
    privileges: tuple[str, ...]
    why: str
    below: bool = True


_SIGHT: Final = "TrueupSight"
RIGHTS: Final = (
    Right(
        path="/vms",
        role="TrueupGuests",
        privileges=(
            *("VM.Audit", "VM.Allocate", "VM.Clone", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Disk"),
            *("VM.Config.Network", "VM.Config.HWType", "VM.Config.Options", "VM.Config.CDROM", "VM.Config.Cloudinit"),
            *("VM.PowerMgmt", "VM.Migrate", "VM.Snapshot", "VM.Backup"),
        ),
        why="seeing, making and changing guests",
    ),
    Right(
        path="/storage",
        role="TrueupStorage",
        privileges=("Datastore.AllocateSpace", "Datastore.Audit"),
        why="disks, templates and backups",
    ),
    Right(path="/sdn/zones", role="TrueupNetwork", privileges=("SDN.Use",), why="bridges and virtual networks"),
    Right(path="/pool", role="TrueupPools", privileges=("Pool.Audit",), why="seeing which pool a guest is in"),
    Right(path="/nodes", role=_SIGHT, privileges=("Sys.Audit",), why="seeing all tasks of a node"),
    Right(path="/", role=_SIGHT, privileges=("Sys.Audit",), why="seeing quorum and nodes", below=False),
)
"""What a user of PVE needs to be the agent."""

POOL_RIGHT: Final = Right(
    path="/pool",
    role="TrueupPools",
    privileges=("Pool.Audit", "Pool.Allocate"),
    why="putting guests into the pools that manifests name",
)


def rights_for(*, pools: bool) -> tuple[Right, ...]:
    """What is needed where manifests name pools, or do not."""
    return tuple(POOL_RIGHT if pools and right.path == POOL_RIGHT.path else right for right in RIGHTS)


KEEPER_ROLE: Final = "TrueupKeeper"
AGENTS_GROUP: Final = "trueup-agents"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint that answered: PVE's version, the node behind it ('' = not told), and its clock in epoch seconds."""

    version: str
    node: NodeName = NodeName("")
    date_s: int = 0


class Inspector:
    """Reads what only a check-up asks for. Every call may raise ReadFailed."""

    def __init__(self, api: PveApi) -> None:
        """Ask through `api`."""
        self._api = api

    async def endpoint(self, url: str) -> Seen:
        """Ask one endpoint and no other: is it there, trusted, does it know the token, what does its clock say."""
        answer = await self._api.get(Read(path="/version", endpoint=url))
        version = pve_decode.version(answer.body)
        try:
            node = await self._api.read(Read(path="/cluster/status", endpoint=url), pve_decode.local_node)
        except ReadFailed:
            node = None
        return Seen(version=version, node=node or NodeName(""), date_s=answer.date_s)

    async def nodes(self) -> tuple[NodeName, ...]:
        """The nodes that are online."""
        rows = await self._api.read(Read(path="/nodes"), _data)
        return tuple(NodeName(str(row["node"])) for row in rows if row.get("status") == "online")

    async def node_clock(self, node: NodeName) -> int:
        """A node's clock in epoch seconds."""
        read = Read(path=f"/nodes/{quoted(node)}/time", node=node)
        return await self._api.read(read, lambda body: int(_data(body)["time"]))

    async def privileges(self, path: str) -> Mapping[str, bool]:
        """The token's privileges on a path, each with whether it is handed down."""
        read = Read(path="/access/permissions", params={"path": path})
        answer = await self._api.ask(read)
        if answer.status != OK:
            raise read_failed(read, answer)
        held: Mapping[str, Any] = _data(answer.body).get(path) or {}
        return {name: below in (1, "1", True) for name, below in held.items()}

    async def roles(self) -> Mapping[str, frozenset[str]]:
        """All roles with their privileges."""
        rows = await self._api.read(Read(path="/access/roles"), _data)
        return {row["roleid"]: frozenset(filter(None, str(row.get("privs") or "").split(","))) for row in rows}

    async def users(self) -> Mapping[str, frozenset[str]]:
        """The users that the token may see, each with the groups that they are in."""
        rows = await self._api.read(Read(path="/access/users", params={"full": "1"}), _data)
        return {row["userid"]: frozenset(filter(None, str(row.get("groups") or "").split(","))) for row in rows}

    async def grants(self) -> frozenset["Grant"]:
        """The entries of the access list for users, as far as the token may see them."""
        rows = await self._api.read(Read(path="/access/acl"), _data)
        return frozenset(
            Grant(path=row["path"], role=row["roleid"], user=row["ugid"], below=row["propagate"] in (1, "1", True))
            for row in rows
            if row["type"] == "user"
        )

    async def groups(self) -> frozenset[str]:
        """The groups that the token may see."""
        return frozenset(row["groupid"] for row in await self._api.read(Read(path="/access/groups"), _data))

    async def tokens(self, user: str) -> frozenset[TokenId]:
        """A user's tokens."""
        read = Read(path=f"/access/users/{quoted(user)}/token")
        return frozenset(await self._api.read(read, lambda body: pve_decode.tokens(body, user)))

    async def do(self, step: "Step") -> str:
        """Make one change. Raises NotSent, Refused or Unknown; the answer is a new token's secret, else ''."""
        call = Call(method=step.method, path=step.path, params=step.params)
        if step.makes_secret:
            return await self._api.mutate(call, pve_decode.new_token)
        await self._api.mutate(call, pve_decode.reply)
        return ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the set-up, and the same as a command on a node."""

    method: str
    path: str
    params: Mapping[str, str]
    command: str
    makes_secret: str = ""
    """Whose secret PVE answers with: `agent`, `keeper`, or '' for none."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the access list: a user has a role on a path, and `below` it."""

    path: str
    role: str
    user: str
    below: bool


class There(msgspec.Struct, frozen=True, kw_only=True):
    """What is there already."""

    roles: Mapping[str, frozenset[str]] = {}
    users: Mapping[str, frozenset[str]] = {}
    grants: frozenset[Grant] = frozenset()
    groups: frozenset[str] = frozenset()
    tokens: frozenset[TokenId] = frozenset()


async def there(inspector: Inspector, users: Sequence[str]) -> There:
    """Read what there is. Raises ReadFailed."""
    known = await inspector.users()
    tokens: set[TokenId] = set()
    for user in users:
        if user in known:
            tokens |= await inspector.tokens(user)
    try:
        groups = await inspector.groups()
    except ReadFailed:
        groups = frozenset[str]()
    try:
        grants = await inspector.grants()
    except ReadFailed:
        grants = frozenset[Grant]()
    return There(roles=await inspector.roles(), users=known, grants=grants, groups=groups, tokens=frozenset(tokens))


def role_step(role: str, privileges: Sequence[str], roles: Mapping[str, frozenset[str]]) -> Step | None:
    """Make a role, or give it what it lacks."""
    privs = " ".join(privileges)
    if role not in roles:
        params = {"roleid": role, "privs": ",".join(privileges)}
        return Step(
            method="POST", path="/access/roles", params=params, command=f'pveum role add {role} --privs "{privs}"'
        )
    if set(privileges) <= roles[role]:
        return None
    params = {"privs": ",".join(privileges), "append": "1"}
    command = f'pveum role modify {role} --append 1 --privs "{privs}"'
    return Step(method="PUT", path=f"/access/roles/{quoted(role)}", params=params, command=command)


def acl_step(path: str, role: str, user: str, *, below: bool) -> Step:
    """Give a user a role on a path; once more does no harm."""
    params = {"path": path, "roles": role, "users": user, "propagate": str(int(below))}
    command = f"pveum acl modify {path} --users {user} --roles {role}{'' if below else ' --propagate 0'}"
    return Step(method="PUT", path="/access/acl", params=params, command=command)


def _granting(grants: Sequence[Grant], known: There) -> list[Step]:
    """Those that are not there yet, or cannot be seen."""
    missing = [grant for grant in grants if grant not in known.grants]
    return [acl_step(grant.path, grant.role, grant.user, below=grant.below) for grant in missing]


def user_step(user: str, comment: str) -> Step:
    """Make a user without a password: it can only come in by a token."""
    params = {"userid": user, "comment": comment}
    return Step(method="POST", path="/access/users", params=params, command=f"pveum user add {user}")


def token_step(token: TokenId, whose: str) -> Step:
    """Make a token with all rights of its user; its secret is in the answer, this once."""
    user, _, name = token.partition("!")
    command = f"pveum user token add {user} {name} --privsep 0"
    path = f"/access/users/{quoted(user)}/token/{quoted(name)}"
    return Step(method="POST", path=path, params={"privsep": "0"}, command=command, makes_secret=whose)


def agent_steps(user: str, token: TokenId | None, known: There, rights: Sequence[Right]) -> tuple[Step, ...]:
    """What the agent's user lacks; without `token`, a keeper makes its tokens."""
    steps: list[Step] = []
    wanted: dict[str, tuple[str, ...]] = {right.role: right.privileges for right in rights}
    for role, privileges in wanted.items():
        step = role_step(role, privileges, known.roles)
        steps += [step] if step else []
    if user not in known.users:
        steps.append(user_step(user, "trueup: keeps guests at their manifests"))
    grants = [Grant(path=right.path, role=right.role, user=user, below=right.below) for right in rights]
    steps += _granting(grants, known)
    if token is not None and token not in known.tokens:
        steps.append(token_step(token, "agent"))
    return tuple(steps)


def keeper_steps(user: str, token: TokenId, known: There) -> tuple[Step, ...]:
    """What the keeper of `user`'s tokens lacks: a group with that user alone, and the right to modify it."""
    keeper = token.partition("!")[0]
    role = role_step(KEEPER_ROLE, ("User.Modify",), known.roles)
    steps: list[Step] = [role] if role else []
    if AGENTS_GROUP not in known.groups:
        command = f"pveum group add {AGENTS_GROUP}"
        steps.append(Step(method="POST", path="/access/groups", params={"groupid": AGENTS_GROUP}, command=command))
    if AGENTS_GROUP not in known.users.get(user, frozenset()):
        command = f"pveum user modify {user} --groups {AGENTS_GROUP} --append 1"
        params = {"groups": AGENTS_GROUP, "append": "1"}
        steps.append(Step(method="PUT", path=f"/access/users/{quoted(user)}", params=params, command=command))
    if keeper not in known.users:
        steps.append(user_step(keeper, "trueup: makes and deletes the agent's tokens"))
    group = Grant(path=f"/access/groups/{AGENTS_GROUP}", role=KEEPER_ROLE, user=keeper, below=True)
    steps += _granting((group, Grant(path="/", role=_SIGHT, user=keeper, below=False)), known)
    if token not in known.tokens:
        steps.append(token_step(token, "keeper"))
    return tuple(steps)


@asynccontextmanager
async def connect_inspector(login: pve_http.Login, clock: Clock) -> AsyncGenerator[Inspector]:
    """Connect; nothing is sent yet. Raises BadInput."""
    async with pve_http.connect_api(login, clock, SLOTS_PER_NODE) as api:
        yield Inspector(api)


def _data(body: bytes) -> Any:
    return msgspec.json.decode(body)["data"]
