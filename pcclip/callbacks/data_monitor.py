"""Log damaged training data, and how long training waits for batches."""

import logging
import time
from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.data.damage import REASONS
from pcclip.data.datamodule import PairDataModule

logger = logging.getLogger(__name__)


class DataMonitor(Callback):
    """Log the state of the training data. `pcclip fit` adds this callback; in Python, pass it to the Trainer.

    After each epoch it logs, summed over all processes:

    - `data/damaged` and `data/damaged/<reason>`: numbers of damaged items;
    - `data/roleless`, only with `data.role_swap=twins`: pairs whose texts have no role words. It also warns once.

    Every `log_every_n_steps` batches it logs `data/wait_share`, the share of time spent waiting for batches since the
    last log. At the end of training it lists all damage.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        loader, now = _data(trainer).train_loader, time.perf_counter()
        pl_module.log("data/wait_share", loader.waited / (now - self._since))
        self._since, loader.waited = now, 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = _data(trainer)
        counts = _over_all(trainer, data.train_loader.tally.epoch)
        pl_module.log("data/damaged", float(sum(counts.values())))
        pl_module.log_dict({f"data/damaged/{reason}": float(count) for reason, count in counts.items()})
        if not data.role_twins:
            return
        (roleless,) = _summed(trainer, [data.train_loader.roleless])
        pl_module.log("data/roleless", float(roleless))
        if roleless and not self._warned:
            rank_zero_warn(
                f"data.role_swap=twins: {roleless} pairs of this epoch's groups have no twin, since their texts have "
                'neither "first" nor "second". Groups with other pairs skip them; other groups give them without a twin. '
                "Write both words into the texts, or set data.role_swap to a probability"
            )
            self._warned = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        counts = _over_all(trainer, _data(trainer).train_loader.tally.total)
        if counts and trainer.is_global_zero:
            lines = [f"  {reason} ({REASONS[reason]}): {count}" for reason, count in counts.items()]
            logger.warning("left out of training, over all epochs and processes:\n%s", "\n".join(lines))


def _data(trainer: Trainer) -> PairDataModule:
    data: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]  # declared nowhere in Trainer
    return data


def _over_all(trainer: Trainer, counts: Counter[str]) -> dict[str, int]:
    """Return the counts that are not zero, summed over all processes."""
    summed = _summed(trainer, [counts[reason] for reason in REASONS])
    return {reason: count for reason, count in zip(REASONS, summed, strict=True) if count}


def _summed(trainer: Trainer, counts: list[int]) -> list[int]:
    own = torch.tensor(counts, device=trainer.strategy.root_device)
    summed = trainer.strategy.reduce(own, reduce_op="sum")
    assert isinstance(summed, Tensor)
    found: list[int] = summed.tolist()
    return found
