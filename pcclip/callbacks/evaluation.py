"""The base of the evaluation callbacks: when they run, and where their numbers go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.callbacks.embeddings import EmbeddingCache, evaluating, model_of, tower_lasts
from pcclip.callbacks.stored_texts import StoredTexts
from pcclip.data.labelled import ImageFile
from pcclip.metrics.bootstrap import RESAMPLES
from pcclip.metrics.embed import check_damaged
from pcclip.metrics.protocol import Encoder, Result
from pcclip.model.averaging import averaged

_VALUES = "pcclip_values"  # key of the last values in a checkpoint


class EvaluationCallback(Callback, ABC):
    """Evaluates once before training, after training epochs, and in `test`.

    Values go to all loggers as `<task>/<subset>/<metric>`, and to `trainer.callback_metrics`, so that
    `ModelCheckpoint(monitor=...)` and `EarlyStopping` may name them. There, the last values stand for epochs and
    validations without evaluation, first those from before training, and these count towards `patience`. Intervals are
    for the table of results (`ResultsTable`): they are computed before training and by the table at its end, not each
    epoch. A run resumed from a checkpoint is evaluated after its first epoch at the latest, not before it; until then
    the checkpoint's values stand. With Lightning's `WeightAveraging` the averaged weights are measured.

    Every rank must run it, and every rank computes the same numbers.

    Args:
        every_n_epochs: Evaluate after every so many training epochs; if not given, whenever the Trainer validates
            (`check_val_every_n_epoch`).
        resamples: Bootstrap resamples for the 95 % intervals.
        seed: Seed of the resamples and of subsets of images.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode images.
        cache_dir: Folder in which image embeddings are kept from run to run, unless the image tower trains, and in `test`
            those of texts; none are kept without.
    """

    def __init__(
        self,
        every_n_epochs: int | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
        batch_size: int = 256,
        num_workers: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if (every_n_epochs is not None and every_n_epochs < 1) or batch_size < 1 or resamples < 1:
            raise ValueError(
                f"{type(self).__name__}: every_n_epochs={every_n_epochs}, batch_size={batch_size} and "
                f"resamples={resamples} must be at least 1"
            )
        self.every_n_epochs = every_n_epochs
        self.resamples = resamples
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.cache_dir = cache_dir
        self.rows: list[Result] = []
        self._resumed: dict[str, float] = {}
        self._texts: StoredTexts | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Read and check all files, so that what is wrong with them is known before training starts."""

    def check(self, pl_module: LightningModule) -> None:
        """Check what can be known only of the weights; called before the first step or test, and for each ensemble."""

    @abstractmethod
    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """Measure the module as it is; called in evaluation mode, without gradients.

        `resamples` is 0 after each epoch, when numbers are for the logs; what is costly may then be left out.
        """

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, intervals: bool = True) -> list[Result]:
        """Measure the module as it is, with or without the bootstrap's intervals, and keep it as `rows`."""
        # in training no text tower is met twice
        keep = self.cache_dir is not None and trainer.testing
        if not tower_lasts(trainer, pl_module):  # averages may differ from one callback to the next
            EmbeddingCache.of(pl_module).weights_changed()
        with evaluating(pl_module):
            self._texts = StoredTexts(model_of(pl_module), str(self.cache_dir)) if keep else None
            self.rows = self.results(trainer, pl_module, self.resamples if intervals else 0)
        if self._texts is not None and trainer.is_global_zero:
            self._texts.save()
        self._texts = None
        return self.rows

    def encoder(self, pl_module: LightningModule) -> Encoder:
        """The model, or in `test` with a `cache_dir` one that keeps the embeddings of its texts."""
        return self._texts or model_of(pl_module)

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write pictures to the loggers; does nothing unless a callback has pictures. Runs in evaluation mode."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the files, for `fit` and `test`."""
        if stage in ("fit", "test"):
            EmbeddingCache.of(pl_module).clear()
            if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
                self.cache_dir = None  # nothing lasting is written
            self.prepare()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate before training, unless training resumes."""
        with evaluating(pl_module):
            self.check(pl_module)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._resumed.items()})
        if trainer.global_step > 0:
            return
        values = _named(self.evaluate(trainer, pl_module))
        # `self.log` would keep these until the end of the first epoch and put them at its step
        for logger in trainer.loggers:
            logger.log_metrics(values, step=0)
            logger.save()
        keep_values(trainer, self.rows)
        self._show(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the last values, for callbacks that monitor them before a resumed run's first evaluation."""
        checkpoint.setdefault(_VALUES, {}).update(_named(self.rows) or self._resumed)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the last values from a checkpoint."""
        self._resumed = checkpoint.get(_VALUES, {})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the image tower be hashed again after the epoch: once for all callbacks if it is frozen."""
        EmbeddingCache.of(pl_module).weights_changed()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate after an epoch, or let the last values stand for callbacks that monitor them."""
        every = self.every_n_epochs or trainer.check_val_every_n_epoch or 1
        if (trainer.current_epoch + 1) % every == 0 or not self.rows:  # none yet in a resumed run
            with averaged(trainer, pl_module):
                self._log(pl_module, self.evaluate(trainer, pl_module, intervals=False))
                self._show(trainer, pl_module)
        else:
            keep_values(trainer, self.rows)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the files against the model."""
        with evaluating(pl_module):
            self.check(pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in `test`."""
        with averaged(trainer, pl_module):
            self._log(pl_module, self.evaluate(trainer, pl_module))

    def embed(
        self, trainer: Trainer, pl_module: LightningModule, images: Sequence[ImageFile], name: str
    ) -> tuple[Tensor, list[int]]:
        """Finite embeddings (M, D) of the intact images and their M indices, through the module's cache.

        Raises:
            ValueError: As `EmbeddingCache.embed` and `finite_images`.
        """
        cache = EmbeddingCache.of(pl_module)
        embeddings, kept = cache.embed(
            trainer,
            pl_module,
            images,
            name=name,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            cache_dir=self.cache_dir,
        )
        return finite_images(embeddings, kept, f"{type(self).__name__} {name}")

    def _log(self, pl_module: LightningModule, results: Sequence[Result]) -> None:
        # every rank has the same value already, so nothing is left to reduce
        pl_module.log_dict(_named(results), on_step=False, on_epoch=True, batch_size=1)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with evaluating(pl_module):
            self.show(trainer, pl_module)


def finite_images(embeddings: Tensor, kept: list[int], where: str) -> tuple[Tensor, list[int]]:
    """Leave out images whose embedding is NaN or infinite, with a warning that counts them.

    Args:
        embeddings: (N, D).
        kept: Index of each image in its set, N of them.
        where: Callback and set, for messages.

    Raises:
        ValueError: There are more of them than single damaged images explain; see `check_damaged`.
    """
    finite = embeddings.isfinite().all(1).tolist()
    bad = len(kept) - sum(finite)
    if not bad:
        return embeddings, kept
    check_damaged(bad, len(kept), where)
    rank_zero_warn(f"{where}: the embeddings of {bad} of {len(kept)} images are not finite; these images are left out")
    rows = [row for row, good in enumerate(finite) if good]
    return embeddings[rows], [kept[row] for row in rows]


def keep_values(trainer: Trainer, results: Sequence[Result]) -> None:
    """Put values into `trainer.callback_metrics` only; a log would also be a point in the loggers."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in _named(results).items()})


def _named(results: Sequence[Result]) -> dict[str, float]:
    return {f"{result.task}/{result.subset}/{result.metric}": result.value for result in results}
