"""The gate's derived tables in PostgreSQL: requests, and what each of them has claimed.

The rules are those of `adapters.sqlite.gate_tables`.

Like `tables`, of which it is a part: written in the transaction of the records, never ahead of them or behind.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from trueup.adapters.journal_standing import Claim, PlacedRequest, Standings
from trueup.adapters.postgres.names import name, text
from trueup.adapters.postgres.server import Connection
from trueup.adapters.sqlite import gate_tables as rules
from trueup.model.errors import Corrupt
from trueup.model.gate import RequestState, RequestView
from trueup.model.ids import OpId, Vmid

_CLAIM: Final = "SELECT op_id, nonce, idempotency_key, held, started_at_ms FROM trueup.claims WHERE journal = $1"
_REQUEST_OF_CLAIM: Final = (
    "SELECT r.view FROM trueup.claims c JOIN trueup.requests r ON (r.journal, r.request_id) = (c.journal, c.op_id)"
    " WHERE c.journal = $1"
)


# --- Writing: inside a transaction of the caller; each raises asyncpg's errors ----------------------------------------


async def derive(connection: Connection, journal: int, standings: Standings) -> None:
    """Bring the tables up to date with what stands now."""
    requests_ = [rules.request_row(placed) for placed in standings.requests.values()]
    if requests_:
        await connection.executemany(
            "INSERT INTO trueup.requests (journal, first_seq, request_id, state, view) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (journal, first_seq) DO UPDATE SET state = excluded.state, view = excluded.view",
            [(journal, first_seq, name(request_id), state, view) for first_seq, request_id, state, view in requests_],
        )
    claims = [rules.claim_row(claim) for claim in standings.claims.values()]
    if claims:
        await connection.executemany(
            "INSERT INTO trueup.claims (journal, op_id, nonce, idempotency_key, held, started_at_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (journal, op_id)"
            " DO UPDATE SET held = excluded.held, started_at_ms = excluded.started_at_ms",
            [(journal, name(op_id), name(nonce), name(key), held, at) for op_id, nonce, key, held, at in claims],
        )


async def note_instant(connection: Connection, journal: int, at_ms: int) -> None:
    """Raise the newest instant to this one, if it is newer."""
    await connection.execute(
        "INSERT INTO trueup.newest AS n VALUES ($1, 1, $2)"
        " ON CONFLICT (journal) DO UPDATE SET at_ms = greatest(n.at_ms, excluded.at_ms)",
        journal,
        at_ms,
    )


# --- Asking: each raises asyncpg's errors, or Corrupt for a row that cannot be read -----------------------------------


async def placed(connection: Connection, journal: int, ids: Iterable[OpId]) -> dict[OpId, PlacedRequest]:
    """Those of these requests that are in the journal."""
    rows = await connection.fetch(
        "SELECT first_seq, view FROM trueup.requests WHERE journal = $1 AND request_id = ANY($2)",
        journal,
        [name(each) for each in ids],
    )
    views = [(int(row["first_seq"]), rules.view_of(row["view"])) for row in rows]
    return {view.request_id: PlacedRequest(first_seq=first_seq, view=view) for first_seq, view in views}


async def claims_of(connection: Connection, journal: int, ids: Iterable[OpId]) -> dict[OpId, Claim]:
    """The claims of these ids."""
    found = await _claims(connection, journal, "op_id = ANY($2)", ids)
    return {claim.op_id: claim for claim in found}


async def claims_met(connection: Connection, journal: int, nonces: Iterable[str], keys: Iterable[str]) -> list[Claim]:
    """The claims that use one of these nonces, and those that hold one of these keys."""
    used = await _claims(connection, journal, "nonce = ANY($2)", nonces)
    return used + await _claims(connection, journal, "idempotency_key = ANY($2) AND held = 1", keys)


async def requests(
    connection: Connection, journal: int, state: RequestState | None, limit: int
) -> tuple[RequestView, ...]:
    """Requests, newest first; limit 0 = all."""
    sql = (
        "SELECT view FROM trueup.requests WHERE journal = $1 AND ($2::text IS NULL OR state = $2)"
        " ORDER BY first_seq DESC LIMIT NULLIF($3::bigint, 0)"
    )
    return await _views(connection, sql, journal, state.value if state else None, limit)


async def request_of_nonce(connection: Connection, journal: int, nonce: str) -> RequestView | None:
    """The request that used this nonce."""
    found = await _views(connection, f"{_REQUEST_OF_CLAIM} AND c.nonce = $2", journal, name(nonce))
    return found[0] if found else None


async def requests_of_key(connection: Connection, journal: int, key: str) -> tuple[RequestView, ...]:
    """Requests with this idempotency key, newest first."""
    sql = f"{_REQUEST_OF_CLAIM} AND c.idempotency_key = $2 ORDER BY r.first_seq DESC"
    return await _views(connection, sql, journal, name(key))


async def labels(connection: Connection, journal: int) -> dict[Vmid, Mapping[str, str]]:
    """The labels last applied to each guest known as ours."""
    rows = await connection.fetch("SELECT vmid, labels FROM trueup.adopted WHERE journal = $1 ORDER BY vmid", journal)
    try:
        return {Vmid(int(row["vmid"])): msgspec.json.decode(row["labels"], type=dict[str, str]) for row in rows}
    except msgspec.MsgspecError as error:
        raise Corrupt(what=f"the journal is damaged: labels: {error}", first_bad=0, remedy=rules.REBUILD) from error


async def newest_ms(connection: Connection, journal: int) -> int:
    """The newest instant of any record; 0 = there is none."""
    return int(await connection.fetchval("SELECT at_ms FROM trueup.newest WHERE journal = $1", journal) or 0)


async def _claims(connection: Connection, journal: int, which: str, names: Iterable[str]) -> list[Claim]:
    wanted = [name(each) for each in names]
    if not wanted:
        return []
    rows = await connection.fetch(f"{_CLAIM} AND {which}", journal, wanted)
    return [
        Claim(
            op_id=OpId(text(row["op_id"])),
            nonce=text(row["nonce"]),
            idempotency_key=text(row["idempotency_key"]),
            held=bool(row["held"]),
            started_at_ms=int(row["started_at_ms"]),
        )
        for row in rows
    ]


async def _views(connection: Connection, sql: str, *values: object) -> tuple[RequestView, ...]:
    rows = await connection.fetch(sql, *values)
    return tuple(rules.view_of(row["view"]) for row in rows)
