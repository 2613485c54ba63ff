"""`pcclip rank`: order pictures by their scores on an axis."""

from collections.abc import Iterator

from torch import Tensor

from pcclip.commands.options import Rank
from pcclip.tools.attributes import Attribute, axes_of
from pcclip.tools.gallery import Gallery, in_order
from pcclip.tools.picture_command import draw_sheet, embed, prepare, write_outputs
from pcclip.tools.picture_sources import find_pictures

COLUMNS = ("path", "score", "rank", "percentile")


def run(options: Rank) -> None:
    """Rank, and write the table and the contact sheet."""
    axis = axis_of(options)
    examples = [find_pictures(files) for files in (options.high, options.low) if files]
    output, pictures, model = prepare(options)
    ends = [model.embed_readable(files, cache=options.cache) for files in examples]
    direction = model.axis(axis.wordings, *ends, blend=options.blend)
    gallery = embed(options, model, pictures)
    scores = model.scores(gallery, direction)
    title = f"{axis.name}: {axis.more} first, {axis.less} last"
    order = scores.argsort(descending=True, stable=True)
    sheet = draw_sheet(gallery, order, [f"{value:+.3f}" for value in scores.tolist()], title, options.sheet)
    drawn = write_outputs(output, COLUMNS, table(gallery, scores), sheet, gallery)
    print(f"{'rank':>6}  {'score':>8}  path")
    for row in in_order(gallery, scores):
        if row.rank <= 3 or row.rank > len(scores) - 3:
            print(f"{row.rank:>6}  {row.score:>+8.4f}  {row.path}")
        elif row.rank == 4:
            print("   ...")
    print(f"{len(scores)} pictures ranked: {output} and {drawn}")


def axis_of(options: Rank) -> Attribute:
    """Return the axis in words. It has no wordings if there are only examples.

    Raises:
        ValueError: Examples of one end only, several attributes, or as `axes_of` raises it.
    """
    if bool(options.high) != bool(options.low):
        raise ValueError("give --high and --low, pictures with much and with little of it")
    if options.high and not (options.more or options.less or options.attribute):
        return Attribute("examples", "like --high", "like --low", [])
    axis, *others = axes_of(options)
    if others:
        raise ValueError(f"--attribute {options.attribute}: give one attribute to rank by")
    return axis


def table(gallery: Gallery, scores: Tensor) -> Iterator[tuple[object, ...]]:
    """Yield the rows of the CSV, with `COLUMNS`, for scores (N,)."""
    return ((row.path, f"{row.score:.6f}", row.rank, f"{row.percentile:.2f}") for row in in_order(gallery, scores))
