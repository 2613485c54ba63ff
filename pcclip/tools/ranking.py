"""Ranking pictures on an axis given in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcclip.metrics.embed import check_finite
from pcclip.metrics.protocol import Wording
from pcclip.tools.gallery import Gallery


class Projector(Protocol):
    """What ranking needs of a model."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings (N, D)."""
        ...

    def project(self, differences: Tensor) -> Tensor:
        """The head: image differences (N, D) to the space of texts."""
        ...


@dataclass(frozen=True)
class Ranked:
    """A picture's place.

    Attributes:
        path: The picture.
        score: Its place on the axis; 0 is the mean picture.
        rank: 1 for the picture with most.
        percentile: Share of the other pictures that have less, in percent.
    """

    path: str
    score: float
    rank: int
    percentile: float


def axis_of(model: Projector, wordings: Sequence[Wording]) -> Tensor:
    """Axis (D,): the mean over wordings of the embeddings' `text - reverse`."""
    more = model.embed_texts([wording.text for wording in wordings])
    less = model.embed_texts([wording.reverse for wording in wordings])
    return (more - less).mean(0)


def score(model: Projector, gallery: Gallery, axis: Tensor, centre: Tensor | None = None) -> Tensor:
    """Scores (N,) `project(image - centre) . axis`, as `pcclip.metrics.attribute_ranking` has them.

    Args:
        model: Projects differences.
        gallery: The pictures.
        axis: (D,), from `axis_of`.
        centre: Embedding that scores 0, (D,); the gallery's mean by default.

    Raises:
        ValueError: A score is not finite.
    """
    middle = gallery.mean() if centre is None else centre
    parts = [model.project((chunk - middle).to(axis.device)) @ axis for chunk in gallery.chunks()]
    scores = torch.cat(parts).cpu()
    check_finite(scores, "scores of pictures")
    return scores


def in_order(gallery: Gallery, scores: Tensor) -> Iterator[Ranked]:
    """The pictures with most first; equal scores in the order of the gallery, and with the same percentile."""
    ascending = scores.sort().values
    others = max(1, len(scores) - 1)
    for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), start=1):
        value = float(scores[index])
        less = int(torch.searchsorted(ascending, scores[index]))
        yield Ranked(gallery.pictures[index].key, value, rank, 100 * less / others)


def ranked(gallery: Gallery, scores: Tensor) -> list[Ranked]:
    """`in_order` as a list."""
    return list(in_order(gallery, scores))
