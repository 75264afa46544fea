"""The JSON shapes of the command line, in one place: docs/json.md shows each, and scripts rely on them.

Keys are only ever added. What is not known is null; instants are ISO 8601 in UTC.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trueup.core.intents import redact
from trueup.core.recovery import Again, Close, Open
from trueup.edges.cli.output import KIND_OF, Json, iso
from trueup.model.gate_answers import Answer
from trueup.model.ops import OpState, OpView, Succeeded
from trueup.model.plan import Bucket, GuestPlan, Plan

if TYPE_CHECKING:
    from trueup.engine.recoverer import Judged, Report


def op(view: OpView) -> dict[str, Json]:
    """One operation."""
    return {
        "op_id": view.op_id,
        "kind": view.intent.kind.value,
        "vmid": view.intent.vmid,
        "node": view.intent.node,
        "state": view.state.value,
        "reason": view.reason.value if view.reason else None,
        "row": view.row.value if view.row else None,
        "upid": view.upid or None,
        "started_at": iso(view.started_at_ms),
        "ended_at": iso(view.ended_at_ms),
    }


def details(view: OpView) -> dict[str, Json]:
    """What one operation asked of PVE, and what came of it."""
    intent = view.intent
    return {
        "type": intent.type.value,
        "name": intent.name or None,
        "epoch": view.epoch,
        "token": intent.token,
        "request": {"method": intent.method, "path": intent.path, "params": dict(intent.params)},
        "goal": dict(intent.goal),
        "exit_status": view.exit_status or None,
        "adopted": view.adopted,
        "contradicted": view.contradicted,
        "leftovers": list(view.leftovers),
    }


def ops(views: Iterable[OpView]) -> list[Json]:
    """Several operations."""
    return [op(view) for view in views]


def plan(whole: Plan) -> dict[str, Json]:
    """A plan: every guest is counted once, and those that differ are shown."""
    return {
        "summary": {bucket.value: whole.count(bucket) for bucket in _SUMMARY},
        "changes": [change(guest) for guest in whole.guests if guest.bucket is not Bucket.UNCHANGED],
    }


_SUMMARY = (
    Bucket.CREATE,
    Bucket.UPDATE,
    Bucket.POWER,
    Bucket.NEEDS_APPROVAL,
    Bucket.BLOCKED,
    Bucket.UNCHANGED,
)


def change(guest: GuestPlan) -> dict[str, Json]:
    """One guest of a plan."""
    return {
        "vmid": guest.vmid,
        "name": guest.name,
        "kind": KIND_OF[guest.type],
        "node": guest.node,
        "bucket": guest.bucket.value,
        "ops": [{"kind": one.kind.value, "params": redact(one.params)} for one in guest.ops],
        "diff": [{"key": diff.key, "from": diff.was, "to": diff.want, "why": diff.why} for diff in guest.diff],
        "needs_approval": [
            {"kind": approval.kind.value, "why": approval.why, "command": approval.command}
            for approval in guest.approvals
        ],
        "blocked_by": guest.blocked_by or None,
        "waits_for": list(guest.waits_for),
        "notes": [*guest.notes, *guest.unsupported],
    }


def answer(given: Answer) -> dict[str, Json]:
    """What the gate answered."""
    return {
        "request": given.request or None,
        "op": given.op or None,
        "state": given.state,
        "missing": given.missing or None,
        "reason": given.reason or None,
    }


def recovery(report: "Report") -> dict[str, Json]:
    """What a recovery found. `examined` = resumed + failed + rolled_back + still_running + unresolved."""
    return {
        "examined": report.examined,
        "resumed": report.resumed,
        "failed": report.failed,
        "rolled_back": report.rolled_back,
        "presumed": report.presumed,
        "still_running": report.still_running,
        "unresolved": report.unresolved,
        "adopted": report.adopted,
        "ops": [_judged(one) for one in _sorted(report.judged)],
    }


def _sorted(judged: "Sequence[Judged]") -> "list[Judged]":
    return sorted(judged, key=lambda one: (one.view.started_at_ms, one.view.op_id))


def _judged(one: "Judged") -> dict[str, Json]:
    """One operation as recovery left it; in a dry run, as it would leave it."""
    view, state, reason = one.view, one.view.state, one.view.reason
    match one.verdict:
        case Close(event=event):
            state = OpState.SUCCEEDED if isinstance(event, Succeeded) else OpState.FAILED
            reason = event.reason
        case Open(event=event):
            reason = event.reason
        case _:
            pass
    return {
        "op_id": view.op_id,
        "kind": view.intent.kind.value,
        "vmid": view.intent.vmid,
        "node": view.intent.node,
        "state": state.value,
        "reason": reason.value if reason else None,
        "row": one.verdict.row.value,
        "upid": view.upid or one.evidence.upid or None,
        **({"next": one.verdict.need.value} if isinstance(one.verdict, Again) else {}),
    }
