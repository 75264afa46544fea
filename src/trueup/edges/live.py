"""Progress on a terminal: what is at work now, each with how long it has been, and above it what has ended.

The picture is drawn on standard error, so that data can be piped away while somebody watches.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trueup.edges.cli.output import took
from trueup.edges.reporters import Repeats, line
from trueup.model.ids import OpId
from trueup.model.notes import Note, What
from trueup.model.ops import OpState, OpView
from trueup.ports import Clock

_PER_SECOND: Final = 10
_AT_ONCE: Final = 12
"""Operations in the picture; the rest is a number."""

_MARKS: Final = {OpState.SUCCEEDED: ("✔", "green"), OpState.FAILED: ("✘", "red")}
_PLAIN_MARKS: Final = {OpState.SUCCEEDED: ("+", "green"), OpState.FAILED: ("x", "red")}
"""For terminals that do not speak UTF-8."""


@dataclass(slots=True, kw_only=True)
class _Working:
    """One operation at work. `since` is on the monotonic clock."""

    view: OpView
    phase: str
    since: float
    spinner: Spinner


class LiveProgress:
    """The engine's news as a picture while `drawing`, as plain lines otherwise."""

    def __init__(self, clock: Clock, *, no_color: bool) -> None:
        """Measure with `clock`."""
        self._clock = clock
        self._console = Console(stderr=True, no_color=no_color, highlight=False)
        unicode = self._console.encoding.lower().startswith("utf")
        self._spinner = "dots" if unicode else "line"
        self._marks = _MARKS if unicode else _PLAIN_MARKS
        self._working: dict[OpId, _Working] = {}
        self._repeats = Repeats()
        self._ended = 0
        self._failed = 0
        self._waiting = ""

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""
        if note.what is What.WAITING and note.op is None:
            self._waiting = note.text
            return
        self._waiting = ""
        if note.op is not None and note.what in _PHASES:
            self._begin(note.op, _PHASES[note.what])
            return
        if note.op is not None and note.what in {What.OP_ENDED, What.OP_OPEN}:
            self._end(note.op)
        if note.what not in _SILENT and self._repeats.is_news(note):
            self._console.print(self._said(note))

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Draw while this is open."""
        with Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield

    def say(self, text: str) -> None:
        """Say a line above the picture."""
        self._console.print(Text(text))

    def _begin(self, view: OpView, phase: str) -> None:
        known = self._working.get(view.op_id)
        since = known.since if known else self._clock.monotonic()
        spinner = known.spinner if known else Spinner(self._spinner, style="cyan")
        self._working[view.op_id] = _Working(view=view, phase=phase, since=since, spinner=spinner)

    def _end(self, view: OpView) -> None:
        self._working.pop(view.op_id, None)
        self._ended += 1
        self._failed += view.state is OpState.FAILED

    def _picture(self) -> RenderableType:
        """Called by rich's own thread: it works on a copy."""
        working = list(self._working.values())
        table = Table.grid(padding=(0, 2))
        for one in working[:_AT_ONCE]:
            intent = one.view.intent
            table.add_row(
                one.spinner,
                Text(intent.kind.value, style="bold"),
                Text(f"{intent.vmid} {intent.name}"),
                Text(intent.node, style="dim"),
                Text(one.phase, style="dim"),
                Text(f"{self._clock.monotonic() - one.since:.0f} s", style="cyan"),
            )
        more = f", {len(working) - _AT_ONCE} more" if len(working) > _AT_ONCE else ""
        counts = f"{len(working)} at work{more}, {self._ended} ended"
        counts += f", {self._failed} failed" if self._failed else ""
        return Group(table, Text(self._waiting or counts, style="yellow" if self._waiting else "dim"))

    def _said(self, note: Note) -> Text:
        """What stays above the picture."""
        op = note.op
        if op is None or note.what is not What.OP_ENDED:
            return Text(f"  {line(note)}", style="red" if note.what is What.ALARM else "yellow")
        mark, color = self._marks.get(op.state, ("?", "magenta"))
        intent = op.intent
        text = Text.assemble((f"  {mark} ", color), (intent.kind.value, "bold"), f" {intent.vmid} {intent.name}")
        if op.state is OpState.FAILED:
            text.append(f": {note.text}{f', PVE says: {op.exit_status}' if op.exit_status else ''}", style="red")
        text.append(f" {took(self._clock.now_ms() - op.started_at_ms)}", style="dim")
        return text


_PHASES: Final = {
    What.OP_STARTED: "journaled, sending",
    What.OP_TASK: "at work in PVE",
    What.WAITING: "no certain answer, finding out",
}
_SILENT: Final = frozenset({What.PASS_ENDED, What.EPOCH, What.RECOVERY_BEGAN, What.RECOVERY_ENDED})
