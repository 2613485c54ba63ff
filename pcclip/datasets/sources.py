"""Datasets with a layout of their own as evaluation images. Configurations name them by `class_path`."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.labelled import ImageSet, read_images
from pcclip.datasets.tables import Table
from pcclip.paths import existing_file


class ImageSource(ABC):
    """A dataset with a layout that `read_images` does not know. It is read when a task is prepared."""

    @abstractmethod
    def read(self) -> ImageSet:
        """List the images.

        Raises:
            FileNotFoundError: The dataset is missing. The message says what to download and where to put it.
            ValueError: The dataset is incomplete, or not in its official layout.
        """


class AttributeSource(ImageSource):
    """A dataset that also has attributes of its images or classes."""

    @abstractmethod
    def class_table(self) -> Table:
        """Return the attributes of the classes. Keys are the class names of `read`. See `read` for errors."""

    @abstractmethod
    def image_table(self) -> Table:
        """Return the attributes of the images. Keys are the keys of the images. See `read` for errors.

        Raises:
            ValueError: The images have no attributes.
        """


def find_source(source: str | ImageSource) -> str | ImageSource:
    """Return the dataset that a YAML file describes by `class_path` and `init_args`. Return other sources unchanged.

    Raises:
        FileNotFoundError: The YAML file does not exist.
        ValueError: The file does not describe a dataset.
    """
    if isinstance(source, ImageSource) or not source.endswith(".yaml"):
        return source
    file = existing_file(source, "description of a dataset", "see conf/datasets")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--dataset", type=ImageSource)
    try:
        settings = parser.parse_object({"dataset": yaml.safe_load(file.read_text(encoding="utf-8"))})
    except (ArgumentError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: does not describe a dataset by class_path and init_args: {reason}") from error
    return parser.instantiate_classes(settings).dataset


def open_images(source: str | ImageSource) -> ImageSet:
    """List the images of a path (`read_images`), of a dataset, or of a dataset that a YAML file describes."""
    source = find_source(source)
    return source.read() if isinstance(source, ImageSource) else read_images(source)


def require(root: Path, names: Sequence[str], remedy: str) -> None:
    """Raise if files of a dataset are missing.

    Raises:
        FileNotFoundError: Names the missing files and the remedy.
    """
    if missing := [name for name in names if not (root / name).exists()]:
        raise FileNotFoundError(f"{root}: {', '.join(missing)} not found; {remedy}")


def warn_unless_whole(where: str, found: int, expected: int) -> None:
    """Warn if the number of images is not the published one, for example after an interrupted extraction.

    It is not an error, because a part of a dataset may be intended. Python shows equal warnings of several tasks once.
    """
    if found != expected:
        rank_zero_warn(
            f"{where}: found {found:,} pictures, expected {expected:,}; if only a part of the archive was extracted by "
            "accident, extract it again"
        )


def read_matrix(file: Path, rows: list[str], columns: list[str]) -> pd.DataFrame:
    """Read a matrix of float64 numbers, one row a line, and name its rows and columns.

    Raises:
        ValueError: The file is not such a matrix, or has another shape.
    """
    try:
        matrix = pd.read_csv(file, sep=r"\s+", header=None, dtype=float, float_precision="round_trip")
    except ValueError as error:
        raise ValueError(f"{file}: not a matrix of numbers ({error}); unpack it again") from error
    if matrix.shape != (len(rows), len(columns)) or matrix.isna().any(axis=None):
        raise ValueError(f"{file}: {matrix.shape} numbers, expected {(len(rows), len(columns))}; unpack it again")
    return matrix.set_axis(rows).set_axis(columns, axis=1)


def numbered_names(file: Path, *, unique: bool = True) -> list[str]:
    """Return the names of a file with lines `number name`. Numbers count from 1.

    Raises:
        ValueError: A line has another form, or a name occurs twice although names must be `unique`.
    """
    names: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        number, _, name = line.strip().partition("\t" if "\t" in line.strip() else " ")
        if number != str(len(names) + 1) or not name.strip():
            raise ValueError(f"{file}: expected `{len(names) + 1} name`, found {line.strip()[:60]!r}; extract it again")
        names.append(name.strip())
    if unique and (twice := sorted(name for name, count in Counter(names).items() if count > 1)):
        raise ValueError(f"{file}: {twice[:5]} more than once; extract it again")
    return names
