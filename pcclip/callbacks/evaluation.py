"""The callback that measures tasks during training and in `test`, and a check of what other callbacks monitor."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from pcclip.callbacks import loggers
from pcclip.data.picture_files import save_png
from pcclip.model.averaging import averaged
from pcclip.model.clip import DifferenceCLIP
from pcclip.reports.headlines import headlines
from pcclip.reports.sample_pairs import SamplePair
from pcclip.results import Result
from pcclip.run_folder import run_folder
from pcclip.tasks import Evaluator, Task

_VALUES = "pcclip_values"  # key of the last values in a checkpoint
_BASE = "pcclip_base"  # key of the base model's rows
_KNOWN_LATER = ("train/", "val/", "data/")  # metrics of these names are first logged in training


class Evaluation(Callback):
    """Evaluate tasks before training, after training epochs, and in `test`.

    All loggers get:

    - `summary/<tag>`: at most ten headline metrics (`pcclip.reports.headlines`);
    - `detail/base/<tag>`: the base model's headline metrics, repeated at each evaluation for comparison;
    - `detail/<kind>/<name>/<metric>`: all metrics.

    TensorBoard, Weights & Biases and MLflow also get sample texts with their scores (`samples`), and pictures as ranked
    before training and now (`ranked/<name>/<attribute>`). TensorBoard also gets charts of the headlines ("Custom Scalars").
    Pictures are also saved in the run's folder, with any logger: `ranked_<name>_<attribute>_before.png` before training, and
    without `_before` at its end.

    `ModelCheckpoint(monitor=...)` and `EarlyStopping` may monitor `summary/<tag>` and `<kind>/<name>/<metric>`. Without
    a new evaluation they see the last values, which count towards `patience`. The first values are from before training.

    A resumed run is not evaluated before training. It uses the checkpoint's values until its first evaluation, at the
    latest after its first epoch.

    Intervals and costly tasks are computed only before and after training, for `ResultsTable`. With Lightning's
    `WeightAveraging`, the averaged weights are evaluated.

    Args:
        tasks: What to measure (`pcclip.tasks`).
        every_n_epochs: Evaluate after every n-th training epoch. Default: the Trainer's `check_val_every_n_epoch`.
        resamples: Bootstrap resamples for the 95 % intervals.
        seed: Seed of the resamples and of random subsets.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode images.
        cache_dir: Folder of a cache of image embeddings across runs, unless the image tower trains. In `test` it also
            caches text embeddings. Default: no cache on disk.
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
        self._base: list[Result] = []
        self._resumed: dict[str, float] = {}
        self._strips: dict[str, Image.Image] = {}
        self._samples: list[SamplePair] = []

    def measure(self, trainer: Trainer, pl_module: LightningModule, *, final: bool = True) -> list[Result]:
        """Measure the module, and store the results in `rows`."""
        self.rows = self.evaluator.measure(model_of(pl_module), final=final, lasting=trainer.testing)
        return self.rows

    def check(self, pl_module: LightningModule) -> None:
        """Check the tasks' files against the module; see `Evaluator.check`."""
        self.evaluator.check(model_of(pl_module))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the tasks' files once, in `fit` and `test`."""
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
        self._base = self.measure(trainer, pl_module)
        self._log(trainer, 0)
        keep_values(trainer, self.rows, self._base)
        for logger in trainer.loggers:
            loggers.add_layout(logger, headlines(self._base, []))
            logger.save()
        self._show(trainer, pl_module)
        self._save_pictures(trainer, pl_module, "_before")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the base model's results and the last ones, which a resumed run needs."""
        checkpoint.setdefault(_VALUES, {}).update(_named(self.rows, self._base) or self._resumed)
        checkpoint.setdefault(_BASE, []).extend(asdict(row) for row in self._base)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint.get(_VALUES, {})
        own = {(task.kind, task.name) for task in self.evaluator.tasks}
        rows = [Result(**row) for row in checkpoint.get(_BASE, [])]
        self._base = [row for row in rows if (row.task, row.subset.partition("/")[0]) in own]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate, or repeat the last values for callbacks that monitor them."""
        every = self.every_n_epochs or trainer.check_val_every_n_epoch or 1
        if (trainer.current_epoch + 1) % every == 0 or not self.rows:  # none yet in a resumed run
            with averaged(trainer, pl_module):
                self.measure(trainer, pl_module, final=False)
                self._log(trainer, last_step(trainer))
                self._show(trainer, pl_module)
        keep_values(trainer, self.rows, self._base)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with averaged(trainer, pl_module):
            self._save_pictures(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with averaged(trainer, pl_module):
            self.measure(trainer, pl_module)
        # every rank has the same values already, so nothing is left to reduce
        pl_module.log_dict(self._logged(), on_step=False, on_epoch=True, batch_size=1)
        keep_values(trainer, self.rows, [])

    def _log(self, trainer: Trainer, step: int) -> None:
        """Log the last values. `LightningModule.log` would delay values from before training until the first epoch ends."""
        for logger in trainer.loggers:
            logger.log_metrics(self._logged(), step=step)

    def _logged(self) -> dict[str, float]:
        """Return the last values by their names in loggers."""
        values = {loggers.DETAIL + row.tag: row.value for row in self.rows}
        for headline in headlines(self._base or self.rows, self.rows):
            if headline.after is not None:
                values[loggers.SUMMARY + headline.tag] = headline.after.value
                if self._base and headline.before is not None:
                    values[loggers.BASE + headline.tag] = headline.before.value
        return values

    def _save_pictures(self, trainer: Trainer, pl_module: LightningModule, ending: str = "") -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        folder = run_folder(trainer)
        for name, picture in self.evaluator.pictures(model_of(pl_module)).items():
            folder.mkdir(parents=True, exist_ok=True)
            save_png(picture, folder / f"ranked_{name.replace('/', '_')}{ending}.png")

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show pictures and sample texts in the loggers that can."""
        showing = loggers.showing(trainer)
        if not showing:
            return
        model, step = model_of(pl_module), last_step(trainer)
        strips, samples = self.evaluator.pictures(model), self.evaluator.samples(model)
        if trainer.global_step == 0:
            self._strips, self._samples = strips, samples
        for logger in showing:
            loggers.add_strips(logger, self._strips if step > 0 else {}, strips, step)
            loggers.add_samples(logger, self._samples, samples, step)


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
            if isinstance(monitor, str) and not monitor.startswith(_KNOWN_LATER) and monitor not in logged:
                raise ValueError(
                    f"{type(callback).__name__}: monitor={monitor!r} is not logged; choose a metric of train/ or val/"
                    f"{''.join(f', {name}' for name in sorted(logged))}"
                )


def model_of(pl_module: LightningModule) -> DifferenceCLIP:
    """Return the module's `model`, the encoder."""
    return cast(DifferenceCLIP, pl_module.model)


def keep_values(trainer: Trainer, results: Sequence[Result], base: Sequence[Result]) -> None:
    """Put values into `trainer.callback_metrics`, where other callbacks look for what they monitor. Log nothing.

    Args:
        trainer: The trainer.
        results: The last rows.
        base: The base model's rows, which determine the headlines. If empty, use `results`.
    """
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in _named(results, base).items()})


def last_step(trainer: Trainer) -> int:
    """Return the step of the last batch. Lightning logs metrics of an epoch at this step."""
    return max(0, trainer.global_step - 1)


def _named(results: Sequence[Result], base: Sequence[Result]) -> dict[str, float]:
    """Return values by the names that callbacks may monitor."""
    found = headlines(base or results, results)
    summary = {loggers.SUMMARY + each.tag: each.after.value for each in found if each.after is not None}
    return {result.tag: result.value for result in results} | summary
