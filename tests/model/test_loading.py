"""Models come from wherever open_clip finds them, and go back into folders that open_clip loads."""

import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms import Compose
from torchvision.transforms.functional import pil_to_tensor

from pcclip.model import DifferenceCLIP, load_clip, save_clip
from pcclip.model.pixels import uint8_transform
from tests.helpers.models import make_clip, write_config
from tests.helpers.pictures import odd_pictures

TEXTS = ["a dog", "the first is a large dog, the second a small one"]


def randomize(module: nn.Module) -> None:
    """Weights as training might leave them."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter)


def test_open_clip_name_loads_random_weights() -> None:
    model = load_clip("ViT-S-32-alt")
    assert model.embed_dim == 256
    assert model.encode_texts(["a"]).shape == (1, 256)


def test_saved_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_clip(make_clip(tmp_path, "vit", head="linear"), tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "saved").iterdir()}
    assert set(modes.values()) == {0o640}, modes


def test_failed_save_leaves_the_model_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_clip(tmp_path, "vit", head="linear")
    saved = tmp_path / "saved"
    save_clip(model, saved)
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def full(state: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("pcclip.model.loading.save_file", full)
    with pytest.raises(OSError, match=re.escape(str(saved))):
        save_clip(model, saved)
    with pytest.raises(OSError, match="elsewhere"):
        save_clip(model, tmp_path / "elsewhere")
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"saved"}


def test_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_clip(make_clip(tmp_path, "vit"), run / "base")
    with pytest.raises(FileExistsError, match=re.escape(str(run))):
        save_clip(make_clip(tmp_path, "vit"), run)
    assert (run / "base" / "open_clip_config.json").is_file()


def test_saving_keeps_the_architecture_it_was_loaded_with(tmp_path: Path) -> None:
    # Two configurations with one file name: open_clip's registry knows the later one only.
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    first = make_clip(tmp_path / "one", "vit")
    file = Path(write_config(tmp_path / "two", "vit"))
    file.write_text(file.read_text().replace('"layers": 2', '"layers": 1'))
    load_clip(str(file))
    save_clip(first, tmp_path / "saved")
    assert torch.equal(load_clip(f"local-dir:{tmp_path / 'saved'}").encode_texts(TEXTS), first.encode_texts(TEXTS))


def test_uint8_path_equals_open_clips_preprocessing(tmp_path: Path) -> None:
    for kind, settings in (("vit", {}), ("timm_resnet", {"mean": [0.5] * 3, "resize_mode": "longest"})):
        model = make_clip(tmp_path, kind, preprocess=settings)
        config = open_clip.get_model_preprocess_cfg(model.towers)
        preprocess = image_transform_v2(PreprocessCfg(**config), is_train=False)
        for picture in odd_pictures():
            pixels = model.image_transform(picture)
            assert pixels.dtype == torch.uint8
            assert torch.equal((pixels.float() / 255 - model.mean) / model.std, preprocess(picture))


def test_wide_pictures_are_cut_while_they_are_resized() -> None:
    transform = uint8_transform({"size": 24})
    plain = image_transform_v2(PreprocessCfg(size=24), is_train=False).transforms[:-2]
    rng = np.random.default_rng(0)
    for width, height in ((70, 45), (45, 70), (33, 32), (24, 24), (25, 24), (48, 24), (301, 17), (17, 12)):
        for mode in ("RGB", "L", "RGBA", "P"):
            picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
            assert torch.equal(transform(picture), pil_to_tensor(Compose(plain)(picture))), (width, height, mode)


def test_data_workers_can_carry_tokenizer_and_transform(tiny_clip: DifferenceCLIP) -> None:
    tokenizer, transform = pickle.loads(pickle.dumps((tiny_clip.tokenizer, tiny_clip.image_transform)))
    assert torch.equal(tokenizer(TEXTS), tiny_clip.tokenizer(TEXTS))
    assert torch.equal(transform(odd_pictures()[1]), tiny_clip.image_transform(odd_pictures()[1]))


def test_fingerprint_tells_weights_and_preprocessing_apart(tmp_path: Path) -> None:
    model = make_clip(tmp_path, "timm_resnet")
    before = model.image_fingerprint
    assert make_clip(tmp_path, "timm_resnet").image_fingerprint == before
    assert make_clip(tmp_path, "timm_resnet", preprocess={"std": [1, 1, 1]}).image_fingerprint != before
    with torch.no_grad():
        model.towers.logit_scale.add_(1)
        next(model.towers.transformer.parameters()).add_(1)
    assert model.image_fingerprint == before
    next(buffer for name, buffer in model.towers.visual.named_buffers() if "running_mean" in name).add_(1e-3)
    assert model.image_fingerprint != before


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A configuration, a saved model with a head, and what can be wrong with a saved model."""
    root = tmp_path_factory.mktemp("places")
    save_clip(make_clip(root, "vit", head="linear"), root / "saved")
    for name in ("lost", "shallow"):
        shutil.copytree(root / "saved", root / name)
    (root / "lost" / "open_clip_model.safetensors").unlink()
    config = root / "shallow" / "open_clip_config.json"
    config.write_text(config.read_text().replace('"layers": 2', '"layers": 1'))
    (root / "other.json").write_text('{"embed_dim": 8}')
    names = ("saved", "lost", "shallow", "nowhere", "other.json")
    return {"tiny": write_config(root, "vit")} | {name.partition(".")[0]: str(root / name) for name in names}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ViT-L-15", {}, "unknown CLIP model 'ViT-L-15'; close names are .*'ViT-L-14'"),
        ("ViT-B-32", {"pretrained": "laion9b"}, "unknown pretrained tag 'laion9b' for ViT-B-32; use one of .*openai"),
        ("{tiny}", {"pretrained": "openai"}, "unknown pretrained tag"),
        ("{tiny}", {"preprocess": {"men": [0.5] * 3}}, "preprocess: unknown key men; use .*mean"),
        ("{tiny}", {"image_weights": "nowhere.safetensors"}, "nowhere.safetensors: image tower weights not found"),
        ("missing.json", {}, "missing.json: model configuration not found"),
        ("{other}", {}, "other.json: not an open_clip model configuration"),
        ("{saved}", {}, "write local-dir:.*saved"),
        ("local-dir:{tiny}", {}, r"tiny_vit\.json: is a file"),
        ("local-dir:{nowhere}", {}, "nowhere"),
        ("local-dir:{lost}", {}, r"lost/open_clip_model\.safetensors"),
        ("local-dir:{shallow}", {}, r"(?s)shallow: cannot be loaded .*Unexpected key"),
        ("local-dir:{saved}", {"pretrained": "openai"}, "leave pretrained='openai' out"),
        ("local-dir:{saved}", {"head": "mlp"}, "holds a linear head, but head=mlp"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    places: dict[str, str], name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError, NotADirectoryError), match=message):
        load_clip(name.format(**places), **settings)


def test_a_model_without_a_head_replaces_one_with_a_head(tmp_path: Path) -> None:
    for head in ("linear", "identity"):
        save_clip(make_clip(tmp_path, "vit", head=head), tmp_path / "saved")
        assert (tmp_path / "saved" / "difference_head.safetensors").exists() == (head == "linear")


def test_image_weights_load_into_the_image_tower_alone(tmp_path: Path) -> None:
    source = make_clip(tmp_path, "timm_resnet")
    randomize(source.towers.visual)
    state = {k: v.contiguous() for k, v in source.towers.visual.state_dict().items() if k.startswith("trunk.")}
    file = tmp_path / "backbone.safetensors"
    save_file(state, file)
    loaded = make_clip(tmp_path, "timm_resnet", image_weights=str(file))
    plain = make_clip(tmp_path, "timm_resnet")
    for key, value in load_file(file).items():
        assert torch.equal(loaded.towers.visual.state_dict()[key], value)
    assert torch.equal(loaded.towers.visual.head.proj.weight, plain.towers.visual.head.proj.weight)
    assert torch.equal(loaded.encode_texts(TEXTS), plain.encode_texts(TEXTS))


@pytest.mark.parametrize("fault", ["prefix", "missing", "unexpected"])
def test_image_weights_that_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    visual = make_clip(tmp_path, "timm_resnet").towers.visual
    state = {key: value.contiguous() for key, value in visual.state_dict().items()}
    if fault == "prefix":
        state = {key.removeprefix("trunk."): value for key, value in state.items()}
    elif fault == "missing":
        state.pop("trunk.bn1.running_var")
    else:
        state["trunk.classifier.weight"] = torch.zeros(1)
    file = tmp_path / "backbone.safetensors"
    save_file(state, file)
    with pytest.raises(ValueError, match=r"backbone.safetensors: does not fit .*prefix `trunk.`"):
        make_clip(tmp_path, "timm_resnet", image_weights=str(file))
