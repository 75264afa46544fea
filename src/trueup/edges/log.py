"""The agent's log on standard error: JSON for machines, text for a terminal. Secrets never get past it.

Time comes from the clock port, so that a log agrees with the journal.
"""

import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from trueup.edges.cli.output import iso
from trueup.edges.reporters import Repeats
from trueup.model.notes import Note, What
from trueup.model.ops import OpState
from trueup.model.settings import LogFormat, LogSettings
from trueup.ports import Clock

Log = structlog.typing.FilteringBoundLogger

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_TOKEN: Final = re.compile(
    r"(PVEAPIToken=[^=\s]+=)\S+|((?:secret|password|token_secret)[\"']?\s*[=:]\s*)\S+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The text without anything that looks like a secret."""
    return _TOKEN.sub(lambda found: f"{found[1] or found[2]}***", text)


def open_log(settings: LogSettings, clock: Clock) -> Log:
    """Make the log."""
    as_json = settings.format is LogFormat.JSON or (settings.format is LogFormat.AUTO and not sys.stderr.isatty())

    def stamp(_logger: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"at": iso(clock.now_ms()), "level": level, **event}

    def redact(_logger: object, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: redacted(value) if isinstance(value, str) else value for key, value in event.items()}

    renderer = structlog.processors.JSONRenderer() if as_json else _text
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[stamp, redact, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level.value]),
    )


def _text(_logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
    head = f"{event.pop('at')} {event.pop('level'):<7} {event.pop('event')}"
    rest = " ".join(f"{key}={value}" for key, value in event.items() if value not in {"", None})
    return f"{head} {rest}".rstrip()


class LogReporter:
    """The engine's news as log lines."""

    def __init__(self, log: Log) -> None:
        """Write into `log`."""
        self._log = log
        self._last_pass = ""
        self._repeats = Repeats()

    def note(self, note: Note) -> None:
        """Log it at the level that it deserves: a pass that is like the one before is no news."""
        level = _level(note) if self._repeats.is_news(note) else "debug"
        if note.what is What.PASS_ENDED:
            level = "debug" if note.text == self._last_pass else "info"
            self._last_pass = note.text
        elif note.what is What.ALARM:
            self._last_pass = ""
        getattr(self._log, level)(note.what.value, text=note.text, **_fields(note))


def _level(note: Note) -> str:
    if note.what is What.ALARM:
        return "error"
    failed = note.op is not None and note.op.state is OpState.FAILED
    return "warning" if failed or note.what in {What.OP_OPEN, What.BLOCKED} else "info"


def _fields(note: Note) -> dict[str, object]:
    op = note.op
    if op is None:
        return {}
    fields: dict[str, object] = {
        "op_id": op.op_id,
        "kind": op.intent.kind.value,
        "vmid": op.intent.vmid,
        "name": op.intent.name,
        "node": op.intent.node,
        "state": op.state.value,
        "reason": op.reason.value if op.reason else "",
        "row": op.row.value if op.row else "",
        "upid": op.upid,
        "exit_status": op.exit_status,
    }
    return {key: value for key, value in fields.items() if value != ""}
