"""What the gate asks the journal, and what it is told: all of it at one moment, by one read."""

from collections.abc import Mapping

import msgspec

from trueup.model.gate import RequestView
from trueup.model.ids import OpId, Vmid
from trueup.model.ops import OpView


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What statements that are judged together need to know; what is not asked for is not read.

    `ids` are those of requests and operations. `started_since_ms` asks for the one-shots that were started at or after
    this instant (epoch ms), `accepted` for those that are not sent yet, `counted` for how many requests there are.
    """

    nonces: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    ids: frozenset[OpId] = frozenset()
    guests: frozenset[Vmid] = frozenset()
    started_since_ms: int | None = None
    accepted: bool = False
    counted: bool = False


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The journal at one moment, as far as a `Lookup` asked.

    `newest_ms` is the newest instant of any record, 0 for none. `of_nonce` has the request that used a nonce, `of_key`
    the requests with a key, newest first, and `requests` those of the ids. `ops` are the operations of the ids and of
    all requests found. `labels` are those last applied to the guests asked for, and to those of the requests and
    operations found; `unresolved` names an operation in flight on a guest asked for whose end nobody knows.
    """

    newest_ms: int = 0
    of_nonce: Mapping[str, RequestView] = {}
    of_key: Mapping[str, tuple[RequestView, ...]] = {}
    requests: Mapping[OpId, RequestView] = {}
    ops: Mapping[OpId, OpView] = {}
    labels: Mapping[Vmid, Mapping[str, str]] = {}
    unresolved: Mapping[Vmid, OpId] = {}
    started: tuple[OpView, ...] = ()
    accepted: tuple[OpView, ...] = ()
    count: int = 0
