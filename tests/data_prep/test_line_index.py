"""The index of a JSON Lines file finds what reading the whole file finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.line_index import LineIndex

ROWS = [{"name": "b", "n": 0}, {"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "ü\u2028", "n": 3}]


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), encoding="utf-8")
    return file


def test_rows_are_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    with LineIndex(write(tmp_path, ROWS), {"name": str}, "name") as index:
        assert len(index) == 4
        assert list(index.values()) == ["b", "a", "ü\u2028"]
        assert index.rows("b") == [(1, ROWS[0]), (5, ROWS[2])]
        assert index.get("ü\u2028") == ROWS[3]
        assert index.rows("c") == []
        assert index.get("c") is None


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with LineIndex(write(tmp_path, ROWS), {"name": str}, "name"):
        assert list(scratch.iterdir())
    with pytest.raises(ValueError, match=r"rows.jsonl, line 5: `name` 'b' was already used in line 1"):
        LineIndex(write(tmp_path, ROWS), {"name": str}, "name", unique=True)
    assert not list(scratch.iterdir())


def test_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 3: `name` must be a str, found 1"):
        LineIndex(write(tmp_path, [ROWS[0], {"name": 1}]), {"name": str}, "name")
    with pytest.raises(FileNotFoundError, match="file not found"):
        LineIndex(tmp_path / "absent.jsonl", {"name": str}, "name")
