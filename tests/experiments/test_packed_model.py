"""A packed model is small, and unpacked it encodes what it was trained on as before."""

import json
from pathlib import Path

import pytest
import torch

from pcclip.experiments.packed_model import pack_model, unpack_model
from pcclip.model.loading import load_clip, save_clip
from tests.helpers.models import TINY


def test_packed_and_unpacked_model_encodes_as_before(tmp_path: Path) -> None:
    model = load_clip(str(TINY)).eval()
    model.towers.token_embedding.weight.data.mul_(3)
    save_clip(model, tmp_path / "model")
    texts = ["two red stars", "a dark background"]
    (tmp_path / "captions.jsonl").write_text(json.dumps({"id": "a", "file": "a.png", "captions": texts}) + "\n")
    pack_model(tmp_path / "model", tmp_path / "captions.jsonl", tmp_path / "packed.safetensors")
    unpack_model(tmp_path / "packed.safetensors", TINY, tmp_path / "again")
    again = load_clip(f"local-dir:{tmp_path / 'again'}").eval()
    images = torch.rand(2, 3, *model.towers.visual.image_size)
    with torch.no_grad():
        torch.testing.assert_close(again.encode_texts(texts), model.encode_texts(texts), atol=2e-3, rtol=0)
        torch.testing.assert_close(again.encode_images(images), model.encode_images(images), atol=2e-3, rtol=0)
    table = again.towers.token_embedding.weight
    assert float(table.std()) == pytest.approx(float(model.towers.token_embedding.weight.std()), rel=0.1)
    whole, packed = (tmp_path / "model/open_clip_model.safetensors", tmp_path / "packed.safetensors")
    assert packed.stat().st_size < whole.stat().st_size / 2
