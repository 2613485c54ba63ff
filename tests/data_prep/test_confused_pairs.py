"""Pairs of classes that a model confuses, from pictures to the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_prep.steps.confused_pairs import ConfusedPairs
from pcclip.model import load_clip, save_clip
from tests.helpers.models import TINY

NAMES = ["blue", "green", "red"]


@pytest.mark.parametrize("by", ["closest", "disagreement"])
def test_pairs_are_chosen_once_for_each_model(
    tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Path("classes", name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), name).save(f"classes/{name}/{number}.png")
    model = load_clip(str(TINY))
    save_clip(model, "base")
    step = ConfusedPairs(
        images="classes", output="pairs.jsonl", names="names.txt", count=2, by=by,  # type: ignore[arg-type]
        templates=["a {}"], model="local-dir:base", workers=0, cache_dir="cache",
    )  # fmt: skip
    step.run()
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert 0 < len(rows) <= 2
    assert all(row["first"] < row["second"] and {row["first"], row["second"]} <= set(NAMES) for row in rows)
    assert Path("names.txt").read_text().split() == NAMES

    capsys.readouterr()
    step.run()
    assert "up to date" in capsys.readouterr().out
    with torch.no_grad():
        model.towers.token_embedding.weight.normal_()
    save_clip(model, "base")
    step.run()
    assert "pairs of 3 classes" in capsys.readouterr().out


def test_bad_templates_are_refused_before_the_model_is_made(tmp_path: Path) -> None:
    step = ConfusedPairs(
        images="nowhere", output=str(tmp_path / "p.jsonl"), count=1, templates=["a"], model="local-dir:no"
    )
    with pytest.raises(ValueError, match=r"confused_pairs: templates \['a'\]"):
        step.run()
