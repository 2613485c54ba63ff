"""Exported models: the same embeddings in the library that they were exported to."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

from pcclip.cli import main
from pcclip.results import Result, write_results
from pcclip.tools.export import export, hub_name
from pcclip.tools.inference import InferenceModel
from pcclip.tools.open_model import load_model
from tests.helpers.models import make_clip

TEXTS = ["a dog", "It's the FIRST image   that shows more, 12 shapes & a cat's bowl (red).", "naïve café"]


def make(tmp_path: Path, kind: str, **settings: Any) -> InferenceModel:
    return InferenceModel(make_clip(tmp_path, kind, **settings), f"tiny_{kind}")


@pytest.fixture
def picture() -> Image.Image:
    return Image.effect_noise((64, 48), 90).convert("RGB")


@pytest.mark.parametrize("kind", ["vit", "custom_text", "quick"])
def test_hugging_face_gives_the_same_embeddings(
    kind: str, tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    if kind == "quick":
        from tests.helpers import models

        monkeypatch.setitem(models.KINDS, "quick", {**models.KINDS["vit"], "quick_gelu": True})
    model = make(tmp_path, kind)
    with torch.no_grad():
        for parameter in model.clip.parameters():  # so that no bias is zero and no norm is one
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    folder = tmp_path / "exported"
    export(model, folder, "huggingface")
    other = transformers.CLIPModel.from_pretrained(folder).eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", return_tensors="pt")
    assert tokens["input_ids"].shape == (3, 77)
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image = F.normalize(other.get_image_features(pixels).pooler_output, dim=-1)
        text = F.normalize(other.get_text_features(**tokens).pooler_output, dim=-1)
        hidden = transformers.CLIPTextModel.from_pretrained(folder).eval()(**tokens).pooler_output
        assert torch.allclose(F.normalize(hidden @ other.text_projection.weight.T, dim=-1), text, atol=1e-6)
    assert torch.allclose(image, model.encode_image(pixels, normalize=True), atol=1e-5)
    assert torch.allclose(text, model.encode_text(model.tokenizer(TEXTS), normalize=True), atol=1e-5)
    assert torch.isclose(other.logit_scale, model.logit_scale)
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert (theirs - model.preprocess(picture)).abs().max() < 0.1  # resized by torch rather than by Pillow
    assert {file.suffix for file in folder.iterdir()} <= {".json", ".safetensors", ".md", ".txt"}


def test_text_tower_alone_where_the_image_tower_has_no_place(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = make(tmp_path, "resnet")
    with pytest.raises(ValueError, match="tiny_resnet"):
        export(model, tmp_path / "exported", "huggingface")
    assert not (tmp_path / "exported").exists()
    export(model, tmp_path / "text", "huggingface", text_only=True)
    other = transformers.CLIPTextModelWithProjection.from_pretrained(tmp_path / "text").eval()
    tokens = model.tokenizer(TEXTS)
    with torch.no_grad():
        text = F.normalize(other(input_ids=tokens).text_embeds, dim=-1)
    assert torch.allclose(text, model.encode_text(tokens, normalize=True), atol=1e-5)


def test_model_card_tells_of_the_run_and_names_no_local_path(tmp_path: Path, saved: Path) -> None:
    run = tmp_path / "runs" / "some"
    export(load_model(str(saved)), run / "finetuned", "open_clip")
    write_results(run / "results.json", {"finetuned": [Result("zero_shot", "shape", "top1", 0.5, 320, 0.25, 0.75)]})
    callback = {"class_path": "pcclip.callbacks.SaveModel", "init_args": {"folder": str(run / "finetuned")}}
    clip = {"name": f"local-dir:{tmp_path / 'private' / 'base'}", "image_weights": str(tmp_path / "tower.safetensors")}
    (run / "fit" / "version_0").mkdir(parents=True)
    config = {"model": {"clip": clip}, "trainer": {"max_epochs": 7, "callbacks": [callback]}}
    (run / "fit" / "version_0" / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ["export", "--model", str(run / "finetuned"), "--format"]
    assert main([*arguments, "open_clip", "--output", str(tmp_path / "open_clip")]) == 0
    assert main([*arguments, "huggingface", "--text_only", "true", "--output", str(tmp_path / "huggingface")]) == 0
    for layout in ("open_clip", "huggingface"):
        card = (tmp_path / layout / "README.md").read_text()
        assert str(tmp_path) not in card
        assert {"name: base", "image_weights: tower.safetensors", "max_epochs: 7"} <= {
            line.strip() for line in card.splitlines()
        }
        assert "0.500 [0.250, 0.750]" in card
    front, card = (tmp_path / "open_clip" / "README.md").read_text().split("---\n")[1:]
    assert yaml.safe_load(front)["library_name"] == "open_clip"
    assert 'create_model_and_transforms("local-dir:open_clip")' in card
    assert "No run configuration" in (run / "finetuned" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "pretrained", "expected"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("hf-hub:user/name", None, "user/name"),
        ("local-dir:base", None, None),
        ("ViT-B-32", "weights.bin", None),
    ],
)
def test_base_model_by_its_name_on_the_hub(name: str, pretrained: str | None, expected: str | None) -> None:
    assert hub_name({"name": name, "pretrained": pretrained}) == expected
