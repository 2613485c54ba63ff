"""A saved folder holds all that a model needs, for every kind of tower."""

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from pcclip.model import DifferenceCLIP, load_clip, save_clip
from tests.helpers.models import HUGGING_FACE, KINDS, make_clip
from tests.helpers.pictures import odd_pictures

TEXTS = ["a dog", "the first is a large dog, the second a small one"]


def embeddings(model: DifferenceCLIP) -> list[Tensor]:
    """Image, text and difference embeddings of fixed inputs."""
    model.eval()
    with torch.no_grad():
        images = model.encode_images(torch.stack([model.image_transform(picture) for picture in odd_pictures()]))
        return [images, model.encode_texts(TEXTS), model.difference(images[:3], images[1:4])]


@pytest.mark.parametrize(
    ("kind", "head"), [(kind, "mlp") for kind in (*KINDS, *HUGGING_FACE)] + [("vit", "identity"), ("vit", "linear")]
)
def test_saved_folder_needs_nothing_else(tmp_path: Path, kind: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in HUGGING_FACE:  # its tokenizer is in the folder, so it must not be the tests' shared one
        monkeypatch.setattr(open_clip, "get_tokenizer", open_clip.factory.get_tokenizer)
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
