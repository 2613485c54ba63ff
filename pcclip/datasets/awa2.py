"""Animals with Attributes 2 (arXiv 1707.00600): 37,322 pictures of 50 classes, and 85 attributes of the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from pcclip.data.labelled import ImageFile, ImageSet, read_images
from pcclip.datasets.sources import (
    AttributeSource,
    MatrixTable,
    numbered_names,
    read_matrix,
    require,
    warn_unless_whole,
)
from pcclip.datasets.tables import Table

REMEDY = (
    "download AwA2-data.zip (13 GB; the page of Animals with Attributes 2, IST Austria) and give the folder "
    "Animals_with_Attributes2 that it unpacks to"
)
PICTURES = 37_322
_FILES = ("JPEGImages", "classes.txt", "predicates.txt", "predicate-matrix-continuous.txt")
_SPLITS = {"train": "trainclasses.txt", "test": "testclasses.txt"}


class AwA2(AttributeSource):
    """The folder `Animals_with_Attributes2` as its zip unpacks it.

    Classes are called as in `classes.txt`, with spaces for `+`. Rows of the matrix belong to the classes of that file and
    columns to the predicates of `predicates.txt`, both by name.

    Args:
        root: The folder.
        classes: All 50 classes, or those of `trainclasses.txt` or `testclasses.txt`.
        differences: Further attributes, each one predicate minus another, such as `{size: [big, small]}`.
    """

    def __init__(
        self,
        root: str,
        classes: Literal["all", "train", "test"] = "all",
        differences: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.root = Path(root)
        self.classes = classes
        self.differences = differences or {}

    def read(self) -> ImageSet:
        """List the pictures of `JPEGImages`, class by class; none may be without.

        Another number of them than AwA2 has gets a warning.
        """
        self._check()
        names, chosen = self._names(), self._chosen()
        found = read_images(self.root / "JPEGImages")
        if missing := [name for name in names if name not in found.classes]:
            raise ValueError(
                f"{self.root}/JPEGImages: {len(missing)} of {len(names)} classes are missing or empty: {missing[:5]}; the zip "
                "is not wholly unpacked, unpack it again"
            )
        warn_unless_whole(f"{self.root}/JPEGImages", len(found.images), PICTURES)
        label = {found.classes.index(name): number for number, name in enumerate(chosen)}
        images = [
            ImageFile(image.path, image.key, label[image.label]) for image in found.images if image.label in label
        ]
        return ImageSet(self.root, images, [_readable(name) for name in chosen])

    def class_table(self) -> Table:
        """The continuous matrix, 0 to 100, and the `differences`."""
        self._check()
        names, predicates = self._names(), numbered_names(self.root / "predicates.txt")
        file = self.root / "predicate-matrix-continuous.txt"
        matrix = read_matrix(file, len(names), len(predicates))
        matrix[matrix < 0] = torch.nan  # -1 stands for unknown
        columns = list(predicates)
        for attribute, pair in self.differences.items():
            if unknown := [name for name in pair if name not in predicates]:
                raise ValueError(f"{self.root}: {attribute} is the difference of {unknown}, which predicates.txt lacks")
            more, less = (matrix[:, predicates.index(name)] for name in pair)
            columns.append(attribute)
            matrix = torch.cat([matrix, (more - less)[:, None]], dim=1)
        chosen = self._chosen()
        kept = matrix[[names.index(name) for name in chosen]]
        return MatrixTable(file, columns, {_readable(name): {} for name in chosen}, kept)

    def image_table(self) -> Table:
        """There is none: its attributes are of classes."""
        raise ValueError(f"{self.root}: AwA2's attributes are of classes; set `level: class` or `class_images`")

    def _check(self) -> None:
        require(self.root, [*_FILES, *filter(None, [_SPLITS.get(self.classes)])], REMEDY)

    def _names(self) -> list[str]:
        return numbered_names(self.root / "classes.txt")

    def _chosen(self) -> list[str]:
        names = self._names()
        if self.classes == "all":
            return names
        file = self.root / _SPLITS[self.classes]
        chosen = file.read_text(encoding="utf-8").split()
        if unknown := [name for name in chosen if name not in names]:
            raise ValueError(f"{file}: classes {unknown[:5]} are not in classes.txt; unpack it again")
        return chosen


def _readable(name: str) -> str:
    return name.replace("+", " ")
