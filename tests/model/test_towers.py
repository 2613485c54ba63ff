"""docs/reference/models.md says of every tower kind what can be trained, saved and exported. Each row is tested."""

import re
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from pcclip.model import DifferenceCLIP, load_clip, save_clip
from pcclip.model.trainable import set_trainable
from pcclip.tools.export import export
from pcclip.tools.inference import InferenceModel
from tests.helpers.models import HUGGING_FACE, KINDS, make_clip
from tests.helpers.pictures import odd_pictures

TEXTS = ["a dog", "the first is a large dog, the second a small one"]
ROWS = {
    "open_clip ViT": "vit",
    "open_clip ViT with `custom_text`": "custom_text",
    "open_clip ResNet": "resnet",
    "timm CNN": "timm_resnet",
    "timm ViT": "timm_vit",
    "SigLIP": "siglip",
    "Hugging Face text tower": "roberta",
    "CoCa": "coca",
}
PARTS = [f"{tower}{part}" for tower in ("image", "text") for part in ("", "_projection", "_transformer", "_last_K")]


@pytest.fixture(autouse=True)
def _own_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "get_tokenizer", open_clip.factory.get_tokenizer)  # not the tests' shared ones


def table() -> dict[str, list[str]]:
    """Rows of the table by their first cell."""
    text = (Path(__file__).parents[2] / "docs/reference/models.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def embeddings(model: DifferenceCLIP) -> list[Tensor]:
    """Image, text and difference embeddings of fixed inputs."""
    model.eval()
    with torch.no_grad():
        images = model.encode_images(torch.stack([model.image_transform(picture) for picture in odd_pictures()]))
        return [images, model.encode_texts(TEXTS), model.difference(images[:3], images[1:4])]


@pytest.mark.parametrize(
    ("kind", "head"), [(kind, "mlp") for kind in (*KINDS, *HUGGING_FACE)] + [("vit", "identity"), ("vit", "linear")]
)
def test_saved_folder_needs_nothing_else(tmp_path: Path, kind: str, head: str) -> None:
    settings = {"mean": [0.4, 0.5, 0.6], "interpolation": "bilinear"}
    model = make_clip(tmp_path, kind, head=head, preprocess=settings)
    for parameter in model.head.parameters():
        nn.init.normal_(parameter)
    saved = tmp_path / "saved"
    save_clip(model, saved)
    if kind in HUGGING_FACE:
        shutil.rmtree(tmp_path / "hub")
        assert len(set(model.tokenizer(TEXTS)[1].tolist())) > 5
    loaded = load_clip(f"local-dir:{saved}")
    assert loaded.image_fingerprint == model.image_fingerprint
    expected = embeddings(model)
    assert all(map(torch.equal, embeddings(loaded), expected))
    tokens = open_clip.get_tokenizer(f"local-dir:{saved}")(TEXTS)
    assert torch.equal(loaded.tokenizer.tokenize(TEXTS), tokens)
    if kind != "roberta":  # whose architecture open_clip itself reads from the hub
        towers, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{saved}")
        towers.eval()
        with torch.no_grad():
            images = towers.encode_image(
                torch.stack([preprocess(picture) for picture in odd_pictures()]), normalize=True
            )
            texts = towers.encode_text(tokens, normalize=True)
        torch.testing.assert_close(images, expected[0], rtol=0, atol=1e-6)  # the layout of the weights differs
        torch.testing.assert_close(texts, expected[1], rtol=0, atol=1e-6)
    save_clip(loaded, saved)  # into the folder that it came from
    assert all(map(torch.equal, embeddings(load_clip(f"local-dir:{saved}")), expected))


def test_every_row_is_known() -> None:
    assert table().keys() == ROWS.keys()


@pytest.mark.parametrize("row", ROWS)
def test_row_is_true(tmp_path: Path, row: str) -> None:
    example, image_parts, text_parts, tokenizer, exported = table()[row]
    name = re.fullmatch("`(.+)`", example)
    assert name is None or open_clip.get_model_config(name[1]) is not None
    model = make_clip(tmp_path, ROWS[row])
    found = []
    for part in PARTS:
        try:
            set_trainable(model, [part.replace("K", "1")])
        except ValueError:
            continue
        found.append(part)
    assert found == re.findall("`(.+?)`", f"{image_parts} {text_parts}")
    save_clip(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").exists() is (tokenizer == "saved")
    works = []
    for text_only, what in ((False, "whole model"), (True, "text tower")):
        try:
            export(InferenceModel(model, "tiny"), tmp_path / what, "huggingface", text_only=text_only)
        except ValueError:
            continue
        works.append(what)
    assert (works or ["none"])[0] == exported
