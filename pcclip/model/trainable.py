"""Which parts of CLIP train."""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.text import text_parameters, text_tower

PARTS = (
    "all, text, text_transformer, text_last_K, image, image_projection, image_last_K, logit_scale, K a number of blocks"
)
# Where towers keep their blocks: open_clip's, timm's, and those of Hugging Face's text models.
IMAGE_BLOCKS = ("transformer.resblocks", "trunk.blocks")
TEXT_BLOCKS = (
    "transformer.resblocks",
    "transformer.encoder.layer",  # BERT, RoBERTa
    "transformer.layers",  # M2M-100
    "transformer.block",  # mT5
)
TEXT_END = ("ln_final", "text_projection", "transformer.layer_norm", "transformer.final_layer_norm", "proj")


def set_trainable(model: DifferenceCLIP, parts: Iterable[str]) -> None:
    """Unfreeze the named parts of the towers and freeze the rest. The head always trains.

    `text_transformer` is the paper's choice: the blocks alone, without embeddings, final norm and projection.
    `text_last_K` and `image_last_K` are the last K blocks with all that follows them. `logit_scale` is CLIP's own scale
    (and bias), which the caption loss uses; `all` includes it.

    Raises:
        ValueError: Unknown part, or a tower that has no such part.
    """
    model.towers.requires_grad_(False)
    for part in parts:
        for parameter in _parameters(model.towers, part):
            parameter.requires_grad = True


def _parameters(clip: Any, part: str) -> list[nn.Parameter]:
    tower = text_tower(clip)
    if part == "all":
        return list(clip.parameters())
    if part == "logit_scale":
        return [value for value in (clip.logit_scale, clip.logit_bias) if value is not None]
    if part == "image":
        return list(clip.visual.parameters())
    if part == "text":
        return text_parameters(clip)
    if part == "text_transformer":
        return [parameter for block in _blocks(tower, part, TEXT_BLOCKS) for parameter in block.parameters()]
    if part == "image_projection":
        return _after_blocks(clip.visual, ("proj", "head"), part)
    if match := re.fullmatch(r"text_last_(\d+)", part):
        blocks = _blocks(tower, part, TEXT_BLOCKS)
        return _last(blocks, int(match[1]), part) + _after_blocks(tower, TEXT_END, part)
    if match := re.fullmatch(r"image_last_(\d+)", part):
        visual = clip.visual
        blocks = _blocks(visual, part, IMAGE_BLOCKS)
        return _last(blocks, int(match[1]), part) + _after_blocks(
            visual, ("ln_post", "proj", "attn_pool", "trunk.norm", "trunk.attn_pool", "trunk.fc_norm", "head"), part
        )
    raise ValueError(f"trainable: unknown part {part!r}; use {PARTS}")


def _blocks(tower: nn.Module, part: str, places: tuple[str, ...]) -> list[nn.Module]:
    modules = dict(tower.named_modules(remove_duplicate=False))
    for place in places:
        if place in modules:
            return list(modules[place].children())
    kind = type(tower).__name__
    raise ValueError(f"trainable: {part!r} needs a tower of transformer blocks, not {kind}; use text or image")


def _last(blocks: list[nn.Module], count: int, part: str) -> list[nn.Parameter]:
    if not 1 <= count <= len(blocks):
        raise ValueError(f"trainable: {part!r}, but the tower has {len(blocks)} blocks; use 1 to {len(blocks)}")
    return [parameter for block in blocks[-count:] for parameter in block.parameters()]


def _after_blocks(module: nn.Module, names: tuple[str, ...], part: str) -> list[nn.Parameter]:
    found: list[nn.Parameter] = []
    for name in names:
        value: object = module
        for step in name.split("."):
            value = getattr(value, step, None)
        if isinstance(value, nn.Parameter):
            found.append(value)
        elif isinstance(value, nn.Module):
            found.extend(value.parameters())
    if not found:
        raise ValueError(f"trainable: {part!r}: {type(module).__name__} has none of {', '.join(names)}")
    return found
