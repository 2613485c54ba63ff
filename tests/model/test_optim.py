"""Which parameters decay, and how the learning rate runs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.transformer import Attention
from torch import nn

from pcclip.model import Exponential, Schedule, WarmupCosine
from pcclip.model.optim import parameter_groups
from tests.helpers.models import KINDS, make_module, write_config


@pytest.mark.parametrize("kind", KINDS)
def test_norms_biases_embeddings_and_scales_do_not_decay(tmp_path: Path, kind: str) -> None:
    module = make_module(["all"], write_config(tmp_path, kind), head="mlp", caption_weight=1, learn_logit_scale=True)
    names = {id(value): name for name, value in module.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in parameter_groups(module))  # type: ignore[attr-defined]
    assert decayed | plain == {name for name, value in module.named_parameters() if value.requires_grad}
    assert not decayed & plain
    # Every weight matrix or filter of a layer decays, and each projection; all else does not.
    layers = (nn.Linear, nn.Conv2d, nn.MultiheadAttention, Attention)
    expected = {
        f"{path}.{name}"
        for path, child in module.named_modules()
        if isinstance(child, layers)
        for name, value in child.named_parameters(recurse=False)
        if "bias" not in name and value.requires_grad
    }
    expected |= {name for name in decayed if name.endswith((".proj", ".text_projection"))}
    assert decayed == expected
    assert {"model.towers.logit_scale", "log_logit_scale", "model.head.hidden.bias"} <= plain
    assert any(name.endswith("token_embedding.weight") for name in plain)
    assert any(name.endswith("positional_embedding") for name in plain)


TOWERS = {  # kind of tower, and factors of parts of its image tower by the start of their names
    "vit": {
        "conv1": 0.25,
        "ln_pre": 0.25,
        "transformer.resblocks.0": 0.5,
        "transformer.resblocks.1": 1,
        "ln_post": 1,
        "proj": 1,
    },
    "timm_vit": {
        "trunk.patch_embed": 0.25,
        "trunk.blocks.0": 0.5,
        "trunk.blocks.1": 1,
        "head": 1,
    },
}


@pytest.mark.parametrize("kind", TOWERS)
def test_rates_differ_by_tower_and_layer(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {"lr_factors": {"image": 0.1, "text": 0.5, "text_last_1": 0.5}, "layer_decay": 0.5}
    module = make_module(["all"], write_config(tmp_path, kind), head="linear", caption_weight=1, **settings)
    module._optimizer = lambda groups: torch.optim.AdamW(groups, lr=2.0, weight_decay=0.3)  # type: ignore[assignment, arg-type, return-value]
    made: Any = module.configure_optimizers()
    names = {value: name.removeprefix("model.towers.") for name, value in module.named_parameters()}
    rates = {names[value]: group["lr"] for group in made["optimizer"].param_groups for value in group["params"]}
    assert rates.keys() == {names[value] for value in module.parameters() if value.requires_grad}
    expected = {f"visual.{start}": 0.1 * factor for start, factor in TOWERS[kind].items()}
    text = "text." if kind == "timm_vit" else ""
    expected |= {f"{text}transformer.resblocks.1": 0.25, f"{text}transformer.resblocks.0": 0.5, f"{text}token_": 0.5}
    for start, factor in {**expected, "logit_scale": 1, "model.head": 1}.items():
        found = [rate for name, rate in rates.items() if name.startswith(start)]
        assert found == pytest.approx([2 * factor] * max(1, len(found))), start
    decays = {
        names[value]: group["weight_decay"] for group in made["optimizer"].param_groups for value in group["params"]
    }
    assert (decays[f"{text}token_embedding.weight"], decays[f"{text}transformer.resblocks.0.attn.in_proj_weight"]) == (
        0,
        0.3,
    )


def test_factors_of_unknown_parts_and_layers_are_refused(tmp_path: Path) -> None:
    for settings, named in (
        ({"lr_factors": {"texts": 0.1}}, "lr_factors: .*'texts'"),
        ({"layer_decay": 0.5}, "ModifiedResNet"),
    ):
        with pytest.raises(ValueError, match=named):
            make_module(["all"], write_config(tmp_path, "resnet"), **settings)  # type: ignore[arg-type]


def run(schedule: Schedule, steps: int, steps_per_epoch: int) -> list[float]:
    """Learning rate at each step, from a base rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule.build(optimizer, steps, steps_per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_warmup_cosine_by_hand() -> None:
    rates = run(WarmupCosine(warmup=0.2), steps=10, steps_per_epoch=5)
    cosine = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates == pytest.approx([0.5, 1.0, *cosine])
    schedule = WarmupCosine(warmup=0)
    assert schedule.factor(0, 10, 5) == 1
    assert schedule.factor(10, 10, 5) == schedule.factor(11, 10, 5) == 0
    with pytest.raises(ValueError, match="warmup=500 is a share of all steps"):
        WarmupCosine(warmup=500)


def test_exponential_is_constant_within_an_epoch() -> None:
    assert run(Exponential(0.9), steps=6, steps_per_epoch=2) == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.81])
