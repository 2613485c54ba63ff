"""Images of animals with attributes: AwA2 and CUB-200-2011."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pcclip.data.labelled import ImageFile, ImageSet, read_images
from pcclip.datasets.sources import (
    AttributeSource,
    numbered_names,
    read_matrix,
    require,
    warn_unless_whole,
)
from pcclip.datasets.tables import Table

AWA2 = (
    "download AwA2-data.zip (13 GB; the page of Animals with Attributes 2, IST Austria) and give the folder "
    "Animals_with_Attributes2 that it unpacks to"
)
AWA2_PICTURES = 37_322
_PREDICATE_MATRIX = "predicate-matrix-continuous.txt"
_SPLITS = {"train": "trainclasses.txt", "test": "testclasses.txt"}

CUB_200 = (
    "download CUB_200_2011.tgz (1.1 GB; Caltech-UCSD Birds-200-2011, data.caltech.edu) and give the folder CUB_200_2011 that "
    "it unpacks to, with the file attributes.txt of the same archive in it or next to it"
)
_CUB_FILES = ("images", "images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
_IMAGE_LABELS = "attributes/image_attribute_labels.txt"
_CLASS_LABELS = "attributes/class_attribute_labels_continuous.txt"
_NOT_VISIBLE = 1  # of certainties.txt


@dataclass(frozen=True)
class AwA2(AttributeSource):
    """Animals with Attributes 2 (arXiv 1707.00600): 37,322 images of 50 classes, and 85 attributes of the classes.

    Class names are those of `classes.txt`, with spaces for `+`. The rows of the matrix are in the order of that file, and its
    columns in the order of `predicates.txt`.
    """

    root: str
    """The folder `Animals_with_Attributes2` of the zip file."""
    classes: Literal["all", "train", "test"] = "all"
    """All 50 classes, or those of `trainclasses.txt` or `testclasses.txt`."""
    differences: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Further attributes, each one predicate minus another, such as `{size: [big, small]}`."""

    def read(self) -> ImageSet:
        """List the images of `JPEGImages`, class by class. Every class must have an image.

        A warning says if the number of images is not the published one.
        """
        names, chosen = self._names()
        found = read_images(Path(self.root) / "JPEGImages")
        if missing := [name for name in names if name not in found.classes]:
            raise ValueError(
                f"{self.root}/JPEGImages: {len(missing)} of {len(names)} classes are missing or empty: {missing[:5]}; unpack "
                "the zip again"
            )
        warn_unless_whole(f"{self.root}/JPEGImages", len(found.images), AWA2_PICTURES)
        label = {found.classes.index(name): number for number, name in enumerate(chosen)}
        images = [
            ImageFile(image.path, image.key, label[image.label]) for image in found.images if image.label in label
        ]
        return ImageSet(Path(self.root), images, [_spaced(name) for name in chosen])

    def class_table(self) -> Table:
        """Return the continuous predicate matrix, from 0 to 100, and the `differences`."""
        names, chosen = self._names()
        file, predicates = Path(self.root) / _PREDICATE_MATRIX, numbered_names(Path(self.root) / "predicates.txt")
        cells = read_matrix(file, names, predicates)
        cells = cells.mask(cells < 0)  # -1 means unknown
        for attribute, pair in self.differences.items():
            if unknown := [name for name in pair if name not in predicates]:
                raise ValueError(
                    f"{self.root}: `differences` {attribute}: predicates.txt lacks {unknown}; correct the name"
                )
            cells[attribute] = cells[pair[0]] - cells[pair[1]]
        return Table(file, cells.loc[chosen].rename(index=_spaced))

    def image_table(self) -> Table:
        """Raise: AwA2 has only attributes of classes."""
        raise ValueError(f"{self.root}: AwA2's attributes are of classes; set `level: class` or `class_images`")

    def _names(self) -> tuple[list[str], list[str]]:
        """Check that all files exist. Return all class names, and those of the split."""
        root, splits = Path(self.root), [_SPLITS[self.classes]] if self.classes in _SPLITS else []
        require(root, ["JPEGImages", "classes.txt", "predicates.txt", _PREDICATE_MATRIX, *splits], AWA2)
        names = numbered_names(root / "classes.txt")
        chosen = [name for split in splits for name in (root / split).read_text(encoding="utf-8").split()]
        if unknown := [name for name in chosen if name not in names]:
            raise ValueError(f"{root}: classes {unknown[:5]} of {splits[0]} are not in classes.txt; unpack it again")
        return names, chosen or names


@dataclass(frozen=True)
class CUB(AttributeSource):
    """CUB-200-2011: 11,788 images of 200 bird species, and 312 attributes of images and classes.

    Class names are those of `classes.txt` without number and underscores: "Black footed Albatross". Attribute names are those
    of `attributes.txt`: "has_bill_shape::dagger".
    """

    root: str
    """The folder `CUB_200_2011` of the archive."""
    split: Literal["all", "train", "test"] = "test"
    """Split of `train_test_split.txt`, or all images."""

    def read(self) -> ImageSet:
        """List the images of the split. All must exist."""
        root = Path(self.root)
        require(root, _CUB_FILES, CUB_200)
        files, classes = numbered_names(root / "images.txt"), numbered_names(root / "classes.txt")
        labels = self._column("image_class_labels.txt", len(files))
        images = []
        for number in self._chosen(len(files)):
            label = labels[number] - 1
            if not 0 <= label < len(classes):
                raise ValueError(f"{root}/image_class_labels.txt: image {number + 1} has class {labels[number]}")
            images.append(ImageFile(str(root / "images" / files[number]), files[number], label))
        if missing := [image.key for image in images if not Path(image.path).is_file()]:
            raise ValueError(
                f"{root}/images: {len(missing)} of {len(images)} pictures are missing: {missing[:3]}; unpack the archive again"
            )
        return ImageSet(root, images, [_bird(name) for name in classes])

    def class_table(self) -> Table:
        """Return for each class the percentage of its images that show the attribute."""
        root = Path(self.root)
        require(root, [*_CUB_FILES, _CLASS_LABELS], CUB_200)
        cells = read_matrix(root / _CLASS_LABELS, numbered_names(root / "classes.txt"), self._attributes())
        return Table(root / _CLASS_LABELS, cells.rename(index=_bird))

    def image_table(self) -> Table:
        """Return 1 for an image with the attribute, and 0 without. It is unknown if annotators said "not visible"."""
        root, file = Path(self.root), Path(self.root) / _IMAGE_LABELS
        require(root, [*_CUB_FILES, _IMAGE_LABELS], CUB_200)
        files, attributes = numbered_names(root / "images.txt"), self._attributes()
        try:  # some lines have more than four cells
            labels = pd.read_csv(file, sep=r"\s+", header=None, usecols=range(4), skip_blank_lines=False)
        except ValueError as error:
            raise ValueError(f"{file}: {error}; unpack it again") from error
        labels = labels.apply(pd.to_numeric, errors="coerce")
        sound = labels[0].between(1, len(files)) & labels[1].between(1, len(attributes)) & labels.notna().all(axis=1)
        if not sound.all():
            line = int(sound.idxmin()) + 1
            raise ValueError(f"{file}, line {line}: expected `image attribute present certainty`; unpack it again")
        matrix = np.full((len(files), len(attributes)), np.nan)
        matrix[labels[0].astype(int) - 1, labels[1].astype(int) - 1] = labels[2].mask(labels[3] == _NOT_VISIBLE)
        return Table(file, pd.DataFrame(matrix, files, attributes).iloc[self._chosen(len(files))])

    def _attributes(self) -> list[str]:
        root = Path(self.root)
        for folder in (root, root / "attributes", root.resolve().parent):
            if (folder / "attributes.txt").is_file():
                return numbered_names(folder / "attributes.txt")
        raise FileNotFoundError(f"{root}: attributes.txt not found in it, nor next to it; {CUB_200}")

    def _chosen(self, count: int) -> list[int]:
        """Return the indices in `images.txt` of the images of the split."""
        is_train = self._column("train_test_split.txt", count)
        wanted = {"all": (0, 1), "train": (1,), "test": (0,)}[self.split]
        return [number for number in range(count) if is_train[number] in wanted]

    def _column(self, name: str, count: int) -> list[int]:
        """Return the second column of a file with lines `image number`."""
        file = Path(self.root) / name
        values = numbered_names(file, unique=False)
        if len(values) != count or not all(value.isdigit() for value in values):
            raise ValueError(f"{file}: expected {count} lines `image number`, as in images.txt; unpack it again")
        return [int(value) for value in values]


def _spaced(name: str) -> str:
    return name.replace("+", " ")


def _bird(name: str) -> str:
    return name.partition(".")[2].replace("_", " ")
