"""What must hold after every run, whatever died and whatever was lost."""

import re
from collections import Counter
from collections.abc import Mapping
from urllib.parse import unquote

from tests.simulation.cluster import SimCluster
from tests.simulation.harness import Run, Scenario
from trueup.core.kinds import KINDS
from trueup.model.ids import OpId
from trueup.model.ops import Accepted, Failed, Guarded, Guarding, OpState, OpView, Reason, Record, Started

__all__ = [
    "Doubled",
    "Lost",
    "Run",
    "Scenario",
    "SimCluster",
    "Violation",
    "Wrong",
    "check",
    "converged",
    "own_effects",
]

NEVER = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED, Reason.EXPIRED})


class Violation(AssertionError):
    """A promise was broken; the text is the run in words."""


class Lost(Violation):
    """PVE was told to do something that the journal does not know."""


class Doubled(Violation):
    """One operation took effect twice."""


class Wrong(Violation):
    """A record says something that is not so."""


class Unfinished(Violation):
    """The agent did not get to its end."""


def require(condition: object, kind: type[Violation], what: str, run: Run) -> None:
    if not condition:
        raise kind(f"{what}\n{story(run)}")


def check(run: Run, *, believe_tasks: bool = True, same_guests: bool = True) -> None:
    """All invariants that need no knowledge of the scenario.

    `believe_tasks`: PVE's tasks say the truth. Where they lie, only their lie can be recorded. `same_guests`: nobody
    gave a vmid to another guest by hand, so that whose protection was lifted is there to be protected.
    """
    last = run.lives[-1]
    if last.error is not None:
        raise Unfinished(story(run)) from last.error
    require(run.verification.ok, Wrong, f"the journal does not verify: {run.verification}", run)
    _recovery_came_first(run)
    _effects_have_one_op_each(run)
    _what_is_signed_was_accepted(run)
    _nothing_is_sent_too_early_or_too_late(run)
    if same_guests:
        _guards_are_journaled_and_taken_back(run)
    if believe_tasks:
        _outcomes_agree_with_the_world(run)


def converged(run: Run) -> None:
    """The last incarnation brought everything to its manifest and left nothing open."""
    check(run)
    end = run.lives[-1].converged
    require(end is not None and end.exit_code == 0, Unfinished, f"not converged: {end}", run)
    for op_id in run.signed:
        op = next((op for op in run.ops if op.op_id == op_id), None)
        require(op is not None, Lost, f"{op_id} was accepted and is lost", run)
        ended = op is not None and op.state in {OpState.SUCCEEDED, OpState.FAILED}
        require(ended, Unfinished, f"{op_id} was accepted and has not ended", run)


def own_effects(run: Run) -> list[Mapping[str, object]]:
    """Mutations that changed the world and were operations: fences write a description, the keeper makes tokens."""
    ours = [row for row in run.effects() if str(row["user"]).startswith("agent@")]
    return [row for row in ours if not _is_fence(row) and not _is_guard(row)]


def _is_fence(row: Mapping[str, object]) -> bool:
    params = row["params"]
    assert isinstance(params, dict)
    if str(row["path"]).startswith("/access/"):
        return True
    return row["method"] == "PUT" and set(params) <= {"description", "digest", "protection"} and "digest" in params


def _is_guard(row: Mapping[str, object]) -> bool:
    """The write before a destroy: our mark, and `protection` lifted."""
    params = row["params"]
    assert isinstance(params, dict)
    return set(params) == {"description", "digest", "delete"} and params["delete"] == "protection"


def _recovery_came_first(run: Run) -> None:
    """Between a start and the end of its recovery, nothing was sent but fences and questions about locks."""
    for life in run.lives:
        if life.report is None:
            continue
        known = {unquote(op.intent.path) for op in run.ops if op.epoch < life.epoch}
        during = run.mutations[life.mutations_before : life.mutations_recovered]
        # What a dead incarnation had sent may arrive in the meantime: those are operations of before.
        agents = [row for row in during if str(row["user"]).startswith("agent@")]
        ours = [row for row in agents if not _is_fence(row) and not _is_guard(row)]
        require(all(row["path"] in known for row in ours), Lost, "a mutation before recovery ended", run)


def _effects_have_one_op_each(run: Run) -> None:
    """No effect without an intent that was journaled, and no intent with two effects."""
    intents = Counter(_call(op) for op in run.ops)
    for call, count in Counter((str(row["method"]), str(row["path"])) for row in own_effects(run)).items():
        require(intents[call], Lost, f"{call} took effect and is in no record", run)
        require(count <= intents[call], Doubled, f"{call} took effect {count} times", run)
    marked = Counter(_mark(row) for row in own_effects(run) if _mark(row))
    require(all(count == 1 for count in marked.values()), Doubled, f"effects by operation: {marked}", run)


def _what_is_signed_was_accepted(run: Run) -> None:
    """Each one-shot that started was accepted before, and started once; what the loop starts was never signed."""
    accepted: set[OpId] = set()
    started: Counter[OpId] = Counter()
    for record in run.records:
        if isinstance(record.event, Accepted):
            accepted.add(record.op_id)
        if isinstance(record.event, Started):
            started[record.op_id] += 1
            signed = record.event.intent.one_shot
            require(signed == (record.op_id in accepted), Wrong, f"{record.op_id} started unsigned", run)
    require(all(count == 1 for count in started.values()), Doubled, f"started more than once: {started}", run)


def _nothing_is_sent_too_early_or_too_late(run: Run) -> None:
    """One-shots start inside their times."""
    bounds = {record.op_id: record.event for record in run.records if isinstance(record.event, Accepted)}
    for record in run.records:
        if isinstance(record.event, Started) and (bound := bounds.get(record.op_id)) is not None:
            inside = bound.not_before_ms <= record.at_ms <= bound.execute_by_ms
            require(inside, Wrong, f"{record.op_id} started outside of its times", run)


def _guards_are_journaled_and_taken_back(run: Run) -> None:
    """Protection is lifted only by a destroy that said so before, and is back whenever one ended but by success."""
    said = {record.op_id: record.at_ms for record in run.records if isinstance(record.event, Guarding)}
    sent = {record.op_id for record in run.records if isinstance(record.event, Guarded)}
    deletes = Counter(str(row["path"]) for row in run.mutations if _destroys(row))
    for path, count in deletes.items():
        wanted = sum(1 for op in run.ops if op.intent.path == path and op.op_id in sent)
        require(count <= wanted, Doubled, f"DELETE {path} was sent {count} times for {wanted} guards", run)
    for row in run.effects():
        if _is_guard(row):
            require(_mark(row) in said, Lost, f"a guard that was not journaled: {row}", run)
    for record in run.records:
        if not isinstance(record.event, Failed) or record.op_id not in said:
            continue
        vmid = next(op.intent.vmid for op in run.ops if op.op_id == record.op_id)
        writes = [row for row in run.effects() if f"/{vmid}/config" in str(row["path"]) and _before(row, record)]
        last = next((row for row in reversed(writes) if _touches_protection(row)), None)
        require(last is None or not _is_guard(last), Wrong, f"{record.op_id} left {vmid} unprotected", run)


def _destroys(row: Mapping[str, object]) -> bool:
    return row["method"] == "DELETE" and re.fullmatch(r"/nodes/[^/]+/(qemu|lxc)/\d+", str(row["path"])) is not None


def _before(row: Mapping[str, object], record: Record) -> bool:
    return float(str(row["time"])) * 1000 <= record.at_ms


def _touches_protection(row: Mapping[str, object]) -> bool:
    params = row["params"]
    assert isinstance(params, dict)
    return _is_guard(row) or params.get("protection") == "1"


def _outcomes_agree_with_the_world(run: Run) -> None:
    """What is recorded as done was done, and what is recorded as never started has no effect."""
    effects = own_effects(run)
    for op in run.ops:
        mine = [row for row in effects if _mark(row) == op.op_id]
        if op.state is OpState.SUCCEEDED and KINDS[op.intent.kind].marks:
            require(len(mine) == 1, Wrong, f"{op.op_id} is recorded as done", run)
        if op.state is OpState.FAILED and op.reason in NEVER:
            require(not mine, Wrong, f"{op.op_id} is recorded as never done", run)
    done = Counter(_call(op) for op in run.ops if op.state is OpState.SUCCEEDED)
    # A stop of a stopped guest is OK for PVE and changes nothing.
    seen = Counter((row["method"], row["path"]) for row in run.mutations if row["effect"] or row["upid"])
    for call, count in done.items():
        require(seen[call] >= count, Wrong, f"{call} is recorded as done {count} times", run)


def _call(op: OpView) -> tuple[object, object]:
    return op.intent.method, unquote(op.intent.path)


def _mark(row: Mapping[str, object]) -> str:
    """The id of the operation that a mutation carried in its marker; '' if it carried none."""
    params = row["params"]
    assert isinstance(params, dict)
    _, _, tail = str(params.get("description", "")).partition('"op":"')
    return tail.partition('"')[0]


def story(run: Run) -> str:
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
