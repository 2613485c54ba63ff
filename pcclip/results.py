"""Rows of results: JSON for programs, one aligned Markdown table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcclip.atomic import atomic_text
from pcclip.paths import existing_file


@dataclass(frozen=True)
class Result:
    """One number: a row of `results.json` without the model's name."""

    task: str
    """Kind of the task, for example `attribute_ranking` or `zero_shot`."""
    subset: str
    """Name of the task, and what within it was judged, for example `demo/size`."""
    metric: str
    """For example `forced_choice`."""
    value: float
    """In its natural unit: accuracies and correlations as fractions. NaN if undefined."""
    n: int
    """Number of items judged: pairs, images or texts, as the metric says."""
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    """Upper end."""
    factor: float | None = None
    """The number that the metric was repeated for: lambda of arithmetic, alpha of comparative prompting, shots of probes."""
    alpha: float | None = None
    """Weight of the finetuned model in a weight ensemble: 0 is the base, 1 the finetuned model. None for other models."""

    @property
    def key(self) -> tuple[str, str, str, float | None]:
        """What the number is of: task, subset, metric and factor."""
        return self.task, self.subset, self.metric, self.factor

    @property
    def tag(self) -> str:
        """Name for loggers and monitors: `task/subset/metric`, with `_factor` if there is one."""
        name = "/".join(filter(None, (self.task, self.subset, self.metric)))
        return name if self.factor is None else f"{name}_{self.factor:g}"


def result_rows(results: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """Return rows with the keys `model` and those of `Result`. Undefined numbers become None."""
    return [
        {"model": model} | {key: None if value != value else value for key, value in asdict(result).items()}
        for model, found in results.items()
        for result in found
    ]


def markdown_table(results: Mapping[str, Sequence[Result]]) -> str:
    """Return one Markdown table: a row for each number, a column `value [low, high]` for each model.

    The columns are padded, so that it also reads well in a terminal. There is a column `factor` if any row has one.
    """
    cells: dict[tuple[str, str, str, float | None], dict[str, Result]] = {}
    for model, found in results.items():
        for result in found:
            cells.setdefault(result.key, {})[model] = result
    factors = any(factor is not None for *_, factor in cells)
    table = [["task", "subset", "metric", *(["factor"] if factors else []), *results, "n"]]
    for (*names, factor), by_model in cells.items():
        shown = ["" if factor is None else f"{factor:g}"] if factors else []
        counts = " / ".join(str(count) for count in sorted({result.n for result in by_model.values()}))
        table.append([*names, *shown, *(_cell(by_model.get(model)) for model in results), counts])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def unchanged(before: Sequence[Result], after: Sequence[Result]) -> bool:
    """Return whether two models have the same rows, all with equal numbers at the table's three decimals."""
    one, other = ({row.key: f"{row.value:.3f}" for row in results} for results in (before, after))
    return bool(one) and one == other


def write_results(file: str | Path, results: Mapping[str, Sequence[Result]]) -> tuple[Path, Path]:
    """Write the rows to `file` (JSON) and the table next to it (`.md`), and return both files."""
    file = Path(file)
    rows = ",\n ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in result_rows(results))
    table_file = file.with_suffix(".md")
    with atomic_text(file) as stream:
        stream.write(f"[\n {rows}\n]\n" if rows else "[]\n")
    with atomic_text(table_file) as stream:
        stream.write(markdown_table(results))
    return file, table_file


def read_results(file: str | Path) -> dict[str, list[Result]]:
    """Read what `write_results` wrote: model name to its results, in the order of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a list of result rows, has none, or has one twice.
    """
    file = existing_file(file, "results", "`pcclip fit` and `pcclip test` write them (ResultsTable)")
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}); run the experiment again") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{file}: expected a list of result rows, as ResultsTable writes them, found {str(rows)[:40]}")
    results: dict[str, list[Result]] = {}
    seen = set()
    for number, row in enumerate(rows, start=1):
        model, result = _parse_row(row, f"{file}, row {number}")
        if (model, result.key) in seen:
            raise ValueError(f"{file}, row {number}: {model} {result.tag} appears twice; remove one row")
        seen.add((model, result.key))
        results.setdefault(model, []).append(result)
    return results


def _parse_row(row: Any, where: str) -> tuple[str, Result]:
    try:
        names = [row[key] for key in ("model", "task", "subset", "metric")]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"model, task, subset and metric must be texts, found {names}")
        value, low, high = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
        factor, alpha = (None if row.get(key) is None else float(row[key]) for key in ("factor", "alpha"))
        return names[0], Result(names[1], names[2], names[3], value, int(row["n"]), low, high, factor, alpha)
    except (KeyError, TypeError, ValueError) as error:
        columns = ", ".join(["model", *Result.__dataclass_fields__])
        raise ValueError(f"{where}: not a result row ({type(error).__name__}: {error}); expected {columns}") from error


def _cell(result: Result | None) -> str:
    if result is None or math.isnan(result.value):
        return "-"
    if math.isnan(result.low):
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"
