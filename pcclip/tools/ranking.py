"""Pictures in the order of their scores on an axis."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pcclip.tools.gallery import Gallery

COLUMNS = ("path", "score", "rank", "percentile")


@dataclass(frozen=True)
class Ranked:
    """A picture's place."""

    path: str
    """The picture."""
    score: float
    """Its place on the axis; 0 is the mean picture."""
    rank: int
    """1 for the picture with most."""
    percentile: float
    """Share of the other pictures that have less, in percent."""


def in_order(gallery: Gallery, scores: Tensor) -> Iterator[Ranked]:
    """Yield the pictures, most first; equal scores in the order of the gallery, and with the same percentile."""
    ascending = scores.sort().values
    others = max(1, len(scores) - 1)
    for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), start=1):
        less = int(torch.searchsorted(ascending, scores[index]))
        yield Ranked(gallery.pictures[index].key, float(scores[index]), rank, 100 * less / others)


def table(gallery: Gallery, scores: Tensor) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a ranking's CSV, with `COLUMNS`."""
    return ((row.path, f"{row.score:.6f}", row.rank, f"{row.percentile:.2f}") for row in in_order(gallery, scores))
