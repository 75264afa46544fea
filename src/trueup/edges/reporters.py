"""What the engine tells, as plain lines: for terminals without pictures, for pipes and for files."""

from collections.abc import Callable
from typing import Final

from trueup.model.notes import Note, What
from trueup.model.ops import OpState

_QUIET: Final = frozenset({What.PASS_ENDED})


class Lines:
    """A line for each piece of news."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Speak through `say`."""
        self._say = say

    def note(self, note: Note) -> None:
        """Say it."""
        if note.what not in _QUIET:
            self._say(line(note))


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
