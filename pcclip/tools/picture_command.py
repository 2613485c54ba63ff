"""Common code of `rank`, `classify`, `search` and `prompt`: inputs, the output table and the contact sheet."""

import csv
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from PIL import Image
from torch import Tensor

from pcclip.atomic import atomic_path, atomic_text
from pcclip.commands.shared_options import EmbeddingOptions, PictureOptions
from pcclip.data.labelled import ImageFile
from pcclip.data.picture_files import save_png
from pcclip.reports.contact_sheet import TILE, contact_sheet, spread
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.open_model import load_model
from pcclip.tools.output import claim
from pcclip.tools.picture_sources import find_pictures

FURTHER = (".png", ".unreadable.csv")  # endings of the files next to the table
SHOWN = 10  # unreadable pictures named in the terminal


def prepare(options: PictureOptions) -> tuple[Path, list[ImageFile], InferenceModel]:
    """Return the output file, the pictures and the model. Raises as `claim`, `find_pictures` and `load_model`."""
    output = claim(options.output, options.overwrite, ".csv", *FURTHER)
    pictures = find_pictures(options.pictures)
    return output, pictures, load_model(options.model, options.pretrained, options.device)


def embed(options: EmbeddingOptions, model: InferenceModel, pictures: Sequence[ImageFile]) -> Gallery:
    """Embed pictures as the options say, and print the names of unreadable ones."""
    gallery = model.embed_pictures(
        pictures, cache=options.cache, batch_size=options.batch_size, workers=options.workers, progress=True
    )
    for key, reason in list(gallery.unreadable.items())[:SHOWN]:
        print(f"unreadable: {key}: {reason}", file=sys.stderr)
    if (more := len(gallery.unreadable) - SHOWN) > 0:
        print(f"... and {more} more", file=sys.stderr)
    return gallery


def draw_sheet(gallery: Gallery, order: Tensor, labels: Sequence[str], title: str, most: int) -> Image.Image:
    """Draw up to `most` pictures, evenly spaced in an order (N,) of the gallery. Labels are in the gallery's order."""
    chosen = order[spread(len(order), most)].tolist()
    return contact_sheet(
        [gallery.pick(index, TILE) for index in chosen], [labels[index] for index in chosen], title, columns=10
    )


def write_outputs(
    output: Path, header: Sequence[str], rows: Iterable[Sequence[object]], sheet: Image.Image, gallery: Gallery
) -> Path:
    """Write a CSV, its contact sheet and the list of unreadable pictures, if any: all of them or none.

    Returns:
        The file of the contact sheet.
    """
    drawn, listed = (output.with_name(output.stem + ending) for ending in FURTHER)
    with ExitStack() as stack:
        # All contents are written before the first file gets its name.
        write_rows(stack.enter_context(atomic_text(output)), header, rows)
        save_png(sheet, stack.enter_context(atomic_path(drawn)))
        if gallery.unreadable:
            write_rows(stack.enter_context(atomic_text(listed)), ("path", "reason"), gallery.unreadable.items())
    if gallery.unreadable:
        print(f"{len(gallery.unreadable)} pictures could not be read; they are listed in {listed}")
    else:
        listed.unlink(missing_ok=True)
    return drawn


def write_rows(stream: IO[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV and flush it."""
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows(rows)
    stream.flush()
