"""Axes of a ranking: from texts, from examples, and blends of both."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.protocol import Encoder, Wording, embed_texts


def text_axes(encoder: Encoder, wordings: Sequence[Wording]) -> Tensor:
    """Return the axis of each wording, `text - reverse`: (W, D).

    Raises:
        ValueError: A text embedding is not finite.
    """
    more = embed_texts(encoder, [wording.text for wording in wordings])
    less = embed_texts(encoder, [wording.reverse for wording in wordings])
    return more - less


def example_axis(encoder: Encoder, high: Tensor, low: Tensor) -> Tensor:
    """Return the unit axis (D,) from examples with little of an attribute to examples with much of it.

    The axis is the difference of their mean embeddings. Few extreme examples give an axis that ranks nearly as well as one
    fitted on labels (arXiv 2507.03683). It is zero if the means are equal.

    Args:
        encoder: The model.
        high: Unit image embeddings, (h, D).
        low: Unit image embeddings, (l, D).
    """
    with torch.no_grad():
        return encoder.difference(high.mean(0, keepdim=True), low.mean(0, keepdim=True))[0]


def text_weights(encoder: Encoder, texts: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Return the weight (W, 1) of each text axis in a blend with examples, from 0 to 1.

    It has two parts. The first is s, the squared length of the axis over 4. For one wording this is `(1 - cos) / 2`, from the
    cosine of a text with its reverse: a model that hardly distinguishes the two has not read them. The second is how well the
    axis orders the n pairs of a high and a low example. If r pairs are ordered correctly, the odds of the texts are
    `s / (1 - s) * ((r + 1/2) / (n - r + 1/2))^3`, and their weight is odds / (1 + odds).

    Args:
        encoder: The model.
        texts: Axes of texts, (W, D), differences of unit embeddings or means of such differences.
        high: Unit image embeddings, (h, D).
        low: Unit image embeddings, (l, D).
    """
    with torch.no_grad():
        differences = encoder.project((high[:, None] - low).flatten(0, 1))
    correct = ((differences @ texts.T).sign() / 2 + 0.5).sum(0)  # a tie counts one half
    evidence = ((correct + 0.5) / (len(differences) - correct + 0.5)) ** 3
    distinct = (texts**2).sum(1) / 4
    return (distinct * evidence / (distinct * evidence + 1 - distinct))[:, None]


def blended_axis(text: Tensor, examples: Tensor, blend: float | Tensor) -> Tensor:
    """Return `blend * text + (1 - blend) * examples`, each scaled to unit length first.

    Args:
        text: Axes of texts, (..., D).
        examples: Axes of examples, (..., D).
        blend: Weight of the texts, from 0 to 1: a number, or (..., 1).
    """
    return blend * normalize(text, dim=-1) + (1 - blend) * normalize(examples, dim=-1)
