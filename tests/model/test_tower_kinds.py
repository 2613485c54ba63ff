"""docs/reference/models.md says of every tower kind what works. Each row of its tables is made again and compared."""

import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from pcclip.model import load_clip, save_clip
from pcclip.model.lora import Lora, merged
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.text import is_trimmable, text_parameters
from pcclip.model.trainable import set_trainable
from pcclip.tools.export import Format, export
from pcclip.tools.inference import InferenceModel
from tests.helpers.models import (
    TEXT,
    VIT,
    assert_same_step,
    make_batch,
    make_clip,
    make_module,
    saved_bytes,
    write_config,
)

PAGE = (Path(__file__).parents[2] / "docs/reference/models.md").read_text(encoding="utf-8")
ROWS = {
    "open_clip ViT": "vit",
    "open_clip ViT with `custom_text`": "custom_text",
    "open_clip ViT with `qk_norm` in the text tower": "qk_norm",
    "open_clip ResNet": "resnet",
    "timm CNN": "timm_convnext",
    "timm ViT": "timm_vit",
    "EVA": "eva",
    "MobileCLIP": "mobileclip",
    "SigLIP": "siglip",
    "SigLIP 2": "siglip2",
    "CoCa": "coca",
    "Hugging Face text tower": "roberta",
}
PARTS = [f"{tower}{part}" for tower in ("image", "text") for part in ("", "_projection", "_transformer", "_last_K")]
SETTINGS: dict[str, Any] = {"caption_weight": 0.5, "caption_logit_scale": 10.0}
CELLS = {(): "no", ("image",): "image tower", ("text",): "text tower", ("image", "text"): "yes"}


def table(title: str) -> dict[str, list[str]]:
    """Rows of the table below a title, by their first cell."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


def check_refusal(error: ValueError) -> None:
    """What does not work is said in one line."""
    assert "\n" not in str(error)


def exported(model: InferenceModel, folder: Path, layout: Format) -> str:
    """What of the model a layout takes."""
    for text_only, what in ((False, "yes"), (True, "text tower")):
        try:
            export(model, folder / f"{layout} {what}", layout, text_only=text_only)
        except ValueError as error:
            check_refusal(error)
            continue
        return what
    return "no"


def checkpointed(config: str) -> str:
    """Towers that keep less for the backward pass, and give the same gradients."""
    found = []
    for tower in ("image", "text"):
        plain = make_module([tower], config, **SETTINGS).double()
        try:
            module = make_module([tower], config, grad_checkpointing=True, **SETTINGS).double()
        except ValueError as error:
            check_refusal(error)
            continue
        assert saved_bytes(module) < saved_bytes(plain)
        assert_same_step(module, plain)
        found.append(tower)
    return CELLS[tuple(found)]


def compiled(config: str, plain: LitDifferenceCLIP) -> str:
    """Whether compiled towers give the same gradients."""
    graphs = []
    module = make_module(["image", "text"], config, **SETTINGS).double()
    module.model.compile_towers(lambda graph, _: graphs.append(graph) or graph.forward)
    assert_same_step(module, plain)
    return "yes" if graphs else "no"


def sharded(config: str, plain: LitDifferenceCLIP) -> str:
    """Towers that are gathered block by block; sharded weights give the same gradients."""
    module = make_module(["image", "text"], config, **SETTINGS).double()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        module.model.shard(init_device_mesh("cpu", (1,)))
        assert_same_step(module, plain)
        blocks = [block for block in module.model.modules() if isinstance(block, FSDPModule)][1:]
    finally:
        distributed.destroy_process_group()
    weights = {id(weight) for block in blocks for weight in nn.Module.parameters(block)}  # type: ignore[arg-type]
    towers = module.model.towers
    parts = {"image": towers.visual.parameters(), "text": text_parameters(towers)}
    return CELLS[tuple(name for name, part in parts.items() if any(id(weight) in weights for weight in part))]


def adapted(config: str) -> str:
    """Towers whose low-rank adapters train, and give the same loss when they are merged."""
    found = []
    for tower in ("image", "text"):
        try:
            module = make_module([], config, lora=Lora(rank=1, towers=[tower]), **SETTINGS).double()
        except ValueError as error:
            if "model.lora" not in str(error):
                raise
            check_refusal(error)
            continue
        adapters = [value for name, value in module.named_parameters() if ".lora_" in name]
        for value in adapters:
            nn.init.normal_(value, std=0.2)
        loss = module.losses(make_batch(module))["loss"]
        loss.backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in adapters)
        plain = make_module([], config, **SETTINGS).double()
        plain.model.load_state_dict(merged(module.model.state_dict(), module.model.lora_scaling))
        torch.testing.assert_close(plain.losses(make_batch(plain))["loss"], loss, rtol=0, atol=1e-8)
        found.append(tower)
    return CELLS[tuple(found)]


def test_every_row_is_known() -> None:
    assert list(table("Tower kinds")) == list(table("What works")) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_parts_and_tokenizer(tmp_path: Path, row: str) -> None:
    example = table("Tower kinds")[row][0]
    name = re.fullmatch("`(.+)`", example)
    assert name is None or open_clip.get_model_config(name[1]) is not None
    model = make_clip(tmp_path, ROWS[row])
    found = []
    for part in PARTS:
        try:
            set_trainable(model, [part.replace("K", "1")])
        except ValueError as error:
            check_refusal(error)
            continue
        found.append(f"`{part}`")
    parts = [", ".join(part for part in found if part.startswith(f"`{tower}")) for tower in ("image", "text")]
    save_clip(model, tmp_path / "saved")
    tokenizer = "saved" if (tmp_path / "saved" / "tokenizer.json").exists() else "CLIP's"
    assert table("Tower kinds")[row] == [example, *parts, tokenizer]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    pytest.importorskip("onnxscript")
    for part in (VIT, TEXT):
        monkeypatch.setitem(part, "layers", 1)  # exports and compilation take a second for each block
    config = write_config(tmp_path, ROWS[row])
    plain = make_module(["image", "text"], config, **SETTINGS).double()
    batch = make_batch(plain)
    plain.losses(batch)["loss"].backward()
    trains = [
        name
        for name, part in {
            "image": plain.model.towers.visual.parameters(),
            "text": text_parameters(plain.model.towers),
        }.items()
        if any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part)
    ]
    cells = [CELLS[tuple(trains)], "yes" if is_trimmable(plain.model.towers) else "no"]
    model = InferenceModel(load_clip(config), "tiny")
    cells += [exported(model, tmp_path, layout) for layout in ("open_clip", "huggingface", "onnx")]
    torch._dynamo.reset()
    cells += [sharded(config, plain), checkpointed(config), compiled(config, plain), adapted(config)]
    assert table("What works")[row] == cells
