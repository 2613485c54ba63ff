"""Tiny CLIPs of every kind of tower, from configurations written on the spot."""

import json
from pathlib import Path
from typing import Any

import timm
import tokenizers
import torch
import transformers
from timm.models import register_model
from torch import Tensor
from torch.distributed.tensor import DTensor

from pcclip.batch import PairBatch
from pcclip.model import ClipSource, DifferenceCLIP, load_clip
from pcclip.model.module import LitDifferenceCLIP


@register_model
def tiny_eva02(pretrained: bool = False, **settings: Any) -> Any:
    """The image tower of EVA02-B-16, with two narrow blocks."""
    sizes = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "ref_feat_shape": (2, 2)}
    return timm.models.eva02_base_patch16_clip_224(pretrained, **sizes, **settings)


@register_model
def tiny_vit(pretrained: bool = False, **settings: Any) -> Any:
    """timm's vision transformer for tests, with two blocks instead of six."""
    return timm.models.vision_transformer.test_vit(pretrained, depth=2, **settings)


@register_model
def tiny_fastvit(pretrained: bool = False, **settings: Any) -> Any:
    """The image tower of MobileCLIP-S1, with narrow stages of one block."""
    return timm.models.fastvit_mci1(pretrained, layers=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), **settings)


TINY = Path(__file__).with_name("tiny.json")
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TIMM = {"timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
TRUNK = {"timm_model_pretrained": False, "timm_proj": None, "image_size": 32}  # projects in the trunk itself
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT},
    "resnet": {"vision_cfg": RESNET},
    "custom_text": {"vision_cfg": VIT, "custom_text": True},
    "qk_norm": {"vision_cfg": VIT, "text_cfg": {**TEXT, "qk_norm": True, "scale_attn": True, "ls_init_value": 0.5}},
    "timm_resnet": {"vision_cfg": {**TIMM, "timm_model_name": "test_resnet"}},
    "timm_convnext": {"vision_cfg": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": ""}},
    "timm_vit": {"vision_cfg": {**TIMM, "timm_model_name": "tiny_vit", "timm_pool": ""}, "custom_text": True},
    "eva": {"vision_cfg": {**TRUNK, "timm_model_name": "tiny_eva02", "timm_pool": "token"}, "custom_text": True},
    "mobileclip": {
        "vision_cfg": {**TRUNK, "timm_model_name": "tiny_fastvit", "timm_pool": "avg", "image_size": 64},
        "text_cfg": {**TEXT, "no_causal_mask": True},
        "custom_text": True,
    },
    "coca": {
        "vision_cfg": {**VIT, "output_tokens": True, "attentional_pool": True, "attn_pooler_heads": 2},
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 76, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "sigmoid": {"vision_cfg": VIT, "init_logit_scale": 2.0, "init_logit_bias": -10},
}
SIGLIP = {
    **TEXT,
    "context_length": 20,
    "vocab_size": 64,
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
ROBERTA = {"hf_proj_type": "linear", "hf_pooler_type": "mean_pooler", "context_length": 20}
HUGGING_FACE: dict[str, dict[str, Any]] = {  # kinds whose tokenizer, or also text tower, is Hugging Face's
    "siglip": {
        "embed_dim": 64,
        "vision_cfg": {**TIMM, "timm_model_name": "tiny_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": SIGLIP,
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "siglip2": {
        "embed_dim": 64,
        "vision_cfg": {**TIMM, "timm_model_name": "tiny_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**SIGLIP, "act_kwargs": {"approximate": "tanh"}},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "roberta": {"vision_cfg": VIT, "text_cfg": ROBERTA},
}


def write_config(folder: Path, kind: str) -> str:
    """Write the configuration of one kind of tiny CLIP; returns its path. The file's stem is unique to the kind."""
    config = {"embed_dim": 32, "text_cfg": TEXT, **(KINDS | HUGGING_FACE)[kind]}
    if kind in HUGGING_FACE:
        hub = str(write_hub(folder / "hub"))
        names = {"hf_tokenizer_name": hub} | ({"hf_model_name": hub} if kind == "roberta" else {})
        config["text_cfg"] = {**config["text_cfg"], **names}
    file = folder / f"tiny_{kind}.json"
    file.write_text(json.dumps(config))
    return str(file)


def write_hub(folder: Path) -> Path:
    """Write a Hugging Face tokenizer of whole words and a tiny text tower."""
    words = [
        "<pad>",
        "</s>",
        "<unk>",
        *["a", "dog", "cat", "the", "first", "is", "large", ",", "second", "small", "one", "and", *"0123456789"],
    ]
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    built.post_processor = ends
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=built, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.RobertaConfig(vocab_size=64, pad_token_id=0, **sizes, **no_dropout)
    transformers.RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_clip(folder: Path, kind: str, **settings: Any) -> DifferenceCLIP:
    """A tiny CLIP of a kind, with the same random weights every time."""
    torch.manual_seed(0)
    return load_clip(write_config(folder, kind), **settings)


def make_module(
    trainable: list[str], clip: str | ClipSource = str(TINY), seed: int = 0, **settings: Any
) -> LitDifferenceCLIP:
    """A module on a tiny CLIP whose losses are those of a single process, without a trainer."""
    torch.manual_seed(seed)
    source = clip if isinstance(clip, ClipSource) else ClipSource(clip)
    return LitDifferenceCLIP(source, trainable, **settings)


def make_batch(
    module: LitDifferenceCLIP, images: int = 6, pairs: int = 8, captions: int = 4, seed: int = 0
) -> PairBatch:
    """A batch of noise pictures, random pairs among them with a text each, and captions."""
    generator = torch.Generator().manual_seed(seed)
    size = module.model.towers.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    first = torch.randint(images, (pairs,), generator=generator)
    second = (first + torch.randint(1, images, (pairs,), generator=generator)) % images
    return PairBatch(
        images=torch.randint(256, (images, 3, height, width), generator=generator, dtype=torch.uint8),
        embeddings=None,
        image_ids=torch.arange(images) + 3 * seed,  # batches of other seeds share some pictures
        first=first,
        second=second,
        tokens=module.model.tokenizer(
            [f"the first is {i} and the second {j}" for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        ),
        captioned=torch.randperm(images, generator=generator)[:captions],
        caption_tokens=module.model.tokenizer([f"picture number {i}" for i in range(captions)]),
    )


def embedded(module: LitDifferenceCLIP, batch: PairBatch) -> PairBatch:
    """The same batch with its images replaced by their embeddings."""
    assert batch.images is not None
    with torch.no_grad():
        return batch._replace(images=None, embeddings=module.model.encode_images(batch.images))


def saved_bytes(module: LitDifferenceCLIP) -> int:
    """What the forward pass keeps for the backward pass, as far as it is not made again."""
    sizes: list[int] = []

    def pack(value: Tensor) -> Tensor:
        sizes.append(0 if isinstance(value, torch.nn.Parameter) else value.nbytes)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        module.losses(make_batch(module))
    return sum(sizes)


def assert_same_step(fast: LitDifferenceCLIP, plain: LitDifferenceCLIP) -> None:
    """Both have the same weights and now the same loss and gradients of every parameter."""
    assert list(fast.state_dict()) == list(plain.state_dict())
    batch = make_batch(plain)
    (loss, found), (expected_loss, expected) = gradients(fast, batch), gradients(plain, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
    assert found.keys() == expected.keys() == {name for name, p in plain.named_parameters() if p.requires_grad}
    for name, value in expected.items():
        # timm interpolates position embeddings in float32, whose rounding differs from chunk to chunk and from CPU to CPU
        close = 1e-8 if name.endswith("trunk.pos_embed") else 1e-10
        assert (found[name] - value).abs().max() < close * max(1, float(value.abs().max())), name


def gradients(module: LitDifferenceCLIP, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch and the gradients of every parameter that has one."""
    module.zero_grad(set_to_none=True)
    loss = module.losses(batch)["loss"]
    loss.backward()
    found = {name: _whole(value.grad) for name, value in module.named_parameters() if value.grad is not None}
    return loss.detach(), found


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value.clone()
