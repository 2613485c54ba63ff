"""`pcclip classify`: classify pictures by thresholds on axes given in words."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from pcclip.atomic import atomic_folder
from pcclip.commands.options import Classify
from pcclip.data.labelled import ImageFile
from pcclip.data.picture_files import COPIES
from pcclip.data.stored_embeddings import StoredEmbedding
from pcclip.datasets.tables import read_table
from pcclip.tools.attributes import Attribute, axes_of
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.output import claim
from pcclip.tools.picture_command import draw_sheet, embed, prepare, write_outputs
from pcclip.tools.picture_sources import named_picture

TRUE, FALSE = ("1", "more", "yes", "true"), ("0", "less", "no", "false")


def run(options: Classify) -> None:
    """Classify, and write the table, the contact sheet and the copies."""
    axes = axes_of(options)
    names = [axis.name for axis in axes]
    if (options.threshold is None) == (options.examples is None):
        raise ValueError("give either --threshold or --examples")
    thresholds = options.threshold if isinstance(options.threshold, dict) else {names[0]: options.threshold or 0.0}
    if options.examples is None and set(thresholds) != set(names):
        raise ValueError(f"--threshold {options.threshold}: give one for each of {', '.join(names)}, by name")
    if options.split is not None:
        claim(options.split, options.overwrite)
    output, pictures, model = prepare(options)
    stored = next((picture.key for picture in pictures if isinstance(picture, StoredEmbedding)), None)
    if options.split is not None and stored is not None:
        raise ValueError(
            f"--split {options.split}: {stored} is a stored embedding without a picture to copy; leave it out"
        )
    gallery = embed(options, model, pictures)
    directions = {axis.name: model.axis(axis.wordings) for axis in axes}
    centre = gallery.mean()
    if options.examples is not None:
        thresholds, centre = learn(options.examples, model, directions, options.batch_size)
    scores = {name: model.scores(gallery, direction, centre) for name, direction in directions.items()}
    classes = classes_of(axes, scores, thresholds)
    counts = Counter(classes)
    order = sorted(range(len(classes)), key=lambda index: (classes[index], -scores[names[0]][index]))
    sheet = draw_sheet(gallery, torch.tensor(order), classes, f"{len(counts)} classes", options.sheet)
    columns = [[f"{value:.6f}" for value in values.tolist()] for values in scores.values()]
    table = zip((picture.key for picture in gallery.pictures), classes, *columns, strict=True)
    with nullcontext() if options.split is None else atomic_folder(options.split) as folder:
        if folder is not None:
            copy_by_class(folder, gallery, classes)
        drawn = write_outputs(output, ("path", "class", *scores), table, sheet, gallery)
    for name, count in sorted(counts.items()):
        print(f"{count:>8}  {name}")
    print(f"{len(classes)} pictures classified: {output} and {drawn}")


def learn(
    file: str, model: InferenceModel, directions: Mapping[str, Tensor], batch_size: int
) -> tuple[dict[str, float], Tensor]:
    """Return the best threshold on each axis for the examples in a table, and the examples' mean embedding (D,)."""
    files, labels = read_examples(file, list(directions))
    examples = model.embed_pictures(files, batch_size=batch_size)
    for key, reason in examples.unreadable.items():
        raise ValueError(f"{file}: {key} cannot be read ({reason}); fix or remove the row")
    centre = examples.mean()
    thresholds = {}
    for name, direction in directions.items():
        thresholds[name], accuracy = calibrate(model.scores(examples, direction, centre), labels[name])
        print(f"{name}: threshold {thresholds[name]:+.4f}, balanced accuracy {accuracy:.3f} on {len(files)} examples")
    return thresholds, centre


def calibrate(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the threshold with the best balanced accuracy, and this accuracy. Of equal thresholds, take the middle one.

    Args:
        scores: Scores of the examples, (N,).
        labels: Whether each example has more, (N,) bool.

    Raises:
        ValueError: All examples have the same label.
    """
    if bool(labels.all()) or not bool(labels.any()):
        raise ValueError(f"all {len(labels)} examples are of one class; give examples of both")
    order = scores.sort().values
    cuts = torch.cat([order[:1] - 1, (order[1:] + order[:-1]) / 2, order[-1:] + 1])
    above = scores[None] > cuts[:, None]
    accuracy = (above[:, labels].double().mean(1) + (~above[:, ~labels]).double().mean(1)) / 2
    best = (accuracy == accuracy.max()).nonzero().view(-1)
    middle = best[len(best) // 2]
    return float(cuts[middle]), float(accuracy[middle])


def read_examples(file: str | Path, attributes: Sequence[str]) -> tuple[list[ImageFile], dict[str, Tensor]]:
    """Read labelled examples: a table (`.csv`, `.jsonl`) with `path` and a column of 1 (more) and 0 (less) for each attribute.

    Raises:
        FileNotFoundError: The table does not exist.
        ValueError: A column is missing, or a cell is neither 1 nor 0.
    """
    table = read_table(file, "path")
    labels: dict[str, Tensor] = {}
    for name in attributes:
        cells = {path: text.strip().lower() for path, text in table.texts(name).items()}
        if odd := next((path for path, cell in cells.items() if cell not in TRUE + FALSE), None):
            raise ValueError(f'{file}: "{odd}" has {cells[odd]!r} in column "{name}", expected 1 (more) or 0 (less)')
        labels[name] = torch.tensor([cell in TRUE for cell in cells.values()])
    return [named_picture(path) for path in table.keys], labels


def classes_of(
    attributes: Sequence[Attribute], scores: Mapping[str, Tensor], thresholds: Mapping[str, float]
) -> list[str]:
    """Return the class of each picture: its side of each axis, such as `larger shapes + a darker background`."""
    sides = [(scores[each.name] > thresholds[each.name]).tolist() for each in attributes]
    return [
        " + ".join(each.more if above else each.less for each, above in zip(attributes, row, strict=True))
        for row in zip(*sides, strict=True)
    ]


def copy_by_class(folder: Path, gallery: Gallery, classes: Sequence[str]) -> None:
    """Copy the pictures into a subfolder for each class. Repeated file names get a number."""
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
