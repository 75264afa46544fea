"""Growth as plain SVG: seconds over sizes, on logarithmic axes, so that what is in proportion is a line of slope 1."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Figure, number

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 420, 70, 20, 250, 50
_COLORS = ("#1b6ca8", "#c8553d", "#4a7c59", "#8f5fa8", "#b8860b", "#5a5a5a", "#009e8f", "#d46a9f")


def draw(figures: Sequence[Figure], folder: Path) -> None:
    """Write `growth.svg` if there is anything to draw."""
    curves = {
        figure.key.removeprefix("growth/"): list(zip(figure.notes["sizes"], figure.notes["seconds"], strict=True))
        for figure in figures
        if figure.key.startswith("growth/") and figure.notes
    }
    if curves:
        (folder / "growth.svg").write_text(_svg(curves))


def _svg(curves: dict[str, list[tuple[float, float]]]) -> str:
    points = [point for curve in curves.values() for point in curve]
    left, right = (f(math.log10(x) for x, _ in points) for f in (min, max))
    low = math.floor(min(math.log10(y) for _, y in points))
    high = math.ceil(max(math.log10(y) for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / ((right - left) or 1)
        up = (math.log10(y) - low) / ((high - low) or 1)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        _, y = at(10**left, 10.0**power)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for size in sorted({x for x, _ in points}):
        x, _ = at(size, 10.0**low)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{number(size)}</text>')
    ends = sorted((at(*curve[-1])[1], name) for name, curve in curves.items())
    label_at, last = dict[str, float](), -math.inf
    for y, name in ends:
        last = label_at[name] = max(y, last + 16)
    for color, (name, curve) in zip(_COLORS * 2, curves.items(), strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in curve))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 10}" y="{label_at[name] + 4:.1f}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
