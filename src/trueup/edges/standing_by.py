"""What a command or an agent may do with a journal that another one leads."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from trueup.ports import JournalReader

if TYPE_CHECKING:
    from trueup.adapters.postgres.lease import Leader


class StandingBy(JournalReader, Protocol):
    """A journal that is not led from here, and a lease that is waited for."""

    async def leader(self) -> "Leader | None":
        """Who leads now; None = nobody. Raises JournalFailed."""
        ...

    async def chance_to_lead(self) -> "Leader | None":
        """Wait until the lease is free, has run out, or a while has passed. Returns who leads then; None = nobody."""
        ...

    def inbox_put(self, request: bytes, via: str) -> Awaitable[int]:
        """Hand a request to the leader; returns its number in the inbox. Raises BadInput or JournalFailed."""
        ...
