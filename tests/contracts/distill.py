"""Boil raw recordings of the real API down to what is compared: `python -m tests.contracts.distill FOLDER`.

A raw recording is one JSON object a line: who asked what, and status, reason and body of the answer. What is left out:
headers, a message that only repeats the reason (`told`), the rest of long lists, repeated polls, and everything that
happened outside the API but for its name.
Experiments with late requests are boiled down to the answers that the late ones got, and whether they took effect.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "recordings"
ROWS = 2
"""So many rows of a list are kept."""
TEXT = 300
"""Longer texts are cut."""
ASIDE = ("scenario ", "probe", "processes", "summary", "active index", "log file", "task started", "round trip")
LATE = {"destroy": "DELETE /nodes/pve1/qemu/700", "cfgput": "PUT /nodes/pve1/qemu/700/config",
        "cfgpost": "POST /nodes/pve1/qemu/700/config", "resize": "PUT /nodes/pve1/qemu/700/resize",
        "clone": "POST /nodes/pve1/qemu/700/clone", "create": "POST /nodes/pve1/qemu",
        "snapshot": "POST /nodes/pve1/qemu/700/snapshot"}  # fmt: skip


def main() -> None:
    """Rewrite `tests/contracts/recordings` from a folder of raw recordings."""
    for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
        raw = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = _without_polls([kept for row in raw for kept in _kept(row)])
        if not any("method" in line for line in lines):
            lines = [line for line in lines if "late" in line]
        if lines:
            text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
            (HERE / path.name).write_text(text, encoding="utf-8")


def _kept(row: dict[str, Any]) -> list[dict[str, Any]]:
    if "event" in row:
        late = str(row.get("late_answer", ""))
        if row.get("op") in LATE and "late_effect" in row and late[:3].isdigit():
            return [{"late": LATE[row["op"]], "answer": late, "effect": row["late_effect"]}]
        what = str(row["event"])
        return [] if what.startswith(ASIDE) else [{"t": row["t_ms"], "event": what[:160]}]
    if row.get("status") is None:
        return [{"t": row["t_ms"], "event": f"no answer to {row['method']} {row['path']}"}]
    names = ("auth", "method", "path", "params", "request_options", "status", "reason", "body", "body_text")
    kept = {"t": row["t_ms"], **{name: _cut(row[name]) for name in names if row.get(name) not in (None, {}, "")}}
    if isinstance(kept.get("body"), dict) and kept["body"].get("message") == f"{row['reason']}\n":
        kept["body"] = {name: value for name, value in kept["body"].items() if name != "message"}
        kept["told"] = 1
    if kept.get("auth") == "token":
        del kept["auth"]
    return [kept]


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(item) for item in value[:ROWS]]
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return value[:TEXT] if isinstance(value, str) else value


def _without_polls(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the same read again and again, the last one; of the same late answer, the first."""
    found: list[dict[str, Any]] = []
    for line in lines:
        if "late" in line and line in found:
            continue
        polled = line.get("method") == "GET" and found and _asked(found[-1]) == _asked(line)
        if polled and "/status" in line["path"]:
            found.pop()
        found.append(line)
    return found


def _asked(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(str(line.get(name)) for name in ("auth", "method", "path", "params", "status"))


if __name__ == "__main__":
    main()
