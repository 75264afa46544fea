"""Requests that reached an agent which does not lead. No epoch, no chain, no verdict: only the leader verifies them.

Nothing here is trusted by anybody: a row counts for what the leader makes of its bytes.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from trueup.adapters.postgres.server import Connection
from trueup.model import limits
from trueup.model.errors import BadInput

TAKEN_AT_ONCE: Final = 100
CHANNEL: Final = "trueup_inbox"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came, and how: http, spool, stdin or command."""

    id: int
    via: str
    request: bytes


async def put(connection: Connection, journal: int, request: bytes, via: str) -> int:
    """Put a request into the inbox, and tell the leader. Returns its number.

    Raises:
        BadInput: it is too large, or the inbox is full.
    """
    if len(request) > limits.REQUEST_MAX_BYTES:
        raise BadInput(what=f"the request has {len(request)} bytes; {limits.REQUEST_MAX_BYTES} are taken")
    full = await connection.fetchval(
        "SELECT count(*) >= $2 FROM (SELECT 1 FROM trueup.inbox WHERE journal = $1 LIMIT $2) AS there",
        journal,
        limits.INBOX_MAX,
    )
    if full:
        what = f"{limits.INBOX_MAX} requests wait for a leader already"
        raise BadInput(what=what, remedy="see that an agent leads, then submit it again")
    number = await connection.fetchval(
        "INSERT INTO trueup.inbox (journal, via, request) VALUES ($1, $2, $3) RETURNING id", journal, via, request
    )
    await connection.execute(f"NOTIFY {CHANNEL}")
    return int(number)


async def waiting(connection: Connection, journal: int, after: int) -> tuple[Waiting, ...]:
    """The oldest requests behind this number, so many as are taken at once; they stay."""
    rows = await connection.fetch(
        "SELECT id, via, request FROM trueup.inbox WHERE journal = $1 AND id > $2 ORDER BY id LIMIT $3",
        journal,
        after,
        TAKEN_AT_ONCE,
    )
    return tuple(Waiting(id=int(row["id"]), via=str(row["via"]), request=bytes(row["request"])) for row in rows)


async def remove(connection: Connection, journal: int, ids: Sequence[int]) -> None:
    """Take these out; those that are gone already do no harm."""
    await connection.execute("DELETE FROM trueup.inbox WHERE journal = $1 AND id = ANY($2)", journal, list(ids))
