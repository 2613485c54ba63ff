"""The check of `screen` by a model that sees the pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from data_prep.steps import screen, tower

COLOURS = ("red", "green", "blue")


class ColourModel:
    """Embeds pictures by their mean colour, and texts by the colour of the first image minus that of the second."""

    device = torch.device("cpu")
    embed_dim = 3

    def require_image_tower(self, pictures: str) -> None:
        pass

    def image_transform(self, image: Image.Image) -> Tensor:
        return torch.tensor(list(image.convert("RGB").getdata()), dtype=torch.float32).T.reshape(3, 8, 8)

    def encode_images(self, images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        signs = [
            [(text.find(name) < 45) - (text.find(name) >= 45) if name in text else 0 for name in COLOURS]
            for text in texts
        ]
        return torch.nn.functional.normalize(torch.tensor(signs, dtype=torch.float32), dim=-1)

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.nn.functional.normalize(first - second, dim=-1)


def test_texts_must_fit_better_than_reversed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tower, "load_tower", lambda *arguments: asked.append(arguments) or ColourModel())
    monkeypatch.setattr(tower, "ROWS", 2)
    captions = []
    for name in COLOURS:
        Image.new("RGB", (8, 8), name).save(tmp_path / f"{name}.png")
        captions.append({"id": name, "file": f"{name}.png", "captions": ["a surface"]})
    pairs = [("red", "green"), ("green", "blue"), ("blue", "red"), ("red", "blue")]
    rows = []
    for number, (first, second) in enumerate(pairs):
        shown = (second, first) if number in (1, 3) else (first, second)
        texts = [
            f"The first image shows a {a} wall, while the second image shows a {b} wall."
            for a, b in (shown, shown[::-1])
        ]
        ids = {"pair_id": str(number), "group": "g", "first": first, "second": second}
        rows.append({**ids, "text": texts[0], "reverse_text": texts[1]})
    for file, content in (("captions", captions), ("differences", rows)):
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("differences", "captions", "output")}
    screen.Screen(**paths, fit_model="local-dir:model").run()
    assert asked == [("local-dir:model", None, "screen.fit_model")]
    rejected = [json.loads(line) for line in (tmp_path / "output.rejected.jsonl").read_text().splitlines()]
    assert [(row["pair_id"], row["reason"]) for row in rejected] == [("1", "misfit"), ("3", "misfit")]
    passed = [json.loads(line) for line in (tmp_path / "output.jsonl").read_text().splitlines()]
    assert passed == [rows[0], rows[2]]
