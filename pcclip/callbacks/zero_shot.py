"""Zero-shot classification each epoch, on any number of class sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from pcclip.callbacks.classes import LabelledImages, read_descriptions, read_labelled, read_templates
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.datasets.sources import ImageSource
from pcclip.metrics.protocol import Result
from pcclip.metrics.zero_shot import DESCRIPTION, zero_shot


@dataclass
class ZeroShotSet:
    """Labelled images and the sentences that name their classes.

    Attributes:
        images: Folder of class folders, or of tars with `classnames.txt`, or a dataset (`pcclip.datasets.sources.ImageSource`).
        templates: Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file.
        classes: Choose among, and judge images of, these classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values, e.g. `{split: train}`.
        descriptions: CSV or JSON Lines with a sentence on each class, in the columns `name_column` and `description`;
            templates have it at `{description}` ("extended prompts").
    """

    images: str | ImageSource
    templates: list[str] | str
    classes: list[str] | str | None = None
    table: str | None = None
    name_column: str = "name"
    where: dict[str, str] | None = None
    descriptions: str | None = None


@dataclass
class _Prepared:
    labelled: LabelledImages
    templates: list[str]
    descriptions: dict[str, str]


class ZeroShot(EvaluationCallback):
    """Measures zero-shot classification (`pcclip.metrics.zero_shot`).

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
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """List the images and choose the classes.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Unknown class names, a template without `{}`, images without labels, or missing descriptions.
        """
        self._prepared = {name: _prepare(f"zero-shot set {name}", settings) for name, settings in self.sets.items()}

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        for name, prepared in self._prepared.items():
            labelled = prepared.labelled
            embeddings, kept = self.embed(trainer, pl_module, labelled.images, name)
            results += zero_shot(
                self.encoder(pl_module),
                embeddings,
                labelled.labels[kept],
                labelled.classes,
                prepared.templates,
                descriptions=prepared.descriptions,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results


def _prepare(where: str, settings: ZeroShotSet) -> _Prepared:
    templates = read_templates(settings.templates, where)
    extended = any(DESCRIPTION in template for template in templates)
    if extended != (settings.descriptions is not None):
        raise ValueError(f"{where}: `descriptions` and a template with {DESCRIPTION} go together; give both or neither")
    labelled = read_labelled(
        where,
        settings.images,
        classes=settings.classes,
        table=settings.table,
        name_column=settings.name_column,
        where=settings.where,
    )
    descriptions = read_descriptions(settings.descriptions, settings.name_column, labelled, where)
    return _Prepared(labelled, templates, descriptions)
