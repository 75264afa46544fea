"""What must hold after every run, whatever died and whatever was lost."""

from collections import Counter
from collections.abc import Mapping

from tests.simulation.cluster import SimCluster
from tests.simulation.harness import Run, Scenario
from trueup.core.kinds import KINDS
from trueup.model.ops import OpState, OpView, Reason

__all__ = ["Scenario", "SimCluster", "check", "converged", "own_effects"]

NEVER = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED, Reason.EXPIRED})


def check(run: Run, *, believe_tasks: bool = True) -> None:
    """All invariants that need no knowledge of the scenario.

    `believe_tasks`: PVE's tasks say the truth. Where they lie, only their lie can be recorded.
    """
    _alive_at_the_end(run)
    assert run.verification.ok, run.verification
    _recovery_came_first(run)
    _effects_have_one_op_each(run)
    if believe_tasks:
        _outcomes_agree_with_the_world(run)


def converged(run: Run) -> None:
    """The last incarnation brought everything to its manifest and left nothing open."""
    check(run)
    life = run.lives[-1]
    assert life.converged is not None, _story(run)
    assert life.converged.exit_code == 0, f"{life.converged}\n{_story(run)}"


def own_effects(run: Run) -> list[Mapping[str, object]]:
    """Mutations that changed the world and were operations: fences write a description, the keeper makes tokens."""
    return [row for row in run.effects() if not _is_fence(row)]


def _is_fence(row: Mapping[str, object]) -> bool:
    params = row["params"]
    assert isinstance(params, dict)
    if str(row["path"]).startswith("/access/"):
        return True
    return row["method"] == "PUT" and set(params) <= {"description", "digest", "protection"} and "digest" in params


def _alive_at_the_end(run: Run) -> None:
    last = run.lives[-1]
    if last.error is not None:
        raise AssertionError(_story(run)) from last.error


def _recovery_came_first(run: Run) -> None:
    """Between a start and the end of its recovery, nothing was sent but fences and questions about locks."""
    for life in run.lives:
        if life.report is None:
            continue
        during = run.mutations[life.mutations_before : life.mutations_recovered]
        # What a dead incarnation had sent may arrive in the meantime: those carry the marks of older operations.
        ours = [row for row in during if not _is_fence(row)]
        known = {op.intent.path for op in run.ops}
        assert all(row["path"] in known for row in ours), _story(run)


def _effects_have_one_op_each(run: Run) -> None:
    """No effect without an intent that was journaled, and no intent with two effects."""
    intents = Counter((op.intent.method, op.intent.path) for op in run.ops)
    effects = Counter((row["method"], row["path"]) for row in own_effects(run))
    for call, count in effects.items():
        assert count <= intents[call], f"{call} took effect {count} times\n{_story(run)}"  # type: ignore[index]
    marked = Counter(_mark(row) for row in own_effects(run) if _mark(row))
    assert all(count == 1 for count in marked.values()), f"{marked}\n{_story(run)}"


def _outcomes_agree_with_the_world(run: Run) -> None:
    """What is recorded as done was done, and what is recorded as never started has no effect."""
    effects = own_effects(run)
    for op in run.ops:
        mine = [row for row in effects if _mark(row) == op.op_id]
        if op.state is OpState.SUCCEEDED and KINDS[op.intent.kind].marks:
            assert len(mine) == 1, f"{op.op_id} is recorded as done\n{_story(run)}"
        if op.state is OpState.FAILED and op.reason in NEVER:
            assert not mine, f"{op.op_id} is recorded as never done\n{_story(run)}"
    done = Counter(_call(op) for op in run.ops if op.state is OpState.SUCCEEDED)
    # A stop of a stopped guest is OK for PVE and changes nothing.
    seen = Counter((row["method"], row["path"]) for row in run.mutations if row["effect"] or row["upid"])
    for call, count in done.items():
        assert seen[call] >= count, f"{call} is recorded as done {count} times\n{_story(run)}"  # type: ignore[index]


def _call(op: OpView) -> tuple[str, str]:
    return op.intent.method, op.intent.path


def _mark(row: Mapping[str, object]) -> str:
    """The id of the operation that a mutation carried in its marker; '' if it carried none."""
    params = row["params"]
    assert isinstance(params, dict)
    _, _, tail = str(params.get("description", "")).partition('"op":"')
    return tail.partition('"')[0]


def _story(run: Run) -> str:
    """The run in words, for whoever has to find out why."""
    lines: list[str] = []
    for number, life in enumerate(run.lives):
        lines.append(f"life {number}: {len(life.mortality.passed)} points, died at {life.mortality.where}")
        lines += [f"    {note.what}: {note.text}" for note in life.notes]
        if life.error is not None:
            lines.append(f"    ended with {life.error!r}")
    for row in run.mutations:
        lines.append(
            f"  {row['time']:.2f} {row['method']} {row['path']} effect={row['effect']} {_mark(row)} {row['upid']}"
        )
    for op in run.ops:
        lines.append(f"  {op.op_id} {op.intent.kind} {op.intent.vmid} {op.state} {op.reason} {op.row} {op.exit_status}")
    return "\n".join(lines)
