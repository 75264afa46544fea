"""The parts of the picture: the guests with everything that was done to them, a blow, what was found, what held."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from rich.box import HEAVY, ROUNDED
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trueup.adapters.sim_control import SimGuest
from trueup.edges.demo.cast import CAST, Role
from trueup.edges.demo.claims import Claim
from trueup.edges.demo.findings import Finding, name_of
from trueup.edges.demo.sight import Seen, is_open
from trueup.edges.demo.teller import Phase, Player, counts_line
from trueup.model.ops import OpState, OpView, Reason

_WIDE: Final = 110
"""Columns from which on there is room for where a guest comes from."""

_NEVER: Final = frozenset({Reason.NOT_STARTED, Reason.PRESUMED_NOT_STARTED})
_VERDICT_COLOR: Final = {
    "resumed": "green",
    "failed": "red",
    "rolled_back": "cyan",
    "still_running": "yellow",
    "unresolved": "magenta",
}


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """The signs of a terminal that speaks UTF-8, and of one that does not."""

    done: str = "✔"
    failed: str = "✘"
    never: str = "↺"
    unknown: str = "?"
    running: str = "●"
    stopped: str = "○"
    locked: str = "◐"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


ASCII: Final = Marks(done="+", failed="x", never="o", running="*", stopped="-", locked="~", spinner="|/-\\")


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """All that the live picture shows; `last` is what the agent said last."""

    seen: Seen
    player: Player
    last: Sequence[str]
    since_s: float
    width: int
    marks: Marks


def guests(scene: Scene) -> RenderableType:
    """The eight guests: what PVE has, and what was done about each, in order."""
    table = Table.grid(padding=(0, 2))
    for role in CAST:
        ops = [op for op in scene.seen.ops if op.intent.vmid == role.vmid]
        what = [Text(role.what, style="dim")] if scene.width >= _WIDE else []
        table.add_row(
            Text(str(role.vmid), style="dim"),
            Text(role.name, style="bold"),
            *what,
            _health(role, scene.seen.guests.get(role.vmid), scene.marks),
            _deeds(ops, scene),
        )
    title, color = _title(scene)
    return Panel(
        table,
        box=ROUNDED,
        title=Text(f" {title} ", style=f"bold {color}"),
        title_align="left",
        subtitle=Text(f" {scene.since_s:.0f} s ", style="dim"),
        subtitle_align="right",
        border_style=color,
        width=scene.width,
    )


def _title(scene: Scene) -> tuple[str, str]:
    match scene.player.phase:
        case Phase.RECOVERING:
            return f"agent {scene.player.pid} comes up: recovery first, it may change nothing yet", "yellow"
        case Phase.WORKING:
            return f"agent {scene.player.pid} at work, epoch {scene.seen.epoch} of the journal", "green"
        case Phase.DEAD:
            return "the agent is dead, PVE works on", "red"
        case Phase.DONE:
            return "the agent has done its work", "green"


def live(scene: Scene) -> RenderableType:
    """The guests, and what the agent says."""
    lines = [Text(f"  {line}", style="dim", overflow="ellipsis", no_wrap=True) for line in scene.last]
    return Group(guests(scene), *lines)


def _health(role: Role, guest: SimGuest | None, marks: Marks) -> Text:
    if guest is None:
        return Text("  absent", style="dim")
    if guest.lock:
        return Text(f"{marks.locked} locked: {guest.lock}", style="yellow")
    if guest.status == "running":
        return Text(f"{marks.running} running", style="green")
    return Text(f"{marks.stopped} stopped", style="green" if "stays stopped" in role.what else "dim")


def _deeds(ops: Sequence[OpView], scene: Scene) -> Text:
    text = Text(overflow="ellipsis", no_wrap=True)
    for op in ops:
        text.append(f"{op.intent.kind.value} ")
        text.append_text(_mark(op, scene))
        text.append("  ")
    return text


def _mark(op: OpView, scene: Scene) -> Text:
    marks = scene.marks
    if is_open(op):
        if scene.player.phase is not Phase.WORKING:
            return Text(marks.unknown, style="bold red")
        frame = marks.spinner[int(scene.seen.at_s * 10) % len(marks.spinner)]
        took_s = (scene.seen.now_ms - op.started_at_ms) / 1000
        return Text.assemble((frame, "cyan"), (f" {took_s:.0f} s", "dim"))
    if op.state is OpState.SUCCEEDED:
        return Text(marks.done, style="green")
    return Text(marks.never, style="cyan") if op.reason in _NEVER else Text(marks.failed, style="red")


def act(number: int, title: str, text: str) -> RenderableType:
    """The head of an act."""
    head = f"{number}  {title}" if number else title
    return Group(Text(), Text(head, style="bold yellow"), Text(text, style="dim"), Text())


def killed(pid: int, why: str, in_flight: Sequence[OpView], width: int) -> RenderableType:
    """A blow."""
    names = ", ".join(name_of(op) for op in in_flight)
    return Panel(
        Text.assemble(("What became of these, nobody knows now: ", "bold"), names),
        box=HEAVY,
        title=Text(f" SIGKILL to agent {pid}, {why} ", style="bold white on red"),
        title_align="left",
        border_style="bold red",
        width=width,
    )


def found(findings: Sequence[Finding], counts: Mapping[str, int], width: int) -> RenderableType:
    """What a recovery found, with the rows that decided, each explained once."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("operation", no_wrap=True)
    table.add_column("when the agent died", ratio=5)
    table.add_column("what its successor found", ratio=9)
    table.add_column("verdict", no_wrap=True)
    table.add_column("row", no_wrap=True)
    for one in findings:
        table.add_row(
            Text(one.name, style="bold"),
            one.left,
            one.found,
            Text(one.verdict, style=f"bold {_VERDICT_COLOR[one.count]}"),
            Text(one.row.value, style="cyan"),
        )
    rows = {one.row: one.why for one in sorted(findings, key=lambda one: int(one.row.value[1:]))}
    why = Table.grid(padding=(0, 2))
    for row, text in rows.items():
        why.add_row(Text(row.value, style="cyan"), Text(text, style="dim"))
    return Panel(
        Group(table, Text(), why),
        box=ROUNDED,
        title=Text(f" Recovery: {counts_line(counts)} ", style="bold"),
        title_align="left",
        border_style="blue",
        width=width,
    )


def end(claims: Sequence[Claim], seconds: float, marks: Marks, width: int) -> RenderableType:
    """What was claimed, and whether it held."""
    table = Table.grid(padding=(0, 2))
    for claim in claims:
        mark = Text(marks.done, style="bold green") if claim.held else Text(marks.failed, style="bold red")
        detail = f" ({claim.detail})" if claim.detail else ""
        table.add_row(mark, Text.assemble((claim.text, "" if claim.held else "red"), (detail, "dim")))
    held = all(claim.held for claim in claims)
    title = f" {'All of it held' if held else 'It did not hold'}, after {seconds:.0f} s "
    color = "green" if held else "red"
    return Panel(
        table,
        box=ROUNDED,
        title=Text(title, style=f"bold {color}"),
        title_align="left",
        border_style=color,
        width=width,
    )
