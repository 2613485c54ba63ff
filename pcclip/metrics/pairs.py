"""Verdicts on pairs of images and their texts, shared by attribute ranking and difference texts.

A pair has a text that is true of it (first against second) and a reverse that is true of the reversed pair. Exchanging
"first" and "second" in a text makes it true of the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Encoder
from pcclip.roles import has_roles, swap_roles


@dataclass
class PairTexts:
    """T texts and their reverses, and both again with exchanged roles for the T' of T that have roles to exchange."""

    embedded: Tensor
    """Embeddings of texts, reverses, exchanged texts and exchanged reverses, in this order: (2T + 2T', D)."""
    with_roles: list[int]
    """The T' rows of T whose text and reverse both contain "first" or "second"."""
    row: list[int]
    """The row of T that each of `embedded` belongs to."""


def embed_pair_texts(encoder: Encoder, texts: Sequence[str], reverses: Sequence[str]) -> PairTexts:
    """Embed T texts and their T reverses.

    Raises:
        ValueError: As `embed_texts`.
    """
    both = zip(texts, reverses, strict=True)
    with_roles = [row for row, (text, reverse) in enumerate(both) if has_roles(text) and has_roles(reverse)]
    swapped = [swap_roles(part[row]) for part in (texts, reverses) for row in with_roles]
    every = list(range(len(texts)))
    embedded = embed_texts(encoder, [*texts, *reverses, *swapped])
    return PairTexts(embedded, with_roles, every + every + with_roles + with_roles)


def judge(forward: Tensor, backward: Tensor, with_roles: list[int]) -> dict[str, Tensor]:
    """Return the verdict of each metric, the mean over both ordered forms of a pair: 1 right, 0 wrong, ties one half.

    Args:
        forward: Cosines of `PairTexts.embedded` with the differences first - second, (2T + 2T', ...).
        backward: The same with the differences second - first.
        with_roles: `PairTexts.with_roles`.

    Returns:
        `sign_accuracy` and `forced_choice` (T, ...); `role_test` and `swapped_choice` (T', ...), left out if T' is 0.

    Raises:
        ValueError: A cosine is not finite.
    """
    check_finite(torch.stack([forward, backward]).view(-1), "cosines of texts and image differences")
    swaps = len(with_roles)
    sizes = [len(forward) // 2 - swaps] * 2 + [swaps] * 2
    text, reverse, swapped_text, swapped_reverse = torch.split(forward, sizes)
    back_text, back_reverse, back_swapped_text, back_swapped_reverse = torch.split(backward, sizes)
    zero = forward.new_zeros(())
    verdicts = {
        "sign_accuracy": _mean(_wins(text, zero), _wins(back_reverse, zero)),
        "forced_choice": _mean(_wins(text, reverse), _wins(back_reverse, back_text)),
    }
    if swaps:
        verdicts["role_test"] = _mean(
            _wins(text[with_roles], swapped_text), _wins(back_reverse[with_roles], back_swapped_reverse)
        )
        verdicts["swapped_choice"] = _mean(
            _wins(swapped_reverse, swapped_text), _wins(back_swapped_text, back_swapped_reverse)
        )
    return verdicts


def _wins(right: Tensor, wrong: Tensor) -> Tensor:
    """Return 2 where `right` is larger, 0 where `wrong` is, 1 where they tie, as small integers to save memory."""
    return (right > wrong).to(torch.int8) + (right >= wrong).to(torch.int8)


def _mean(forward: Tensor, backward: Tensor) -> Tensor:
    return (forward + backward).float() / 4
