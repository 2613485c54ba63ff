"""A callback that writes down what each process of a run meets, and may kill one of them."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pcclip.batch import PairBatch


class Record(Callback):
    """Appends epoch, batch, the batch's hash and its loss to `FOLDER/RANK.jsonl`.

    Args:
        folder: Where the files are.
        kill_after: The last process kills itself after so many batches.
    """

    def __init__(self, folder: str, kill_after: int | None = None) -> None:
        self.folder = Path(folder)
        self.kill_after = kill_after

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        digest = hashlib.sha256()
        for tensor in (batch.images, batch.first, batch.second, batch.tokens):
            assert tensor is not None
            digest.update(tensor.numpy().tobytes())
        row = [trainer.current_epoch, batch_idx, digest.hexdigest(), float(outputs["loss"]).hex()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        last = trainer.global_rank == trainer.world_size - 1
        if last and trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
