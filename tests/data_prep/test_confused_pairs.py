"""Pairs of classes that a model confuses, from pictures to the file."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from data_prep.steps.confused_pairs import ConfusedPairs, closest_pairs, disagreement_pairs
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


# classes 0 and 3 are close, 1 and 2 a little less, 4 stands alone
EMBEDDINGS = normalize(
    torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0.6, 0], [1, 0, 0.4, 0], [0, 0, 0, 1]]), dim=-1
)


def test_closest_pairs() -> None:
    assert closest_pairs(EMBEDDINGS, 2) == [(0, 3), (1, 2)]
    assert len(closest_pairs(EMBEDDINGS, 99)) == 10


def test_disagreement_is_about_the_undecided_images() -> None:
    between = [(1, 2)] * 3 + [(0, 3)] * 2  # more images lie between 1 and 2
    undecided = torch.stack([EMBEDDINGS[one] + EMBEDDINGS[other] for one, other in between])
    sure = torch.stack([EMBEDDINGS[4] + 0.1 * EMBEDDINGS[0]] * 5)  # their second class means nothing
    images = normalize(torch.cat([undecided, sure]), dim=-1)
    assert disagreement_pairs(images, EMBEDDINGS, 2) == [(1, 2), (0, 3)]
    assert disagreement_pairs(images, EMBEDDINGS, 1) == [(1, 2)]
