"""What metrics need from a model, and what they return. Nothing here depends on files, Lightning or open_clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

import torch
from torch import Tensor


class Encoder(Protocol):
    """A model that embeds texts and differences of image embeddings into one space of width D.

    All embeddings are unit vectors in float32. Plain and finetuned models and tables of cached embeddings are encoders.
    """

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings of N texts, (N, D)."""

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """Return unit differences of unit image embeddings, (P, D): `normalize(project(first - second))`."""

    def project(self, differences: Tensor) -> Tensor:
        """Apply the head without normalisation, (N, D) to (N, D). It is odd and homogeneous of degree one."""


@dataclass(frozen=True)
class Wording:
    """Two opposite texts on an attribute: `text` is true if the first image has more of it, `reverse` if it has less."""

    text: str
    reverse: str


@dataclass(frozen=True)
class Comparative:
    """A text that says how two classes differ: `text` describes `first` against `second`."""

    first: str
    second: str
    text: str


@dataclass(frozen=True)
class Metric:
    """One measured number."""

    name: str
    """For example `forced_choice`."""
    value: float
    """Accuracies are fractions from 0 to 1, correlations are from -1 to 1. NaN if undefined."""
    n: int
    """Number of judged items: pairs, images or texts, depending on the metric."""
    low: float = nan
    """Lower end of the 95 % bootstrap interval."""
    high: float = nan
    """Upper end."""
    part: str = ""
    """The judged part of the set, for example an attribute or `confused`. Empty for the whole set."""
    factor: float | None = None
    """The setting that the metric is repeated for: lambda, alpha, or the number of shots or examples."""


_BATCH = 256  # texts encoded at a time
MAX_NON_FINITE = 0.05  # tolerated share of damaged image embeddings; the default of `data.max_damaged`
REMEDY = "NaN or infinite; training diverged or the weights are damaged: use other weights or a lower learning rate"


def embed_texts(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Return unit embeddings (N, D) of N texts. Each distinct text is encoded once, in batches of similar length.

    Raises:
        ValueError: There is no text, a text is empty, or an embedding is not finite.
    """
    if not texts:
        raise ValueError("no texts to embed; give at least one")
    if empty := [index for index, text in enumerate(texts) if not text.strip()]:
        raise ValueError(f"texts {empty[:5]} of {len(texts)} are empty; write or remove them")
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    rows = {text: row for row, text in enumerate(distinct)}
    with torch.no_grad():
        parts = [encoder.encode_texts(distinct[at : at + _BATCH]) for at in range(0, len(distinct), _BATCH)]
    embedded = torch.cat(parts).float()
    check_finite(embedded, "text embeddings")
    return embedded[[rows[text] for text in texts]]


def check_finite(numbers: Tensor, what: str) -> None:
    """Raise if numbers are NaN or infinite. Comparisons with NaN are false, so a metric would count them as answers.

    Args:
        numbers: Embeddings (N, D), or other numbers of N items.
        what: Name of the numbers, for the message.

    Raises:
        ValueError: Numbers are not finite. The message names `what` and the count of such items.
    """
    finite = numbers.isfinite().reshape(len(numbers), -1).all(1)
    if bad := len(numbers) - int(finite.sum()):
        raise ValueError(f"{what}: {bad} of {len(numbers)} are not finite ({REMEDY})")


def check_damaged(bad: int, count: int) -> None:
    """Raise if more than one image, and more than the share `MAX_NON_FINITE`, has a non-finite embedding.

    Fewer can be single damaged images, which may be excluded.

    Args:
        bad: Number of images with a NaN or infinite embedding.
        count: Number of images.

    Raises:
        ValueError: There are too many. The message names both numbers.
    """
    if bad == count or bad > max(1, MAX_NON_FINITE * count):
        raise ValueError(f"image embeddings: {bad} of {count} are not finite ({REMEDY})")
