"""CUB-200-2011: 11,788 pictures of 200 birds, and 312 attributes of pictures and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from pcclip.data.labelled import ImageFile, ImageSet
from pcclip.datasets.sources import AttributeSource, MatrixTable, numbered_names, read_matrix, require
from pcclip.datasets.tables import Table

REMEDY = (
    "download CUB_200_2011.tgz (1.1 GB; Caltech-UCSD Birds-200-2011, data.caltech.edu) and give the folder CUB_200_2011 that "
    "it unpacks to, with the file attributes.txt of the same archive in it or next to it"
)
_FILES = ("images", "images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
_IMAGE_LABELS = "attributes/image_attribute_labels.txt"
_CLASS_LABELS = "attributes/class_attribute_labels_continuous.txt"
NOT_VISIBLE = 1  # of certainties.txt


class CUB(AttributeSource):
    """The folder `CUB_200_2011` as its archive unpacks it.

    Classes are called as in `classes.txt` without number and underscores: "Black footed Albatross". Attributes are called
    as in `attributes.txt`: "has_bill_shape::dagger".

    Args:
        root: The folder.
        split: The pictures of `train_test_split.txt`, or all.
    """

    def __init__(self, root: str, split: Literal["all", "train", "test"] = "test") -> None:
        self.root = Path(root)
        self.split = split

    def read(self) -> ImageSet:
        """List the pictures of the split; each must be there."""
        require(self.root, _FILES, REMEDY)
        files, classes = numbered_names(self.root / "images.txt"), numbered_names(self.root / "classes.txt")
        labels = self._column("image_class_labels.txt", len(files))
        images = []
        for number in self._chosen(len(files)):
            label = labels[number] - 1
            if not 0 <= label < len(classes):
                raise ValueError(f"{self.root}/image_class_labels.txt: image {number + 1} has class {labels[number]}")
            images.append(ImageFile(str(self.root / "images" / files[number]), files[number], label))
        if missing := [image.key for image in images if not Path(image.path).is_file()]:
            raise ValueError(
                f"{self.root}/images: {len(missing)} of {len(images)} pictures are missing: {missing[:3]}; the archive is not "
                "wholly unpacked, unpack it again"
            )
        return ImageSet(self.root, images, [_readable(name) for name in classes])

    def class_table(self) -> Table:
        """For each class the percentage of its pictures that show the attribute."""
        file = self.root / _CLASS_LABELS
        require(self.root, [*_FILES, _CLASS_LABELS], REMEDY)
        classes, attributes = numbered_names(self.root / "classes.txt"), self._attributes()
        matrix = read_matrix(file, len(classes), len(attributes))
        return MatrixTable(file, attributes, {_readable(name): {} for name in classes}, matrix)

    def image_table(self) -> Table:
        """Whether people saw the attribute in a picture, 0 or 1; unknown where they said that it was not visible."""
        file = self.root / _IMAGE_LABELS
        require(self.root, [*_FILES, _IMAGE_LABELS], REMEDY)
        files, attributes = numbered_names(self.root / "images.txt"), self._attributes()
        matrix = torch.full((len(files), len(attributes)), torch.nan)
        with file.open(encoding="utf-8") as stream:
            for line, text in enumerate(stream, start=1):
                try:  # some lines have more cells than these
                    image, attribute, present, certainty = map(int, text.split()[:4])
                    if certainty != NOT_VISIBLE:
                        matrix[image - 1, attribute - 1] = present
                except (ValueError, IndexError) as error:
                    raise ValueError(f"{file}, line {line}: {error}; unpack it again") from error
        chosen = self._chosen(len(files))
        return MatrixTable(file, attributes, {files[number]: {} for number in chosen}, matrix[chosen])

    def _attributes(self) -> list[str]:
        for folder in (self.root, self.root / "attributes", self.root.resolve().parent):
            if (folder / "attributes.txt").is_file():
                return numbered_names(folder / "attributes.txt")
        raise FileNotFoundError(f"{self.root}: attributes.txt not found in it, nor next to it; {REMEDY}")

    def _chosen(self, count: int) -> list[int]:
        """Places in `images.txt` of the pictures of the split."""
        is_train = self._column("train_test_split.txt", count)
        wanted = {"all": (0, 1), "train": (1,), "test": (0,)}[self.split]
        return [number for number in range(count) if is_train[number] in wanted]

    def _column(self, name: str, count: int) -> list[int]:
        """Return the numbers of a file with lines `image number`."""
        file = self.root / name
        values = numbered_names(file, unique=False)
        if len(values) != count or not all(value.isdigit() for value in values):
            raise ValueError(f"{file}: expected {count} lines `image number`, as in images.txt; unpack it again")
        return [int(value) for value in values]


def _readable(name: str) -> str:
    return name.partition(".")[2].replace("_", " ")
