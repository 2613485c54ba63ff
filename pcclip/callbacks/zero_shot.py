"""Zero-shot classification each epoch, on any number of class sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from pcclip.callbacks.embeddings import model_of
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.data.labelled import ImageFile, read_images
from pcclip.data.tables import read_table
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


@dataclass
class _Prepared:
    templates: list[str]
    classes: list[str]
    images: list[ImageFile]
    labels: Tensor


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
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """List the images and choose the classes.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Unknown class names, a template without `{}`, or images without labels.
        """
        self._prepared = {name: _prepare(name, settings) for name, settings in self.sets.items()}

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
                prepared.templates,
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results


def _prepare(name: str, settings: ZeroShotSet) -> _Prepared:
    if bad := [template for template in settings.templates if "{}" not in template]:
        raise ValueError(f"zero-shot set {name}: templates {bad} have no {{}} for the class name")
    if not settings.templates:
        raise ValueError(f'zero-shot set {name}: no templates; give at least one, e.g. "a photo of a {{}}"')
    image_set = read_images(settings.images)
    if not image_set.classes:
        raise ValueError(f"{settings.images}: images without labels; zero-shot set {name} needs class folders or .cls")
    chosen, source = _chosen_classes(name, settings, image_set.classes)
    if unknown := [choice for choice in chosen if choice not in image_set.classes]:
        raise ValueError(
            f"{source}: unknown classes {unknown[:5]}; {settings.images} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)})"
        )
    if len(set(chosen)) < max(2, len(chosen)):
        raise ValueError(f"{source}: zero-shot set {name} needs at least two classes, each named once")
    new_label = {image_set.classes.index(choice): label for label, choice in enumerate(chosen)}
    images = [image for image in image_set.images if image.label in new_label]
    if not images:
        raise ValueError(f"{settings.images}: no image of the classes that set {name} chooses")
    labels = torch.tensor([new_label[image.label] for image in images if image.label is not None])
    return _Prepared(settings.templates, chosen, images, labels)


def _chosen_classes(name: str, settings: ZeroShotSet, known: list[str]) -> tuple[list[str], str]:
    """The classes to choose among, and where they were named."""
    if settings.table is not None:
        if settings.classes is not None:
            raise ValueError(f"zero-shot set {name}: give `classes` or `table`, not both")
        rows = read_table(settings.table, settings.name_column, settings.where).rows
        return list(rows), settings.table
    if settings.where is not None:
        raise ValueError(f"zero-shot set {name}: `where` filters the rows of a `table`; give one, or leave it out")
    if settings.classes is None:
        return known, settings.images
    if isinstance(settings.classes, list):
        return settings.classes, f"zero-shot set {name}, `classes`"
    file = Path(settings.classes)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: file of class names not found")
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()], str(file)
