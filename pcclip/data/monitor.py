"""Shows in the loggers what becomes of the data: what is damaged, and the time that training waits for batches."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.damage import REASONS

if TYPE_CHECKING:
    from pcclip.data.datamodule import PairDataModule

logger = logging.getLogger(__name__)


class DataMonitor(Callback):
    """Watches over the training data of a run. The data module adds it to the trainer.

    Logs `data/damaged` and `data/damaged/<reason>` of each epoch, over all processes, and `data/wait_share`: of the time
    since it was logged last, the share in which this process waited for its next batch. What was damaged is said again when
    training ends. With `data.role_swap=twins` it also logs `data/roleless` of each epoch, the number of pairs whose texts
    have no role words, and warns of the first ones.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart a resumed epoch that cannot be continued."""
        data = _data(trainer)
        if data.begins_epoch_anew:
            trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
            trainer.fit_loop.epoch_loop.reset_restart_stage()
            data.begins_epoch_anew = False
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the share of time waited, as often as all else is logged."""
        if (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        loader, now = _data(trainer).train_loader, time.perf_counter()
        pl_module.log("data/wait_share", loader.waited / (now - self._since))
        self._since, loader.waited = now, 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was damaged in this epoch."""
        counts = _over_all(trainer, _data(trainer).train_loader.tally.epoch)
        pl_module.log("data/damaged", float(sum(counts.values())))
        pl_module.log_dict({f"data/damaged/{reason}": float(count) for reason, count in counts.items()})
        if _data(trainer).role_twins:
            self._log_roleless(trainer, pl_module)

    def _log_roleless(self, trainer: Trainer, pl_module: LightningModule) -> None:
        own = torch.tensor(_data(trainer).train_loader.roleless, device=trainer.strategy.root_device)
        count = int(trainer.strategy.reduce(own, reduce_op="sum"))
        pl_module.log("data/roleless", float(count))
        if count and not self._told:
            rank_zero_warn(
                f'data.role_swap=twins: {count} pairs of this epoch\'s groups have neither "first" nor "second" in their text. '
                "They have no twin: they are not drawn from groups that also have other pairs, and come alone from groups "
                "without. Write both words into the texts, or set data.role_swap to a probability"
            )
            self._told = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was damaged, over all epochs."""
        counts = _over_all(trainer, _data(trainer).train_loader.tally.total)
        if counts and trainer.is_global_zero:
            lines = [f"  {reason} ({REASONS[reason]}): {count}" for reason, count in counts.items()]
            logger.warning("left out of training, over all epochs and processes:\n%s", "\n".join(lines))


def _data(trainer: Trainer) -> PairDataModule:
    data: PairDataModule = trainer.datamodule  # type: ignore[attr-defined]  # declared nowhere in Trainer
    return data


def _over_all(trainer: Trainer, counts: Counter[str]) -> dict[str, int]:
    """The counts that are not zero, summed over all processes."""
    own = torch.tensor([counts[reason] for reason in REASONS], device=trainer.strategy.root_device)
    summed = trainer.strategy.reduce(own, reduce_op="sum")
    assert isinstance(summed, torch.Tensor)
    return {reason: count for reason, count in zip(REASONS, summed.tolist(), strict=True) if count}
