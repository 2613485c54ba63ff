"""The table of results on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import markdown_table, write_results

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
        "value": 0.5, "n": 40, "low": 0.4, "high": 0.6,
    }  # fmt: skip
    assert rows[2]["low"] is None
    lines = table.read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "task", "subset", "metric", "base", "finetuned", "n",
    ]  # fmt: skip
    assert "| zero_shot | shape  | top1   | 0.500 [0.400, 0.600] | 0.750 [0.600, 0.900] | 40 |" in lines
    assert "| zero_shot | colour | top1   | -                    | 1.000                | 20 |" in lines
    assert sorted(path.name for path in file.parent.iterdir()) == ["results.json", "results.md"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", RESULTS)
    write_results(tmp_path / "results.json", {})
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert markdown_table({}).startswith("| task | subset | metric | n |")
