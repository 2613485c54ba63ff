"""Readers of comparative texts, class pairs and attribute prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcclip.datasets.comparatives import read_class_pairs, read_comparatives
from pcclip.metrics.protocol import Comparative


def test_one_row_a_direction_or_one_for_both(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(
        '{"first": "ant", "second": "bee", "text": "ants do not fly, unlike bees", "pair_id": "7"}\n\n'
        '{"first": "cat", "second": "dog", "text": "cats purr, dogs bark ", "reverse_text": "dogs bark, cats purr"}\n'
    )
    assert read_comparatives(file) == [
        Comparative("ant", "bee", "ants do not fly, unlike bees"),
        Comparative("cat", "dog", "cats purr, dogs bark"),
        Comparative("dog", "cat", "dogs bark, cats purr"),
    ]
    assert read_class_pairs(file) == {frozenset(("ant", "bee")), frozenset(("dog", "cat"))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no row; expected comparative texts"),
        ('{"first": "ant", "text": "x"}', "line 1: expected class names `first` and `second`, found 'ant' and None"),
        ('{"first": "ant", "second": 3, "text": "x"}', "found 'ant' and 3"),
        ('{"first": "ant", "second": "ant", "text": "x"}', '"ant" is paired with itself'),
        ('{"first": "ant", "second": "bee"}', "`text` .* is empty"),
        ('{"first": "ant", "second": "bee", "text": " "}', "`text` .* is empty"),
        ('{"first": "ant", "second": "bee", "text": "x", "reverse_text": ""}', "`text` .* is empty"),
        ('{"first": "ant", "second": "bee", "text": "x"}\n' * 2, 'line 2: the same text of "ant" against "bee" twice'),
        ("[]", "line 1: expected an object"),
    ],
)
def test_bad_comparatives(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "texts.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_comparatives(tmp_path / "texts.jsonl")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"comparative texts not found; `pcclip-data class_texts --pairs` writes them"
    ):
        read_comparatives(tmp_path / "texts.jsonl")
    with pytest.raises(FileNotFoundError, match=r"pairs of classes not found; `pcclip-data confused_pairs`"):
        read_class_pairs(tmp_path / "pairs.jsonl")
