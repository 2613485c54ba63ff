"""Zero-shot classification each epoch, on any number of class sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from pcclip.callbacks.classes import LabelledImages, check_templates, read_labelled
from pcclip.callbacks.embeddings import model_of
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.evaluation.protocol import Result
from pcclip.evaluation.zero_shot import zero_shot


@dataclass
class ZeroShotSet:
    """Labelled images and the sentences that name their classes.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`; see `pcclip.data.labelled.read_images`.
        templates: Sentences with `{}` for the class name; their embeddings are averaged.
        classes: Choose among, and judge images of, these classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
    """

    images: str
    templates: list[str]
    classes: list[str] | str | None = None
    table: str | None = None
    name_column: str = "name"
    where: dict[str, str] | None = None


class ZeroShot(EvaluationCallback):
    """Measures zero-shot classification (`pcclip.evaluation.zero_shot`).

    Args:
        sets: Name to class set; results are named `zero_shot/<name>/<metric>`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, ZeroShotSet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, LabelledImages] = {}

    def prepare(self) -> None:
        """List the images and choose the classes.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Unknown class names, a template without `{}`, or images without labels.
        """
        for name, settings in self.sets.items():
            check_templates(settings.templates, f"zero-shot set {name}")
            self._prepared[name] = read_labelled(
                f"zero-shot set {name}",
                settings.images,
                classes=settings.classes,
                table=settings.table,
                name_column=settings.name_column,
                where=settings.where,
            )

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        for name, prepared in self._prepared.items():
            embeddings, kept = self.embed(trainer, pl_module, prepared.images, name)
            results += zero_shot(
                model_of(pl_module),
                embeddings,
                prepared.labels[kept],
                prepared.classes,
                self.sets[name].templates,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results
