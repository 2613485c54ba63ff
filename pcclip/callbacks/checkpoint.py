"""Checkpoints to resume from after any interruption: every n steps, and before a scheduler ends the job."""

import hashlib
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from pcclip.atomic import atomic_path, remove_leftovers

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_AFTER_LAST_STEP = "all steps are done and saved; `--resume true` goes on with the final evaluation"


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that keeps the last state, and can be killed at any moment.

    A checkpoint is written in one step, so there is always a whole one; never between the batches whose gradients are being
    accumulated; and on Ctrl-C (SIGINT), and SIGTERM or SIGUSR1, with which schedulers announce that they will end a process,
    after the batch that is being computed. The process then exits with 128 plus the signal's number, before the first step
    without a checkpoint, when the base model is evaluated. A second Ctrl-C ends at once, and so does any of these signals
    after the last step, while the final evaluation runs. Lightning's own handling of these
    signals, which may write within a step, is put out of action. `--resume true` goes on from `last.ckpt`.

    The random numbers of each step, for dropout, are those of (seed, epoch, batch, process), resumed or not.

    Args:
        every_n_train_steps: Optimiser steps between checkpoints; there is one at the end of each epoch in any case.
        dirpath: Folder; `checkpoints` in the run folder when left out. `--resume` looks in both.
    """

    def __init__(self, every_n_train_steps: int, dirpath: str | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            every_n_train_steps=every_n_train_steps,
            save_last=True,
            save_top_k=0,
            enable_version_counter=False,
        )
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._received = 0
        self._is_over = False
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have checkpoints written in one step, and the signals taken over before all other callbacks begin."""
        super().setup(trainer, pl_module, stage)
        # First in the list, where ModelCheckpoints cannot be: Lightning moves them to the end.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
        if stage == "fit" and not any(isinstance(callback, _TakeSignals) for callback in callbacks):
            trainer.callbacks = [_TakeSignals(self), *callbacks]  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFileIO()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End if any process was told to while the base model was evaluated, which callbacks do at the start of training."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step  # which a resumed run need not write again
        if self._is_told_to_end(trainer):
            self._end("no step was taken since the start, so there is nothing to save; start it again in the same way")

    def take_signals(self) -> None:
        """Take the signals over from Lightning, until training ends."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def end_at_once(self, trainer: Trainer) -> None:
        """End if any process was told to after the last batch, and from now on with each signal: all steps are saved."""
        if self._is_told_to_end(trainer):
            self._end(_AFTER_LAST_STEP)
        self._is_over = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the step's random numbers."""
        place = f"{self._seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:7], "little"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to, or if any process was told to end."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        if not trainer.is_last_batch:  # after an epoch's last one it is saved when the epoch ends
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._is_told_to_end(trainer):
            if trainer.is_last_batch:
                _count_epoch(trainer)
            self._save_now(trainer)
            trainer.strategy.barrier("checkpoint before the end")
            self._end(
                f"step {trainer.global_step} is saved in {self.last_model_path}; `--resume true` goes on from there"
            )

    def _is_told_to_end(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(self._received), all=False)

    def _end(self, message: str) -> NoReturn:
        name = signal.Signals(self._received).name if self._received else "another process's signal"
        rank_zero_info(f"{name}: {message}")
        raise SystemExit(128 + (self._received or signal.SIGTERM))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch."""
        self._save_now(trainer)

    def _save_now(self, trainer: Trainer) -> None:
        # `trainer.save_checkpoint` would leave the callback's own record of what is saved where behind.
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        super().on_train_end(trainer, pl_module)
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
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
                    2, b"\nCtrl-C: ends when the present batch is computed and saved; press it again to end at once\n"
                )
        self._received = number


def _count_epoch(trainer: Trainer) -> None:
    """End the epoch, as after its last batch. Lightning miscounts when it resumes from just before that.

    Lightning has no public way to do this.
    """
    trainer.fit_loop.epoch_loop.batch_progress.increment_completed()
    trainer.fit_loop.epoch_loop._batches_that_stepped += 1
    trainer.fit_loop.epoch_progress.increment_processed()


class _TakeSignals(Callback):
    """Lets a Checkpoint take the signals over: Lightning calls Checkpoints last, after minutes of evaluation perhaps."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._checkpoint.take_signals()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._checkpoint.end_at_once(trainer)


class WholeFileIO(TorchCheckpointIO):
    """Writes checkpoints next to their place and moves them there: Lightning's own way copies if /tmp is another disk.

    Only one process may write a path.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint atomically. Addresses such as `s3://` are left to Lightning."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        remove_leftovers(path)  # of processes that were killed while they wrote it
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's zip writer hides what the file said, such as that the disk is full
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise
            file.flush()
            os.fsync(file.fileno())
