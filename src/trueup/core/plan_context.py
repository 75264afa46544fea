"""What a plan depends on besides manifests and guests: whose they are, what is open, and how the cluster does."""

from collections.abc import Mapping

import msgspec

from trueup.model.gate import RequestView
from trueup.model.ids import NodeName, Vmid
from trueup.model.ops import OpState, OpView


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances of one plan; all of it comes in as values.

    `installation` is our own id, `adopted` the marker uid by which the journal knows each of our guests. `closed` are
    guests whose lane is closed, with a sentence that says why and what to do (`why_closed` makes it for operations).
    `unread` are guests that exist, or may, but could not be read, with the reason: they are never taken for missing.
    `paused` holds names, '*' for all. `nodes` tells which nodes are online. `now_ms` is wall clock, for windows.
    `shutdown_failed` are guests whose last shutdown ended badly, `fenced` those whose `protection` is a fence that
    must stand. `shared` are storages that every node shares, None if that was not asked.
    """

    installation: str
    adopted: Mapping[Vmid, str] = {}
    closed: Mapping[Vmid, str] = {}
    unread: Mapping[Vmid, str] = {}
    paused: frozenset[str] = frozenset()
    quorate: bool = True
    nodes: Mapping[NodeName, bool] = {}
    now_ms: int = 0
    shutdown_failed: frozenset[Vmid] = frozenset()
    fenced: frozenset[Vmid] = frozenset()
    shared: frozenset[str] | None = None


def why_pending(request: RequestView) -> str:
    """Why a request that is not approved yet keeps the loop off its guest: what its signers saw must stay true."""
    asked = f"{request.request.kind} {request.request_id}"
    return f"{asked} waits for approvals, and leaves the guest as it was seen (see `trueup requests`)"


def why_closed(op: OpView) -> str:
    """Why an open operation keeps everybody else off its guest, for `Context.closed`."""
    name = f"{op.intent.kind} {op.op_id}"
    if op.unresolved is not None:
        return f"{name} is unresolved: {op.unresolved.settles_by} (see `trueup ops show {op.op_id}`)"
    if op.contradicted:
        return f"{name} was presumed not to have started and has shown up (see `trueup ops show {op.op_id}`)"
    if op.state is OpState.ACCEPTED:
        return f"{name} was signed and accepted, and comes first (see `trueup ops show {op.op_id}`)"
    return f"{name} is in flight (see `trueup ops show {op.op_id}`)"
