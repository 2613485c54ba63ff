"""Loading a model to use it: from a saved folder, a checkpoint, or by an open_clip name."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
import yaml
from safetensors import SafetensorError

from pcclip.files import existing_file
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import HeadName
from pcclip.model.loading import CONFIG_FILE, MODEL_SETTINGS, load_clip
from pcclip.remote import local_file, local_folder
from pcclip.tools.model import InferenceModel

MODEL_PREFIX = "model."  # of the towers and the head in a checkpoint of `LitDifferenceCLIP`


def load_model(source: str, pretrained: str | None = None, device: str = "auto") -> InferenceModel:
    """Load a model; see `pcclip.load`."""
    target = _device(device)
    place = source.removeprefix("local-dir:")
    path = local_file(place) if place.endswith(".ckpt") else local_folder(place)
    if path.suffix == ".ckpt":
        _refuse_tag(source, pretrained)
        clip = load_checkpoint(path)
    elif path.is_dir() or source.startswith("local-dir:"):
        _refuse_tag(source, pretrained)
        clip = _load_folder(path)
    elif source.startswith("hf-hub:"):
        clip = load_clip(source, pretrained)
    else:
        known = open_clip.get_model_config(source.replace("/", "-")) is not None
        if path.is_file():
            raise ValueError(
                f"{source}: a file that is no checkpoint (.ckpt); give a saved folder or an open_clip name"
            )
        if not known and len(path.parts) > 1:
            raise FileNotFoundError(f"{source}: not found; give a saved folder, a .ckpt, or an open_clip name")
        if known and pretrained is None:
            tags = open_clip.list_pretrained_tags_by_model(source.replace("/", "-"))
            raise ValueError(f"{source}: knows nothing without weights; give pretrained, one of {tags} or a file")
        clip = load_clip(source, pretrained)
    return InferenceModel(clip.to(target), source)


def load_checkpoint(file: Path) -> DifferenceCLIP:
    """Return the model of a Lightning checkpoint. Its settings are in it, or in its run's `config.yaml` if it is an old one.

    Nothing is unpickled but tensors and plain values.

    Raises:
        FileNotFoundError: No checkpoint, or an old one without `config.yaml` in the two folders above it.
        ValueError: A corrupt checkpoint, one of something else, or one that does not fit its settings.
    """
    state, settings = _read_state(file)
    source = file.absolute()
    if settings is None:
        source = run_config(file)
        settings = _model_section(source)
    clip, head = settings["clip"], settings.get("head", "identity")
    if _tells_its_tokenizer(clip):
        model = _load_config(clip, head)
    else:
        name = _found_again(clip["name"], source)
        model = load_clip(name, clip.get("pretrained"), preprocess=clip.get("preprocess"), head=head)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reasons = str(error).splitlines()
        raise ValueError(
            f"{file}: of another architecture than {source} says ({clip['name']}): {reasons[1].strip()[:200]}; "
            "put the checkpoint and what it was trained from back where they were"
        ) from error
    return model


def _tells_its_tokenizer(clip: dict[str, Any]) -> bool:
    """Whether settings hold an architecture with CLIP's own tokenizer. Others are in files, which the name leads to."""
    text = clip.get("config", {}).get("text_cfg", {})
    # open_clip takes the tokenizer of SigLIP from the model's name
    return (
        bool(text) and not {"hf_model_name", "hf_tokenizer_name"} & set(text) and "siglip" not in clip["name"].lower()
    )


def _load_config(clip: dict[str, Any], head: HeadName) -> DifferenceCLIP:
    """Build a model of a stored architecture, with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.json"
        file.write_text(json.dumps(clip["config"]), encoding="utf-8")
        logging.disable(logging.WARNING)  # open_clip warns of random weights
        try:
            model = load_clip(str(file), preprocess=clip.get("preprocess"), head=head)
        finally:
            logging.disable(logging.NOTSET)
    model.name = clip["name"]
    return model


def run_config(checkpoint: Path) -> Path:
    """The `config.yaml` of the run that wrote a checkpoint, from one of the two folders above it."""
    for folder in (checkpoint.absolute().parent, checkpoint.absolute().parent.parent):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise FileNotFoundError(
        f"{checkpoint}: no config.yaml beside it or one folder above, which says what it is a checkpoint of; "
        "leave checkpoints in their run folder"
    )


def _read_state(file: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the weights of a checkpoint's model, and its settings if they are in it."""
    existing_file(file, "checkpoint")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]
        model = {key.removeprefix(MODEL_PREFIX): value for key, value in state.items() if key.startswith(MODEL_PREFIX)}
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ValueError(f"{file}: corrupt, or not a checkpoint of `pcclip fit` ({reason}); copy it again") from error
    if not model:
        raise ValueError(f"{file}: a checkpoint of something else; it has no weights named {MODEL_PREFIX}*")
    return model, checkpoint.get(MODEL_SETTINGS)


def _model_section(file: Path) -> dict[str, Any]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        section: dict[str, Any] = content["model"]
        section["clip"]["name"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not the configuration of a run; it has no `model.clip.name`") from error
    return section


def _found_again(name: str, source: Path) -> str:
    """Find a path of a run's settings: it is relative to where the run was started, here or in a folder above `source`."""
    prefix = "local-dir:" if name.startswith("local-dir:") else ""
    path = name.removeprefix(prefix)
    if not prefix and not name.endswith(".json"):
        return name
    for root in (Path(), *source.parents):
        if (root / path).exists():
            return f"{prefix}{root / path}"
    raise FileNotFoundError(f"{path}: not found; {source} says that the run started from it")


def _load_folder(folder: Path) -> DifferenceCLIP:
    if not (folder / CONFIG_FILE).is_file() and (folder / "config.json").is_file():
        raise ValueError(
            f"{folder}: a model for Hugging Face, which transformers loads; here give the model that it was exported from"
        )
    try:
        return load_clip(f"local-dir:{folder}")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: corrupt, or not a saved model ({error}); save or copy it again") from error


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r}: {str(error).splitlines()[0]}; use auto, cpu or cuda") from error


def _refuse_tag(source: str, pretrained: str | None) -> None:
    if pretrained is not None:
        raise ValueError(f"{source} carries its weights; leave pretrained={pretrained!r} out")
