"""Arguments that several tools share, and what they stand for."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pcclip.data.labelled import Picture
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.model import Model

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


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def load_model(options: argparse.Namespace) -> Model:
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


def embed(model: Model, pictures: Sequence[Picture], options: argparse.Namespace) -> Gallery:
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


def write_unreadable(gallery: Gallery, output: Path) -> None:
    """Write path and reason of unreadable pictures to `<stem>.unreadable.csv` next to the output, if there are any."""
    from pcclip.atomic import atomic_text

    listed = output.with_name(f"{output.stem}.unreadable.csv")
    listed.unlink(missing_ok=True)
    if gallery.unreadable:
        with atomic_text(listed) as stream:
            writer = csv.writer(stream)
            writer.writerow(("path", "reason"))
            writer.writerows(gallery.unreadable.items())
        print(f"{len(gallery.unreadable)} pictures could not be read; they are listed in {listed}")


def draw_sheet(gallery: Gallery, order: Tensor, labels: Sequence[str], title: str, output: Path, most: int) -> Path:
    """Draw at most so many pictures, spread evenly over an order (N,), beside the output; returns the file."""
    import torch

    from pcclip.atomic import atomic_path
    from pcclip.tools.contact_sheet import contact_sheet

    places = torch.linspace(0, len(order) - 1, min(most, len(order))).round().long()
    chosen = order[places].tolist()
    sheet = contact_sheet(
        [gallery.pick(index) for index in chosen], [labels[index] for index in chosen], title, columns=10
    )
    file = output.with_suffix(".png")
    with atomic_path(file) as path:
        sheet.save(path)
    return file
