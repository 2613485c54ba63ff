"""A small line chart as SVG: values with their intervals over a number between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from pcclip.evaluation.protocol import Result

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 30, 36
LINE = 15  # height of a line of the legend
COLOURS = ("#0b62a3", "#a34a08", "#2a7d46", "#8a3ffc", "#b3261e", "#5b5b00", "#007d79", "#9f1853")

Points = Sequence[tuple[float, Result]]


def line_chart(title: str, series: Mapping[str, Points], x_label: str = "alpha") -> str:
    """Draw each series as a line with a band for its intervals.

    Args:
        title: Written above.
        series: Name to its points, (x, result), x from 0 to 1 ascending; undefined numbers are left out.
        x_label: Written below.
    """
    shown = {
        name: [(x, result) for x, result in points if not math.isnan(result.value)] for name, points in series.items()
    }
    values = [
        value
        for points in shown.values()
        for _, result in points
        for value in (result.value, result.low, result.high)
        if not math.isnan(value)
    ]
    low, high, step = _range(values or [0.0, 1.0])
    height = HEIGHT + LINE * len(shown)

    def place(x: float, y: float) -> str:
        across = LEFT + x * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="11" fill="currentColor"><title>{escape(title)}</title>',
        f'<text x="{LEFT}" y="18" font-size="13" font-weight="600">{escape(title)}</text>',
    ]
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        at = place(0, value).split(",")[1]
        parts.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="0.15"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(at) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for x in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = place(x, low).split(",")[0]
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for number, (name, points) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        banded = [(x, result) for x, result in points if not math.isnan(result.low)]
        upper = [place(x, result.high) for x, result in banded]
        lower = [place(x, result.low) for x, result in reversed(banded)]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" fill-opacity="0.15"/>')
        line = " ".join(place(x, result.value) for x, result in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, result in points:
            across, down = place(x, result.value).split(",")
            parts.append(
                f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"><title>{escape(name)}, {x:g}: {result.value:.3f}'
                "</title></circle>"
            )
        top = HEIGHT + LINE * number + 10
        parts.append(f'<rect x="{LEFT}" y="{top - 8}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 16}" y="{top + 1}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """A round range that holds the values, and a step of its ticks."""
    low, high = min(values), max(values)
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 6 or step == 0.5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return (low, high, step) if high > low else (low - step, high + step, step)
