"""The table of results on disk."""

import json
import math
from pathlib import Path

from pcclip.results import Result, read_results, unchanged, write_results

RESULTS = {
    "base": [Result("zero_shot", "shape", "top1", 0.5, 40, 0.4, 0.6)],
    "finetuned": [
        Result("zero_shot", "shape", "top1", 0.75, 40, 0.6, 0.9),
        Result("zero_shot", "colour", "top1", 1.0, 20, math.nan, math.nan),
    ],
}


def test_rows_and_table(tmp_path: Path) -> None:
    file, table = write_results(tmp_path / "deep" / "results.json", RESULTS)
    rows = json.loads(file.read_text())
    assert rows[0] == {
        "model": "base", "task": "zero_shot", "subset": "shape", "metric": "top1",
        "value": 0.5, "n": 40, "low": 0.4, "high": 0.6, "factor": None, "alpha": None,
    }  # fmt: skip
    assert rows[2]["low"] is None
    lines = table.read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "task", "subset", "metric", "base", "finetuned", "n",
    ]  # fmt: skip
    assert "| zero_shot | shape  | top1   | 0.500 [0.400, 0.600] | 0.750 [0.600, 0.900] | 40 |" in lines
    assert "| zero_shot | colour | top1   | -                    | 1.000                | 20 |" in lines
    assert sorted(path.name for path in file.parent.iterdir()) == ["results.json", "results.md"]


def test_factors_and_alphas_are_columns(tmp_path: Path) -> None:
    rows = [Result("arithmetic", "grid", "recall1", value, 9, 0, 1, value, alpha=0.7) for value in (0.5, 1)]
    file, table = write_results(tmp_path / "results.json", {"ensembled 0.7": rows, "base": rows[:1]})
    assert read_results(file) == {"ensembled 0.7": rows, "base": rows[:1]}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.read_text().splitlines()]
    assert cells[0] == ["task", "subset", "metric", "factor", "ensembled 0.7", "base", "n"]
    assert [row[3] for row in cells[2:]] == ["0.5", "1"]
    assert [row.tag for row in rows] == ["arithmetic/grid/recall1_0.5", "arithmetic/grid/recall1_1"]


def test_numbers_are_compared_as_the_table_shows_them() -> None:
    def result(value: float, metric: str = "top1") -> Result:
        return Result("zero_shot", "shape", metric, value, 10, 0, 1)

    one = [result(0.5), result(math.nan, "worst_class")]
    assert unchanged(one, [result(0.5002), result(math.nan, "worst_class")])
    assert not unchanged(one, [result(0.501), result(math.nan, "worst_class")])
    assert not unchanged(one, [result(0.5), result(0.1, "worst_class")])
    assert not unchanged(one, one[:1])
    assert not unchanged([], [])
