"""Faults as data: which request meets which accident.

Rule kept here: a fault is chosen by method, path and count alone, never by a hook in the code that it hits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.wire import Json

KINDS = (
    "request_lost", "reply_lost", "late", "error_500_worker_runs", "error_596_work_continues", "error_595",
    "unauthorized", "task_fails", "task_killed", "task_ok_without_effect", "task_unlisted", "task_log_gone",
    "stalled",
)  # fmt: skip
_KEYS = {"fault", "method", "path", "nth", "times", "delay_s", "error", "partial", "at"}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One accident: from the `nth` matching request on, `times` times."""

    kind: str
    method: str | None = None
    path: str | None = None
    nth: int = 1
    times: int = 1
    delay_s: float | None = None
    error: str = "simulated failure"
    partial: bool = False
    at: float | None = None
    seen: int = 0
    done: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Whether the request is one of those it counts; without a method it counts what changes things."""
        if self.method is None:
            if method == "GET":
                return False
        elif self.method.upper() != method:
            return False
        return self.path is None or any(re.search(self.path, text) for text in (path, f"/api2/json{path}"))

    def row(self) -> dict[str, Json]:
        """The fault as the control endpoint shows it."""
        return {
            "fault": self.kind, "method": self.method, "path": self.path, "nth": self.nth, "times": self.times,
            "delay_s": self.delay_s, "seen": self.seen, "done": self.done,
        }  # fmt: skip


class BadFault(ValueError):
    """A fault that cannot be read."""


def parse_fault(raw: Mapping[str, object]) -> Fault:
    """A fault from its JSON form."""
    kind = raw.get("fault")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadFault(f"unknown fault {kind!r}, known are {', '.join(KINDS)}")
    unknown = set(raw) - _KEYS
    if unknown:
        raise BadFault(f"unknown keys {', '.join(sorted(unknown))}")
    fault = Fault(kind=kind, partial=raw.get("partial") in (True, 1))
    for name in ("method", "path"):
        value = raw.get(name)
        if value is not None and not isinstance(value, str):
            raise BadFault(f"{name} must be a text")
    method, path, error = raw.get("method"), raw.get("path"), raw.get("error")
    fault.method = method if isinstance(method, str) else None
    fault.path = path if isinstance(path, str) else None
    fault.error = error if isinstance(error, str) else fault.error
    try:
        re.compile(fault.path or "")
        fault.nth, fault.times = int(str(raw.get("nth", 1))), int(str(raw.get("times", 1)))
        fault.delay_s = float(str(raw["delay_s"])) if raw.get("delay_s") is not None else None
        fault.at = float(str(raw["at"])) if raw.get("at") is not None else None
    except (ValueError, re.error) as wrong:
        raise BadFault(str(wrong)) from wrong
    return fault


@dataclass(slots=True)
class FaultBook:
    """The faults still to come, in the order they were given."""

    faults: list[Fault] = field(default_factory=list[Fault])

    def add(self, raw: Mapping[str, object]) -> Fault:
        """One more."""
        fault = parse_fault(raw)
        self.faults.append(fault)
        return fault

    def meet(self, method: str, path: str) -> Fault | None:
        """Count this request; the first fault whose turn it is hits it."""
        hit: Fault | None = None
        for fault in self.faults:
            if not fault.matches(method, path):
                continue
            fault.seen += 1
            if hit is None and fault.seen >= fault.nth and fault.done < fault.times:
                fault.done += 1
                hit = fault
        return hit
