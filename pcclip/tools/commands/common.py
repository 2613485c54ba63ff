"""Arguments that several tools share, and what they stand for."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pcclip.data.labelled import Picture
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.model import InferenceModel

FURTHER = (".png", ".unreadable.csv")  # what is written next to a CSV, by the end of its name
DEMO = "runs/demo/finetuned"
SHOWN = 10  # unreadable pictures that are named on the terminal


def add_model(parser: argparse.ArgumentParser, flag: str = "--model") -> None:
    """Which model, and where."""
    parser.add_argument(
        flag,
        default=DEMO,
        help="a saved folder, a checkpoint (.ckpt), or an open_clip name with --pretrained (default: %(default)s)",
    )
    parser.add_argument("--pretrained", metavar="TAG", help="open_clip's pretrained tag or a weights file")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")


def add_pictures(parser: argparse.ArgumentParser, **settings: str) -> None:
    """Which pictures, and how they are embedded."""
    parser.add_argument(
        "pictures",
        metavar="PICTURES",
        help="folders, patterns, lists (.txt, .csv, - for standard input), webdataset shards, pictures",
        nargs=settings.get("nargs", "+"),
    )
    add_embedding(parser)


def add_embedding(parser: argparse.ArgumentParser) -> None:
    """How pictures are embedded."""
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache", metavar="DIR", help="where embeddings are kept (default: ~/.cache/pcclip)")
    cache.add_argument("--no-cache", action="store_true", help="keep no embeddings")
    parser.add_argument("--batch-size", type=positive, default=256, metavar="N", help="pictures encoded at a time")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that decode (default: by the cores)")


def add_output(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """Where the output goes."""
    parser.add_argument("--output", default=default, metavar="FILE", help=f"{what} (default: {default})")
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Whether output may be replaced."""
    parser.add_argument("--overwrite", action="store_true", help="replace output that exists")


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def load_model(options: argparse.Namespace) -> InferenceModel:
    """The model that the options name."""
    from pcclip import load
    from pcclip.lean_import import import_open_clip

    import_open_clip()
    return load(options.model, options.pretrained, options.device)


def cache_of(options: argparse.Namespace) -> Path | None:
    """The folder of embeddings that the options name, None for none: `$XDG_CACHE_HOME/pcclip` unless said otherwise."""
    if options.no_cache:
        return None
    return Path(options.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pcclip")


def embed(model: InferenceModel, pictures: Sequence[Picture], options: argparse.Namespace) -> Gallery:
    """Embed pictures as the options say, and name those that cannot be read."""
    gallery = model.embed_pictures(
        pictures,
        cache=cache_of(options),
        batch_size=options.batch_size,
        workers=options.workers,
        progress=True,
    )
    for key, reason in list(gallery.unreadable.items())[:SHOWN]:
        print(f"unreadable: {key}: {reason}", file=sys.stderr)
    if (more := len(gallery.unreadable) - SHOWN) > 0:
        print(f"... and {more} more", file=sys.stderr)
    return gallery


def write_outputs(output: Path, write_table: Callable[[IO[str]], None], sheet: Image.Image, gallery: Gallery) -> Path:
    """Write a CSV, its sheet and, if there are any, the list of unreadable pictures: all of them or none.

    Returns:
        The file of the sheet.
    """
    from pcclip.atomic import atomic_path, atomic_text
    from pcclip.data.picture_files import save_png

    drawn, listed = (output.with_name(output.stem + ending) for ending in FURTHER)
    with ExitStack() as stack:
        # The contents are on the disk before the first file gets its name.
        table = stack.enter_context(atomic_text(output))
        write_table(table)
        table.flush()
        save_png(sheet, stack.enter_context(atomic_path(drawn)))
        if gallery.unreadable:
            names = stack.enter_context(atomic_text(listed))
            writer = csv.writer(names)
            writer.writerow(("path", "reason"))
            writer.writerows(gallery.unreadable.items())
            names.flush()
    if gallery.unreadable:
        print(f"{len(gallery.unreadable)} pictures could not be read; they are listed in {listed}")
    else:
        listed.unlink(missing_ok=True)
    return drawn


def draw_sheet(gallery: Gallery, order: Tensor, labels: Sequence[str], title: str, most: int) -> Image.Image:
    """Draw at most so many pictures, spread evenly over an order (N,)."""
    import torch

    from pcclip.reports.contact_sheet import TILE, contact_sheet

    places = torch.linspace(0, len(order) - 1, min(most, len(order))).round().long()
    chosen = order[places].tolist()
    return contact_sheet(
        [gallery.pick(index, TILE) for index in chosen], [labels[index] for index in chosen], title, columns=10
    )
