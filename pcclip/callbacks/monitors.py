"""Check what EarlyStopping and checkpoint callbacks monitor, before the first step."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

KNOWN_LATER = ("train/", "val/", "data/")  # metrics of these names are first logged in training


class CheckMonitors(Callback):
    """Raise before the first step if a callback monitors an evaluation metric that is not logged.

    By then the evaluation before training has logged all of its metrics. Lightning checks names of training and
    validation metrics (`train/`, `val/`) itself.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Check before the first step.

        Raises:
            ValueError: Names the callback, its metric and the available ones.
        """
        if batch_idx > 0 or trainer.current_epoch > 0 or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        logged = trainer.callback_metrics
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str) and not monitor.startswith(KNOWN_LATER) and monitor not in logged:
                raise ValueError(
                    f"{type(callback).__name__}: monitor={monitor!r} is not logged; choose a metric of train/ or val/"
                    f"{''.join(f', {name}' for name in sorted(logged))}"
                )
