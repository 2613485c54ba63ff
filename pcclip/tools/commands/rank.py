"""Rank pictures along an axis given in words, say which of two has more, or split them by thresholds.

pcclip rank PICTURES --more TEXT --less TEXT      most first: a CSV and a contact sheet
pcclip rank PICTURES --attribute NAME             the same, by shipped templates, or those of --attributes FILE
pcclip rank --pairs A B --attribute NAME          which of two pictures, and by how much
pcclip rank PICTURES --classify --attribute NAME --threshold 0    above or below, on one axis or several
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pcclip.tools.commands.common import (
    FURTHER,
    add_model,
    add_overwrite,
    add_pictures,
    draw_sheet,
    embed,
    load_model,
    positive,
    write_outputs,
)

if TYPE_CHECKING:
    from pcclip.tools.attributes import Attribute
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.model import InferenceModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_pictures(parser, nargs="*")
    add_model(parser)
    axis = parser.add_argument_group("the axis")
    axis.add_argument("--more", action="append", metavar="TEXT", help="true of (first, second) if the first has more")
    axis.add_argument("--less", action="append", metavar="TEXT", help="its opposite; both may be given several times")
    axis.add_argument("--attribute", action="append", metavar="NAME", help="an axis by its name, such as size")
    axis.add_argument("--attributes", metavar="FILE", help="YAML file of named axes (default: those that are shipped)")
    parser.add_argument("--pairs", nargs=2, metavar=("A", "B"), help="which of two pictures has more")
    classify = parser.add_argument_group("classification")
    classify.add_argument("--classify", action="store_true", help="split by thresholds, on one --attribute or several")
    classify.add_argument(
        "--threshold", action="append", metavar="[NAME=]X", help="score above which is more; 0 is the mean picture"
    )
    classify.add_argument(
        "--examples", metavar="FILE", help="choose thresholds by a table: path, and 1 or 0 for each axis"
    )
    classify.add_argument("--split", metavar="DIR", help="also copy the pictures into a folder for each class")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="CSV; the sheet is next to it as .png (default: ranked.csv, with --classify classified.csv)",
    )
    add_overwrite(parser)
    parser.add_argument("--sheet", type=positive, default=60, metavar="N", help="pictures on the sheet, spread evenly")


def run(options: argparse.Namespace) -> None:
    """Check the options, then rank, compare or classify.

    Raises:
        ValueError: Options that contradict each other, or anything that does not fit.
    """
    _check(options)
    attributes = _attributes(options)
    if options.pairs:
        _compare(load_model(options), attributes, options)
        return
    from pcclip.tools.output import new_file, new_folder
    from pcclip.tools.pictures import find_pictures

    default = "classified.csv" if options.classify else "ranked.csv"
    output = new_file(options.output or default, ".csv", options.overwrite, FURTHER)
    if options.split:
        new_folder(options.split, options.overwrite)
    pictures = find_pictures(options.pictures)
    model = load_model(options)
    gallery = embed(model, pictures, options)
    if options.classify:
        _classify(model, gallery, attributes, output, options)
    else:
        _rank(model, gallery, attributes[0], output, options.sheet)


def _check(options: argparse.Namespace) -> None:
    if bool(options.more or options.less) == bool(options.attribute):
        raise ValueError("give either --more and --less, or --attribute")
    if options.pairs and (options.pictures or options.classify):
        raise ValueError("--pairs compares two pictures; leave PICTURES and --classify out")
    if not options.pairs and not options.pictures:
        raise ValueError("no PICTURES given; name a folder, pattern, list or shards")
    if options.attribute and len(options.attribute) > 1 and not (options.classify or options.pairs):
        raise ValueError("several --attribute are for --classify; rank by one")
    if not options.classify and (options.threshold or options.examples or options.split):
        raise ValueError("--threshold, --examples and --split belong to --classify")
    if options.classify and bool(options.threshold) == bool(options.examples):
        raise ValueError("--classify needs either --threshold or --examples")


def _attributes(options: argparse.Namespace) -> list[Attribute]:
    from pcclip.tools.attributes import SHIPPED, Attribute, read_attribute, wordings

    if options.attribute:
        return [read_attribute(name, options.attributes or SHIPPED) for name in dict.fromkeys(options.attribute)]
    axis = wordings(options.more or [], options.less or [])
    return [Attribute("axis", "more", "less", axis)]


def _compare(model: InferenceModel, attributes: list[Attribute], options: argparse.Namespace) -> None:
    first, second = options.pairs
    for attribute in attributes:
        texts = {wording.text: wording.reverse for wording in attribute.wordings}
        cosines = model.compare(first, second, [*texts, *texts.values()])
        margin = sum(cosines[text] - cosines[reverse] for text, reverse in texts.items()) / len(texts)
        more = first if margin > 0 else second
        print(f"{attribute.name}: {more} has more, by a margin of {abs(margin):.3f} (cosine with text minus reverse)")


def _rank(model: InferenceModel, gallery: Gallery, attribute: Attribute, output: Path, most: int) -> None:
    from pcclip.tools.ranking import in_order, score, write_ranking

    scores = score(model, gallery, model.axis(attribute.wordings))
    order = scores.argsort(descending=True, stable=True)
    title = f"{attribute.name}: {attribute.more} first, {attribute.less} last"
    sheet = draw_sheet(gallery, order, [f"{value:+.3f}" for value in scores.tolist()], title, most)
    drawn = write_outputs(output, lambda stream: write_ranking(stream, gallery, scores), sheet, gallery)
    rows = in_order(gallery, scores)
    print(f"{'rank':>6}  {'score':>8}  path")
    for row in rows:
        if row.rank <= 3 or row.rank > len(scores) - 3:
            print(f"{row.rank:>6}  {row.score:>+8.4f}  {row.path}")
        elif row.rank == 4:
            print("   ...")
    print(f"{len(scores)} pictures ranked: {output} and {drawn}")


def _classify(
    model: InferenceModel, gallery: Gallery, attributes: list[Attribute], output: Path, options: argparse.Namespace
) -> None:
    import torch

    from pcclip.atomic import atomic_folder
    from pcclip.tools.classify import Threshold, calibrate, classes_of, read_examples, split, write_classes
    from pcclip.tools.ranking import score

    axes = {attribute.name: model.axis(attribute.wordings) for attribute in attributes}
    if options.examples:
        files, labels = read_examples(options.examples, list(axes))
        examples = model.embed_pictures(files, batch_size=options.batch_size)
        if examples.unreadable:
            key, reason = next(iter(examples.unreadable.items()))
            raise ValueError(f"{options.examples}: {key} cannot be read ({reason}); fix or remove the row")
        centre = examples.mean()
        thresholds = {
            name: calibrate(score(model, examples, axis, centre), labels[name]) for name, axis in axes.items()
        }
        for name, threshold in thresholds.items():
            print(
                f"{name}: threshold {threshold.value:+.4f}, balanced accuracy {threshold.accuracy:.3f} on {len(files)} examples"
            )
    else:
        centre = gallery.mean()
        thresholds = {name: Threshold(value) for name, value in _thresholds(options.threshold, list(axes)).items()}
    scores = {name: score(model, gallery, axis, centre) for name, axis in axes.items()}
    classes = classes_of(attributes, scores, thresholds)
    counts = Counter(classes)
    order = sorted(range(len(classes)), key=lambda index: (classes[index], -scores[attributes[0].name][index]))
    sheet = draw_sheet(gallery, torch.tensor(order), classes, f"{len(counts)} classes", options.sheet)
    with nullcontext() if options.split is None else atomic_folder(options.split) as folder:
        if folder is not None:
            split(folder, gallery, classes)
        drawn = write_outputs(output, lambda stream: write_classes(stream, gallery, scores, classes), sheet, gallery)
    for name, count in sorted(counts.items()):
        print(f"{count:>8}  {name}")
    print(f"{len(classes)} pictures classified: {output} and {drawn}")


def _thresholds(given: list[str], names: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given:
        name, separator, value = text.rpartition("=")
        name = name if separator else names[0]
        if name not in names or (not separator and len(names) > 1) or name in found:
            raise ValueError(f"--threshold {text}: give one for each axis, as NAME=X with NAME of {', '.join(names)}")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ValueError(f"--threshold {text}: {value!r} is not a number") from error
    if lacking := [name for name in names if name not in found]:
        raise ValueError(f"--threshold: none for {', '.join(lacking)}; give one for each axis, as NAME=X")
    return found
