"""The table of results: JSON rows for programs, one aligned Markdown table for people."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pcclip.evaluation.protocol import Result


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


def write_results(file: str | Path, results: Mapping[str, Sequence[Result]]) -> tuple[Path, Path]:
    """Write the rows to `file` (JSON) and the table beside it (`.md`), each replaced in one step.

    Returns:
        The two files.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in result_rows(results))
    table_file = file.with_suffix(".md")
    _replace(file, f"[\n {rows}\n]\n" if rows else "[]\n")
    _replace(table_file, markdown_table(results))
    return file, table_file


def _cell(result: Result | None) -> str:
    if result is None or math.isnan(result.value):
        return "-"
    if math.isnan(result.low):
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
