"""What the records add up to, in memory and apart from the SQL that writers use: so the two check each other."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trueup.adapters.journal_standing import Standings
from trueup.adapters.sqlite import gate_tables, tables
from trueup.model.ids import OpId, TokenId, Vmid
from trueup.model.ops import (
    Acknowledged,
    Adopted,
    Denied,
    Doubted,
    EpochTaken,
    Gap,
    Paused,
    Pruned,
    Record,
    Released,
    Resumed,
    SystemEvent,
    TaskRunning,
    TokenPlanned,
    TokenRetired,
)

Fingerprint = bytes
"""Of a row of a table. Ended operations and requests are kept as these only, to save memory."""

Rows = tuple[Fingerprint | None, Fingerprint | None, Fingerprint | None]
"""Of one id, in the tables ops, requests and claims."""


@dataclass(slots=True)
class Replay:
    """What the records add up to, up to the one that was added last."""

    standings: Standings = field(default_factory=Standings)
    ended: dict[OpId, Rows] = field(default_factory=dict[OpId, Rows])
    upids: dict[str, str] = field(default_factory=dict[str, str])
    epochs: list[EpochTaken] = field(default_factory=list[EpochTaken])
    planned: set[TokenId] = field(default_factory=set[TokenId])
    retired: set[TokenId] = field(default_factory=set[TokenId])
    adopted: dict[Vmid, str] = field(default_factory=dict[Vmid, str])
    labels: dict[Vmid, Mapping[str, str]] = field(default_factory=dict[Vmid, Mapping[str, str]])
    paused: set[str] = field(default_factory=set[str])
    doubts: set[str] = field(default_factory=set[str])
    gaps: dict[int, Gap] = field(default_factory=dict[int, Gap])
    newest_ms: int = 0
    records: int = 0

    def add(self, record: Record, stood: Callable[[OpId, int], Standings]) -> None:
        """Add one record; `stood` tells what stood for an id that had ended, before the record of this number."""
        self.records += 1
        self.newest_ms = max(self.newest_ms, record.at_ms)
        if isinstance(record.event, SystemEvent):
            self._add_system(record.event)
        else:
            self._add_step(record, stood)

    def _add_system(self, event: SystemEvent) -> None:
        match event:
            case EpochTaken():
                self.epochs.append(event)
            case TokenPlanned():
                self.planned.add(event.token)
            case TokenRetired():
                self.retired.add(event.token)
            case Adopted() | Released():
                self._add_adoption(event)
            case Paused():
                self.paused |= set(event.guests) or {tables.ALL_GUESTS}
            case Resumed():
                self.paused -= set(event.guests) or self.paused
            case Pruned() | Doubted() | Acknowledged():
                self._add_upkeep(event)
            case Denied():
                pass

    def _add_adoption(self, event: Adopted | Released) -> None:
        match event:
            case Adopted():
                self.adopted[event.vmid] = event.uid
                self.labels[event.vmid] = event.labels
            case Released():
                if self.adopted.get(event.vmid) == event.uid:
                    del self.adopted[event.vmid]
                    del self.labels[event.vmid]

    def _add_upkeep(self, event: Pruned | Doubted | Acknowledged) -> None:
        match event:
            case Pruned():
                self.gaps |= {gap.first_seq: gap for gap in event.gaps}
            case Doubted():
                self.doubts.add(event.what)
            case Acknowledged():
                self.doubts.clear()

    def _add_step(self, record: Record, stood: Callable[[OpId, int], Standings]) -> None:
        op_id = record.op_id
        if self.ended.pop(op_id, None) is not None:
            self.standings.absorb(stood(op_id, record.seq))
        self.standings.add(record)
        if isinstance(record.event, TaskRunning):
            self.upids.setdefault(record.event.upid, op_id)
        if not self.standings.is_open(op_id):
            self.ended[op_id] = rows_of(self.standings, op_id)
            self.standings.forget(op_id)

    def tokens(self) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
        """Return the incarnation tokens as `tables.tokens` does."""
        return frozenset(self.planned), frozenset(self.planned & self.retired)

    def rows(self) -> dict[OpId, Rows]:
        """Every id's rows."""
        return self.ended | {op_id: rows_of(self.standings, op_id) for op_id in self.standings.ids()}


def rows_of(standings: Standings, op_id: OpId) -> Rows:
    """What one id's rows have to be; None = it has none in that table."""
    op, request = standings.ops.get(op_id), standings.requests.get(op_id)
    claim = standings.claims.get(op_id)
    return (
        fingerprint(tables.op_row(op)) if op else None,
        fingerprint(gate_tables.request_row(request)) if request else None,
        fingerprint(gate_tables.claim_row(claim)) if claim else None,
    )


def fingerprint(row: tuple[object, ...]) -> Fingerprint:
    """Tell a row from others."""
    return hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest()[:16]
