"""Which labelled images an evaluation judges, and which classes it chooses among."""

from __future__ import annotations

from dataclasses import dataclass

import open_clip
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.data.labelled import ImageFile
from pcclip.datasets.sources import ImageSource, open_images
from pcclip.datasets.tables import read_table
from pcclip.files import existing_file

ENSEMBLES = {"openai": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}


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


def read_templates(templates: list[str] | str, where: str) -> list[str]:
    """The templates of a set.

    Args:
        templates: Sentences with `{}` for the class name; or `openai` or `simple`, open_clip's ensembles of 80 and of 7; or
            a file with one a line, in which `{c}` may stand for `{}` as in CLIP_benchmark's.
        where: Name of the set, for messages.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A template without a place for the class name, or none.
    """
    if isinstance(templates, str):
        if templates in ENSEMBLES:
            return [template("{}") for template in ENSEMBLES[templates]]
        file = existing_file(templates, "templates", f"or give {', '.join(ENSEMBLES)}, or a list")
        lines = file.read_text(encoding="utf-8").splitlines()
        templates = [line.strip().replace("{c}", "{}") for line in lines if line.strip()]
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f"{where}: templates {bad} have no {{}} for the class name")
    if not templates:
        raise ValueError(f'{where}: no templates; give at least one, e.g. "a photo of a {{}}"')
    return templates


def read_descriptions(file: str | None, name_column: str, labelled: LabelledImages, where: str) -> dict[str, str]:
    """The column `description` of a table, for the chosen classes; nothing without a table.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: There is no such column, or a class without a description.
    """
    if file is None:
        return {}
    existing_file(file, "descriptions of classes", "`pcclip-data class_texts --classes` writes them, or check the path")
    table = read_table(file, name_column)
    if "description" not in table.columns:
        raise ValueError(f'{file}: no column "description"; its columns are {", ".join(table.columns)}')
    found = {name: str(row.get("description") or "").strip() for name, row in table.rows.items()}
    if bare := [name for name in labelled.classes if not found.get(name)]:
        raise ValueError(f"{file}: no description of {len(bare)} classes of {where}: {bare[:5]}; write them")
    return {name: found[name] for name in labelled.classes}


def read_labelled(
    name: str,
    source: str | ImageSource,
    *,
    classes: list[str] | str | None = None,
    table: str | None = None,
    name_column: str = "name",
    where: dict[str, str] | None = None,
) -> LabelledImages:
    """List the images and choose the classes.

    Args:
        name: Name of the set, for messages.
        source: Folder of class folders, or of tars with `classnames.txt`, or a dataset; see `open_images`.
        classes: These classes only: a list, or a file with one name a line.
        table: CSV or JSON Lines with a row for each class, to choose classes by; not together with `classes`.
        name_column: The table's column with the class names.
        where: Keep only rows of the table with these values.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Unknown class names, fewer than two, one named twice, or images without labels.
    """
    image_set = open_images(source)
    if not image_set.classes:
        raise ValueError(f"{image_set.source}: images without labels; {name} needs class folders or .cls")
    chosen, named_in = _chosen_classes(name, classes, table, name_column, where)
    if chosen is None:
        chosen, named_in = image_set.classes, str(image_set.source)
    if unknown := [choice for choice in chosen if choice not in image_set.classes]:
        raise ValueError(
            f"{named_in}: unknown classes {unknown[:5]}; {image_set.source} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)})"
        )
    if len(set(chosen)) < max(2, len(chosen)):
        raise ValueError(f"{named_in}: {name} needs at least two classes, each named once")
    new_label = {image_set.classes.index(choice): label for label, choice in enumerate(chosen)}
    images = [image for image in image_set.images if image.label in new_label]
    if not images:
        raise ValueError(f"{image_set.source}: no image of the classes that {name} chooses")
    labels = torch.tensor([new_label[image.label] for image in images if image.label is not None])
    counts = torch.bincount(labels, minlength=len(chosen)).tolist()
    if bare := [choice for choice, count in zip(chosen, counts, strict=True) if count == 0]:
        rank_zero_warn(
            f"{name}: {len(bare)} of {len(chosen)} classes have no image in {image_set.source}: {', '.join(bare[:5])}; they "
            "are choices all the same"
        )
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
    file = existing_file(classes, "class names")
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()], str(file)
