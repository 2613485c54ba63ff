"""The file that `pcclip predict` writes."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pcclip.atomic import atomic_text
from pcclip.batch import PairBatch
from pcclip.run_folder import run_folder


class Predictions(Callback):
    """Write the predicted cosines of all held-out pairs to a JSON Lines file, one row for each ordered pair.

    Rows are in the order of the shards, for any number of processes. Their keys are:

    - `shards`: shard folder;
    - `group`: key of the group;
    - `first`, `second`: image ids;
    - `text`: the pair's text;
    - `cosine`: cosine of the image difference with `text`;
    - `reverse_cosine`: cosine of the same difference with the reverse text; null if the group has none.

    Args:
        file: Output file. Default: `predictions.jsonl` in the run's folder.
    """

    def __init__(self, file: str | None = None) -> None:
        self.file = file
        self._rows: list[dict[str, Any]] = []

    def path(self, trainer: Trainer) -> Path:
        """Return the file to write. Every process must call it."""
        return Path(self.file or run_folder(trainer) / "predictions.jsonl")

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Tensor, batch: PairBatch, *_: Any
    ) -> None:
        cosines = [round(cosine, 6) for cosine in outputs.tolist()]
        for row, cosine in zip(batch.rows, cosines, strict=True):
            # a reversed pair has the opposite difference, since heads are odd
            other = None if row.reverse is None else -cosines[row.reverse]
            fields = row._asdict()
            del fields["reverse"]
            self._rows.append({**fields, "cosine": cosine, "reverse_cosine": other})

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rows of all processes.

        Raises:
            ValueError: On every process, if a cosine is NaN or infinite.
        """
        file = self.path(trainer)
        parts: list[list[dict[str, Any]] | None] = [self._rows]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.gather_object(self._rows, parts if trainer.is_global_zero else None)
        rows = [row for part in parts for row in part or ()]  # none except on the first process
        if bad := trainer.strategy.broadcast([row for row in rows if not math.isfinite(row["cosine"])]):
            first = bad[0]
            raise ValueError(
                f"{file} is not written: {len(bad)} cosines are NaN or infinite, the first for group {first['group']} of "
                f"{first['shards']}, pair {first['first']}, {first['second']}; the model may have diverged: predict with an "
                "earlier checkpoint"
            )
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        with atomic_text(file) as stream:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        print(f"written to {file}: {len(rows)} pairs")
