"""Analogies between classes each epoch, on any number of class sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from pcclip.callbacks.classes import LabelledImages, class_means, read_labelled, read_templates
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.datasets.sources import ImageSource
from pcclip.datasets.tables import read_table
from pcclip.metrics.arithmetic import analogy_results, attribute_quadruples
from pcclip.metrics.protocol import Result
from pcclip.metrics.zero_shot import class_embeddings


@dataclass
class AnalogySet:
    """Classes that are known by two attributes, such as shape and colour, and images of them.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        templates: Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file.
        table: CSV or JSON Lines with a row for each class.
        columns: The table's two columns with the attributes.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
    """

    images: str | ImageSource
    templates: list[str] | str
    table: str
    columns: tuple[str, str]
    name_column: str = "name"
    where: dict[str, str] | None = None


@dataclass
class _Prepared:
    labelled: LabelledImages
    templates: list[str]
    quadruples: list[tuple[int, int, int, int]]


class Analogies(EvaluationCallback):
    """Measures analogies between classes (`pcclip.metrics.arithmetic.analogy_results`).

    Args:
        sets: Name to set; results are named `analogies/<name>/<metric>`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, AnalogySet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """List the images and find the analogies.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Unknown class names or columns, or classes among which there is no analogy.
        """
        self._prepared = {name: _prepare(f"analogies {name}", settings) for name, settings in self.sets.items()}

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        for name, prepared in self._prepared.items():
            labelled = prepared.labelled
            embeddings, kept = self.embed(trainer, pl_module, labelled.images, name)
            results += analogy_results(
                class_embeddings(
                    self.encoder(pl_module), labelled.classes, prepared.templates, where=f"analogies {name}"
                ),
                class_means(embeddings, labelled.labels[kept], labelled.classes, f"analogies {name}"),
                prepared.quadruples,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results


def _prepare(where: str, settings: AnalogySet) -> _Prepared:
    templates = read_templates(settings.templates, where)
    labelled = read_labelled(
        where, settings.images, table=settings.table, name_column=settings.name_column, where=settings.where
    )
    table = read_table(settings.table, settings.name_column, settings.where)
    if unknown := [column for column in settings.columns if column not in table.columns]:
        raise ValueError(f"{settings.table}: no columns {unknown}; it has {', '.join(table.columns)}")
    first, second = settings.columns
    attributes = [(str(table.rows[name][first]), str(table.rows[name][second])) for name in labelled.classes]
    try:
        quadruples = attribute_quadruples(attributes)
    except ValueError as error:
        raise ValueError(f"{settings.table}: {error}") from error
    if not quadruples:
        raise ValueError(
            f"{settings.table}: no four classes of {where} differ in {first} and {second} as an analogy needs"
        )
    return _Prepared(labelled, templates, quadruples)
