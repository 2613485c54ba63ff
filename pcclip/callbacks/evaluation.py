"""The callback that measures tasks during training and in `test`."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from pcclip.data.picture_files import save_png
from pcclip.model.averaging import averaged
from pcclip.model.clip import DifferenceCLIP
from pcclip.results import Result
from pcclip.run_folder import run_folder
from pcclip.tasks import Evaluator, Task

_VALUES = "pcclip_values"  # key of the last values in a checkpoint


class Evaluation(Callback):
    """Measures tasks once before training, after training epochs, and in `test`.

    Values go to all loggers as `<kind>/<name>/<metric>`, and to `trainer.callback_metrics`, so that
    `ModelCheckpoint(monitor=...)` and `EarlyStopping` can name them. There, the last values stand for epochs and
    validations without evaluation, first those from before training, and these count towards `patience`. Intervals and
    costly tasks are for the table of results (`ResultsTable`): they are computed before training and by the table at its
    end, not each epoch. A run resumed from a checkpoint is evaluated after its first epoch at the latest, not before it;
    until then the checkpoint's values stand. With Lightning's `WeightAveraging` the averaged weights are measured.

    Pictures go to TensorBoard as `ranked/<name>/<attribute>`, and to the run's folder: `ranked_<name>_<attribute>.png` at the
    end of training, and the same with the ending `_before.png` at its start.

    Args:
        tasks: What to measure (`pcclip.tasks`).
        every_n_epochs: Evaluate after every n-th training epoch; if not given, whenever the Trainer validates
            (`check_val_every_n_epoch`).
        resamples: Bootstrap resamples for the 95 % intervals.
        seed: Seed of the resamples and of random subsets.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode images.
        cache_dir: Folder in which image embeddings are kept from run to run, unless the image tower trains, and in `test`
            those of texts. Nothing is kept if it is not given.
    """

    def __init__(
        self,
        tasks: list[Task],
        every_n_epochs: int | None = None,
        resamples: int = 1000,
        seed: int = 0,
        batch_size: int = 256,
        num_workers: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise ValueError(f"Evaluation: every_n_epochs={every_n_epochs}; must be at least 1")
        self.evaluator = Evaluator(
            tasks,
            resamples=resamples,
            seed=seed,
            batch_size=batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )
        self.every_n_epochs = every_n_epochs
        self.rows: list[Result] = []
        self._resumed: dict[str, float] = {}

    def measure(self, trainer: Trainer, pl_module: LightningModule, *, final: bool = True) -> list[Result]:
        """Measure the module as it is, and keep the results as `rows`."""
        self.rows = self.evaluator.measure(model_of(pl_module), final=final, lasting=trainer.testing)
        return self.rows

    def check(self, pl_module: LightningModule) -> None:
        """Check the tasks' files against the module; see `Evaluator.check`."""
        self.evaluator.check(model_of(pl_module))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the files, for `fit` and `test`, unless that is done."""
        if stage in ("fit", "test"):
            if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
                self.evaluator.cache_dir = self.evaluator.images.cache_dir = self.evaluator.kept.cache_dir = None
            self.evaluator.images.clear()  # files may have changed since an earlier run of this object
            self.evaluator.images.progress = trainer.progress_bar_callback is not None
            self.evaluator.prepare()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate before training, unless training resumes."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._resumed.items()})
        if trainer.global_step > 0:
            self.check(pl_module)
            return
        values = _named(self.measure(trainer, pl_module))
        # `self.log` would keep these until the end of the first epoch and put them at its step
        for logger in trainer.loggers:
            logger.log_metrics(values, step=0)
            logger.save()
        keep_values(trainer, self.rows)
        self._show(trainer, pl_module)
        self._save_pictures(trainer, pl_module, "_before")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the last values, for callbacks that monitor them before a resumed run's first evaluation."""
        checkpoint.setdefault(_VALUES, {}).update(_named(self.rows) or self._resumed)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the last values from a checkpoint."""
        self._resumed = checkpoint.get(_VALUES, {})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate after an epoch, or let the last values stand for callbacks that monitor them."""
        every = self.every_n_epochs or trainer.check_val_every_n_epoch or 1
        if (trainer.current_epoch + 1) % every == 0 or not self.rows:  # none yet in a resumed run
            with averaged(trainer, pl_module):
                self._log(pl_module, self.measure(trainer, pl_module, final=False))
                self._show(trainer, pl_module)
        else:
            keep_values(trainer, self.rows)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the pictures next to the logs."""
        with averaged(trainer, pl_module):
            self._save_pictures(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in `test`."""
        with averaged(trainer, pl_module):
            self._log(pl_module, self.measure(trainer, pl_module))

    def _log(self, pl_module: LightningModule, results: Sequence[Result]) -> None:
        # every rank has the same value already, so nothing is left to reduce
        pl_module.log_dict(_named(results), on_step=False, on_epoch=True, batch_size=1)

    def _save_pictures(self, trainer: Trainer, pl_module: LightningModule, ending: str = "") -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        folder = run_folder(trainer)
        for name, picture in self.evaluator.pictures(model_of(pl_module)).items():
            folder.mkdir(parents=True, exist_ok=True)
            save_png(picture, folder / f"ranked_{name.replace('/', '_')}{ending}.png")

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures into TensorBoard."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers:
            return
        step = max(0, trainer.global_step - 1)  # where Lightning puts the epoch's scalars
        for name, picture in self.evaluator.pictures(model_of(pl_module)).items():
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            for logger in loggers:
                logger.experiment.add_image(f"ranked/{name}", pixels, step)


def model_of(pl_module: LightningModule) -> DifferenceCLIP:
    """Return the module's `model`, which does the encoding."""
    return cast(DifferenceCLIP, pl_module.model)


def keep_values(trainer: Trainer, results: Sequence[Result]) -> None:
    """Put values into `trainer.callback_metrics` only; a log would also be a point in the loggers."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in _named(results).items()})


def _named(results: Sequence[Result]) -> dict[str, float]:
    return {result.tag: result.value for result in results}
