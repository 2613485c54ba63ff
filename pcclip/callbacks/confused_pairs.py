"""Chooses, once and without labels, the pairs of classes that comparative texts are written for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from pcclip.atomic import atomic_text
from pcclip.callbacks.classes import LabelledImages, read_labelled, read_templates
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.datasets.sources import ImageSource
from pcclip.metrics.confused_pairs import closest_pairs, disagreement_pairs
from pcclip.metrics.protocol import Result
from pcclip.metrics.zero_shot import class_embeddings


@dataclass
class ConfusedSet:
    """Classes, and images without regard to their labels.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        templates: Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file.
        file: JSON Lines to write, `{"first", "second"}`.
        count: Number of pairs.
        names: Text file to write as well: the classes' names, one a line, for `pcclip-data class_texts --classes`.
        by: `closest`: the classes whose texts are closest. `disagreement`: those between which images are undecided.
        classes: Choose among these classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
    """

    images: str | ImageSource
    templates: list[str] | str
    file: str
    count: int
    by: Literal["closest", "disagreement"] = "closest"
    classes: list[str] | str | None = None
    table: str | None = None
    name_column: str = "name"
    where: dict[str, str] | None = None
    names: str | None = None


class ConfusedPairs(EvaluationCallback):
    """Writes the pairs of classes that the model confuses (`pcclip.metrics.confused_pairs`).

    A file that is there is left as it is: the pairs are those of the first model, that is the base model before training
    or the one of the first `test`, and are the same for every other.

    Args:
        sets: Name to set.
        **settings: How to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, ConfusedSet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, LabelledImages] = {}
        self._templates: dict[str, list[str]] = {}

    def prepare(self) -> None:
        """List the images and choose the classes.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Unknown class names, a template without `{}`, images without labels, or no pair asked for.
        """
        for name, settings in self.sets.items():
            where = f"confused pairs {name}"
            if settings.count < 1:
                raise ValueError(f"{where}: count={settings.count}; ask for at least one pair")
            self._templates[name] = read_templates(settings.templates, where)
            self._prepared[name] = read_labelled(
                where,
                settings.images,
                classes=settings.classes,
                table=settings.table,
                name_column=settings.name_column,
                where=settings.where,
            )

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """Write the files that are not there, unless the model has been trained; there is nothing to tabulate.

        `fast_dev_run` writes none.
        """
        if trainer.global_step > 0 or trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return []
        for name, settings in self.sets.items():
            if settings.names is not None and trainer.is_global_zero and not Path(settings.names).is_file():
                with atomic_text(settings.names) as stream:
                    stream.writelines(f"{choice}\n" for choice in self._prepared[name].classes)
            if not trainer.strategy.broadcast(Path(settings.file).is_file()):
                self._write(trainer, pl_module, name, settings)
        return []

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str, settings: ConfusedSet) -> None:
        labelled = self._prepared[name]
        texts = class_embeddings(
            self.encoder(pl_module), labelled.classes, self._templates[name], where=f"confused pairs {name}"
        )
        if settings.by == "closest":
            pairs = closest_pairs(texts, settings.count)
        else:
            images, _ = self.embed(trainer, pl_module, labelled.images, name)
            pairs = disagreement_pairs(images, texts, settings.count)
        if not trainer.is_global_zero:
            return
        rows = [{"first": labelled.classes[first], "second": labelled.classes[second]} for first, second in pairs]
        with atomic_text(settings.file) as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
