"""Readers of comparative texts and of lists of confused classes (JSON Lines)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pcclip.datasets.tables import read_jsonl
from pcclip.metrics.protocol import Comparative
from pcclip.paths import existing_file


def read_comparatives(file: str | Path) -> list[Comparative]:
    """Read texts that say how classes differ: rows `{"first", "second", "text"}`, `text` describes first against second.

    As in `differences.jsonl` a row may also have `reverse_text`, which describes second against first. Other keys have no
    meaning here.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row that is not of that form, a class compared with itself, a text given twice, or no row.
    """
    file = Path(file)
    found: dict[Comparative, None] = {}
    for where, row in _rows(file, "comparative texts", "`pcclip-data class_texts --pairs` writes them"):
        first, second = _pair(row, where)
        texts = {(first, second): row.get("text"), (second, first): row.get("reverse_text")}
        for (a, b), text in texts.items():
            if text is None and (a, b) == (second, first):
                continue
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{where}: `text` (or `reverse_text`) is empty or no text; write a sentence")
            comparative = Comparative(a, b, text.strip())
            if comparative in found:
                raise ValueError(f'{where}: the same text of "{a}" against "{b}" twice; remove one')
            found[comparative] = None
    return list(found)


def read_class_pairs(file: str | Path) -> set[frozenset[str]]:
    """Read pairs of classes: rows `{"first", "second"}`, in either order.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row that is not of that form, a class paired with itself, or no row.
    """
    rows = _rows(Path(file), "pairs of classes", "`pcclip-data confused_pairs` writes them")
    return {frozenset(_pair(row, where)) for where, row in rows}


def _rows(file: Path, content: str, remedy: str) -> list[tuple[str, dict[str, Any]]]:
    existing_file(file, content, f"{remedy}, or check the path")
    _, records = read_jsonl(file)
    if not records:
        raise ValueError(f"{file}: no row; expected {content}")
    return [(f"{file}, line {line}", row) for line, row in records]


def _pair(row: dict[str, Any], where: str) -> tuple[str, str]:
    first, second = row.get("first"), row.get("second")
    if not isinstance(first, str) or not isinstance(second, str) or not first or not second:
        raise ValueError(f"{where}: expected class names `first` and `second`, found {first!r} and {second!r}")
    if first == second:
        raise ValueError(f'{where}: "{first}" is paired with itself; name two classes')
    return first, second
