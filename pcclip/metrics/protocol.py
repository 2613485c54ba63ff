"""What evaluation needs of a model, and what it returns: nothing here knows of files, Lightning or open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
class Result:
    """One number: a row of `results.json`, less the model's name.

    Attributes:
        task: The evaluation's name, e.g. `attribute_ranking` or `zero_shot`.
        subset: What within the task, e.g. `demo/size`.
        metric: e.g. `forced_choice`.
        value: The number, in its natural unit (accuracies and correlations as fractions).
        n: Number of items judged (pairs, images or texts, as the metric says).
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
    """

    task: str
    subset: str
    metric: str
    value: float
    n: int
    low: float
    high: float
