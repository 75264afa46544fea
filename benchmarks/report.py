"""The table: every figure beside its goal. A missed goal says why, or that nobody knows."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Figure, number
from benchmarks.shortfalls import REASONS

README = Path(__file__).resolve().parent / "README.md"
_BEGIN, _END = "<!-- figures: written by benchmarks/run.py -->", "<!-- end of figures -->"


def verdict(figure: Figure) -> str:
    """Whether the goal is met."""
    if figure.missing:
        return f"NOT MEASURED: {figure.missing}"
    if figure.goal is None or figure.value is None or figure.goal.met(figure.value):
        return "met"
    reason = next((why for key, why in REASONS.items() if figure.key.startswith(key)), "")
    return f"SHORT: {reason}" if reason else "MISSED"


def _cells(figure: Figure) -> tuple[str, str, str, str, str, str]:
    unit = figure.goal.unit if figure.goal else ""
    value = "–" if figure.value is None else f"{number(figure.value)} {unit}".rstrip()
    return (
        figure.what,
        value,
        figure.goal.shown() if figure.goal else "–",
        f"{figure.ours.name}: {figure.ours.shown()}" if figure.ours else "",
        f"{figure.peer.name}: {figure.peer.shown()}" if figure.peer else "",
        verdict(figure),
    )


def table(figures: Sequence[Figure]) -> str:
    """As Markdown, aligned so that a terminal shows it as well."""
    rows = [("what", "figure", "goal", "ours: median (spread)", "peer: median (spread)", ""), *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "| " + " | ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|---|", *lines[1:]])


def into_readme(figures: Sequence[Figure], when: str) -> None:
    """Put the table where people read it."""
    text = README.read_text()
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    README.write_text(f"{before}{_BEGIN}\n\n{when}.\n\n{table(figures)}\n\n{_END}{after}")
