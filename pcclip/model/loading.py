"""Load CLIP from any source that open_clip supports, and save it as a folder that open_clip loads."""

import dataclasses
import difflib
import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from open_clip.factory import load_state_dict
from open_clip.model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcclip.atomic import atomic_folder
from pcclip.lean_import import import_transformers
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import HeadName, build_head
from pcclip.model.lora import merged
from pcclip.model.sharding import whole_state
from pcclip.model.text import text_tower
from pcclip.paths import existing_file, existing_folder
from pcclip.remote import local_file, local_folder

LOCAL = "local-dir:"  # open_clip's prefix of a saved folder
HUB = "hf-hub:"  # open_clip's prefix of a repository on the Hugging Face Hub
CONFIG_FILE = "open_clip_config.json"  # open_clip's own names
WEIGHTS_FILE = "open_clip_model.safetensors"
HEAD_FILE = "difference_head.safetensors"
MODEL_SETTINGS = "pcclip_model"  # key of architecture, preprocessing and head in a Lightning checkpoint
TEXT_CONFIG_FILE = "hf_text_config.json"  # architecture of a Hugging Face text tower


@dataclass
class ClipSource:
    """Source of the CLIP towers; see `load_clip`."""

    name: str
    """open_clip name, `local-dir:FOLDER`, `hf-hub:NAME`, or path of a JSON model configuration."""
    pretrained: str | None = None
    """Pretrained tag of open_clip, or weights file."""
    image_weights: str | None = None
    """File of weights for the image tower only."""
    preprocess: dict[str, Any] | None = None
    """Overrides of the model's preprocessing, e.g. `{mean: [...], std: [...]}`."""


def load_clip(
    name: str,
    pretrained: str | None = None,
    *,
    image_weights: str | None = None,
    preprocess: dict[str, Any] | None = None,
    head: HeadName = "identity",
) -> DifferenceCLIP:
    """Load an open_clip model and add a difference head.

    Args:
        name: An open_clip name (`ViT-L-14`), `local-dir:FOLDER`, `hf-hub:NAME`, or the path of a JSON model configuration
            (ending in `.json`, in the layout of open_clip's `model_configs`). FOLDER is a path or an address (`s3://`, ...).
        pretrained: Pretrained tag of open_clip, or weights file; None starts from random weights. Not for `local-dir:` and
            `hf-hub:`, which include weights.
        image_weights: Path or address of a file of weights for the image tower only. Every key must fit.
        preprocess: Overrides of the model's preprocessing, e.g. `{"mean": [...], "std": [...]}`.
        head: Difference head. A folder saved with `save_clip` has its own head; then give this one or `identity`.

    Raises:
        ValueError: Unknown name or tag, or weights that do not fit.
        FileNotFoundError: A file or folder does not exist.
        ConnectionError: An address cannot be read.
    """
    if unknown := set(preprocess or {}) - {field.name for field in dataclasses.fields(PreprocessCfg)}:
        known = ", ".join(field.name for field in dataclasses.fields(PreprocessCfg))
        raise ValueError(f"preprocess: unknown key {', '.join(sorted(unknown))}; use {known}")
    folder = local_folder(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None
    carries_weights = folder is not None or name.startswith(HUB)
    known_as = name if carries_weights else name.replace("/", "-")
    if folder is not None:
        _check_folder(folder)
        known_as = f"{LOCAL}{folder}"
    if name.endswith(".json") and not carries_weights:
        known_as = _register_config(Path(name))
    if not carries_weights:
        _check_known(known_as, name, pretrained)
    elif pretrained is not None:
        raise ValueError(f"{name} carries its weights; leave pretrained={pretrained!r} out")
    overrides: dict[str, Any] = {}
    try:
        # Read it now: the configuration of this name may have changed when the model is saved.
        config = open_clip.get_model_config(known_as)
        if "hf_model_name" in config["text_cfg"]:
            import_transformers()
            if architecture_file := _saved_file(name, folder, TEXT_CONFIG_FILE):  # in place of its name on the hub
                architecture = {"hf_model_name": str(architecture_file), "hf_model_pretrained": False}
                overrides["text_cfg"] = {**config["text_cfg"], **architecture}
        towers = open_clip.create_model(
            known_as,
            pretrained=pretrained,
            force_preprocess_cfg=preprocess or {},
            require_pretrained=carries_weights,
            **overrides,
        )
    except RuntimeError as error:  # a failed download, or weights that do not fit
        raise ValueError(f"{name}: cannot be loaded with pretrained={pretrained!r}: {error}") from error
    if image_weights is not None:
        _load_image_weights(towers, local_file(image_weights))
    model = DifferenceCLIP(towers, open_clip.get_tokenizer(known_as), name, config, head)
    if head_file := _saved_file(name, folder, HEAD_FILE):
        _load_head(model, head_file, head)
    return model


def save_clip(model: DifferenceCLIP, folder: str | Path) -> None:
    """Save as an open_clip folder that `local-dir:FOLDER` loads, here and in open_clip. Weights are safetensors.

    A head other than the identity is saved in `difference_head.safetensors`. A Hugging Face tokenizer is saved in its own
    files. The architecture of a Hugging Face text tower is saved in `hf_text_config.json` for `load_clip`; open_clip itself
    reads it from the hub or its cache. Low-rank adapters are merged into the weights. An existing saved model is replaced at
    the end. Sharded weights must be `gathered`.

    Raises:
        FileExistsError: The folder holds something other than a saved model.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        check_replaceable(folder)
    described = {"model_cfg": model.config, "preprocess_cfg": open_clip.get_model_preprocess_cfg(model.towers)}
    with atomic_folder(folder) as target:
        towers = merged(whole_state(model, "towers"), model.lora_scaling)
        state = {key: value.detach().cpu().contiguous() for key, value in towers.items()}
        save_tensors(state, target / WEIGHTS_FILE)
        (target / CONFIG_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        if not isinstance(model.head, nn.Identity):
            head = {key: value.detach().cpu() for key, value in whole_state(model, "head").items()}
            save_tensors(head, target / HEAD_FILE)
        if isinstance(model.tokenizer.tokenize, HFTokenizer):  # CLIP's own is part of open_clip
            model.tokenizer.tokenize.save_pretrained(target)
        if isinstance(text_tower(model.towers), HFTextEncoder):
            text_tower(model.towers).config.to_json_file(target / TEXT_CONFIG_FILE, use_diff=False)


def check_fits(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], source: str | Path | None) -> None:
    """Check that the weights of a checkpoint have the names and shapes of the configured model.

    Raises:
        ValueError: They differ. Names the checkpoint, one weight, and the settings to copy from its run.
    """
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (theirs, ours)]
    odd = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
    if not odd:
        return
    there, here = (shape.get(odd[0], "none") for shape in shapes)
    folders = Path(source).absolute().parents[:2] if source is not None else ()
    where = [f", which are in {folder / 'config.yaml'}" for folder in folders if (folder / "config.yaml").is_file()]
    raise ValueError(
        f"{source or 'checkpoint'}: its weights do not fit the configured model: {odd[0]} has shape {there} there and "
        f"{here} here ({len(odd)} such weights); give the --model.clip.name, --model.clip.pretrained, --model.lora and "
        f"--model.head of the run{''.join(where[:1])}"
    )


def check_replaceable(folder: Path) -> None:
    """Check that a folder is empty, or holds a saved model and no subfolders.

    Raises:
        FileExistsError: It is a file, or holds something else.
    """
    content = list(folder.iterdir()) if folder.is_dir() else [folder]
    if content and (not (folder / CONFIG_FILE).is_file() or any(path.is_dir() for path in content)):
        raise FileExistsError(f"{folder}: holds something other than a saved model; name a folder of its own")


def save_tensors(state: dict[str, Tensor], file: Path) -> None:
    """Save tensors as safetensors.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        save_file(state, file)
    except SafetensorError as error:  # raised for a full disk
        raise OSError(errno.EIO, str(error), str(file)) from error


def _check_folder(folder: Path) -> None:
    remedy = "name a folder saved by open_clip or pcclip, with weights as safetensors"
    existing_folder(folder, "saved model", remedy)
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder}: a folder without a saved model, it has no {CONFIG_FILE}; {remedy}")
    if not [file for file in folder.glob("*.safetensors") if file.name != HEAD_FILE]:
        raise FileNotFoundError(f"{folder / WEIGHTS_FILE}: model weights not found; {remedy}")


def _saved_file(name: str, folder: Path | None, file: str) -> Path | None:
    """Return a file of a saved model that open_clip does not read, from its folder or the Hub. None if it has none."""
    if folder is not None:
        return folder / file if (folder / file).is_file() else None
    if not name.startswith(HUB):
        return None
    try:
        return Path(hf_hub_download(name.removeprefix(HUB), file))
    except EntryNotFoundError:
        return None


def _register_config(file: Path) -> str:
    existing_file(file, "model configuration")
    open_clip.add_model_config(file)
    if open_clip.get_model_config(file.stem) is None:
        raise ValueError(f"{file}: not an open_clip model configuration; it needs embed_dim, vision_cfg and text_cfg")
    return file.stem


def _check_known(known_as: str, name: str, pretrained: str | None) -> None:
    if open_clip.get_model_config(known_as) is None:
        if Path(name).is_dir():
            raise ValueError(f"{name}: a folder, not the name of a CLIP model; write local-dir:{name}")
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
    existing_file(file, "image tower weights")
    state = load_state_dict(str(file), weights_only=True)
    missing, unexpected = towers.visual.load_state_dict(state, strict=False)
    # A pretrained backbone has no projection into the joint space, but must have everything else.
    missing = [key for key in missing if not key.startswith(("head.", "proj"))]
    if missing or unexpected:
        raise ValueError(
            f"{file}: does not fit the image tower; missing {missing[:5]}, unexpected {list(unexpected)[:5]} "
            "(weights of timm towers need the prefix `trunk.`)"
        )


def _load_head(model: DifferenceCLIP, file: Path, head: HeadName) -> None:
    state = load_file(file)
    saved: HeadName = "linear" if "weight" in state else "mlp"
    if head not in ("identity", saved):
        raise ValueError(f"{file}: holds a {saved} head, but head={head} was asked for; leave head out")
    model.head = build_head(saved, model.embed_dim)
    model.head.load_state_dict(state)
