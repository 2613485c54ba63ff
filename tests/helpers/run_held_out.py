"""Validates, tests and predicts with the tiny module, in one process or two."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from PIL import Image

from pcclip.batch import PairBatch
from pcclip.callbacks import Predictions
from pcclip.data.datamodule import PairDataModule
from pcclip.model import ClipSource
from pcclip.model.module import LitDifferenceCLIP
from tests.helpers.shards import picture

COLOURS = {tuple(np.array(Image.open(io.BytesIO(picture(index))))[0, 0].tolist()): index for index in range(28)}


class Groups(Callback):
    """Keeps which groups this process met in validation and test, by the colours of their pictures."""

    def __init__(self) -> None:
        self.met: list[int] = []

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PairBatch, *_: Any
    ) -> None:
        colours = [] if batch.images is None else [tuple(pixel.tolist()) for pixel in batch.images[:, :, 0, 0]]
        self.met += [COLOURS[colour] // 4 for colour in colours[::4]]

    on_test_batch_start = on_validation_batch_start


def main(shards: str, output: Path, name: str, workers: int) -> None:
    seed_everything(0)
    source = ClipSource(str(Path(__file__).with_name("tiny.json")))
    weights = {"caption_weight": 0.5, "sign_weight": 0.3, "caption_logit_scale": 14.0}
    module = LitDifferenceCLIP(source, ["all"], head="linear", **weights)
    data = PairDataModule(None, [shards], groups_per_batch=3, pairs_per_group=5, num_workers=workers)
    groups = Groups()
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1) if name == "sharded" else name
    trainer = Trainer(
        accelerator="cpu",
        devices=1 if name == "auto" else 2,
        strategy=strategy,
        logger=False,
        default_root_dir=output,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[groups, Predictions()],
    )
    losses: dict[str, float] = {}
    for stage in (trainer.validate, trainer.test):
        stage(module, data, verbose=False)
        losses |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.predict(module, data)
    (output / f"{trainer.global_rank}.json").write_text(json.dumps({"losses": losses, "groups": groups.met}))
