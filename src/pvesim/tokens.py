"""API tokens: who a request comes from.

Rule kept here: a token is looked up anew at every hop, so a request that is stuck somewhere is refused
once its token is gone. A node without quorum goes on with the tokens it knew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.access import ALL_PRIVILEGES, Access, Identity, User
from pvesim.properties import new_uuid
from pvesim.wire import ApiError, Json, died

__all__ = ["ALL_PRIVILEGES", "Identity", "Token", "TokenBook", "identify", "make_token", "refused"]

_HEADER = re.compile(r"^PVEAPIToken[= ](?P<user>[^@!=\s]+@[^@!=\s]+)!(?P<id>[A-Za-z][A-Za-z0-9._-]+)=(?P<secret>\S+)$")


@dataclass(slots=True, kw_only=True)
class Token:
    """One token; with `privsep` it needs entries of its own."""

    user: str
    tokenid: str
    secret: str
    privsep: bool = False
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


def refused(text: str) -> ApiError:
    """401: no body at all."""
    return ApiError(401, text, body=False)


def identify(access: Access, known: Mapping[str, Token], authorization: str | None, clock: float) -> Identity:
    """Who sent this, as a node that knows these tokens sees it; raises 401."""
    if authorization is None:
        raise refused("No ticket")
    parsed = _HEADER.match(authorization)
    token = known.get(f"{parsed['user']}!{parsed['id']}") if parsed is not None else None
    if parsed is None or token is None or token.secret != parsed["secret"]:
        raise refused("Authentication failed!")
    user = access.users.get(token.user, User())
    if not user.enable or (user.expire and user.expire <= clock):
        raise refused(f"user '{token.user}' {'is disabled' if not user.enable else 'access expired'}")
    if token.expire and token.expire <= clock:
        raise refused("token '" + token.full_id + "' access expired")
    return Identity(user=token.user, tokenid=token.tokenid, privsep=token.privsep, access=access)


@dataclass(slots=True)
class TokenBook:
    """The tokens of the cluster, by full id, with the rights of their users."""

    tokens: dict[str, Token] = field(default_factory=dict[str, Token])
    access: Access = field(default_factory=Access)

    def add(self, token: Token) -> None:
        """Put a token in, its user with it."""
        self.access.users.setdefault(token.user, User())
        self.tokens[token.full_id] = token

    def need_user(self, user: str) -> None:
        """PVE's error for a user that is not there."""
        if user not in self.access.users:
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


def make_token(name: tuple[str, str], params: Mapping[str, str], rng: random.Random) -> Token:
    """A token as POST asks for it; with privsep=1 (the default) it has no rights of its own yet."""
    user, tokenid = name
    return Token(
        user=user,
        tokenid=tokenid,
        secret=new_uuid(rng),
        privsep=params.get("privsep", "1") == "1",
        expire=int(params.get("expire", "0")),
        comment=params.get("comment"),
    )
