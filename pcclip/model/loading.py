"""Loading CLIP from wherever open_clip finds it, and saving it as a folder that open_clip loads."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import _get_hf_config, load_state_dict, parse_model_name
from safetensors.torch import load_file, save_file
from torch import nn

from pcclip.model.clip import DifferenceModel
from pcclip.model.head import HeadName, build_head

HEAD_FILE = "difference_head.safetensors"


def load_clip(
    name: str,
    pretrained: str | None = None,
    *,
    image_weights: str | None = None,
    preprocess: dict[str, Any] | None = None,
    head: HeadName = "identity",
) -> DifferenceModel:
    """Load an open_clip model and put a difference head on it.

    Args:
        name: An open_clip name (`ViT-L-14`), `local-dir:PATH`, `hf-hub:NAME`, or the path of a JSON model configuration
            (ending in `.json`, in the layout of open_clip's `model_configs`).
        pretrained: open_clip's pretrained tag or a weights file; None starts from random weights. Not for `local-dir:`
            and `hf-hub:`, which carry their weights.
        image_weights: A file of weights for the image tower alone; every key must fit.
        preprocess: Preprocessing to set instead of the model's own, e.g. `{"mean": [...], "std": [...]}`.
        head: Difference head. A folder saved with `save_clip` brings its own, which this must equal or leave alone.

    Raises:
        ValueError: Unknown name or tag, or weights that do not fit.
        FileNotFoundError: A file or folder that is not there.
    """
    folder = Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None
    if folder is not None:
        _check_folder(folder)
    known_as = _register_config(Path(name)) if name.endswith(".json") else name
    if folder is None and not name.startswith("hf-hub:"):
        _check_known(known_as, name, pretrained)
    towers = open_clip.create_model(known_as, pretrained=pretrained, force_preprocess_cfg=preprocess or {})
    if image_weights is not None:
        _load_image_weights(towers, Path(image_weights))
    model = DifferenceModel(towers, open_clip.get_tokenizer(known_as), name=name, head=head)
    if folder is not None and (folder / HEAD_FILE).is_file():
        _load_head(model, folder / HEAD_FILE, head)
    return model


def save_clip(model: DifferenceModel, folder: str | Path) -> None:
    """Save as an open_clip folder that `local-dir:FOLDER` loads, here and in open_clip itself; safetensors only.

    A head other than the identity is stored beside the towers, in `difference_head.safetensors`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    schema, identifier = parse_model_name(model.name)
    source = str(Path(identifier).stem) if identifier.endswith(".json") else identifier
    if schema == "local-dir":
        config = json.loads((Path(identifier) / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    elif schema == "hf-hub":
        config = _get_hf_config(identifier)["model_cfg"]
    else:
        config = open_clip.get_model_config(source)
    described = {"model_cfg": config, "preprocess_cfg": open_clip.get_model_preprocess_cfg(model.towers)}
    state = {key: value.detach().cpu().contiguous() for key, value in model.towers.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    (folder / HEAD_FILE).unlink(missing_ok=True)
    if not isinstance(model.head, nn.Identity):
        save_file({key: value.detach().cpu() for key, value in model.head.state_dict().items()}, folder / HEAD_FILE)


def _check_folder(folder: Path) -> None:
    for file in ("open_clip_config.json", "open_clip_model.safetensors"):
        if not (folder / file).is_file() and (file.endswith(".json") or not list(folder.glob("*.safetensors"))):
            raise FileNotFoundError(
                f"{folder / file}: not found; `local-dir:` needs a folder saved by open_clip or pcclip"
            )


def _register_config(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: model configuration not found")
    open_clip.add_model_config(file)
    if open_clip.get_model_config(file.stem) is None:
        raise ValueError(f"{file}: not an open_clip model configuration; it needs embed_dim, vision_cfg and text_cfg")
    return file.stem


def _check_known(known_as: str, name: str, pretrained: str | None) -> None:
    if open_clip.get_model_config(known_as.replace("/", "-")) is None:
        close = difflib.get_close_matches(known_as, open_clip.list_models(), n=5)
        raise ValueError(
            f"unknown CLIP model {name!r}; close names are {close or 'none'}. Use an open_clip name, "
            "`local-dir:FOLDER`, `hf-hub:NAME` or the path of a JSON model configuration"
        )
    if pretrained is not None and not Path(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(known_as)
        if pretrained not in tags:
            raise ValueError(f"unknown pretrained tag {pretrained!r} for {name}; use one of {tags} or a weights file")


def _load_image_weights(towers: Any, file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: image tower weights not found")
    state = load_state_dict(str(file), weights_only=True)
    missing, unexpected = towers.visual.load_state_dict(state, strict=False)
    # The projection into the joint space is not part of a pretrained backbone; everything else must be there.
    missing = [key for key in missing if not key.startswith(("head.", "proj"))]
    if missing or unexpected:
        raise ValueError(
            f"{file}: does not fit the image tower; missing {missing[:5]}, unexpected {list(unexpected)[:5]} "
            "(weights of timm towers need the prefix `trunk.`)"
        )


def _load_head(model: DifferenceModel, file: Path, head: HeadName) -> None:
    state = load_file(file)
    saved: HeadName = "linear" if "weight" in state else "mlp"
    if head not in ("identity", saved):
        raise ValueError(f"{file}: holds a {saved} head, but head={head} was asked for; leave head out")
    model.head = build_head(saved, model.embed_dim)
    model.head.load_state_dict(state)
