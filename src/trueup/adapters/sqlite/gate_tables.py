"""The gate's derived tables: requests, and what each of them has claimed; and what the gate asks of the others.

Like `tables`, of which it is a part: written in the transaction of the records, never ahead of them or behind.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

import msgspec

from trueup.adapters.journal_standing import Claim, PlacedRequest, Standings
from trueup.model.errors import Corrupt
from trueup.model.gate import RequestState, RequestView
from trueup.model.ids import OpId, Vmid

REBUILD: Final = "the records are sound: `trueup journal rebuild` makes the tables anew from them"

RequestRow = tuple[int, str, str, bytes]
ClaimRow = tuple[str, str, str, int, int]

_AMONG: Final = "IN (SELECT value FROM json_each(?))"
_CLAIM: Final = "SELECT op_id, nonce, idempotency_key, held, started_at_ms FROM claims"
_REQUEST_OF_CLAIM: Final = "SELECT requests.view FROM claims JOIN requests ON requests.request_id = claims.op_id"

_encoder = msgspec.json.Encoder(order="deterministic")


@cache
def _decoder() -> msgspec.json.Decoder[RequestView]:
    return msgspec.json.Decoder(RequestView)


@cache
def _labels_decoder() -> msgspec.json.Decoder[dict[str, str]]:
    return msgspec.json.Decoder(dict[str, str])


# --- Writing: each raises sqlite3.Error, inside a transaction of the caller -------------------------------------------


def derive(connection: sqlite3.Connection, standings: Standings) -> None:
    """Bring the tables up to date with what stands now."""
    connection.executemany(
        "INSERT INTO requests (first_seq, request_id, state, view) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (first_seq) DO UPDATE SET state = excluded.state, view = excluded.view",
        [request_row(placed) for placed in standings.requests.values()],
    )
    connection.executemany(
        "INSERT INTO claims (op_id, nonce, idempotency_key, held, started_at_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (op_id) DO UPDATE SET held = excluded.held, started_at_ms = excluded.started_at_ms",
        [claim_row(claim) for claim in standings.claims.values()],
    )


def note_instant(connection: sqlite3.Connection, at_ms: int) -> None:
    """Raise the newest instant to this one, if it is newer."""
    connection.execute(
        "INSERT INTO newest VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)", (at_ms,)
    )


def request_row(placed: PlacedRequest) -> RequestRow:
    """Return a request as its row."""
    view = placed.view
    return (placed.first_seq, view.request_id, view.state.value, _encoder.encode(view))


def claim_row(claim: Claim) -> ClaimRow:
    """Return a claim as its row."""
    return (claim.op_id, claim.nonce, claim.idempotency_key, int(claim.held), claim.started_at_ms)


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as they are stored; equal labels give equal text."""
    return _encoder.encode(dict(labels)).decode()


# --- Asking: each raises sqlite3.Error, or Corrupt for a row that cannot be read --------------------------------------


def placed(connection: sqlite3.Connection, ids: Iterable[OpId]) -> dict[OpId, PlacedRequest]:
    """Those of these requests that are in the journal."""
    sql = f"SELECT first_seq, view FROM requests WHERE request_id {_AMONG}"  # noqa: S608 - our own words
    rows = connection.execute(sql, (json.dumps(list(ids)),)).fetchall()
    views = [(first_seq, view_of(data)) for first_seq, data in rows]
    return {view.request_id: PlacedRequest(first_seq=first_seq, view=view) for first_seq, view in views}


def claims_of(connection: sqlite3.Connection, ids: Iterable[OpId]) -> dict[OpId, Claim]:
    """The claims of these ids."""
    found = _claims(connection, f"{_CLAIM} WHERE op_id {_AMONG}", ids)
    return {claim.op_id: claim for claim in found}


def claims_met(connection: sqlite3.Connection, nonces: Iterable[str], keys: Iterable[str]) -> list[Claim]:
    """The claims that use one of these nonces, and those that hold one of these keys."""
    used = _claims(connection, f"{_CLAIM} WHERE nonce {_AMONG}", nonces)
    return used + _claims(connection, f"{_CLAIM} WHERE idempotency_key {_AMONG} AND held = 1", keys)


def requests(connection: sqlite3.Connection, state: RequestState | None, limit: int) -> tuple[RequestView, ...]:
    """Requests, newest first; limit 0 = all."""
    where, values = ("WHERE state = ?", (state.value,)) if state is not None else ("", ())
    sql = f"SELECT view FROM requests {where} ORDER BY first_seq DESC LIMIT ?"  # noqa: S608 - both stand above
    return _views(connection, sql, (*values, limit or -1))


def request_of_nonce(connection: sqlite3.Connection, nonce: str) -> RequestView | None:
    """The request that used this nonce."""
    found = _views(connection, f"{_REQUEST_OF_CLAIM} WHERE nonce = json_extract(?, '$')", (json.dumps(nonce),))
    return found[0] if found else None


def requests_of_key(connection: sqlite3.Connection, key: str) -> tuple[RequestView, ...]:
    """Requests with this idempotency key, newest first."""
    sql = f"{_REQUEST_OF_CLAIM} WHERE idempotency_key = json_extract(?, '$') ORDER BY requests.first_seq DESC"
    return _views(connection, sql, (json.dumps(key),))


def requests_of_nonces(connection: sqlite3.Connection, nonces: Iterable[str]) -> dict[str, RequestView]:
    """The requests that used these nonces, by nonce."""
    found = _views_among(connection, f"{_REQUEST_OF_CLAIM} WHERE nonce {_AMONG}", nonces)
    return {view.request.nonce: view for view in found}


def requests_of_keys(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, tuple[RequestView, ...]]:
    """The requests with these idempotency keys, by key, newest first."""
    sql = f"{_REQUEST_OF_CLAIM} WHERE idempotency_key {_AMONG} ORDER BY requests.first_seq DESC"
    return by_key(_views_among(connection, sql, keys))


def by_key(views: Iterable[RequestView]) -> dict[str, tuple[RequestView, ...]]:
    """Sort requests by their idempotency keys; their order stays."""
    found: dict[str, list[RequestView]] = {}
    for view in views:
        found.setdefault(view.request.idempotency_key, []).append(view)
    return {key: tuple(views) for key, views in found.items()}


def count(connection: sqlite3.Connection) -> int:
    """How many requests there are."""
    row: tuple[int] = connection.execute("SELECT count(*) FROM requests").fetchone()
    return row[0]


def labels(connection: sqlite3.Connection) -> dict[Vmid, Mapping[str, str]]:
    """The labels last applied to each guest known as ours."""
    rows: list[tuple[int, str]] = connection.execute("SELECT vmid, labels FROM adopted ORDER BY vmid").fetchall()
    return labels_read(rows)


def labels_of(connection: sqlite3.Connection, guests: Iterable[Vmid]) -> dict[Vmid, Mapping[str, str]]:
    """The labels last applied to those of these guests that are known as ours."""
    sql = f"SELECT vmid, labels FROM adopted WHERE vmid {_AMONG}"  # noqa: S608 - ours
    rows: list[tuple[int, str]] = connection.execute(sql, (json.dumps(sorted(guests)),)).fetchall()
    return labels_read(rows)


def labels_read(rows: Iterable[tuple[int, str]]) -> dict[Vmid, Mapping[str, str]]:
    """Read rows of vmid and labels; raises Corrupt."""
    try:
        return {Vmid(vmid): _labels_decoder().decode(text) for vmid, text in rows}
    except msgspec.MsgspecError as error:
        raise Corrupt(what=f"the journal is damaged: labels: {error}", first_bad=0, remedy=REBUILD) from error


def newest_ms(connection: sqlite3.Connection) -> int:
    """The newest instant of any record; 0 = there is none."""
    row: tuple[int] | None = connection.execute("SELECT at_ms FROM newest").fetchone()
    return row[0] if row else 0


def view_of(data: object) -> RequestView:
    """Read a request's row; raises Corrupt."""
    if not isinstance(data, bytes):
        raise Corrupt(what="the journal is damaged: a request's row is gone", first_bad=0, remedy=REBUILD)
    try:
        return _decoder().decode(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(what=f"the journal is damaged: a request's row: {error}", first_bad=0, remedy=REBUILD) from error


def _claims(connection: sqlite3.Connection, sql: str, names: Iterable[str]) -> list[Claim]:
    wanted = list(names)
    if not wanted:
        return []
    rows: list[ClaimRow] = connection.execute(sql, (json.dumps(wanted),)).fetchall()
    return [
        Claim(op_id=OpId(op_id), nonce=nonce, idempotency_key=key, held=bool(held), started_at_ms=started)
        for op_id, nonce, key, held, started in rows
    ]


def _views(connection: sqlite3.Connection, sql: str, values: tuple[str | int, ...]) -> tuple[RequestView, ...]:
    rows: list[tuple[bytes]] = connection.execute(sql, values).fetchall()
    return tuple(view_of(data) for (data,) in rows)


def _views_among(connection: sqlite3.Connection, sql: str, names: Iterable[str]) -> tuple[RequestView, ...]:
    wanted = list(names)
    return _views(connection, sql, (json.dumps(wanted),)) if wanted else ()
