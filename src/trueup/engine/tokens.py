"""Incarnation tokens: each epoch works with an API token of its own, and recovery kills those of the epochs before.

A request of a dead agent that is stuck before PVE's token check then gets 401, wherever it is stuck. It does not stop
a request past that check, so it adds to the other fences. A token's name is journaled before it is made; its secret is
only in memory. A keeper that fails leaves recovery open; it never falls back to time in silence.
"""

from trueup.core import dead_tokens, rolled_back
from trueup.engine.deck import Deck
from trueup.model.errors import NotSent, PveError, ReadFailed, Refused, TrueupError, Unknown
from trueup.model.ids import Epoch, NodeName, OpId, TokenId
from trueup.model.notes import What
from trueup.model.ops import TokenRetired
from trueup.ports import Keeper

_CHECK = "check the keeper's token and its User.Modify right: `trueup doctor` names what is missing"


class KeeperFailed(TrueupError):
    """The keeper could not make or delete a token."""


def token_name(user: str, prefix: str, epoch: Epoch) -> TokenId:
    """The name of an epoch's token."""
    return TokenId(f"{user}!{prefix}{epoch}")


async def make(keeper: Keeper, token: TokenId, *, there: bool) -> str:
    """Make an epoch's token and return its secret; one that is `there` already goes first.

    Raises:
        KeeperFailed: it could not be made.
    """
    try:
        if there:
            await keeper.delete(token)
        return await keeper.create(token)
    except PveError as error:
        raise _not_made(token, error) from error


async def there_already(keeper: Keeper, token: TokenId) -> tuple[TokenId, ...]:
    """All tokens of the agent's user. Raises KeeperFailed, since `token` could not be made either."""
    try:
        return await keeper.listed(NodeName(""))
    except ReadFailed as error:
        raise _not_made(token, error) from error


def _not_made(token: TokenId, error: TrueupError) -> KeeperFailed:
    return KeeperFailed(what=f"the token {token} of this epoch could not be made: {error.what}", remedy=_CHECK)


class Tokens:
    """Retires the tokens of earlier epochs."""

    def __init__(self, deck: Deck, keeper: Keeper) -> None:
        """Delete through `keeper`, record in the deck's journal."""
        self._deck = deck
        self._keeper = keeper

    async def retire(self) -> tuple[TokenId, ...]:
        """Delete every earlier token, and record those that all quorate nodes no longer know.

        Never one that was planned in this epoch or a later one: whoever stood still may read of its successor's.
        While the journal is in doubt, tokens of epochs that it has not reached stay: somebody may work with them.

        Raises:
            KeeperFailed: a token could not be deleted or looked for; recovery must not judge by it.
            JournalFailed: this agent does not lead any more; nothing was sent after its lease.
        """
        planned, retired = await self._deck.journal.tokens()
        own, epoch = self._deck.pve.token, self._deck.epoch
        earlier = dead_tokens.of_earlier_epochs(await self._deck.journal.records(op_id=OpId("")), epoch)
        old = sorted((planned & earlier) - retired - {own})
        if await self._deck.journal.doubts():
            later = rolled_back.later_epochs(old, own.removesuffix(str(epoch)), epoch)
            old = [token for token in old if token not in later]
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
                remedy=_CHECK,
            ) from error

    async def _forgotten(self, token: TokenId, nodes: list[NodeName]) -> bool:
        for node in nodes:
            if token in await self._keeper.listed(node):
                return False
        return True
