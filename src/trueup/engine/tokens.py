"""Incarnation tokens: each epoch works with an API token of its own, and recovery kills those of the epochs before.

A request of a dead agent that is stuck before PVE's token check then gets 401, wherever it is stuck. It does not stop
a request past that check, so it adds to the other fences. A token's name is journaled before it is made; its secret is
only in memory. A keeper that fails leaves recovery open; it never falls back to time in silence.
"""

from trueup.engine.deck import Deck
from trueup.model.errors import NotSent, Refused, TrueupError, Unknown
from trueup.model.ids import Epoch, NodeName, TokenId
from trueup.model.notes import What
from trueup.model.ops import TokenRetired
from trueup.ports import Keeper


class KeeperFailed(TrueupError):
    """The keeper could not make or delete a token."""


def token_name(user: str, prefix: str, epoch: Epoch) -> TokenId:
    """The name of an epoch's token."""
    return TokenId(f"{user}!{prefix}{epoch}")


class Tokens:
    """Retires the tokens of earlier epochs."""

    def __init__(self, deck: Deck, keeper: Keeper) -> None:
        """Delete through `keeper`, record in the deck's journal."""
        self._deck = deck
        self._keeper = keeper

    async def retire(self) -> tuple[TokenId, ...]:
        """Delete every earlier token, and record those that all quorate nodes no longer know.

        Raises:
            KeeperFailed: a token could not be deleted or looked for; recovery must not judge by it.
        """
        planned, retired = await self._deck.journal.tokens()
        old = sorted(planned - retired - {self._deck.pve.token})
        for token in old:
            await self._delete(token)
        cluster = await self._deck.pve.cluster()
        nodes = [node.name for node in cluster.nodes if node.online]
        if not cluster.quorate or len(nodes) < len(cluster.nodes):
            return ()  # a node that was away may still know the token
        gone = [token for token in old if await self._forgotten(token, nodes)]
        for token in gone:
            await self._deck.record("", TokenRetired(token=token, nodes=tuple(nodes)))
            self._deck.tell(What.FENCE_RAISED, f"API token {token} of an earlier epoch is deleted")
        return tuple(gone)

    async def _delete(self, token: TokenId) -> None:
        try:
            await self._keeper.delete(token)
        except (NotSent, Refused, Unknown) as error:
            raise KeeperFailed(
                what=f"the token {token} of an earlier epoch could not be deleted: {error.what}",
                remedy="check the keeper's token and its User.Modify right",
            ) from error

    async def _forgotten(self, token: TokenId, nodes: list[NodeName]) -> bool:
        for node in nodes:
            if token in await self._keeper.listed(node):
                return False
        return True
