"""All that the gate asks of the tables in PostgreSQL, read as of one moment; answers are those of SQLite's module."""

from collections.abc import Iterable
from itertools import chain

from trueup.adapters.postgres import gate_tables, tables
from trueup.adapters.postgres.names import name
from trueup.adapters.postgres.server import Connection
from trueup.adapters.sqlite import gate_tables as rules
from trueup.adapters.sqlite.gate_moment import guests_of
from trueup.model.gate import RequestView
from trueup.model.gate_moment import Lookup, Moment

_OF_NONCE = (
    "SELECT r.view FROM trueup.claims c JOIN trueup.requests r ON (r.journal, r.request_id) = (c.journal, c.op_id)"
    " WHERE c.journal = $1 AND c.nonce = ANY($2)"
)
_OF_KEY = (
    "SELECT r.view FROM trueup.claims c JOIN trueup.requests r ON (r.journal, r.request_id) = (c.journal, c.op_id)"
    " WHERE c.journal = $1 AND c.idempotency_key = ANY($2) ORDER BY r.first_seq DESC"
)
_OPEN = "AND vmid = ANY($2) AND state IN ('started', 'task_running') ORDER BY first_seq DESC"
_LABELS = "SELECT vmid, labels FROM trueup.adopted WHERE journal = $1 AND vmid = ANY($2)"


async def moment(connection: Connection, journal: int, lookup: Lookup) -> Moment:
    """Answer a lookup. Raises asyncpg's errors, or Corrupt for a row that cannot be read."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        used = await _among(connection, journal, _OF_NONCE, lookup.nonces)
        of_nonce = {view.request.nonce: view for view in used}
        of_key = rules.by_key(await _among(connection, journal, _OF_KEY, lookup.keys))
        placed = await gate_tables.placed(connection, journal, lookup.ids) if lookup.ids else {}
        requests = {request_id: each.view for request_id, each in placed.items()}
        found = [*of_nonce.values(), *chain.from_iterable(of_key.values()), *requests.values()]
        standing = await tables.placed(connection, journal, lookup.ids.union(view.request_id for view in found))
        ops = {op_id: each.view for op_id, each in standing.items()}
        open_ops = await tables.views(connection, journal, _OPEN, list(lookup.guests)) if lookup.guests else ()
        guests = list(guests_of(lookup, found, ops))
        labels = await connection.fetch(_LABELS, journal, guests) if guests else ()
        since_ms = lookup.started_since_ms
        return Moment(
            newest_ms=await gate_tables.newest_ms(connection, journal),
            of_nonce=of_nonce,
            of_key=of_key,
            requests=requests,
            ops=ops,
            labels=rules.labels_read((int(row["vmid"]), row["labels"]) for row in labels),
            unresolved={view.intent.vmid: view.op_id for view in open_ops if view.unresolved is not None},
            started=await tables.one_shots_since(connection, journal, since_ms) if since_ms is not None else (),
            accepted=await tables.views(connection, journal, tables.ACCEPTED) if lookup.accepted else (),
            count=await connection.fetchval("SELECT count(*) FROM trueup.requests WHERE journal = $1", journal)
            if lookup.counted
            else 0,
        )


async def _among(connection: Connection, journal: int, sql: str, names: Iterable[str]) -> tuple[RequestView, ...]:
    wanted = [name(each) for each in names]
    rows = await connection.fetch(sql, journal, wanted) if wanted else ()
    return tuple(rules.view_of(row["view"]) for row in rows)
