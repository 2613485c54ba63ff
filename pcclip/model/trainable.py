"""Which parts of CLIP train."""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.text import TEXT_BLOCKS, text_parameters, text_tower

PARTS = (
    "all, text, text_transformer, text_last_K, image, image_projection, image_last_K, logit_scale, K a number of blocks"
)
# Names of the list of blocks in an image tower: open_clip's and timm's.
IMAGE_BLOCKS = ("transformer.resblocks", "trunk.blocks")
# Names of what follows the blocks.
IMAGE_PROJECTION = ("proj", "head", "trunk.head.fc", "trunk.head.weight", "trunk.head.bias")
IMAGE_END = ("ln_post", "attn_pool", "trunk.norm", "trunk.attn_pool", "trunk.fc_norm", *IMAGE_PROJECTION)
TEXT_END = ("ln_final", "text_projection", "transformer.layer_norm", "transformer.final_layer_norm", "proj")


def set_trainable(model: DifferenceCLIP, parts: Iterable[str]) -> None:
    """Unfreeze the named parts of the towers and freeze the rest. The head always trains.

    `text_transformer`, the paper's choice, is the blocks without embeddings, final norm and projection. `text_last_K` and
    `image_last_K` are the last K blocks and everything after them. `logit_scale` is CLIP's own scale (and bias) for the
    caption loss; `all` includes it.

    Raises:
        ValueError: Unknown part, or a tower without this part.
    """
    model.towers.requires_grad_(False)
    for part in parts:
        if part.startswith("image") and not model.has_image_tower:
            raise ValueError(f"trainable: {part!r}, but the model has no image tower; use text or logit_scale")
        for parameter in parameters_of(model.towers, part):
            parameter.requires_grad = True
    if not model.has_image_tower:
        model.towers.visual.requires_grad_(False)  # a placeholder, which `all` includes


def parameters_of(clip: Any, part: str, setting: str = "trainable") -> list[nn.Parameter]:
    """Return the parameters of a part; see `set_trainable`.

    Args:
        clip: The open_clip model.
        part: Name of the part.
        setting: What names it, for messages.
    """
    named = f"{setting}: {part!r}"
    if part == "all":
        return list(clip.parameters())
    if part == "logit_scale":
        return [value for value in (clip.logit_scale, clip.logit_bias) if value is not None]
    if part == "image":
        return list(clip.visual.parameters())
    if part == "text":
        return text_parameters(clip)
    if part == "text_transformer":
        return _all_of(blocks_of(clip, "text", named))
    if part == "image_projection":
        return _named(clip.visual, IMAGE_PROJECTION, named)
    if match := re.fullmatch(r"(text|image)_last_(\d+)", part):
        text = match[1] == "text"
        tower = text_tower(clip) if text else clip.visual
        blocks = blocks_of(clip, match[1], named)
        count = int(match[2])
        if not 1 <= count <= len(blocks):
            raise ValueError(f"{named}, but the tower has {len(blocks)} blocks; use 1 to {len(blocks)}")
        return _all_of(blocks[-count:]) + _named(tower, TEXT_END if text else IMAGE_END, named)
    raise ValueError(f"{setting}: unknown part {part!r}; use {PARTS}")


def blocks_of(clip: Any, tower: str, setting: str) -> list[nn.Module]:
    """Return the blocks of a tower.

    Args:
        clip: The open_clip model.
        tower: `image` or `text`.
        setting: What needs them, for the message.

    Raises:
        ValueError: It has none.
    """
    module, places = (text_tower(clip), TEXT_BLOCKS) if tower == "text" else (clip.visual, IMAGE_BLOCKS)
    modules = dict(module.named_modules(remove_duplicate=False))
    for place in places:
        if place in modules:
            return list(modules[place].children())
    raise ValueError(
        f"{setting} needs a tower of transformer blocks, not {type(module).__name__}; name another part or tower"
    )


def _named(tower: nn.Module, names: tuple[str, ...], setting: str) -> list[nn.Parameter]:
    parts = {
        **dict(tower.named_modules(remove_duplicate=False)),
        **dict(tower.named_parameters(remove_duplicate=False)),
    }
    if found := _all_of(parts[name] for name in names if name in parts):
        return found
    raise ValueError(f"{setting}: {type(tower).__name__} has none of {', '.join(names)}")


def _all_of(parts: Iterable[nn.Module | nn.Parameter]) -> list[nn.Parameter]:
    return [value for part in parts for value in (part.parameters() if isinstance(part, nn.Module) else [part])]
