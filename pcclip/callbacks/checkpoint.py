"""Checkpoints to resume from after any interruption: every n steps, and before a scheduler ends the job."""

import hashlib
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from jsonargparse.typing import PositiveInt
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from pcclip.atomic import atomic_path, remove_leftovers

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_AFTER_LAST_STEP = "all steps are done and saved; `--resume true` continues with the final evaluation"


class Checkpoint(ModelCheckpoint):
    """ModelCheckpoint that saves the last state for `--resume true`, and survives a kill at any time.

    `last.ckpt` is replaced atomically, so it is always complete. It is saved every n steps and at the end of each epoch,
    never during gradient accumulation.

    Ctrl-C (SIGINT), SIGTERM and SIGUSR1 save after the current batch and end the process with exit status 128 + signal.
    Schedulers send the last two before they kill a job. Two cases end without saving: a signal before the first step,
    and a signal during the final evaluation, when all steps are already saved. A second Ctrl-C ends at once.
    Lightning's own signal handlers are replaced, because they may save in the middle of a step.

    Each step's random numbers (dropout) depend only on seed, epoch, batch and process, so that a resumed run is
    identical.

    Args:
        every_n_train_steps: Optimiser steps between checkpoints.
        every_n_epochs: Epochs between checkpoints at the end of an epoch. There is one after the last step in any case.
        dirpath: Folder. Default: `checkpoints` in the run folder, where `--resume` also looks.
    """

    def __init__(self, every_n_train_steps: int, every_n_epochs: PositiveInt = 1, dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            every_n_train_steps=every_n_train_steps,
            save_last=True,
            save_top_k=0,
            enable_version_counter=False,
        )
        self._epochs = every_n_epochs
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._received = 0
        self._is_over = False
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up atomic checkpoints, and a callback that replaces the signal handlers before other callbacks start."""
        super().setup(trainer, pl_module, stage)
        # A separate callback, because it must be the first one. Lightning moves ModelCheckpoints to the end of the list.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
        if stage == "fit" and not any(isinstance(callback, _TakeSignals) for callback in callbacks):
            trainer.callbacks = [_TakeSignals(self), *callbacks]  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFileIO()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exit if a process got a signal while callbacks evaluated the base model."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step  # a resumed run need not save this step again
        if self._is_told_to_end(trainer):
            self._end("no step was taken since the start, so there is nothing to save; run the same command again")

    def take_signals(self) -> None:
        """Replace Lightning's signal handlers until training ends."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def end_at_once(self, trainer: Trainer) -> None:
        """Save. Exit if a process got a signal after the last batch. Later signals exit at once."""
        self._save_now(trainer)
        if self._is_told_to_end(trainer):
            self._end(_AFTER_LAST_STEP)
        self._is_over = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        place = f"{self._seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:7], "little"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every n steps. Save and exit if a process got a signal."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        if not trainer.is_last_batch:  # the end of the epoch saves after the last batch
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._is_told_to_end(trainer):
            if trainer.is_last_batch:
                _count_epoch(trainer)
            self._save_now(trainer)
            trainer.strategy.barrier("checkpoint before the end")
            self._end(
                f"step {trainer.global_step} is saved in {self.last_model_path}; `--resume true` continues from there"
            )

    def _is_told_to_end(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(self._received), all=False)

    def _end(self, message: str) -> NoReturn:
        name = signal.Signals(self._received).name if self._received else "another process's signal"
        rank_zero_info(f"{name}: {message}")
        raise SystemExit(128 + (self._received or signal.SIGTERM))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self._epochs == 0:
            self._save_now(trainer)

    def _save_now(self, trainer: Trainer) -> None:
        # `trainer.save_checkpoint` would not update this callback's record of the last saved step and path.
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._give_back()

    def _give_back(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            self._received = number
            self._end(_AFTER_LAST_STEP)
        if number == signal.SIGINT:
            if self._received:
                raise SystemExit(128 + number)
            if not getattr(rank_zero_only, "rank", 0):
                os.write(
                    2, b"\nCtrl-C: saving after the current batch, then stopping; press it again to stop at once\n"
                )
        self._received = number


def _count_epoch(trainer: Trainer) -> None:
    """Count the last batch and the epoch as done. Otherwise Lightning miscounts after a resume from the last batch.

    Lightning has no public way to do this.
    """
    trainer.fit_loop.epoch_loop.batch_progress.increment_completed()
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1
    trainer.fit_loop.epoch_progress.increment_processed()


class _TakeSignals(Callback):
    """Callback that replaces signal handlers first. Lightning calls a Checkpoint last, after a possibly long evaluation."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._checkpoint.take_signals()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._checkpoint.end_at_once(trainer)


class WholeFileIO(TorchCheckpointIO):
    """Checkpoint I/O with atomic writes: a temporary file in the same folder, then a rename.

    Lightning's own writer copies from /tmp, which is not atomic on another disk. Only one process may write a path.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint atomically. For URLs such as `s3://`, use Lightning's writer."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        remove_leftovers(path)  # from killed processes
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's zip writer hides the file's error, such as a full disk
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
            file.flush()
            os.fsync(file.fileno())
