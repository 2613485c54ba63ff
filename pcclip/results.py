"""Result rows as JSON, and as a Markdown table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from pcclip.atomic import atomic_text
from pcclip.paths import existing_file

# A float; NaN is null in JSON.
Number = Annotated[float, BeforeValidator(lambda number: math.nan if number is None else number)]


@dataclass(frozen=True)
class Result:
    """One result: a row of `results.json` without the name of the model."""

    task: str
    """Kind of the task, for example `attribute_ranking` or `zero_shot`."""
    subset: str
    """Name of the task, and which part of it was evaluated, for example `demo/size`."""
    metric: str
    """For example `forced_choice`."""
    value: Number
    """Value of the metric; accuracies and correlations are fractions. NaN if undefined."""
    n: int
    """Number of evaluated items: pairs, images or texts, depending on the metric."""
    low: Number
    """Lower end of the 95 % bootstrap interval."""
    high: Number
    """Upper end of the interval."""
    factor: float | None = None
    """Parameter of the metric: lambda of arithmetic, alpha of comparative prompting, shots of probes, or number of examples."""
    alpha: float | None = None
    """Weight of the finetuned model in a weight ensemble, from 0 (base) to 1 (finetuned). None for other models."""

    @property
    def key(self) -> tuple[str, str, str, float | None]:
        """Task, subset, metric and factor, which identify a result of one model."""
        return self.task, self.subset, self.metric, self.factor

    @property
    def tag(self) -> str:
        """Name for loggers and monitors: `task/subset/metric`, with `_factor` if there is one."""
        name = "/".join(filter(None, (self.task, self.subset, self.metric)))
        return name if self.factor is None else f"{name}_{self.factor:g}"


@dataclass(frozen=True, kw_only=True)
class _Row(Result):
    model: str


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
    return markdown_rows(table, pad=True)


def markdown_rows(rows: Sequence[Sequence[str]], pad: bool = False) -> str:
    """Return a Markdown table. The first row has the headings. Padded columns also read well in a terminal."""
    widths = [max(map(len, column)) if pad else 0 for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * max(3, width) for width in widths))
    return "".join(f"| {line} |\n" for line in lines)


def unchanged(before: Sequence[Result], after: Sequence[Result]) -> bool:
    """Return whether two models have the same rows with equal values to three decimals."""
    one, other = ({row.key: f"{row.value:.3f}" for row in results} for results in (before, after))
    return bool(one) and one == other


def write_results(
    file: str | Path, results: Mapping[str, Sequence[Result]], page: str | None = None
) -> tuple[Path, Path]:
    """Write the rows to `file` (JSON) and a Markdown page next to it (default: one table). Return both paths."""
    file = Path(file)
    fields = (
        {"model": model} | {key: None if number != number else number for key, number in asdict(result).items()}
        for model, found in results.items()
        for result in found
    )
    rows = ",\n ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in fields)
    table_file = file.with_suffix(".md")
    with atomic_text(file) as stream:
        stream.write(f"[\n {rows}\n]\n" if rows else "[]\n")
    with atomic_text(table_file) as stream:
        stream.write(markdown_table(results) if page is None else page)
    return file, table_file


def read_results(file: str | Path) -> dict[str, list[Result]]:
    """Read the results of each model, in the order of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no list of result rows, is empty, or has a row twice.
    """
    file = existing_file(file, "results", "`pcclip fit` and `pcclip test` write them (ResultsTable)")
    try:
        rows = TypeAdapter(list[_Row]).validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = [f"row {part + 1}" if isinstance(part, int) else part for part in first["loc"]]
        reason = ": ".join([*where, first["msg"]])
        raise ValueError(f"{file}: {reason}; expected a list of result rows, as ResultsTable writes them") from error
    if not rows:
        raise ValueError(f"{file}: has no result row; run the experiment again")
    results: dict[str, list[Result]] = {}
    seen = set()
    for number, row in enumerate(rows, start=1):
        if (row.model, row.key) in seen:
            raise ValueError(f"{file}, row {number}: {row.model} {row.tag} appears twice; remove one row")
        seen.add((row.model, row.key))
        fields = {name: getattr(row, name) for name in Result.__dataclass_fields__}
        results.setdefault(row.model, []).append(Result(**fields))
    return results


def _cell(result: Result | None) -> str:
    if result is None or math.isnan(result.value):
        return "-"
    if math.isnan(result.low):
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"
