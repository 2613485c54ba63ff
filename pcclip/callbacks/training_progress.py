"""Progress on the terminal: one bar for the whole training, and a line for each finished stage."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks.progress.progress_bar import ProgressBar
from tqdm import tqdm

from pcclip.callbacks.evaluation import Evaluation
from pcclip.console import done


class TrainingProgress(ProgressBar):
    """Progress bar with steps, time left, epoch and loss, which `pcclip fit` uses instead of Lightning's bars.

    Without a terminal it writes a line every 30 seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._enabled = True
        self._since = 0.0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        """Hide the bar. Lightning calls this on all ranks but 0, and while its Tuner runs."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        tqdm.write(kwargs.get("sep", " ").join(map(str, args)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what trains. Other callbacks evaluate the base model next."""
        self._since = time.perf_counter()
        if self._enabled:
            parameters = list(pl_module.parameters())
            trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
            total = sum(parameter.numel() for parameter in parameters)
            place = f", from step {trainer.global_step}" if trainer.global_step else ""
            print(
                f"training: {_steps(trainer)} steps on {pl_module.device.type}{place}; {trained / 1e6:.1f} of "
                f"{total / 1e6:.1f} million parameters train",
                flush=True,
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar before the first epoch."""
        if self._bar is None:
            if trainer.global_step == 0:
                self._done(trainer, "base model evaluated")
            self._since = time.perf_counter()
            self._open("training", _steps(trainer), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None or trainer.global_step <= self._bar.n:
            return
        loss = trainer.progress_bar_metrics.get("train/loss")
        shown = {"epoch": f"{trainer.current_epoch + 1}/{trainer.max_epochs or '?'}"}
        self._bar.set_postfix(shown | ({} if loss is None else {"loss": f"{loss:.3g}"}), refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar. Other callbacks evaluate the trained model next."""
        self._close()
        if self._enabled:
            done(f"trained for {trainer.global_step} steps", time.perf_counter() - self._since)
        self._since = time.perf_counter()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print that the trained model was evaluated. A finished run that is resumed does not train and is not evaluated."""
        if self._since:
            self._done(trainer, "trained model evaluated")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar for `pcclip validate`. In training there is one already."""
        self._open_batches(trainer, "validation", trainer.num_val_batches)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open_batches(trainer, "test", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open_batches(trainer, "prediction", trainer.num_predict_batches)

    def _done(self, trainer: Trainer, what: str) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]  # declared nowhere in Trainer
        if self._enabled and any(isinstance(callback, Evaluation) for callback in callbacks):
            done(what, time.perf_counter() - self._since)

    def _open_batches(self, trainer: Trainer, desc: str, batches: Any) -> None:
        if not trainer.training and trainer.state.fn != "fit":
            self._open(desc, sum(batches) if isinstance(batches, list) else batches, 0)

    def _count_batch(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if self._bar is not None and trainer.state.fn != "fit":
            self._bar.update()

    def _close_batches(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._close()

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _count_batch
    on_validation_end = on_test_end = on_predict_end = _close_batches

    def _open(self, desc: str, total: float | None, initial: int) -> None:
        interval = 0.1 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=desc,
            disable=not self._enabled,
            leave=False,
            dynamic_ncols=True,
            mininterval=interval,
            maxinterval=interval,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _steps(trainer: Trainer) -> int | None:
    """Return the number of optimiser steps of the whole training, None if it is unknown."""
    steps = trainer.estimated_stepping_batches
    return None if steps == float("inf") else int(steps)
