"""What must hold after any number of deaths, shown from outside: the simulator's own list against the journal.

Nothing is taken from the agent's word: what took effect is what the simulator says.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.real_death.stage import Simulator, Stage
from trueup.core.kinds import KINDS
from trueup.model.ops import OpState, OpView, Reason

NEVER = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED, Reason.EXPIRED, Reason.REFUSED})
NOT_CLAIMED = frozenset({Reason.SUPERSEDED, Reason.TASK_ERROR, Reason.KILLED})
"""Failures that may have had an effect, or a part of one."""


def is_fence(row: Mapping[str, Any]) -> bool:
    """A fence, or a question about a lock: it writes a description under a digest, and nothing else."""
    return (
        row["method"] == "PUT"
        and set(row["params"]) <= {"description", "digest", "protection"}
        and "digest" in row["params"]
    )


def mark_of(row: Mapping[str, Any]) -> str:
    """The id of the operation whose marker a request carried; '' if it carried none."""
    _, _, tail = str(row["params"].get("description", "")).partition('"op":"')
    return tail.partition('"')[0]


def account(sim: Simulator, stage: Stage) -> None:
    """No mutation lost, none twice, none without an intent, and each outcome as it really was."""
    rows, journal = sim.mutations(), stage.journal()
    assert journal.verification.ok, journal.verification
    story = _story(rows, journal.ops)
    by_id = {str(op.op_id): op for op in journal.ops}
    effects = [row for row in rows if row["effect"] and not is_fence(row) and not row["path"].startswith("/access/")]

    intended = Counter((op.intent.method, op.intent.path) for op in journal.ops)
    for call, count in Counter((row["method"], row["path"]) for row in effects).items():
        assert count <= intended[call], f"{call} took effect {count} times, {intended[call]} were journaled\n{story}"
    marks = Counter(mark_of(row) for row in effects if mark_of(row))
    assert set(marks) <= set(by_id), f"an effect without an intent\n{story}"
    assert all(count == 1 for count in marks.values()), f"an effect twice: {marks}\n{story}"

    claims = Counter(op.upid for op in journal.ops if op.upid)
    assert all(count == 1 for count in claims.values()), f"a task of two operations: {claims}\n{story}"
    sent = {row["upid"]: row for row in rows if row["upid"]}
    for op in journal.ops:
        if op.upid:
            row = sent[op.upid]
            assert (row["method"], row["path"]) == (op.intent.method, op.intent.path), f"{op.op_id}\n{story}"
            assert mark_of(row) in {"", op.op_id}, f"{op.op_id} has another's task\n{story}"
        if KINDS[op.intent.kind].marks and op.state is OpState.SUCCEEDED:
            assert marks[op.op_id] == 1, f"{op.op_id} is recorded as done\n{story}"
        if op.state is OpState.FAILED and op.reason in NEVER:
            assert not marks[op.op_id], f"{op.op_id} is recorded as never done\n{story}"
    for op_id in marks:
        assert _owned(by_id[op_id]), f"{op_id}\n{story}"

    for call, count in Counter((row["method"], row["path"]) for row in effects).items():
        mine = [op for op in journal.ops if (op.intent.method, op.intent.path) == call]
        done = sum(1 for op in mine if _owned(op))
        assert count <= done, f"{call} took effect {count} times and is recorded {done} times\n{story}"


def _owned(op: OpView) -> bool:
    """Its record admits an effect: done, open, or failed in a way that may have left something."""
    return op.state is not OpState.FAILED or op.reason in NOT_CLAIMED


def settled(sim: Simulator, stage: Stage) -> None:
    """The world is as declared, nothing is open, and another look finds nothing to do."""
    account(sim, stage)
    assert not stage.journal().open
    count = len(sim.mutations())
    plan = stage.run("plan")
    assert plan.code == 0, plan
    assert len(sim.mutations()) == count


def recovered_first(steps: Sequence[str], in_flight: int) -> None:
    """A life looked into everything that was open before it asked PVE for anything new."""
    recovered = next((at for at, step in enumerate(steps) if step.startswith("recovery ended")), len(steps))
    asked = next((at for at, step in enumerate(steps) if step.startswith("connected request")), len(steps))
    started = next((at for at, step in enumerate(steps) if step.startswith("append started")), len(steps))
    assert recovered <= min(asked, started), steps
    if recovered < len(steps):
        assert steps[recovered] == f"recovery ended: examined {in_flight}", steps


def _story(rows: Sequence[Mapping[str, Any]], ops: Sequence[OpView]) -> str:
    lines = [
        f"  {row['time']:.2f} {row['method']} {row['path']} effect={row['effect']} {mark_of(row)} {row['upid']}"
        for row in rows
    ]
    lines += [
        f"  {op.op_id} {op.intent.kind} {op.intent.vmid} {op.state} {op.reason} {op.row} {op.upid} {op.exit_status}"
        for op in reversed(ops)
    ]
    return "\n".join(lines)
