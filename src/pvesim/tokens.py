"""API tokens: who a request comes from and what it may do.

Rule kept here: a token is looked up anew at every hop, so a request that is stuck somewhere is refused
once its token is gone. A node without quorum goes on with the tokens it knew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.properties import new_uuid
from pvesim.wire import ApiError, Json, died, forbidden

_HEADER = re.compile(r"^PVEAPIToken[= ](?P<user>[^@!=\s]+@[^@!=\s]+)!(?P<id>[A-Za-z][A-Za-z0-9._-]+)=(?P<secret>\S+)$")
ALL_PRIVILEGES = (
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit",
    "Group.Allocate", "Mapping.Audit", "Permissions.Modify", "Pool.Allocate", "Pool.Audit", "Realm.AllocateUser",
    "SDN.Audit", "SDN.Use", "Sys.Audit", "Sys.Console", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog",
    "User.Modify", "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU",
    "VM.Config.Cloudinit", "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network",
    "VM.Config.Options", "VM.Console", "VM.Migrate", "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Token:
    """One token; `privileges` None means everything its user may do."""

    user: str
    tokenid: str
    secret: str
    privsep: bool = False
    privileges: frozenset[str] | None = None
    expire: int = 0
    comment: str | None = None

    @property
    def full_id(self) -> str:
        """`user@realm!tokenid`."""
        return f"{self.user}!{self.tokenid}"

    def row(self) -> dict[str, Json]:
        """The token as the API shows it."""
        row: dict[str, Json] = {"tokenid": self.tokenid, "privsep": int(self.privsep), "expire": self.expire}
        if self.comment is not None:
            row["comment"] = self.comment
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whoever made a request."""

    user: str
    tokenid: str
    privileges: frozenset[str] | None

    @property
    def full_id(self) -> str:
        """`user@realm!tokenid`."""
        return f"{self.user}!{self.tokenid}"

    def may(self, *privileges: str) -> bool:
        """Whether it has one of the privileges."""
        return self.privileges is None or any(p in self.privileges for p in privileges)

    def need(self, path: str, *privileges: str) -> None:
        """PVE's refusal where it has none of them."""
        if not self.may(*privileges):
            raise forbidden(f" ({path}, {'|'.join(privileges)})")

    def owns(self, user: str) -> bool:
        """Whether a task of `user` (`u@r` or `u@r!token`) is its own."""
        return user == self.full_id


def refused(text: str) -> ApiError:
    """401: no body at all."""
    return ApiError(401, text, body=False)


def identify(known: Mapping[str, Token], authorization: str | None, clock: float) -> Identity:
    """Who sent this, as a node that knows these tokens sees it; raises 401."""
    if authorization is None:
        raise refused("No ticket")
    parsed = _HEADER.match(authorization)
    token = known.get(f"{parsed['user']}!{parsed['id']}") if parsed is not None else None
    if parsed is None or token is None or token.secret != parsed["secret"]:
        raise refused("Authentication failed!")
    if token.expire and token.expire <= clock:
        raise refused("token '" + token.full_id + "' access expired")
    return Identity(user=token.user, tokenid=token.tokenid, privileges=token.privileges)


@dataclass(slots=True)
class TokenBook:
    """The tokens of the cluster, by full id; `privileges` has the users who may not do everything."""

    tokens: dict[str, Token] = field(default_factory=dict[str, Token])
    users: set[str] = field(default_factory=lambda: {"root@pam"})
    privileges: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def add(self, token: Token) -> None:
        """Put a token in, its user with it."""
        self.users.add(token.user)
        self.tokens[token.full_id] = token

    def need_user(self, user: str) -> None:
        """PVE's error for a user that is not there."""
        if user not in self.users:
            raise died(f"no such user ('{user}')")

    def need(self, user: str, tokenid: str) -> Token:
        """A token that must exist."""
        found = self.tokens.get(f"{user}!{tokenid}")
        if found is None:
            raise died(f"no such token '{tokenid}' for user '{user}'")
        return found

    def of_user(self, user: str) -> list[Token]:
        """The tokens of one user."""
        return [token for token in self.tokens.values() if token.user == user]


def make_token(book: TokenBook, name: tuple[str, str], params: Mapping[str, str], rng: random.Random) -> Token:
    """A token as POST asks for it; with privsep=1 (the default) it has no rights of its own yet."""
    user, tokenid = name
    privsep = params.get("privsep", "1") == "1"
    return Token(
        user=user,
        tokenid=tokenid,
        secret=new_uuid(rng),
        privsep=privsep,
        privileges=frozenset() if privsep else book.privileges.get(user),
        expire=int(params.get("expire", "0")),
        comment=params.get("comment"),
    )
