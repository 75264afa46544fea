"""What the engine tells, as plain lines: for terminals without pictures, for pipes and for files."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from trueup.model.ids import OpId
from trueup.model.notes import Note, What
from trueup.model.ops import OpState
from trueup.ports import Clock

_QUIET: Final = frozenset({What.PASS_ENDED})


class Progress(Protocol):
    """A listener of the engine that may draw a picture, and says lines that do not disturb it."""

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""
        ...

    def say(self, text: str) -> None:
        """Say a line."""
        ...

    def drawing(self) -> AbstractContextManager[None]:
        """Draw while this is open."""
        ...


def progress(clock: Clock, say: Callable[[str], None]) -> Progress:
    """A picture where standard error is a terminal that can show one, plain lines elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return Lines(say)
    from trueup.edges.live import LiveProgress

    return LiveProgress(clock, no_color=bool(os.environ.get("NO_COLOR")))


class Repeats:
    """Remembers what was said about open operations: every pass looks at them again and mostly finds the same."""

    def __init__(self) -> None:
        """Nothing was said."""
        self._said: dict[OpId, str] = {}

    def is_news(self, note: Note) -> bool:
        """Whether this was not just said."""
        if note.op is None:
            return True
        if note.what is not What.OP_OPEN:
            self._said.pop(note.op.op_id, None)
            return True
        before, self._said[note.op.op_id] = self._said.get(note.op.op_id), note.text
        return before != note.text


class Lines:
    """A line for each piece of news."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Speak through `say`."""
        self._say = say
        self._repeats = Repeats()

    def note(self, note: Note) -> None:
        """Say it."""
        if note.what not in _QUIET and self._repeats.is_news(note):
            self._say(line(note))

    def say(self, text: str) -> None:
        """Say a line."""
        self._say(text)

    def drawing(self) -> AbstractContextManager[None]:
        """Nothing is drawn."""
        return nullcontext()


def line(note: Note) -> str:
    """One piece of news in words."""
    op = note.op
    if op is None:
        return f"ALARM: {note.text}" if note.what is What.ALARM else note.text
    name = f"{op.intent.kind.value} {op.intent.vmid}" + (f" {op.intent.name}" if op.intent.name else "")
    match note.what:
        case What.OP_STARTED:
            return f"{name}: journaled, sending"
        case What.OP_TASK:
            return f"{name}: at work in PVE ({note.text})"
        case What.OP_ENDED:
            word = "done" if op.state is OpState.SUCCEEDED else "FAILED"
            exit_status = f", PVE says: {op.exit_status}" if op.exit_status and op.exit_status != "OK" else ""
            return f"{name}: {word} ({note.text}{exit_status})"
        case What.OP_OPEN:
            settles = op.unresolved.settles_by if op.unresolved else ""
            return f"{name}: UNRESOLVED ({note.text}); settled when {settles} (trueup ops show {op.op_id})"
        case What.ALARM:
            return f"ALARM: {note.text} (trueup ops show {op.op_id})"
        case _:
            return f"{name}: {note.text}"
