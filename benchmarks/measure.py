"""What benchmarks do alike: take turns with a baseline, and show their rows."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import psutil

from benchmarks.common import write


class Taken(NamedTuple):
    """What one turn of a work took, in seconds.

    Attributes:
        clock: By the clock.
        processor: Of processor time, of this process and its children; other load on the machine hardly changes it.
    """

    clock: float
    processor: float


def alternate(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[Taken]]:
    """What each work takes, in turns so that other load falls on all; a first round is not counted."""
    taken: dict[str, list[Taken]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            clock, processor = time.perf_counter(), _processor_time()
            work()
            if turn:
                taken[name].append(Taken(time.perf_counter() - clock, _processor_time() - processor))
    return taken


def _processor_time() -> float:
    """Seconds of processor time that this process and its children have used so far."""
    own = psutil.Process()
    times = [own.cpu_times(), *(child.cpu_times() for child in own.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return float(ended + sum(one.user + one.system for one in times))


def speed_rows(
    count: int, taken: Mapping[str, Sequence[Taken]], rate: str = "pairs/s", **labels: object
) -> list[dict[str, Any]]:
    """One row for each work; the first is the baseline, and ratios are medians of the turns'."""
    baseline = next(iter(taken.values()))
    return [
        {
            **labels,
            "step": name,
            rate: count / median(turn.clock for turn in turns),
            "slowest": count / max(turn.clock for turn in turns),
            "fastest": count / min(turn.clock for turn in turns),
            "ratio": median(plain.clock / own.clock for plain, own in zip(baseline, turns, strict=True)),
            "processor ms": 1000 * median(turn.processor for turn in turns) / count,
            "ratio by processor": _ratio_of_sums(baseline, turns),
        }
        for name, turns in taken.items()
    ]


def _ratio_of_sums(baseline: Sequence[Taken], turns: Sequence[Taken]) -> float:
    # of sums, for the system counts processor time in hundredths of a second
    return sum(turn.processor for turn in baseline) / max(sum(turn.processor for turn in turns), 0.01)


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
