"""CLIP with a difference head: open_clip's towers, their tokenizer and preprocessing, and the head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional as F

from pcclip.model.chunks import in_chunks
from pcclip.model.head import HeadName, build_head
from pcclip.model.pixels import uint8_transform
from pcclip.model.sharding import whole_state
from pcclip.model.text import (
    KnownTexts,
    Tokenizer,
    encode_tokens,
    is_trimmable,
    pooling,
    text_blocks,
    text_parameters,
    text_tower,
)

TEXTS_AT_ONCE = 512


class DifferenceCLIP(nn.Module):
    """CLIP plus a difference head. Embeds images, texts and differences into one space of width D.

    Input images are uint8 and are normalised on the model's device. This moves a quarter of the bytes.

    Attributes:
        name: The open_clip name it was loaded by.
        config: Its architecture, in the layout of open_clip's `model_configs`.
        towers: The open_clip model.
        head: The difference head, identity by default.
        tokenizer: Texts to token ids, trimmed to the longest text. Has no weights.
        preprocess: open_clip's preprocessing settings.
        image_transform: PIL image to uint8 tensor (3, H, W): open_clip's preprocessing without normalisation.
        embed_dim: Width D of the embeddings.
        chunk_size: Maximum number of images, and of texts, whose activations are in memory at once; None for no limit.
            Values and gradients are the same, for one more forward pass.
        lora_scaling: Factor of the updates by low-rank adapters, if the towers have any (`add_adapters`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, towers: Any, tokenize: Any, name: str, config: dict[str, Any], head: HeadName = "identity"
    ) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.towers: Any = towers  # open_clip is not typed
        self.towers.visual.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs and tensor cores
        preprocess = open_clip.get_model_preprocess_cfg(towers)
        self.register_buffer("mean", torch.tensor(preprocess["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess["std"]).view(3, 1, 1), persistent=False)
        self.image_transform = uint8_transform(preprocess)
        self.preprocess = preprocess
        pool_type, eos_id = pooling(towers)
        self.tokenizer = Tokenizer(tokenize, trim=is_trimmable(towers), pool_type=pool_type, eos_id=eos_id)
        self.embed_dim: int = config["embed_dim"]
        self.head = build_head(head, self.embed_dim)
        self.chunk_size: int | None = None
        self.lora_scaling = 0.0
        self._known_texts = KnownTexts()
        self._keeps_texts = True
        self._text_multiple = 1

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.mean.device

    @property
    def has_image_tower(self) -> bool:
        """Whether the model can encode images. With `layers: 0` in `vision_cfg` its text tower works with stored embeddings."""
        return self.config["vision_cfg"].get("layers") != 0

    def require_image_tower(self, pictures: str) -> None:
        """Check that the model can encode images.

        Args:
            pictures: What needs it, for the message.

        Raises:
            ValueError: The model has no image tower.
        """
        if not self.has_image_tower:
            raise ValueError(
                f"{pictures}: {self.name} has no image tower (`layers: 0` in its vision_cfg) and cannot encode pictures; give "
                "stored embeddings, or a model with an image tower"
            )

    @property
    def image_tower_frozen(self) -> bool:
        """Whether no weight of the image tower trains, so that image embeddings may be cached."""
        weights = self.towers.visual.parameters()
        return not (self.has_image_tower and any(weight.requires_grad for weight in weights))

    @property
    def text_tower_frozen(self) -> bool:
        """Whether no weight of the text tower trains, so that text embeddings may be cached."""
        return not any(parameter.requires_grad for parameter in text_parameters(self.towers))

    @property
    def image_fingerprint(self) -> str:
        """Hash of the image tower's weights and preprocessing. Equal fingerprints mean equal embeddings."""
        return _fingerprint(self.preprocess, whole_state(self, "towers.visual"))

    @property
    def text_fingerprint(self) -> str:
        """Hash of the text tower's weights and configuration. Equal fingerprints mean equal embeddings."""
        other = ("visual.", "logit_scale", "logit_bias")
        state = {key: value for key, value in whole_state(self, "towers").items() if not key.startswith(other)}
        return _fingerprint(self.config["text_cfg"], state)

    def compile_towers(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile each block of the towers with `torch.compile`, in place. Weights keep their names.

        All blocks share compiled code, so compilation is fast. A tower without blocks is compiled as a whole.
        """
        import torch._dynamo  # here: takes a second

        # One compilation for each kind of call: image or text, with or without gradients, frozen or not, last block or not.
        torch._dynamo.config.cache_size_limit = max(32, torch._dynamo.config.cache_size_limit)
        visual = self.towers.visual
        for block in _blocks(visual) or [visual]:
            block.compile(backend=backend)
        text = text_tower(self.towers)
        for block in text_blocks(self.towers) or ([text] if text is not self.towers else []):
            block.compile(backend=backend, dynamic=True)  # chunks of texts have many sizes
        self._text_multiple = 16  # few different lengths, suitable for tensor cores

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the weights among the processes of a mesh (FSDP2). Each block is gathered when it runs.

        Values and names do not change. The methods registered here (`encode_images`, ...) gather the weights they need.

        Raises:
            ValueError: A scale or bias trains (scalars cannot be sharded), or torch is older than 2.7.
        """
        if torch.__version__ < "2.7":  # its `fully_shard` cannot exclude parameters
            raise ValueError(
                f"sharded weights need torch 2.7 or newer, found {torch.__version__}; update it, or use DDP"
            )
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method  # here: slow to import

        scalars = {value for value in self.parameters() if value.ndim == 0}
        if any(value.requires_grad for value in scalars):
            raise ValueError(
                "CLIP's logit scale trains, which sharded weights do not allow; set model.caption_logit_scale, "
                "or leave `logit_scale` and `all` out of model.trainable"
            )
        self.towers.visual.to(memory_format=torch.contiguous_format)  # the only format that can be sharded
        for block in (*_blocks(self.towers.visual), *text_blocks(self.towers)):
            fully_shard(block, mesh=mesh)
        fully_shard(self, mesh=mesh, reshard_after_forward=False, ignored_params=scalars)
        for method in ("encode_images", "encode_tokens", "project"):
            register_fsdp_forward_method(self, method)
        self._keeps_texts = False  # the weights move, so the cache could not detect changes

    def train(self, mode: bool = True) -> DifferenceCLIP:
        """Set training mode, but keep frozen parts in evaluation mode: their batch statistics must not change."""
        super().train(mode)
        if mode:
            _eval_frozen_parts(self)
        return self

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W) uint8 to unit embeddings (N, D), without gradients if the image tower is frozen.

        Raises:
            ValueError: The model has no image tower.
        """
        self.require_image_tower("images")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.image_tower_frozen):
            return _unit(in_chunks(self._image_features, images, self.chunk_size))

    def _image_features(self, images: Tensor) -> Tensor:
        pixels = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        features: Tensor = self.towers.encode_image(pixels.contiguous(memory_format=torch.channels_last))
        return features

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Encode token ids (N, L) to unit embeddings (N, D). A frozen text tower caches them, without gradients."""
        if not (self.text_tower_frozen and self._keeps_texts):
            return self._encode_tokens(tokens)
        kind = self.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        weights = [(value.data_ptr(), value._version) for value in text_parameters(self.towers)]
        return self._known_texts.embed(tokens, self._encode_tokens, (precision, *weights))

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        return _unit(encode_tokens(self.towers, tokens, chunk_size=self.chunk_size, multiple=self._text_multiple))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts to unit embeddings (N, D), `TEXTS_AT_ONCE` at a time."""
        parts = [
            self.encode_tokens(self.tokenizer(texts[start : start + TEXTS_AT_ONCE]).to(self.device))
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.embed_dim, device=self.device)

    def project(self, differences: Tensor) -> Tensor:
        """Map image differences (P, D) to the space of texts (P, D) by the head; odd and homogeneous."""
        projected: Tensor = self.head(differences)
        return projected

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the unit difference (P, D) of unit embeddings (P, D): `normalize(head(first - second))`."""
        return F.normalize(self.project(first - second), dim=-1)


def _fingerprint(settings: dict[str, Any], state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        # A copy, since FSDP2 cannot free memory that numpy refers to.
        own = value.detach().to("cpu", copy=True).contiguous()
        digest.update(own.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _unit(embeddings: Tensor) -> Tensor:
    # Normalise in float32, since half precision is too coarse. Float64 stays float64.
    return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)


def _eval_frozen_parts(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        _eval_frozen_parts(child)


def _blocks(tower: nn.Module) -> list[nn.Module]:
    """Return the blocks of an open_clip or timm image tower; none for other towers."""
    stacks = [child for name, child in tower.named_modules() if name.rpartition(".")[2] in ("resblocks", "blocks")]
    return [block for stack in stacks for block in stack.children()]
