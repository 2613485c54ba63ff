"""Tiny CLIPs of every kind of tower, from configurations written on the spot."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor

from pcclip.batch import PairBatch
from pcclip.model import ClipSource, DifferenceCLIP, load_clip
from pcclip.model.module import LitDifferenceCLIP

TINY = Path(__file__).with_name("tiny.json")
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TIMM = {"timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT},
    "resnet": {"vision_cfg": RESNET},
    "custom_text": {"vision_cfg": VIT, "custom_text": True},
    "timm_resnet": {"vision_cfg": {**TIMM, "timm_model_name": "test_resnet"}},
    "timm_vit": {"vision_cfg": {**TIMM, "timm_model_name": "test_vit", "timm_pool": ""}, "custom_text": True},
    "coca": {
        "vision_cfg": {**VIT, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 76},
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
}
ROBERTA = {"hf_proj_type": "linear", "hf_pooler_type": "mean_pooler", "context_length": 20}
HUGGING_FACE: dict[str, dict[str, Any]] = {  # kinds whose tokenizer, or also text tower, is Hugging Face's
    "siglip": {
        "embed_dim": 64,
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": SIGLIP,
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
        *["a", "dog", "cat", "the", "first", "is", "large", ",", "second", "small", "one"],
    ]
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    built.post_processor = ends
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=built, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.RobertaConfig(vocab_size=64, pad_token_id=0, **sizes)
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


def gradients(module: LitDifferenceCLIP, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch and the gradients of every parameter that has one."""
    module.zero_grad(set_to_none=True)
    loss = module.losses(batch)["loss"]
    loss.backward()
    found = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    return loss.detach(), found
