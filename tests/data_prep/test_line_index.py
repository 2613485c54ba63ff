"""The index of JSON Lines files finds what reading the whole files finds."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep import line_index
from data_prep.line_index import LineIndex
from data_prep.parts import hash64

ROWS = [{"name": "b", "n": 0}, {"name": "a", "n": 1}, {"name": "ü\u2028", "n": 3}]


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), encoding="utf-8")
    return file


def test_rows_are_found_in_all_files(tmp_path: Path) -> None:
    files = [write(tmp_path / "one", ROWS), write(tmp_path / "none", []), write(tmp_path / "two", [{"name": "c"}])]
    with LineIndex(files, {"name": str}, "name") as index:
        assert [index.get(name) for name in ("c", "ü\u2028", "b", "d")] == [{"name": "c"}, ROWS[2], ROWS[0], None]
        hashes = np.array([hash64(name) for name in ("c", "d", "a")], np.uint64)
        assert index.numbers(hashes).tolist() == [3, -1, 1]
        assert index.at(int(index.places[3])) == (files[2], {"name": "c"})
    with LineIndex(files[1:2], {"name": str}, "name") as index:
        assert index.get("b") is None


def test_another_value_of_the_same_hash_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_index, "hash64", lambda value: 7)
    with LineIndex([write(tmp_path / "rows", ROWS[:1])], {"name": str}, "name") as index:
        assert index.get("b") == ROWS[0]
        assert index.get("c") is None


def test_bad_rows_are_named(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.jsonl", ROWS), write(tmp_path / "two.jsonl", [{"name": "c"}, ROWS[1]])
    with pytest.raises(ValueError, match=r"two.jsonl, line 3: `name` 'a' .*one.jsonl, line 3"):
        LineIndex([one, two], {"name": str}, "name")
    with pytest.raises(ValueError, match=r"line 3: `name`"):
        LineIndex([write(one, [ROWS[0], {"name": 1}])], {"name": str}, "name")
    with pytest.raises(FileNotFoundError, match=r"absent.jsonl"):
        LineIndex([tmp_path / "absent.jsonl"], {"name": str}, "name")
