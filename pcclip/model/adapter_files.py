"""Save and load low-rank adapters alone, in peft's layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pcclip.command_line import need
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import save_tensors
from pcclip.model.lora import NAME, merged
from pcclip.paths import existing_file

ADAPTER_CONFIG = "adapter_config.json"  # peft's own names
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
TOWERS = "towers."


def save_adapter(state: Mapping[str, Tensor], lora: dict[str, Any], base: str, folder: Path) -> None:
    """Save the adapters of a model as those of its open_clip model.

    Args:
        state: State dict of the model.
        lora: Settings of the adapters, with `target_modules`.
        base: Name of the model that the adapters belong to, for `load_clip`.
        folder: Existing folder.

    Raises:
        ValueError: peft is not installed.
    """
    need("peft", "lora")
    from peft import LoraConfig  # here: optional

    config = LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        base_model_name_or_path=base,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    names = {key: PREFIX + key.removeprefix(TOWERS).replace(f".{NAME}.", ".") for key in state if ".lora_" in key}
    save_tensors({name: state[key].contiguous() for key, name in names.items()}, folder / ADAPTER_WEIGHTS)


def read_settings(folder: Path) -> tuple[str, float]:
    """Return the name of the model that the adapters in a folder belong to, and the scale of their updates.

    Raises:
        ValueError: The configuration is corrupt, or is of a kind other than plain LoRA.
    """
    file = folder / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, scaling = config["base_model_name_or_path"], config["lora_alpha"] / config["r"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{file}: corrupt, or not of low-rank adapters ({error}); export or copy it again") from error
    if not isinstance(base, str):
        raise ValueError(f"{file}: names no model; set base_model_name_or_path to that of the adapters")
    others = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save")
    if odd := [name for name in others if config.get(name)]:
        raise ValueError(f"{file}: {odd[0]} is set; only plain LoRA is supported")
    return base, scaling


def load_adapter(model: DifferenceCLIP, folder: Path) -> None:
    """Merge saved adapters into the weights of the model that they belong to.

    peft is not needed. Its release 0.21 would add the update of `out_proj` in open_clip's blocks twice.

    Raises:
        FileNotFoundError: The folder has no weights.
        ValueError: The files are corrupt, the adapters do not fit, or are of a kind other than plain LoRA.
    """
    scaling = read_settings(folder)[1]
    file = existing_file(folder / ADAPTER_WEIGHTS, "adapter weights")
    try:
        adapters = {
            TOWERS + key.removeprefix(PREFIX).removesuffix(".weight") + f".{NAME}.weight": value
            for key, value in load_file(file).items()
        }
        model.load_state_dict(merged({**model.state_dict(), **adapters}, scaling))
    except SafetensorError as error:
        raise ValueError(f"{file}: corrupt ({error}); export or copy it again") from error
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().rpartition("\n")[2].strip()[:200]
        raise ValueError(f"{file}: does not fit the model {model.name} that it names ({reason})") from error
