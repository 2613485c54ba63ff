"""Which labelled images an evaluation judges, and which classes it chooses among."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.data.labelled import ImageFile, read_images
from pcclip.data.tables import read_table


@dataclass
class LabelledImages:
    """Images of the chosen classes.

    Attributes:
        known: All classes of the source.
        classes: The chosen ones.
        images: Their images.
        labels: Index into `classes` of each, (N,).
    """

    known: list[str]
    classes: list[str]
    images: list[ImageFile]
    labels: Tensor


def check_templates(templates: list[str], where: str) -> None:
    """Refuse templates without a place for the class name, and none at all.

    Raises:
        ValueError: For such templates.
    """
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f"{where}: templates {bad} have no {{}} for the class name")
    if not templates:
        raise ValueError(f'{where}: no templates; give at least one, e.g. "a photo of a {{}}"')


def read_labelled(
    name: str,
    source: str,
    *,
    classes: list[str] | str | None = None,
    table: str | None = None,
    name_column: str = "name",
    where: dict[str, str] | None = None,
) -> LabelledImages:
    """List the images and choose the classes.

    Args:
        name: Name of the set, for messages.
        source: Folder of class folders, or of tars with `classnames.txt`; see `pcclip.data.labelled.read_images`.
        classes: These classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Unknown class names, fewer than two, one named twice, or images without labels.
    """
    image_set = read_images(source)
    if not image_set.classes:
        raise ValueError(f"{source}: images without labels; {name} needs class folders or .cls")
    chosen, named_in = _chosen_classes(name, classes, table, name_column, where)
    if chosen is None:
        chosen, named_in = image_set.classes, source
    if unknown := [choice for choice in chosen if choice not in image_set.classes]:
        raise ValueError(
            f"{named_in}: unknown classes {unknown[:5]}; {source} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)})"
        )
    if len(set(chosen)) < max(2, len(chosen)):
        raise ValueError(f"{named_in}: {name} needs at least two classes, each named once")
    new_label = {image_set.classes.index(choice): label for label, choice in enumerate(chosen)}
    images = [image for image in image_set.images if image.label in new_label]
    if not images:
        raise ValueError(f"{source}: no image of the classes that {name} chooses")
    labels = torch.tensor([new_label[image.label] for image in images if image.label is not None])
    return LabelledImages(image_set.classes, chosen, images, labels)


def class_means(embeddings: Tensor, labels: Tensor, classes: list[str], where: str) -> Tensor:
    """Normalised mean embedding of each class's images, (C, D).

    Args:
        embeddings: Unit image embeddings, (N, D).
        labels: Index into `classes` of each, (N,).
        classes: Names of the classes.
        where: Name of the set, for messages.

    Raises:
        ValueError: A class has no image.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if empty := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        raise ValueError(f"{where}: classes {empty[:5]} have no (intact) image; add some, or leave the classes out")
    sums = embeddings.new_zeros(len(classes), embeddings.shape[1])
    return normalize(sums.index_add_(0, labels.to(embeddings.device), embeddings), dim=-1)


def _chosen_classes(
    name: str, classes: list[str] | str | None, table: str | None, name_column: str, where: dict[str, str] | None
) -> tuple[list[str] | None, str]:
    """The classes to choose among, or None for all, and where they were named."""
    if table is not None:
        if classes is not None:
            raise ValueError(f"{name}: give `classes` or `table`, not both")
        return list(read_table(table, name_column, where).rows), table
    if where is not None:
        raise ValueError(f"{name}: `where` filters the rows of a `table`; give one, or leave it out")
    if classes is None or isinstance(classes, list):
        return classes, f"{name}, `classes`"
    file = Path(classes)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: file of class names not found")
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()], str(file)
