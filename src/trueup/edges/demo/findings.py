"""What a recovery found about the operations that a dead agent left in flight: told from the journal alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from trueup.core.recovery import RULES
from trueup.edges.cli import words
from trueup.model.ops import Event, Failed, OpState, OpView, Reason, Row, Succeeded, Unresolved

COUNTS: Final[tuple[str, ...]] = (
    "examined",
    "resumed",
    "failed",
    "rolled_back",
    "presumed",
    "still_running",
    "unresolved",
    "adopted",
)
"""The counts of a recovery, as `trueup recover --json` names them."""

PARTS: Final[tuple[str, ...]] = ("resumed", "failed", "rolled_back", "still_running", "unresolved")
"""Those that add up to `examined`."""

_WHY: Final = {rule.row: rule.why for rule in RULES}
_NEVER: Final = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: how the agent left it, what its successor found, and what it concluded by which row."""

    name: str
    left: str
    found: str
    verdict: str
    count: str
    row: Row
    why: str
    presumed: bool = False
    adopted: bool = False


def name_of(op: OpView) -> str:
    """An operation in a few words."""
    return f"{op.intent.kind.value} {op.intent.vmid} {op.intent.name}"


def finding(before: OpView, after: OpView, events: Sequence[Event]) -> Finding:
    """Compare how an operation was left with how it stands after the recovery."""
    evidence = _evidence(events)
    count, verdict = _verdict(after)
    row = after.unresolved.row if after.unresolved else after.row or Row.R2
    return Finding(
        name=name_of(before),
        left="PVE was at work on it" if before.upid else "no answer had come",
        found=_found(after, evidence),
        verdict=verdict,
        count=count,
        row=row,
        why=_WHY[row],
        presumed=after.reason is Reason.PRESUMED_NOT_STARTED,
        adopted=after.adopted and not before.upid,
    )


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """The counts of one recovery."""
    counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
    for one in findings:
        counts["examined"] += 1
        counts[one.count] += 1
        counts["presumed"] += one.presumed
        counts["adopted"] += one.adopted
    return counts


def added(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several recoveries together."""
    total: dict[str, int] = dict.fromkeys(COUNTS, 0)
    for counts in several:
        for name, count in counts.items():
            total[name] += count
    return total


def _verdict(after: OpView) -> tuple[str, str]:
    if after.unresolved is not None:
        return "unresolved", "unresolved"
    if after.state is OpState.SUCCEEDED:
        return "resumed", "took effect"
    if after.state is OpState.FAILED:
        never = after.reason in _NEVER
        return ("rolled_back", "never took effect") if never else ("failed", "failed")
    return "still_running", "still at work"


def _found(after: OpView, evidence: Mapping[str, str]) -> str:
    searched = ", found by searching" if after.adopted else ""
    if not evidence:
        return f"PVE's task is running{searched}"
    task = words.TASKS.get(evidence.get("task", ""), "")
    sentences = [f"{task}{searched}"]
    if evidence.get("task") == "none":
        sentences = ["no task"]
    if "seen" in evidence or evidence.get("probe") in {"landed", "not_landed"}:
        sentences.append(words.PROBES.get(evidence.get("probe", ""), ""))
    if evidence.get("fence") == "stands":
        sentences.append("and behind the fence PVE refuses it")
    return ", ".join(sentence for sentence in sentences if sentence)


def _evidence(events: Sequence[Event]) -> Mapping[str, str]:
    for event in reversed(events):
        if isinstance(event, Succeeded | Failed | Unresolved):
            return event.evidence
    return {}
