"""A picture for the README, taken from a real run: the second blow, from the moment it falls to what was found out."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType

from trueup.edges.demo import drawing
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.drawing import Marks, Scene
from trueup.edges.demo.findings import Finding
from trueup.edges.demo.sight import Seen
from trueup.edges.demo.teller import Phase, Player, Teller
from trueup.model.errors import BadInput
from trueup.model.ops import OpView

_WIDTH: Final = 112
_ACT: Final = 2
_FONT: Final = re.compile(r"\s*@font-face \{.*?\n    \}", re.DOTALL)
"""Rich's pictures load a font from the network; readers' own monospace fonts do."""


class PictureTeller:
    """Passes everything on to another teller, and keeps some of it for the picture."""

    def __init__(self, teller: Teller, target: Path) -> None:
        """Tell through `teller`; write the picture into `target` at the end."""
        self._teller = teller
        self._target = target
        self._console = Console(
            file=StringIO(), width=_WIDTH, record=True, force_terminal=True, color_system="truecolor"
        )
        self._act = 0
        self._scene: Scene | None = None
        self._dead = False
        self._began_s: float | None = None

    def playing(self) -> AbstractContextManager[None]:
        """See `Teller`."""
        return self._teller.playing()

    def act(self, number: int, title: str, text: str) -> None:
        """See `Teller`."""
        self._teller.act(number, title, text)
        self._act = number
        if number == _ACT:
            self._keep(drawing.act(number, title, text))

    def say(self, text: str) -> None:
        """See `Teller`."""
        self._teller.say(text)

    def heard(self, line: str) -> None:
        """See `Teller`."""
        self._teller.heard(line)

    def look(self, seen: Seen, player: Player) -> None:
        """See `Teller`."""
        self._teller.look(seen, player)
        if self._began_s is None:
            self._began_s = seen.at_s
        self._scene = Scene(
            seen=seen, player=player, last=(), since_s=seen.at_s - self._began_s, width=_WIDTH, marks=Marks()
        )
        if self._dead and player.phase is Phase.DEAD:
            self._dead = False
            self._keep(drawing.guests(self._scene))

    def killed(self, pid: int, why: str, in_flight: Sequence[OpView]) -> None:
        """See `Teller`."""
        self._teller.killed(pid, why, in_flight)
        if self._act == _ACT:
            self._keep(drawing.killed(pid, why, in_flight, _WIDTH))
            self._dead = True

    def found(self, findings: Sequence[Finding], counts: Mapping[str, int]) -> None:
        """See `Teller`."""
        self._teller.found(findings, counts)
        if self._act == _ACT:
            self._keep(drawing.found(findings, counts, _WIDTH))

    def end(self, claims: Sequence[Claim], seconds: float) -> None:
        """See `Teller`."""
        self._teller.end(claims, seconds)
        if self._scene is not None:
            self._keep(drawing.end(claims, seconds, Marks(), _WIDTH))
        picture = _FONT.sub("", self._console.export_svg(title="trueup demo", unique_id="trueup"))
        try:
            self._target.write_text(f"{picture.rstrip()}\n", encoding="utf-8")
        except OSError as error:
            raise BadInput(what=f"cannot write: {error.strerror}", where=str(self._target)) from error

    def _keep(self, what: RenderableType) -> None:
        self._console.print(what, highlight=False)
