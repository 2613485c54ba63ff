"""A classifier of attributes: pictures split by thresholds on axes given in words."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcclip.data.labelled import ImageFile
from pcclip.data.picture_files import COPIES
from pcclip.datasets.tables import read_table
from pcclip.tools.attributes import Attribute
from pcclip.tools.gallery import Gallery

TRUE, FALSE = ("1", "more", "yes", "true"), ("0", "less", "no", "false")


def calibrate(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the threshold with the best balanced accuracy, the middle one among equals, and this accuracy.

    Args:
        scores: Scores of the examples, (N,).
        labels: Whether each has more, (N,) bool.

    Raises:
        ValueError: No example of one of the classes.
    """
    if bool(labels.all()) or not bool(labels.any()):
        raise ValueError(f"all {len(labels)} examples are of one class; give some of both")
    order = scores.sort().values
    cuts = torch.cat([order[:1] - 1, (order[1:] + order[:-1]) / 2, order[-1:] + 1])
    above = scores[None] > cuts[:, None]
    accuracy = (above[:, labels].double().mean(1) + (~above[:, ~labels]).double().mean(1)) / 2
    best = (accuracy == accuracy.max()).nonzero().view(-1)
    middle = best[len(best) // 2]
    return float(cuts[middle]), float(accuracy[middle])


def read_examples(file: str | Path, attributes: Sequence[str]) -> tuple[list[ImageFile], dict[str, Tensor]]:
    """Read labelled examples: a table (`.csv`, `.jsonl`) with `path` and a column for each attribute, 1 or 0 (more or less).

    Raises:
        FileNotFoundError: The table does not exist.
        ValueError: A missing column, or a cell that is neither.
    """
    table = read_table(file, "path")
    labels: dict[str, Tensor] = {}
    for name in attributes:
        cells = {path: text.strip().lower() for path, text in table.texts(name).items()}
        if odd := next((path for path, cell in cells.items() if cell not in TRUE + FALSE), None):
            raise ValueError(f'{file}: "{odd}" has {cells[odd]!r} in column "{name}", expected 1 (more) or 0 (less)')
        labels[name] = torch.tensor([cell in TRUE for cell in cells.values()])
    return [ImageFile(path, path) for path in table.keys], labels


def classes_of(
    attributes: Sequence[Attribute], scores: Mapping[str, Tensor], thresholds: Mapping[str, float]
) -> list[str]:
    """Return each picture's class: what it shows on every axis, e.g. `larger shapes + a darker background`."""
    sides = [(scores[each.name] > thresholds[each.name]).tolist() for each in attributes]
    return [
        " + ".join(each.more if above else each.less for each, above in zip(attributes, row, strict=True))
        for row in zip(*sides, strict=True)
    ]


def copy_by_class(folder: Path, gallery: Gallery, classes: Sequence[str]) -> None:
    """Copy the pictures into a subfolder for each class; repeated names get a number."""
    (folder / COPIES).touch()
    for name in dict.fromkeys(classes):
        (folder / name.replace("/", "-")).mkdir()
    names: Counter[tuple[str, str]] = Counter()
    for picture, name in zip(gallery.pictures, classes, strict=True):
        assert isinstance(picture, ImageFile)
        base = Path(picture.key)
        names[name, base.name] += 1
        again = names[name, base.name]
        file = folder / name.replace("/", "-") / (base.name if again == 1 else f"{base.stem}-{again}{base.suffix}")
        if picture.offset is None:
            shutil.copyfile(picture.path, file)
        else:
            file.write_bytes(picture.read())
