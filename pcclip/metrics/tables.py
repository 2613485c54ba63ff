"""The table of results: JSON rows for programs, one aligned Markdown table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pcclip.atomic import atomic_text
from pcclip.files import existing_file
from pcclip.metrics.protocol import Result


def result_rows(results: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """Rows `{"model", "task", "subset", "metric", "value", "n", "low", "high"}`; undefined numbers become None."""
    return [
        {"model": model}
        | {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(result).items()
        }
        for model, rows in results.items()
        for result in rows
    ]


def markdown_table(results: Mapping[str, Sequence[Result]]) -> str:
    """One Markdown table: a row for each task, subset and metric, a column `value [low, high]` for each model.

    The columns are padded, so that it also reads well in a terminal.
    """
    cells: dict[tuple[str, str, str], dict[str, Result]] = {}
    for model, rows in results.items():
        for result in rows:
            cells.setdefault((result.task, result.subset, result.metric), {})[model] = result
    table = [["task", "subset", "metric", *results, "n"]]
    for names, by_model in cells.items():
        counts = sorted({result.n for result in by_model.values()})
        table.append(
            [
                *names,
                *(_cell(by_model.get(model)) for model in results),
                " / ".join(f"{count}" for count in counts),
            ]
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def unchanged(before: Sequence[Result], after: Sequence[Result]) -> bool:
    """Whether two models have the same rows, and all with the same number as far as the table shows it (three decimals)."""
    one, other = (
        {(row.task, row.subset, row.metric): f"{row.value:.3f}" for row in results} for results in (before, after)
    )
    return bool(one) and one == other


def write_results(file: str | Path, results: Mapping[str, Sequence[Result]]) -> tuple[Path, Path]:
    """Write the rows to `file` (JSON) and the table beside it (`.md`), each replaced in one step.

    Returns:
        The two files.
    """
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
        name = (model, result.task, result.subset, result.metric)
        if name in seen:
            raise ValueError(
                f"{file}, row {number}: {' '.join((model, '/'.join(filter(None, name[1:]))))} appears twice; remove one row"
            )
        seen.add(name)
        results.setdefault(model, []).append(result)
    return results


def _parse_row(row: Any, where: str) -> tuple[str, Result]:
    try:
        names = [row[key] for key in ("model", "task", "subset", "metric")]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"model, task, subset and metric must be texts, found {names}")
        value, low, high = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
        return names[0], Result(names[1], names[2], names[3], value, int(row["n"]), low, high)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: not a result row ({type(error).__name__}: {error}); expected model, task, subset, metric, value, n, "
            "low and high"
        ) from error


def _cell(result: Result | None) -> str:
    if result is None or math.isnan(result.value):
        return "-"
    if math.isnan(result.low):
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"
