"""What benchmarks do alike: take turns with a baseline, and show their rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.common import write


def alternate(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds that each work takes, in turns so that other load falls on all; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def speed_rows(
    count: int, seconds: Mapping[str, Sequence[float]], rate: str = "pairs/s", **labels: object
) -> list[dict[str, Any]]:
    """One row for each work; the first is the baseline, and ratios are medians of the turns'."""
    baseline = next(iter(seconds.values()))
    return [
        {
            **labels,
            "step": name,
            rate: count / median(taken),
            "slowest": count / max(taken),
            "fastest": count / min(taken),
            "ratio": median(plain / own for plain, own in zip(baseline, taken, strict=True)),
        }
        for name, taken in seconds.items()
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table, numbers to three figures."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_shown(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table and write the JSON file."""
    print(table(rows))
    print(f"\nwritten to {write(name, rows)}")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
