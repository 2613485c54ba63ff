"""Load a model for use: from a saved folder, from a checkpoint, or by an open_clip name."""

import json
import logging
import pickle
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from torch import Tensor

from pcclip.model.adapter_files import ADAPTER_CONFIG, load_adapter, read_settings
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import HeadName
from pcclip.model.loading import CONFIG_FILE, HUB, LOCAL, MODEL_SETTINGS, load_clip
from pcclip.model.lora import merged
from pcclip.paths import existing_file
from pcclip.remote import local_file, local_folder
from pcclip.tools.inference import InferenceModel

MODEL_PREFIX = "model."  # prefix of the weights of towers and head in a checkpoint of `LitDifferenceCLIP`


def load_model(source: str, pretrained: str | None = None, device: str = "auto") -> InferenceModel:
    """Load a model; see `pcclip.load`."""
    target = _device(device)
    if source.endswith(".ckpt"):
        if pretrained is not None:
            raise ValueError(f"{source} includes its weights; leave pretrained={pretrained!r} out")
        return InferenceModel(load_checkpoint(local_file(source)).to(target), source)
    folder = local_folder(source.removeprefix(LOCAL))
    if (folder / ADAPTER_CONFIG).is_file():
        base = load_model(read_settings(folder)[0], pretrained, device)
        load_adapter(base.clip, folder)
        return InferenceModel(base.clip, source)
    if folder.is_dir():
        return InferenceModel(_load_folder(folder, pretrained).to(target), source)
    known = not source.startswith(HUB) and open_clip.get_model_config(source.replace("/", "-")) is not None
    if pretrained is None and (known or source.endswith(".json")):
        tags = open_clip.list_pretrained_tags_by_model(source.replace("/", "-"))
        raise ValueError(f"{source}: has no weights of its own; give pretrained: one of {tags}, or a file")
    return InferenceModel(load_clip(source, pretrained).to(target), source)


def load_checkpoint(file: Path) -> DifferenceCLIP:
    """Return the model of a checkpoint of `pcclip fit`, with low-rank adapters merged.

    Raises:
        FileNotFoundError: The checkpoint, or the tokenizer that the run used, does not exist.
        ValueError: The checkpoint is corrupt, is not from `pcclip fit`, or its weights do not fit its settings.
    """
    state, settings = read_checkpoint(file)
    clip, head = settings["clip"], settings["head"]
    if lora := settings.get("lora"):  # checkpoints of earlier versions have no such key
        state = merged(state, lora["alpha"] / lora["rank"])
    if _tells_its_tokenizer(clip):
        model = _load_config(clip, head)
    else:
        model = load_clip(clip["name"], preprocess=clip["preprocess"], head=head)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise ValueError(f"{file}: its weights do not fit the model {clip['name']} that it names: {reason}") from error
    return model


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and settings of the model in a checkpoint. Only tensors and plain values are unpickled.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The checkpoint is corrupt, or is not from `pcclip fit`.
    """
    existing_file(file, "checkpoint")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        state = {
            key.removeprefix(MODEL_PREFIX): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith(MODEL_PREFIX)
        }
        return state, checkpoint[MODEL_SETTINGS]
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ValueError(f"{file}: corrupt, or not a checkpoint of `pcclip fit` ({reason}); copy it again") from error


def _tells_its_tokenizer(clip: dict[str, Any]) -> bool:
    """Return whether the model has CLIP's own tokenizer. Other tokenizers are loaded from files of the named model."""
    named = {"hf_model_name", "hf_tokenizer_name"} & set(clip["config"]["text_cfg"])
    return not named and "siglip" not in clip["name"].lower()  # open_clip finds SigLIP's tokenizer by the model's name


def _load_config(clip: dict[str, Any], head: HeadName) -> DifferenceCLIP:
    """Return a model of a stored architecture with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.json"
        file.write_text(json.dumps(clip["config"]), encoding="utf-8")
        logging.disable(logging.WARNING)  # open_clip warns about random weights
        try:
            model = load_clip(str(file), preprocess=clip["preprocess"], head=head)
        finally:
            logging.disable(logging.NOTSET)
    model.name = clip["name"]
    return model


def _load_folder(folder: Path, pretrained: str | None) -> DifferenceCLIP:
    if not (folder / CONFIG_FILE).is_file() and (folder / "config.json").is_file():
        raise ValueError(
            f"{folder}: a model in Hugging Face's layout, for transformers; give the model that it was exported from"
        )
    try:
        return load_clip(f"{LOCAL}{folder}", pretrained)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: corrupt, or not a saved model ({error}); save or copy it again") from error


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r}: {str(error).splitlines()[0]}; use auto, cpu or cuda") from error
