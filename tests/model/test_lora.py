"""Low-rank adapters: they alone train, merge into plain models, and a run with them does all that other runs do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from pcclip import load
from pcclip.cli import main
from pcclip.model import DifferenceCLIP, load_clip, save_clip
from pcclip.model.adapter_files import load_adapter, save_adapter
from pcclip.model.lora import Lora, add_adapters
from pcclip.model.lora_attention import LoraAttention
from pcclip.model.module import LitDifferenceCLIP
from pcclip.tasks import DifferenceTexts
from tests.helpers.models import gradients, make_batch, make_clip, make_module, write_config

TEXTS = ["the first is large", "a dog, the second one, is small"]
TOWERS = {
    "vit": ["text", "image"],
    "custom_text": ["text"],
    "coca": ["text"],
    "timm_vit": ["image"],
    "roberta": ["text"],
}


def adapted(folder: Path, kind: str, trainable: list[str], **settings: Any) -> LitDifferenceCLIP:
    """A module with adapters that have random weights, as after training."""
    lora = Lora(rank=2, towers=TOWERS[kind])  # type: ignore[arg-type]
    module = make_module(trainable, write_config(folder, kind), lora=lora, **settings).double()
    torch.manual_seed(1)
    for name, value in module.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(value, std=0.2)
    return module


def embeddings(model: DifferenceCLIP) -> Tensor:
    """Embeddings of some noise pictures and texts, in evaluation mode and float32."""
    model = model.float().eval()
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.cat([model.encode_images(images), model.encode_texts(TEXTS)])


@pytest.mark.parametrize("kind", TOWERS)
def test_adapters_start_as_nothing_and_merge_into_a_plain_model(tmp_path: Path, kind: str) -> None:
    model = make_clip(tmp_path, kind)
    before = embeddings(model)
    add_adapters(model, Lora(rank=2, towers=TOWERS[kind]))  # type: ignore[arg-type]
    torch.testing.assert_close(embeddings(model), before, rtol=0, atol=1e-6)
    model = adapted(tmp_path, kind, []).model
    expected = embeddings(model)
    assert (expected - before).abs().max() > 0.05
    save_clip(model, tmp_path / "saved")
    saved = load_clip(f"local-dir:{tmp_path / 'saved'}")
    assert saved.state_dict().keys() == make_clip(tmp_path, kind).state_dict().keys()
    torch.testing.assert_close(embeddings(saved), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", TOWERS)
def test_only_adapters_and_what_is_named_besides_them_train(tmp_path: Path, kind: str) -> None:
    module = adapted(tmp_path, kind, [*TOWERS[kind], "logit_scale"], caption_weight=1.0, head="linear")
    batch = make_batch(module)
    found = gradients(module, batch)[1]
    trained = {name for name in found if ".lora_" not in name}
    assert trained == {"model.towers.logit_scale", "model.head.weight"}
    assert found.keys() == {name for name, value in module.named_parameters() if value.requires_grad}
    layers = {name.partition(".lora_")[0] for name in found} - trained
    assert len(layers) * 2 + len(trained) == len(found)
    # Frozen weights keep their bits in a step.
    frozen = {name: value.clone() for name, value in module.named_parameters() if name not in found}
    torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=0.1).step()
    assert all(torch.equal(value, frozen[name]) for name, value in module.named_parameters() if name in frozen)


@pytest.mark.parametrize("kind", ["vit", "timm_vit", "roberta"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["chunks", "compiled"])
def test_chunks_and_compilation_change_no_gradient(tmp_path: Path, kind: str, compiled: bool) -> None:
    plain = adapted(tmp_path, kind, [])
    other = adapted(tmp_path, kind, [], **({} if compiled else {"chunk_size": 2, "grad_checkpointing": True}))
    if compiled:
        other.model.compile_towers(lambda graph, inputs: graph.forward)
    other.load_state_dict(plain.state_dict())
    batch = make_batch(plain)
    batch = batch._replace(tokens=plain.model.tokenizer([TEXTS[i % 2] for i in range(len(batch.first))]))
    (loss, found), (expected_loss, expected) = (gradients(module.eval(), batch) for module in (other, plain))
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)


def test_saved_adapters_are_those_of_peft(tmp_path: Path) -> None:
    module = adapted(tmp_path, "vit", [])
    expected, plain = embeddings(module.model), make_clip(tmp_path, "vit")
    save_adapter(module.model.state_dict(), module._lora, "some-base", tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "some-base"
    config = LoraConfig.from_pretrained(str(tmp_path))
    config._register_custom_module({nn.MultiheadAttention: LoraAttention})
    other = make_clip(tmp_path, "vit")
    other.towers = PeftModel.from_pretrained(other.towers, str(tmp_path), config=config).get_base_model()
    torch.testing.assert_close(embeddings(other), expected, rtol=0, atol=1e-6)
    load_adapter(plain, tmp_path)
    torch.testing.assert_close(embeddings(plain), expected, rtol=0, atol=1e-5)
    for kind in ("custom_text", "timm_vit"):  # other names, and other shapes
        with pytest.raises(ValueError, match=str(tmp_path)):
            load_adapter(make_clip(tmp_path, kind), tmp_path)


def test_towers_without_adapters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, tower, blocks in (
        ("resnet", "image", "ModifiedResNet"),
        ("qk_norm", "text", "CustomResidualAttentionBlock"),  # attention of another class
    ):
        with pytest.raises(ValueError, match=rf"model\.lora.*{blocks}"):
            make_module([], write_config(tmp_path, kind), lora=Lora(towers=[tower]))
    with pytest.raises(ValueError, match=r"model\.lora\.towers"):
        make_module([], lora=Lora(towers=[]))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"peft.*\[lora\]"):
        make_module([], lora=Lora())


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumes_evaluates_ensembles_and_exports(
    tmp_path: Path, shards: Path, tiny_clip: DifferenceCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_clip(tiny_clip, "base")
    ema = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.7}}
    tasks = [{"class_path": "pcclip.tasks.DifferenceTexts", "init_args": {"name": "val", "shards": str(shards)}}]
    table = {"file": "${run}/results.json", "alphas": [0.5], "report": None}
    callbacks = [
        ema,
        {"class_path": "pcclip.callbacks.Evaluation", "init_args": {"tasks": tasks, "resamples": 2}},
        {"class_path": "pcclip.callbacks.ResultsTable", "init_args": table},
        {"class_path": "pcclip.callbacks.SaveModel", "init_args": {"folder": "${run}/saved"}},
        {
            "class_path": "pcclip.callbacks.Checkpoint",
            "init_args": {"every_n_train_steps": 3, "dirpath": "${run}/checkpoints"},
        },
    ]
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}
    content = {
        "run": "once",
        "seed_everything": 3,
        "trainer": {**quiet, "default_root_dir": "${run}", "max_epochs": 2, "callbacks": callbacks},
        "model": {
            "clip": {"name": "local-dir:base"},
            "trainable": ["text", "logit_scale"],
            "caption_weight": 1.0,
            "optimizer": optimizer,
        },
        "data": {"train": [str(shards)], "groups_per_batch": 2, "pairs_per_group": 3, "num_workers": 0},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))
    fit = ["fit", "--config", "config.yaml", "--model.lora.rank=2", "--model.lora.dropout=0.1"]
    assert main(fit) == 0
    twice = [*fit, "--run=twice", "--resume=true"]
    assert main([*twice, "--trainer.max_epochs=1"]) == main(twice) == 0
    states = [torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in ("once", "twice")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert Path("once/results.json").read_text() == Path("twice/results.json").read_text()

    base, saved = load_clip("local-dir:base").state_dict(), load_clip("local-dir:once/saved").state_dict()
    changed = {name for name, value in saved.items() if not torch.equal(value, base[name])}
    assert changed == {
        "towers.logit_scale",
        *(name for name in base if ".transformer." in f".{name}" and _adapted(name)),
    }
    checkpoint = load("once/checkpoints/last.ckpt", device="cpu").clip.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in checkpoint.items())

    export = ["export", "--model", "once/checkpoints/last.ckpt", "--format", "adapter", "--output", "adapter"]
    assert main(export) == 0
    alone = load("adapter", device="cpu").clip.state_dict()
    for name in changed - {"towers.logit_scale"}:
        torch.testing.assert_close(alone[name], saved[name], rtol=0, atol=1e-6)

    blend = ["ensemble", "--base", "base", "--model", "once/saved", "--alpha", "0.5", "--output", "half"]
    assert main(blend) == 0
    rows = json.loads(Path("once/results.json").read_text())
    task = DifferenceTexts(name="val", shards=str(shards))
    for model, folder in (("base", "base"), ("finetuned", "once/saved"), ("ensembled 0.5", "half")):
        found = {row["metric"]: row["value"] for row in rows if row["model"] == model}
        expected = {row.metric: row.value for row in load(folder, device="cpu").evaluate([task], resamples=2)}
        assert found == pytest.approx(expected, abs=1e-5)


def _adapted(name: str) -> bool:
    """Whether a weight of the tiny model's text tower has adapters."""
    return ".visual." not in name and name.endswith(
        ("in_proj_weight", "out_proj.weight", "c_fc.weight", "c_proj.weight")
    )
