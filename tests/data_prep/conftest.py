"""Fixtures of the data_prep tests: a small embedded world, and plain readers and writers of JSON Lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.steps import describe, pairs
from data_prep.world import shapes

Rows = list[dict[str, Any]]
Read = Callable[[Path], Rows]
Write = Callable[[str, Rows], Path]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `shapes/` of few pictures, `pairs.jsonl` and `differences.jsonl`. Tests must not write into it."""
    root = tmp_path_factory.mktemp("world")
    shapes.Shapes(output=str(root / "shapes"), train=48, val=12, test=10, per_class=2, workers=1).run()
    captions = str(root / "shapes/train/captions.jsonl")
    pairs.Pairs(captions=captions, output=str(root / "pairs.jsonl"), group_size=8, pairs_per_group=20).run()
    describe.Describe(pairs=str(root / "pairs.jsonl"), captions=captions, output=str(root / "differences.jsonl")).run()
    return root


@pytest.fixture
def read() -> Read:
    """Read JSON Lines plainly, independently of data_prep."""

    def read_lines(path: Path) -> Rows:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read_lines


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write JSON Lines plainly into the test's folder."""

    def write_lines(name: str, rows: Rows) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_lines
