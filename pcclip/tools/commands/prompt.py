"""Sort pictures into classes, with texts that say how the classes differ (comparative prompting).

  pcclip prompt PICTURES --classes "a cat,a dog"                                       plain zero-shot
  pcclip prompt PICTURES --classes classes.txt --comparatives comparatives.jsonl       with texts

With --ask MODEL a language model writes the texts from the names of the classes, as `pcclip-data class_texts` does, which has
more options; its answers are kept in the file of --comparatives, so that nothing is asked twice.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pcclip.tools.commands.common import (
    FURTHER,
    add_model,
    add_output,
    add_pictures,
    draw_sheet,
    embed,
    load_model,
    positive,
    write_outputs,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_pictures(parser)
    add_model(parser)
    parser.add_argument(
        "--classes", required=True, metavar="NAMES", help="names with commas, or a file with one a line"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help='sentence with {} for the class (default: "a photo of a {}")',
    )
    parser.add_argument("--comparatives", metavar="FILE", help="JSON Lines: first, second, text (first against second)")
    parser.add_argument("--ask", metavar="MODEL", help="have this language model write --comparatives")
    parser.add_argument("--base-url", metavar="URL", help="its OpenAI-compatible endpoint (default: OpenAI's own)")
    parser.add_argument("--kind", metavar="WHAT", help="what the classes are, e.g. flowers; told to the model")
    parser.add_argument("--alpha", type=float, help="weight of plain prompts against the texts (default: 0.8)")
    add_output(parser, "classes.csv", "CSV; the sheet is next to it as .png")
    parser.add_argument("--sheet", type=positive, default=60, metavar="N", help="pictures on the sheet")


def run(options: argparse.Namespace) -> None:
    """Embed, classify, and write."""
    if options.alpha is not None and not options.comparatives:
        raise ValueError("--alpha weighs --comparatives; give both or neither")
    if options.ask and not options.comparatives:
        raise ValueError("--ask needs --comparatives FILE, in which the answers are kept")
    if (options.base_url or options.kind) and not options.ask:
        raise ValueError("--base-url and --kind belong to --ask MODEL")
    from pcclip.tools.output import new_file
    from pcclip.tools.pictures import find_pictures

    output = new_file(options.output, ".csv", options.overwrite, FURTHER)
    classes = _classes(options.classes)
    pictures = find_pictures(options.pictures)
    model = load_model(options)
    from pcclip.datasets.comparatives import read_comparatives
    from pcclip.tools.prompting import classify, write_predictions

    if options.ask:
        _ask(classes, options)
    comparatives = read_comparatives(options.comparatives) if options.comparatives else []
    gallery = embed(model, pictures, options)
    alpha = 0.8 if options.alpha is None else options.alpha
    templates = options.template or ["a photo of a {}"]
    prediction = classify(model, gallery, classes, templates, comparatives, alpha)
    names = [classes[index] for index in prediction.first.tolist()]
    for name, count in Counter(names).most_common():
        print(f"{count:>8}  {name}")
    if comparatives:
        plain = classify(model, gallery, classes, templates).first
        print(f"{int((plain != prediction.first).sum())} pictures changed their class by the {len(comparatives)} texts")
    import torch

    order = sorted(range(len(names)), key=lambda index: (names[index], -float(prediction.margin[index])))
    sheet = draw_sheet(gallery, torch.tensor(order), names, f"{len(set(names))} classes", options.sheet)
    drawn = write_outputs(output, lambda stream: write_predictions(stream, gallery, prediction), sheet, gallery)
    print(f"{len(names)} pictures: {output} and {drawn}")


def _ask(classes: Sequence[str], options: argparse.Namespace) -> None:
    from data_prep.steps.class_texts import ClassTexts  # here alone: without --ask nothing of data_prep is needed
    from pcclip.tools.output import check_writable

    with tempfile.TemporaryDirectory() as scratch:
        names = Path(scratch) / "classes.txt"
        names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        ClassTexts(
            output=str(check_writable(options.comparatives)),
            pairs=str(names),
            kind=options.kind or ClassTexts.kind,
            model=options.ask,
            base_url=options.base_url,
        ).run()


def _classes(given: str) -> list[str]:
    path = Path(given)
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else given.split(",")
    found = [name.strip() for name in names if name.strip()]
    if len(found) < 2 or len(set(found)) < len(found):
        raise ValueError(f"--classes {given}: give at least two names, each once, or a file with one a line")
    return found
