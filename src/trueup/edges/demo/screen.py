"""The story as a live picture on a terminal: what has been told scrolls by above it."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from trueup.edges.demo import drawing
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.drawing import Marks, Scene
from trueup.edges.demo.findings import Finding
from trueup.edges.demo.sight import Seen
from trueup.edges.demo.teller import Player
from trueup.model.ops import OpView

_WIDTH_MAX: Final = 118
_LAST_LINES: Final = 3
_FRAME_S: Final = 0.08


class ScreenTeller:
    """See `teller.Teller`."""

    def __init__(self, console: Console) -> None:
        """Draw on a console."""
        self._console = console
        self._width = min(console.width, _WIDTH_MAX)
        self._marks = Marks() if console.encoding.lower().startswith("utf") else drawing.ASCII
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._last: list[str] = []
        self._began_s: float | None = None
        self._drawn_s = 0.0
        self._player: Player | None = None

    @contextmanager
    def playing(self) -> Generator[None]:
        """The picture is shown while this is open; its last state stays."""
        with self._live:
            yield

    def act(self, number: int, title: str, text: str) -> None:
        """See `Teller`."""
        self._print(drawing.act(number, title, text))

    def say(self, text: str) -> None:
        """See `Teller`."""
        self._print(Text(text, style="bold cyan"))

    def heard(self, line: str) -> None:
        """See `Teller`."""
        self._last = [*self._last, line][-_LAST_LINES:]

    def look(self, seen: Seen, player: Player) -> None:
        """Draw, but not more often than anybody can see."""
        if self._began_s is None:
            self._began_s = seen.at_s
        if seen.at_s - self._drawn_s < _FRAME_S and player == self._player:
            return
        self._drawn_s, self._player = seen.at_s, player
        scene = Scene(
            seen=seen,
            player=player,
            last=self._last if player.pid else (),
            since_s=seen.at_s - self._began_s,
            width=self._width,
            marks=self._marks,
        )
        self._live.update(drawing.live(scene), refresh=True)

    def killed(self, pid: int, why: str, in_flight: Sequence[OpView]) -> None:
        """See `Teller`."""
        self._last = []
        self._print(drawing.killed(pid, why, in_flight, self._width))

    def found(self, findings: Sequence[Finding], counts: Mapping[str, int]) -> None:
        """See `Teller`."""
        self._print(drawing.found(findings, counts, self._width))

    def end(self, claims: Sequence[Claim], seconds: float) -> None:
        """See `Teller`."""
        self._print(drawing.end(claims, seconds, self._marks, self._width))

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, width=self._width, highlight=False)
