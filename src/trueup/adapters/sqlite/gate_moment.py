"""All that the gate asks of the tables, read as of one moment: one read transaction, one hop to the reader's thread."""

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import chain

from trueup.adapters.sqlite import file, gate_tables, tables
from trueup.model.gate import RequestView
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.ids import OpId, Vmid
from trueup.model.ops import OpView


def moment(connection: sqlite3.Connection, lookup: Lookup) -> Moment:
    """Answer a lookup. Raises sqlite3.Error, or Corrupt for a row that cannot be read."""
    with file.snapshot(connection):
        of_nonce = gate_tables.requests_of_nonces(connection, lookup.nonces)
        of_key = gate_tables.requests_of_keys(connection, lookup.keys)
        requests = {
            request_id: placed.view for request_id, placed in gate_tables.placed(connection, lookup.ids).items()
        }
        found = [*of_nonce.values(), *chain.from_iterable(of_key.values()), *requests.values()]
        ids = lookup.ids.union(view.request_id for view in found)
        ops = {op_id: placed.view for op_id, placed in tables.placed(connection, ids).items()} if ids else {}
        since_ms = lookup.started_since_ms
        return Moment(
            newest_ms=gate_tables.newest_ms(connection),
            of_nonce=of_nonce,
            of_key=of_key,
            requests=requests,
            ops=ops,
            labels=gate_tables.labels_of(connection, guests_of(lookup, found, ops)),
            unresolved=tables.unresolved(connection, lookup.guests),
            started=tables.one_shots_since(connection, since_ms) if since_ms is not None else (),
            accepted=tables.accepted(connection) if lookup.accepted else (),
            count=gate_tables.count(connection) if lookup.counted else 0,
        )


def guests_of(lookup: Lookup, found: Iterable[RequestView], ops: Mapping[OpId, OpView]) -> frozenset[Vmid]:
    """The guests whose labels belong to the answer; every store asks for these."""
    return lookup.guests.union(
        (view.request.target.vmid for view in found), (view.intent.vmid for view in ops.values())
    )
