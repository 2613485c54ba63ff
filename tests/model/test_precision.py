"""Training and validation in the precisions that Lightning offers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from pcclip.data.datamodule import PairDataModule
from tests.helpers.models import make_module
from tests.helpers.shards import write_embedded_shards

PRECISIONS = ["bf16-true", "64-true", "bf16-mixed"]
LOSSES = [("linear", "contrastive"), ("mlp", "mse"), ("identity", "sigmoid")]


# Each loss in each precision, in turn with images and with embeddings.
CASES = [(*loss, precision) for loss in LOSSES for precision in PRECISIONS]


@pytest.mark.parametrize(("head", "loss", "precision"), CASES)
def test_trains_and_validates(shards: Path, tmp_path: Path, precision: Any, head: str, loss: str) -> None:
    embedded = CASES.index((head, loss, precision)) % 2 == 1
    settings = {"head": head, "difference_loss": loss, "caption_weight": 0.5, "sign_weight": 0.1, "keep_weight": 1.0}
    module = make_module(["text"] if embedded else ["all"], **settings)  # type: ignore[arg-type]
    if embedded:
        vectors = np.random.default_rng(0).normal(size=(6, 4, 32))
        shards = write_embedded_shards(tmp_path / "embedded", vectors, module.model.image_fingerprint)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, precision=precision, **quiet)
    data = PairDataModule([str(shards)], [str(shards)], groups_per_batch=2, pairs_per_group=4, num_workers=0)
    before = [value.detach().clone() for value in module.model.parameters() if value.requires_grad]
    trainer.fit(module, data)
    assert all(math.isfinite(trainer.callback_metrics[f"{stage}/loss"]) for stage in ("train", "val"))
    after = [value.detach() for value in module.model.parameters() if value.requires_grad]
    assert any(not torch.equal(one.float(), two.float()) for one, two in zip(before, after, strict=True))


def test_embeddings_are_normalised_in_full_precision() -> None:
    model = make_module(["all"]).model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = model.encode_texts(["a dog", "two cats"])
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2), rtol=0, atol=1e-6)
