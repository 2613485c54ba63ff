"""Low-rank adapters of the towers' blocks (LoRA, arXiv 2106.09685), through peft."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse.typing import ClosedUnitInterval, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pcclip.command_line import need
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.trainable import blocks_of, parameters_of

NAME = "default"  # peft's name of an adapter


@dataclass
class Lora:
    """Low-rank adapters of the attention and MLP layers in the blocks of towers. All other weights of these towers freeze."""

    rank: PositiveInt = 16
    """Rank of the update of each weight matrix."""
    alpha: PositiveFloat = 32.0
    """Scale of the updates, times the rank: each is multiplied by `alpha / rank`."""
    dropout: ClosedUnitInterval = 0.0
    """Share of the adapters' inputs that is dropped in training."""
    towers: list[Literal["image", "text"]] = field(default_factory=lambda: ["text"])
    """Towers with adapters."""


def add_adapters(model: DifferenceCLIP, lora: Lora) -> dict[str, Any]:
    """Add adapters to the towers in place, and freeze the other weights of these towers. The output does not change yet.

    Returns:
        Settings as plain data, with the pattern of the adapted modules' names, peft's `target_modules`.

    Raises:
        ValueError: peft is not installed, no tower is named, or a tower has no blocks or blocks of another kind.
    """
    if not lora.towers:
        raise ValueError("model.lora.towers is empty; name text, image or both, or leave model.lora out")
    need("peft", "lora")
    from peft import LoraConfig, inject_adapter_in_model  # here: optional, and slow to import

    from pcclip.model.lora_attention import LoraAttention

    towers = model.towers
    targets, frozen = [], set()
    for name in lora.towers:
        if name == "image" and not model.has_image_tower:
            raise ValueError("model.lora.towers: image, but the model has no image tower; use [text]")
        targets += _layers(blocks_of(towers, name, f"model.lora.towers: {name}"))
        frozen |= set(parameters_of(towers, name))
    others = [value for value in towers.parameters() if value.requires_grad and value not in frozen]
    names = {module: name for name, module in towers.named_modules()}
    patterns = {r"\d+".join(map(re.escape, re.split(r"(?<=\.)\d+(?=\.)", names[layer]))) for layer in targets}
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="|".join(sorted(patterns))
    )
    config._register_custom_module({nn.MultiheadAttention: LoraAttention})
    inject_adapter_in_model(config, towers, NAME)  # which freezes all else
    for value in others:
        value.requires_grad_(True)
    model.lora_scaling = lora.alpha / lora.rank
    sizes = {"rank": int(lora.rank), "alpha": float(lora.alpha), "dropout": float(lora.dropout)}
    return {**sizes, "target_modules": config.target_modules}


def _layers(blocks: list[nn.Module]) -> list[nn.Module]:
    """Return the layers of blocks that have a weight matrix.

    Raises:
        ValueError: Another kind of module has one.
    """
    found: list[nn.Module] = []
    for block in blocks:
        inside: set[nn.Module] = set()
        for module in block.modules():
            if module in inside:
                continue
            if isinstance(module, nn.Linear | nn.MultiheadAttention):
                found.append(module)
                inside |= set(module.modules())
            elif not isinstance(module, nn.Embedding) and any(
                name == "q_bias"
                or (name.endswith("weight") and value.ndim > 1)  # timm's EVA uses its layer's weight alone
                for name, value in module.named_parameters(recurse=False)
            ):
                raise ValueError(
                    f"model.lora: {type(module).__name__} in {type(block).__name__} has no adapters; "
                    "leave this tower out of model.lora.towers"
                )
    return found


def merged(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Return the state dict of a plain model from that of one with adapters: the updates are added to the weights.

    Other state dicts stay as they are.
    """
    plain = {key.replace(".base_layer", ""): value for key, value in state.items() if ".lora_" not in key}
    for key, down in state.items():
        layer, found, _ = key.partition(f".lora_A.{NAME}.weight")
        if found:
            up = state[f"{layer}.lora_B.{NAME}.weight"]
            target = f"{layer.replace('.base_layer', '')}."
            target += "weight" if f"{target}weight" in plain else "in_proj_weight"
            plain[target] = plain[target] + scaling * (up @ down)
    return plain
