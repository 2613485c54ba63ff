"""Each part names exactly its parameters, for every kind of tower."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import transformers
from open_clip.model import CustomTextCLIP

from pcclip.model import DifferenceCLIP
from pcclip.model.lora import Lora, add_adapters, merged
from pcclip.model.trainable import set_trainable
from tests.helpers.models import VIT, make_clip

VISUAL_END = r"visual\.(ln_post\..*|proj)"
TEXT_OUTSIDE = r"token_embedding\.weight|positional_embedding|ln_final\..*|text_projection(\.weight)?"
EXPECTED = [
    ("vit", "all", r".*"),
    ("vit", "image", r"visual\..*"),
    ("vit", "image_projection", r"visual\.proj"),
    ("vit", "image_last_1", rf"visual\.transformer\.resblocks\.1\..*|{VISUAL_END}"),
    ("vit", "image_last_2", rf"visual\.transformer\..*|{VISUAL_END}"),
    ("vit", "text", rf"transformer\..*|{TEXT_OUTSIDE}"),
    ("vit", "text_transformer", r"transformer\..*"),
    ("vit", "text_last_1", r"transformer\.resblocks\.1\..*|ln_final\..*|text_projection"),
    ("vit", "logit_scale", r"logit_scale"),
    ("resnet", "image", r"visual\..*"),
    ("resnet", "text", rf"transformer\..*|{TEXT_OUTSIDE}"),
    ("custom_text", "text", r"text\..*"),
    ("custom_text", "text_transformer", r"text\.transformer\..*"),
    ("custom_text", "text_last_1", r"text\.(transformer\.resblocks\.1\..*|ln_final\..*|text_projection)"),
    ("timm_resnet", "image", r"visual\..*"),
    ("timm_resnet", "image_projection", r"visual\.head\..*"),
    ("timm_vit", "image_projection", r"visual\.head\..*"),
    ("timm_vit", "image_last_1", r"visual\.(trunk\.(blocks\.1|norm|fc_norm)|head)\..*"),
    ("eva", "image_projection", r"visual\.trunk\.head\..*"),
    ("eva", "image_last_1", r"visual\.trunk\.(blocks\.1|norm|fc_norm|head)\..*"),
    ("mobileclip", "image_projection", r"visual\.trunk\.head\.fc\..*"),
    ("coca", "text", r"text\..*"),
    ("coca", "text_transformer", r"text\.transformer\..*"),
    ("coca", "text_last_1", r"text\.(transformer\.resblocks\.1\..*|ln_final\..*|text_projection)"),
    ("sigmoid", "logit_scale", r"logit_scale|logit_bias"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DifferenceCLIP]:
    """Tiny CLIPs by kind, each made once."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str, DifferenceCLIP] = {}

    def get(kind: str) -> DifferenceCLIP:
        if kind not in made:
            made[kind] = make_clip(folder, kind, head="linear")
        return made[kind]

    return get


def trained(model: DifferenceCLIP) -> set[str]:
    """Names of the towers' parameters that train."""
    return {name for name, value in model.towers.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(("kind", "part", "pattern"), EXPECTED)
def test_part_is_exactly(clips: Callable[[str], DifferenceCLIP], kind: str, part: str, pattern: str) -> None:
    model = clips(kind)
    expected = {name for name, _ in model.towers.named_parameters() if re.fullmatch(pattern, name)}
    set_trainable(model, [part])
    assert expected
    assert trained(model) == expected
    assert model.head.weight.requires_grad
    assert model.image_tower_frozen is not any(name.startswith("visual.") for name in expected)


def test_parts_add_up_and_the_rest_freezes_again(clips: Callable[[str], DifferenceCLIP]) -> None:
    model = clips("vit")
    everything = {name for name, _ in model.towers.named_parameters()}
    set_trainable(model, ["text", "image", "logit_scale"])
    assert trained(model) == everything
    set_trainable(model, [])
    assert trained(model) == set()


HF_CONFIGS: dict[str, dict[str, Any]] = {
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    "mt5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2},
    "m2m_100": {
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "encoder_layerdrop": 0,
    },
}


@pytest.mark.parametrize("kind", HF_CONFIGS)
def test_parts_of_hugging_face_text_towers(tmp_path: Path, kind: str) -> None:
    transformers.AutoConfig.for_model(kind, vocab_size=60, **HF_CONFIGS[kind]).save_pretrained(tmp_path)
    text = {"hf_model_name": str(tmp_path), "hf_model_pretrained": False, "hf_proj_type": "linear"}
    pooled = {"hf_pooler_type": "mean_pooler", "hf_tokenizer_name": str(tmp_path)}
    towers = CustomTextCLIP(32, VIT, {**text, **pooled})
    model = cast(DifferenceCLIP, SimpleNamespace(towers=towers, has_image_tower=True))
    ids = torch.randint(3, 60, (2, 5))
    assert towers.encode_text(ids).shape == (2, 32)
    for part, pattern in (
        ("text_transformer", r"text\.transformer\.(encoder\.layer|block|layers)\..*"),
        (
            "text_last_1",
            r"text\.(transformer\.((encoder\.layer|block|layers)\.1|layer_norm|final_layer_norm)|proj)\..*",
        ),
        ("text", r"text\..*"),
    ):
        set_trainable(model, [part])
        assert trained(model) == {name for name, _ in towers.named_parameters() if re.fullmatch(pattern, name)}
        assert trained(model)
        towers.zero_grad()
        towers.encode_text(ids).sum().backward()
        unused = [name for name, value in towers.named_parameters() if value.requires_grad and value.grad is None]
        assert not unused
    # These blocks take low-rank adapters too.
    add_adapters(model, Lora(rank=2))
    for name in (adapters := [name for name in trained(model) if ".lora_" in name]):
        torch.nn.init.normal_(towers.get_parameter(name), std=0.2)
    assert len(adapters) >= 2 * 2 * 6  # two matrices for each of at least six layers in two blocks
    assert trained(model) == set(adapters)
    towers.zero_grad()
    expected = towers.eval().encode_text(ids)
    expected.sum().backward()
    assert all(value.grad is not None for name, value in towers.named_parameters() if name in adapters)
    plain = CustomTextCLIP(32, VIT, {**text, **pooled}).eval()
    plain.load_state_dict(merged(towers.state_dict(), model.lora_scaling))
    torch.testing.assert_close(plain.encode_text(ids), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        ("vit", "texts", "unknown part 'texts'; use all, text"),
        ("vit", "text_last_3", "the tower has 2 blocks; use 1 to 2"),
        ("vit", "image_last_0", "the tower has 2 blocks; use 1 to 2"),
        ("resnet", "image_last_1", "needs a tower of transformer blocks, not ModifiedResNet"),
        ("resnet", "image_projection", "ModifiedResNet has none of proj, head"),
        ("timm_resnet", "image_last_1", "needs a tower of transformer blocks, not TimmModel"),
    ],
)
def test_part_that_is_not_there_is_refused(
    clips: Callable[[str], DifferenceCLIP], kind: str, part: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        set_trainable(clips(kind), [part])


@pytest.mark.parametrize("kind", ["resnet", "timm_resnet"])
def test_frozen_image_tower_keeps_its_batch_statistics(clips: Callable[[str], DifferenceCLIP], kind: str) -> None:
    model = clips(kind)
    set_trainable(model, ["text"])
    model.train()
    before = {name: value.clone() for name, value in model.towers.visual.named_buffers()}
    assert any("running_mean" in name for name in before)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    embeddings = model.encode_images(images)
    assert not embeddings.requires_grad
    for name, value in model.towers.visual.named_buffers():
        assert torch.equal(value, before[name])
    assert not model.towers.visual.training
    assert model.towers.transformer.training
    assert torch.equal(embeddings, model.eval().encode_images(images))
    # and of a tower that trains only in part: what is frozen stays as it is, what trains moves
    set_trainable(model, ["image"])
    model.train()
    model.encode_images(images)
    assert any(not torch.equal(value, before[name]) for name, value in model.towers.visual.named_buffers())
