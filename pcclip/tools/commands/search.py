"""Find pictures like one, but different as a text says: those nearest to `image + lambda * difference`.

  pcclip search PICTURES --image Q.jpg --text "the first picture is at night, the second by day"

The picture that is wanted is called the first, the one given the second. With --reverse, the opposite text is subtracted.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pcclip.files import existing_file
from pcclip.tools.commands.common import (
    FURTHER,
    add_model,
    add_output,
    add_pictures,
    cache_of,
    embed,
    load_model,
    positive,
    write_outputs,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pcclip.tools.gallery import Gallery
    from pcclip.tools.model import InferenceModel
    from pcclip.tools.search import Index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_pictures(parser)
    add_model(parser)
    parser.add_argument("--image", required=True, metavar="FILE", help="the picture to start from")
    parser.add_argument("--text", required=True, help="how the wanted picture, the first, differs from it")
    parser.add_argument("--reverse", metavar="TEXT", help="the opposite text, which is subtracted")
    parser.add_argument(
        "--lambda",
        dest="lambdas",
        type=float,
        nargs="+",
        default=[0.0, 0.5, 1.0],
        metavar="X",
        help="(default: 0 0.5 1)",
    )
    parser.add_argument("--count", type=positive, default=8, metavar="N", help="pictures for each lambda")
    parser.add_argument("--engine", choices=("exact", "faiss"), default="exact", help="faiss is in the extra `search`")
    add_output(parser, "found.csv", "CSV; the sheet is next to it as .png")


def run(options: argparse.Namespace) -> None:
    """Embed, search, and write what was found."""
    from pcclip.data.labelled import ImageFile
    from pcclip.tools.output import new_file
    from pcclip.tools.pictures import find_pictures

    output = new_file(options.output, ".csv", options.overwrite, FURTHER)
    if len(set(options.lambdas)) < len(options.lambdas):
        raise ValueError("--lambda: the same number twice")
    existing_file(options.image, "picture of --image")
    pictures = find_pictures(options.pictures)
    model = load_model(options)
    start = model.embed_pictures([ImageFile(options.image, options.image)])
    shift = model.shift(_axis(model, options))
    gallery = embed(model, pictures, options)
    _write(options, output, gallery, _index(model, gallery, options), start, shift.cpu())


def _axis(model: InferenceModel, options: argparse.Namespace) -> Tensor:
    from pcclip.tools.attributes import wordings

    if options.reverse is None:
        return model.embed_texts([options.text])[0]
    return model.axis(wordings(options.text, options.reverse))


def _index(model: InferenceModel, gallery: Gallery, options: argparse.Namespace) -> Index:
    from pcclip.data.embedding_store import EmbeddingStore
    from pcclip.data.labelled import ImageFile
    from pcclip.tools.output import need
    from pcclip.tools.search import ExactIndex, FaissIndex

    if options.engine == "exact":
        return ExactIndex(gallery)
    need("faiss", "search")
    cache = cache_of(options)
    if cache is None:
        return FaissIndex(gallery)
    files = [picture for picture in gallery.pictures if isinstance(picture, ImageFile)]
    digest = EmbeddingStore(cache, model.clip.image_fingerprint, model.clip.embed_dim).digest(files)
    return FaissIndex(gallery, cache / f"{digest}.faiss")


def _write(
    options: argparse.Namespace, output: Path, gallery: Gallery, index: Index, start: Gallery, shift: Tensor
) -> None:
    from pcclip.reports.contact_sheet import TILE, contact_sheet
    from pcclip.tools.search import search

    key = start.pictures[0].key
    found = {
        factor: search(gallery, index, start.embeddings[0], shift, factor=factor, count=options.count, exclude=[key])
        for factor in options.lambdas
    }

    def write_table(stream: IO[str]) -> None:
        writer = csv.writer(stream)
        writer.writerow(("lambda", "rank", "path", "cosine"))
        for factor, rows in found.items():
            for rank, row in enumerate(rows, start=1):
                writer.writerow((f"{factor:g}", rank, row.path, f"{row.cosine:.6f}"))

    tiles: list[tuple[int | None, str]] = []
    for factor, rows in found.items():
        tiles.append((None, f"lambda {factor:g}"))
        tiles += [(row.index, f"{row.cosine:.3f}") for row in rows]
        tiles += [(-1, "")] * (options.count - len(rows))
    query = start.pick(0, TILE)
    pictures = [query if place is None else None if place < 0 else gallery.pick(place, TILE) for place, _ in tiles]
    title = f"the picture on the left, and lambda x: {options.text}"
    sheet = contact_sheet(pictures, [label for _, label in tiles], title, columns=options.count + 1)
    drawn = write_outputs(output, write_table, sheet, gallery)
    for factor, rows in found.items():
        print(f"lambda {factor:g}: " + ", ".join(Path(row.path).name for row in rows[:4]))
    print(f"written to {output} and {drawn}")
