"""With averaged weights the table, the ensembles and the saved model are of the same weights, in any order of callbacks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pcclip.callbacks import Evaluation, ResultsTable, SaveModel
from pcclip.data.datamodule import PairDataModule
from pcclip.model import load_clip
from pcclip.model.ensemble import blend
from pcclip.tasks import DifferenceTexts, Retrieval
from tests.helpers.models import TINY, make_module
from tests.helpers.shards import write_embedded_shards


def evaluations(shards: Path) -> list[Callback]:
    return [Evaluation([cls(name="held_out", shards=str(shards)) for cls in (DifferenceTexts, Retrieval)], resamples=5)]


def run(stage: str, module: Any, data: PairDataModule, callbacks: list[Callback], **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    trainer = Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, enable_checkpointing=checkpoints, **quiet)
    getattr(trainer, stage)(module, data, **options)
    return trainer


def table(file: Path, model: str) -> dict[str, float]:
    rows = json.loads(file.read_text())
    return {f"{row['task']}/{row['subset']}/{row['metric']}": row["value"] for row in rows if row["model"] == model}


def data_of(shards: Path) -> PairDataModule:
    return PairDataModule([str(shards)], [str(shards)], groups_per_batch=2, pairs_per_group=4, num_workers=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("averaging", "first"), [(WeightAveraging, True), (EMAWeightAveraging, False)])
def test_the_table_is_of_the_saved_model(shards: Path, tmp_path: Path, first: bool, averaging: type[Callback]) -> None:
    module = make_module(["all"])
    module._optimizer = lambda groups: torch.optim.AdamW(groups, lr=3e-3)  # type: ignore[assignment, arg-type, return-value]
    base = {name: value.clone() for name, value in module.state_dict().items()}
    file = tmp_path / "results.json"
    average = averaging() if averaging is WeightAveraging else averaging(decay=0.8)  # type: ignore[call-arg]
    table_of_results = ResultsTable(str(file), alphas=[0.5], report=None)
    others = [table_of_results, SaveModel(str(tmp_path / "saved")), *evaluations(shards)]
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    callbacks = [average, *others, checkpoint] if first else [*others, checkpoint, average]
    logged = run("fit", module, data_of(shards), callbacks).callback_metrics

    saved = load_clip(f"local-dir:{tmp_path / 'saved'}")
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for name, value in saved.state_dict().items():
        assert torch.equal(value, last["state_dict"][f"model.{name}"]), name
    assert any(not torch.equal(value, last["current_model_state"][name]) for name, value in last["state_dict"].items())

    def measured(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        other = make_module(["all"], seed=1)
        other.load_state_dict(weights)
        metrics = run("test", other, PairDataModule(), evaluations(shards), verbose=False).callback_metrics
        return {name: float(value) for name, value in metrics.items() if not name.startswith(("summary/", "detail/"))}

    expected = measured(last["state_dict"])
    found = table(file, "finetuned")
    assert found == pytest.approx(expected, abs=1e-6)
    assert found != pytest.approx(measured(last["current_model_state"]), abs=1e-6)
    assert {name: float(logged[name]) for name in found} == pytest.approx(expected, abs=1e-6)
    assert table(file, "ensembled 0.5") == pytest.approx(measured(blend(base, last["state_dict"], 0.5)), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "average",
    [EMAWeightAveraging(decay=0.9), WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(0.9))],
    ids=["one by one", "together"],
)
def test_a_frozen_tower_does_not_drift(tmp_path: Path, average: Callback) -> None:
    module = make_module(["text"])
    before = module.model.image_fingerprint
    shards = write_embedded_shards(tmp_path / "embedded", np.random.default_rng(0).normal(size=(6, 4, 32)), before)
    results = ResultsTable(str(tmp_path / "results.json"), alphas=[0.5], report=None)
    others = [results, SaveModel(str(tmp_path / "saved"))]
    run("fit", module, data_of(shards), [average, *others, *evaluations(shards)])
    assert load_clip(f"local-dir:{tmp_path / 'saved'}").image_fingerprint == before
    assert all(value.isfinite().all() for value in module.model.parameters())
    assert module.model.text_fingerprint != make_module(["text"], str(TINY)).model.text_fingerprint
