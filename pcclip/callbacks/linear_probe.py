"""Linear probes on frozen embeddings, before training, at its end and in `test`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sklearn
from lightning.pytorch import LightningModule, Trainer

from pcclip.callbacks.classes import LabelledImages, read_labelled
from pcclip.callbacks.embeddings import EmbeddingCache, tower_lasts
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.callbacks.stored_results import stored_results
from pcclip.datasets.sources import ImageSource
from pcclip.metrics.linear_probe import TASK, VERSION, check_training_labels, linear_probe
from pcclip.metrics.protocol import Result


@dataclass
class LinearProbeSet:
    """Labelled images to fit on and to test on.

    Attributes:
        train: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        test: The same, with the same class names.
        shots: Also fit on so many training images a class.
        draws: How often these are drawn.
        full: Fit on all training images.
        classes: Judge these classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
    """

    train: str | ImageSource
    test: str | ImageSource
    shots: list[int] = field(default_factory=list)
    draws: int = 3
    full: bool = True
    classes: list[str] | str | None = None
    table: str | None = None
    name_column: str = "name"
    where: dict[str, str] | None = None


@dataclass
class _Prepared:
    train: LabelledImages
    test: LabelledImages


class LinearProbe(EvaluationCallback):
    """Measures linear probes (`pcclip.metrics.linear_probe`).

    Probes are slow to fit, so that none are after each epoch; and since they read image embeddings only, those of an image
    tower are fitted once: with `cache_dir` for all models that share it.

    Args:
        sets: Name to set; results are named `linear_probe/<name>/<metric>`.
        **settings: How to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, LinearProbeSet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, _Prepared] = {}
        self._kept: dict[tuple[str, str], list[Result]] = {}  # by set and fingerprint of the image tower

    def prepare(self) -> None:
        """List the images and choose the classes.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Class names that are unknown or not the same, or classes with too few training images.
        """
        self._prepared = {name: _prepare(f"linear probe {name}", settings) for name, settings in self.sets.items()}
        self._kept = {}

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets, and none after each epoch."""
        if resamples == 0:
            return []
        return [row for name in self.sets for row in self._set_results(trainer, pl_module, name, resamples)]

    def _set_results(self, trainer: Trainer, pl_module: LightningModule, name: str, resamples: int) -> list[Result]:
        key = (name, EmbeddingCache.of(pl_module).fingerprint(trainer, pl_module))
        if key in self._kept:
            return self._kept[key]
        settings, prepared = self.sets[name], self._prepared[name]
        train, kept_train = self.embed(trainer, pl_module, prepared.train.images, f"{name} train")
        test, kept_test = self.embed(trainer, pl_module, prepared.test.images, f"{name} test")
        images = (train, prepared.train.labels[kept_train], test, prepared.test.labels[kept_test])
        how: dict[str, Any] = {
            "shots": settings.shots,
            "draws": settings.draws,
            "full": settings.full,
            "subset": name,
            "resamples": resamples,
            "seed": self.seed,
        }
        classes = prepared.train.classes

        def fit() -> list[Result]:
            return linear_probe(*images, classes, **how)

        if self.cache_dir is not None and tower_lasts(trainer, pl_module):
            versions = [VERSION, sklearn.__version__]
            rows = stored_results(self.cache_dir, TASK, images, [versions, classes, how], fit)
        else:
            rows = fit()
        self._kept[key] = rows
        return rows


def _prepare(where: str, settings: LinearProbeSet) -> _Prepared:
    if not (settings.full or settings.shots) or settings.draws < 1:
        raise ValueError(f"{where}: nothing to fit; give `full` or `shots`, and one draw or more")
    train = read_labelled(
        where,
        settings.train,
        classes=settings.classes,
        table=settings.table,
        name_column=settings.name_column,
        where=settings.where,
    )
    # labels are places in one list of classes, so the test images get the training images'
    test = read_labelled(where, settings.test, classes=train.classes)
    chosen = settings.classes is not None or settings.table is not None
    if not chosen and (extra := sorted(set(test.known) - set(train.classes))):
        raise ValueError(
            f"{settings.test}: classes {extra[:5]} are not in {settings.train}; choose some with `classes`"
        )
    check_training_labels(train.labels, train.classes, settings.shots, settings.full, where)
    return _Prepared(train, test)
