"""Counting what simulated runs covered, for people: where the agent died, what went wrong, which rows decided."""

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation import invariants
from tests.simulation.gate_swarm import Figures
from tests.simulation.harness import Run
from trueup.core.recovery import Watch
from trueup.model.ops import Row


@dataclass
class Report:
    """Sums over any number of runs."""

    schedules: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    unresolved: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    gate: Figures = field(default_factory=Figures)

    def add(self, run: Run) -> None:
        """Count one run."""
        self.schedules += 1
        for life in run.lives:
            if life.mortality.dead.is_set():
                self.deaths[_call(life.mortality.where)] += 1
            judged = life.report.judged if life.report else ()
            self.rows.update(one.verdict.row.value for one in judged if isinstance(one.verdict, Watch))
        for fault in run.cluster.world.state()["faults"]:  # type: ignore[union-attr]
            self.faults[str(fault["fault"])] += int(str(fault["done"]))  # type: ignore[index, call-overload]
        for op in run.ops:
            if op.row is not None:
                self.rows[op.row.value] += 1
            if op.fencing is not None or op.row is Row.R12:
                self.rows["R10"] += 1
            if op.unresolved is not None:
                self.unresolved[f"{op.unresolved.row.value} {op.unresolved.reason.value}"] += 1

    def broken(self, violation: invariants.Violation) -> None:
        """Count a run that broke a promise."""
        self.schedules += 1
        self.violations[type(violation).__name__] += 1

    def lines(self) -> list[str]:
        """The report; its last four lines are for machines."""
        rows = {**dict.fromkeys((f"R{number}" for number in range(1, 14)), 0), **self.rows}
        return [
            f"deaths: {sum(self.deaths.values())}, at {len(self.deaths)} different calls",
            *_table(self.deaths, most=12),
            f"faults that struck: {sum(self.faults.values())}",
            *_table(self.faults),
            "rows of the recovery table that decided:",
            "  " + "  ".join(f"{row} {count}" for row, count in rows.items()),
            f"left unresolved at the end: {sum(self.unresolved.values())}",
            *_table(self.unresolved),
            *self._gate_lines(),
            *([f"not finished: {self.violations['Unfinished']}"] if self.violations["Unfinished"] else []),
            f"schedules: {self.schedules}",
            f"ops lost: {self.violations['Lost']}",
            f"effects doubled: {self.violations['Doubled']}",
            f"wrong records: {self.violations['Wrong']}",
        ]

    def _gate_lines(self) -> list[str]:
        gate = self.gate
        if not gate.delivered:
            return []
        return [
            f"at the gate: {gate.requests} statements, delivered {gate.delivered} times",
            f"  {gate.redelivered:>7}  redelivered",
            f"  {gate.unheard:>7}  unheard",
            f"executed: {gate.started}, and all that was accepted ended",
            *_table(gate.ends),
            f"refused: {sum(gate.refused.values())}",
            *_table(gate.refused),
        ]


def _table(counts: Counter[str], *, most: int | None = None) -> list[str]:
    found = [f"  {count:>7}  {name}" for name, count in counts.most_common(most)]
    left = len(counts) - len(found)
    return [*found, *([f"  … and {left} more"] if left else [])]


def _call(point: str) -> str:
    """A point without the guest that it was about."""
    return "/".join("N" if part.isdigit() else part for part in point.split("/"))
