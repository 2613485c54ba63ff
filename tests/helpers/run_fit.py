"""Fits the tiny module in two processes and writes what each saw."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from pcclip.batch import PairBatch
from pcclip.callbacks import DataMonitor
from pcclip.data.datamodule import PairDataModule
from pcclip.model import ClipSource
from pcclip.model.module import LitDifferenceCLIP


class Record(Callback):
    """Writes the pictures of every batch, by their colour, and the weights at the end."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.epochs: list[list[list[int]]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: PairBatch, *_: Any) -> None:
        assert batch.images is not None
        self.epochs[-1].append([hash(tuple(pixel.tolist())) for pixel in batch.images[:, :, 0, 0]])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seen = {
            "epochs": self.epochs,
            "damaged": float(trainer.callback_metrics["data/damaged"]),
            "val": float(trainer.callback_metrics["val/loss"]),
            "weights": sum(float(value.double().abs().sum()) for value in pl_module.parameters()),
        }
        (self.output / f"{trainer.global_rank}.json").write_text(json.dumps(seen))


def main(shards: str, output: Path, workers: int) -> None:
    seed_everything(0)
    source = ClipSource(str(Path(__file__).with_name("tiny.json")))
    module = LitDifferenceCLIP(source, ["all"], head="linear", caption_weight=1, learn_logit_scale=True)
    data = PairDataModule(
        [shards], [shards], groups_per_batch=1, pairs_per_group=4, role_swap=0.5, num_workers=workers, max_damaged=0.5
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[DataMonitor(), Record(output)],
    )
    trainer.fit(module, data)
