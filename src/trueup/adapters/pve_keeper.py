"""The keeper's work: it makes and deletes the agent user's incarnation tokens.

Rule kept here: a token counts as deleted on a node when that node itself no longer lists it. PVE does not pass
`/access` on to other nodes, so each node is asked at its own endpoint where one is known.
"""

from collections.abc import Sequence
from typing import Final

from trueup.adapters import pve_decode
from trueup.adapters.pve_api import PveApi, Read, quoted
from trueup.core import answers
from trueup.model.errors import ReadFailed, Refused, require
from trueup.model.ids import NodeName, TokenId
from trueup.model.pve import Call

_COMMENT: Final = "one run of trueup; deleted by the next"


class PveKeeper:
    """See `trueup.ports.Keeper`. `user` is the agent's user (`name@realm`), whose tokens it makes and deletes."""

    def __init__(self, *, api: PveApi, user: str) -> None:
        """Take the requests, made with the keeper's own token, and the agent's user; nothing is sent yet."""
        self._api = api
        self._user = user
        self._endpoint_of: dict[NodeName, str] = {}

    async def create(self, token: TokenId, *, send_by: float = 0.0) -> str:
        """Make the token, with all rights of its user, and return its secret. Raises NotSent, Refused or Unknown."""
        params = {"privsep": "0", "comment": _COMMENT}
        call = Call(method="POST", path=self._path(token), params=params, send_by=send_by)
        return await self._api.mutate(call, pve_decode.new_token)

    async def delete(self, token: TokenId, *, send_by: float = 0.0) -> None:
        """Delete it; "no such token" is success. Raises NotSent, Refused or Unknown."""
        try:
            call = Call(method="DELETE", path=self._path(token), send_by=send_by)
            await self._api.mutate(call, pve_decode.reply)
        except Refused as refused:
            if not answers.says_no_such_token(refused.status, refused.text):
                raise

    async def listed(self, node: NodeName) -> tuple[TokenId, ...]:
        """The user's tokens as this node sees them; without an endpoint known to be that node, as the entry does.

        Raises:
            ReadFailed: not known.
        """
        read = Read(path=f"/access/users/{quoted(self._user)}/token", endpoint=await self._endpoint(node))
        return await self._api.read(read, lambda body: pve_decode.tokens(body, self._user))

    async def _endpoint(self, node: NodeName) -> str:
        """The endpoint which is this node ('' = none known). With a single endpoint there is nothing to find out."""
        if len(self._api.endpoints) > 1 and node not in self._endpoint_of:
            await self._find(self._api.endpoints)
        return self._endpoint_of.get(node, "")

    async def _find(self, endpoints: Sequence[str]) -> None:
        """Ask each endpoint which node it is. One that does not tell stays unknown, and is asked again next time."""
        for endpoint in endpoints:
            if endpoint in self._endpoint_of.values():
                continue
            try:
                read = Read(path="/cluster/status", endpoint=endpoint)
                node = await self._api.read(read, pve_decode.local_node)
            except ReadFailed:
                continue
            if node is not None:
                self._endpoint_of[node] = endpoint

    def _path(self, token: TokenId) -> str:
        user, _, name = token.partition("!")
        require(user == self._user and name, f"{token} is no token of {self._user}")
        return f"/access/users/{quoted(user)}/token/{quoted(name)}"
