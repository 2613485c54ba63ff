"""What metrics need of a model, and what they return: nothing here knows of files, Lightning or open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

from torch import Tensor


class Encoder(Protocol):
    """Anything that embeds images and texts into one space of width D.

    All embeddings are unit vectors in float32. A plain open_clip model, a finetuned one and a table of cached
    embeddings can all be an `Encoder`, so that one code measures them all.
    """

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) uint8, as `image_transform` makes them, to unit embeddings (N, D)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to unit embeddings (N, D)."""
        ...

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """Unit embeddings (P, D) and (P, D) to unit differences (P, D): `normalize(project(first - second))`."""
        ...

    def project(self, differences: Tensor) -> Tensor:
        """The head without normalisation, (N, D) to (N, D): odd, and homogeneous of degree one."""
        ...


@dataclass(frozen=True)
class Wording:
    """One way to ask for an attribute: `text` is true when the first image has more of it, `reverse` when less."""

    text: str
    reverse: str


@dataclass(frozen=True)
class Comparative:
    """A text that says how one class differs from another: `text` describes `first` against `second`."""

    first: str
    second: str
    text: str


@dataclass(frozen=True)
class Metric:
    """One measured number."""

    name: str
    """For example `forced_choice`."""
    value: float
    """In its natural unit: accuracies and correlations as fractions. NaN if undefined."""
    n: int
    """Number of items judged: pairs, images or texts, as the metric says."""
    low: float = nan
    """Lower end of the 95 % bootstrap interval."""
    high: float = nan
    """Upper end."""
    part: str = ""
    """What within the set was judged, for example an attribute or `confused`; empty for the whole set."""
    factor: float | None = None
    """The number that the metric was repeated for: lambda, alpha or shots."""
