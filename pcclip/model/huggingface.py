"""Save CLIP in the layout of Hugging Face's transformers: `CLIPModel`, or its text tower only, which diffusers uses.

open_clip has the opposite conversion with the same names (`open_clip/convert.py`).
"""

import re
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.lora import merged
from pcclip.model.text import encode_tokens, pooling, text_tower

TOLERANCE = 1e-5
BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TEXT = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
VISION = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",  # sic
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}


def save_huggingface(clip: DifferenceCLIP, folder: Path, *, text_only: bool = False) -> None:
    """Write model, tokenizer and preprocessing, with adapters merged. Check first that the embeddings are the same.

    Args:
        clip: The model. Its head is not saved, since `CLIPModel` has none.
        folder: An empty folder.
        text_only: Write `CLIPTextModelWithProjection` instead of `CLIPModel`. `CLIPTextModel` loads both.

    Raises:
        ValueError: The layout does not support a part of the architecture. Names the part.
    """
    import transformers

    check_text(clip)
    text = _text_state(clip)
    text_config = _text_config(clip)
    if text_only:
        model: Any = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**text_config))
        _fill(model, text)
    else:
        clip.require_image_tower("CLIPModel (`--text_only true` exports the text tower)")
        check_vision(clip)
        config = transformers.CLIPConfig(
            text_config=text_config, vision_config=_vision_config(clip), projection_dim=clip.embed_dim
        )
        model = transformers.CLIPModel(config)
        _fill(model, {**text, **_vision_state(clip), "logit_scale": clip.towers.logit_scale})
        _image_processor(clip).save_pretrained(folder)
    _check_agreement(clip, model.eval(), text_only)
    model.save_pretrained(folder, safe_serialization=True)
    clip_tokenizer(clip).save_pretrained(folder)


def check_text(clip: DifferenceCLIP) -> None:
    """Check that the text tower has OpenAI's architecture.

    Raises:
        ValueError: It has another architecture.
    """
    tower = text_tower(clip.towers)
    causal = isinstance(tower, CLIP | TextTransformer) and getattr(tower, "attn_mask", None) is not None
    known = isinstance(clip.tokenizer.tokenize, SimpleTokenizer)
    if not causal or not known or pooling(clip.towers)[0] != "argmax":
        raise ValueError(
            f"{clip.name}: its text tower ({type(tower).__name__}) is not a causal transformer pooled at the end-of-text "
            "token with CLIP's tokenizer, which Hugging Face's CLIP requires; use --format open_clip"
        )


def check_vision(clip: DifferenceCLIP) -> None:
    """Check that the image tower is a plain vision transformer.

    Raises:
        ValueError: It is something else.
    """
    visual = clip.towers.visual
    plain = isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok"
    if not plain or visual.conv1.bias is not None or getattr(clip.towers, "logit_bias", None) is not None:
        raise ValueError(
            f"{clip.name}: its image tower ({type(visual).__name__}) is not a plain vision transformer, which Hugging "
            "Face's CLIPModel requires; use --format open_clip, or --text_only true for the text tower only"
        )


def _text_config(clip: DifferenceCLIP) -> dict[str, Any]:
    tower = text_tower(clip.towers)
    tokenizer: Any = clip.tokenizer.tokenize
    return {
        **_transformer_config(tower.transformer),
        "projection_dim": clip.embed_dim,
        "vocab_size": tower.token_embedding.num_embeddings,
        "max_position_embeddings": tower.positional_embedding.shape[0],
        "bos_token_id": tokenizer.sot_token_id,
        "eos_token_id": tokenizer.eot_token_id,
        "pad_token_id": tokenizer.eot_token_id,
    }


def _vision_config(clip: DifferenceCLIP) -> dict[str, Any]:
    visual = clip.towers.visual
    return {
        **_transformer_config(visual.transformer),
        "projection_dim": clip.embed_dim,
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
    }


def _transformer_config(transformer: Any) -> dict[str, Any]:
    block = transformer.resblocks[0]
    return {
        "hidden_size": transformer.width,
        "num_hidden_layers": len(transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "intermediate_size": block.mlp.c_fc.out_features,
        "hidden_act": "quick_gelu" if isinstance(block.mlp.gelu, QuickGELU) else "gelu",
        "layer_norm_eps": block.ln_1.eps,
    }


def _text_state(clip: DifferenceCLIP) -> dict[str, Tensor]:
    prefix = "text." if isinstance(clip.towers, CustomTextCLIP) else ""
    state = {
        key.removeprefix(prefix): value
        for key, value in merged(clip.towers.state_dict(), clip.lora_scaling).items()
        if key.startswith(prefix) and not key.startswith(("visual.", "logit_")) and not key.endswith("attn_mask")
    }
    return _renamed(state, TEXT, "text_model", "text_projection", clip.name)


def _vision_state(clip: DifferenceCLIP) -> dict[str, Tensor]:
    state = merged(clip.towers.visual.state_dict(), clip.lora_scaling)
    return _renamed(state, VISION, "vision_model", "proj", clip.name)


def _renamed(
    state: dict[str, Tensor], names: dict[str, str], part: str, projection: str, where: str
) -> dict[str, Tensor]:
    """Rename tensors to Hugging Face names; raise if one has no mapping."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", key)
        if key in names:
            renamed[names[key]] = value
        elif key in (projection, f"{projection}.weight"):  # a matrix, or a Linear, which is its transpose
            target = "text_projection.weight" if part == "text_model" else "visual_projection.weight"
            renamed[target] = value if key.endswith(".weight") else value.T
        elif block and block[2] in BLOCK:
            renamed[f"{part}.encoder.layers.{block[1]}.{BLOCK[block[2]]}.{block[3]}"] = value
        elif packed := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", key):
            for name, piece in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{part}.encoder.layers.{packed[1]}.self_attn.{name}_proj.{packed[2]}"] = piece
        else:
            raise ValueError(f"{where}: Hugging Face's CLIP has no weight for {key}; use --format open_clip")
    return renamed


def _fill(model: Any, state: dict[str, Tensor]) -> None:
    state = {key: value.detach().cpu().float().contiguous() for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit Hugging Face's CLIP ({error}); use --format open_clip") from error


def _check_agreement(clip: DifferenceCLIP, model: Any, text_only: bool) -> None:
    """Check that both models give the same embeddings of random inputs."""
    generator = torch.Generator().manual_seed(0)
    tokens = clip.tokenizer([" ".join(["word"] * length) for length in (1, 5, 17)])
    with torch.no_grad():
        ours = F.normalize(encode_tokens(clip.towers, tokens.to(clip.device)).cpu(), dim=-1)
        out = model(input_ids=tokens).text_embeds if text_only else model.get_text_features(tokens).pooler_output
        differences = [float((ours - F.normalize(out, dim=-1)).abs().max())]
        if not text_only:
            height, width = clip.towers.visual.image_size
            pixels = torch.randn(2, 3, height, width, generator=generator)
            ours = F.normalize(clip.towers.encode_image(pixels.to(clip.device)).cpu(), dim=-1)
            features = model.get_image_features(pixels).pooler_output
            differences.append(float((ours - F.normalize(features, dim=-1)).abs().max()))
    if max(differences) > TOLERANCE:
        raise ValueError(
            f"{clip.name}: embeddings in Hugging Face's CLIP differ by {max(differences):.1g}; use --format open_clip"
        )


def clip_tokenizer(clip: DifferenceCLIP) -> Any:
    """Return CLIP's own tokenizer as a `transformers.CLIPTokenizer`."""
    import transformers

    ours: Any = clip.tokenizer.tokenize
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # open_clip's, and theirs
    return transformers.CLIPTokenizer(
        vocab={names.get(token, token): number for token, number in ours.encoder.items()},
        merges=[*ours.bpe_ranks],
        model_max_length=text_tower(clip.towers).positional_embedding.shape[0],
    )


def _image_processor(clip: DifferenceCLIP) -> Any:
    import transformers

    preprocess = open_clip.get_model_preprocess_cfg(clip.towers)
    size = preprocess["size"]
    side = size if isinstance(size, int) else size[0]
    squash = preprocess.get("resize_mode") == "squash"
    if preprocess.get("resize_mode") == "longest":
        raise ValueError(f"{clip.name}: Hugging Face's CLIPImageProcessor cannot pad pictures, which this model needs")
    return transformers.CLIPImageProcessor(
        size={"height": side, "width": side} if squash else {"shortest_edge": side},
        do_center_crop=not squash,
        crop_size={"height": side, "width": side},
        resample={"bicubic": 3, "bilinear": 2}[preprocess.get("interpolation", "bicubic")],
        image_mean=list(preprocess["mean"]),
        image_std=list(preprocess["std"]),
    )
