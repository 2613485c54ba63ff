"""Rank correlations as functions of weights, in O(n log n) each, for bootstrap intervals over many images.

As in `pcclip.metrics.bootstrap`, a weight says how often an image was drawn. Copies of one image are tied with each other.
Weights are whole numbers. All counts are exact up to about 2 billion pairs of draws.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

_CHUNK_FLOATS = 2_000_000  # of weights at a time: a few of these fit the cache of a CPU


def weighted_spearman(weights: Tensor, scores: Tensor, values: Tensor) -> Tensor:
    """Return Spearman's rank correlation in each resample: (R,), in the dtype of the weights. Ties share their mean rank.

    The correlation is NaN in a resample in which scores or values are constant.

    Args:
        weights: Draws of each image, (R, n).
        scores: (n,).
        values: (n,).
    """

    def correlation(chunk: Tensor) -> Tensor:
        return _pearson(chunk, weighted_ranks(chunk, scores), weighted_ranks(chunk, values))

    return _in_chunks(correlation, weights, scores)


def weighted_ranks(weights: Tensor, x: Tensor) -> Tensor:
    """Return the ranks of x (n,) among the drawn images: (R, n). Ties share their mean rank.

    The rank of an image is the number of draws below it, plus half of the draws equal to it (itself included), plus a half.
    """
    levels = torch.unique(x, return_inverse=True)[1]
    draws = _draws_of(weights, levels)
    return (draws.cumsum(1) - draws / 2 + 0.5).index_select(1, levels)


def weighted_kendall(weights: Tensor, scores: Tensor, values: Tensor) -> Tensor:
    """Return Kendall's tau-b in each resample: (R,); NaN where scores or values are constant.

    Args:
        weights: Draws of each image, (R, n).
        scores: (n,).
        values: (n,).
    """
    score_levels, value_levels = (torch.unique(x, return_inverse=True)[1] for x in (scores, values))
    # one number for both: it orders by score, and by value where scores are tied
    both = score_levels * len(values) + value_levels
    order = both.argsort()
    both_levels = torch.unique(both, return_inverse=True)[1]

    def tau(chunk: Tensor) -> Tensor:
        pairs = chunk.sum(1).long() ** 2
        untied_scores, untied_values = pairs - _ties(chunk, score_levels), pairs - _ties(chunk, value_levels)
        untied = untied_scores + untied_values - (pairs - _ties(chunk, both_levels))
        # `untied` counts each unordered pair twice, but inversions count it once
        concordant_minus_discordant = untied - 4 * _inversions(chunk[:, order], value_levels[order])
        return concordant_minus_discordant / (untied_scores.float().sqrt() * untied_values.float().sqrt())

    return _in_chunks(tau, weights, scores)


def _inversions(weights: Tensor, levels: Tensor) -> Tensor:
    """Return the number of pairs of draws in which the earlier one has the higher level: (R,) int64.

    A radix count from the highest bit of the levels to the lowest. A pair is counted at the first bit in which its levels
    differ. Levels that agree in all higher bits are adjacent and keep their order, so a running sum counts the ones before
    each zero.

    Args:
        weights: Draws in the order of the images, (R, n).
        levels: Whole numbers from 0, (n,).
    """
    count = torch.zeros(len(weights), dtype=torch.int64, device=weights.device)
    for bit in reversed(range(int(levels.max()).bit_length())):
        # a stable sort by the higher bits
        order = (levels >> (bit + 1)).argsort(stable=True)
        weights, levels = weights[:, order], levels[order]
        ones = (levels >> bit & 1).bool()
        group = levels >> (bit + 1)
        before = (weights * ones).cumsum(1)
        starts = torch.searchsorted(group, group)  # where each image's group begins
        earlier_groups = pad(before, (1, 0))[:, starts]
        count += ((before - earlier_groups) * weights * ~ones).sum(1, dtype=torch.int64)
    return count


def _ties(weights: Tensor, levels: Tensor) -> Tensor:
    """Return the number of ordered pairs of draws of one level, including a draw with itself: (R,) int64."""
    return (_draws_of(weights, levels).long() ** 2).sum(1)


def _draws_of(weights: Tensor, levels: Tensor) -> Tensor:
    """Return how often images of each of L levels were drawn in each resample, (R, L)."""
    draws = weights.new_zeros(int(levels.max()) + 1, len(weights))
    return draws.index_add_(0, levels, weights.T).T.contiguous()


def _in_chunks(statistic: Callable[[Tensor], Tensor], weights: Tensor, scores: Tensor) -> Tensor:
    if bool(scores.isnan().any()):  # the model diverged; sorting would give NaN a rank
        return weights.new_full((len(weights),), torch.nan)
    return torch.cat([statistic(chunk) for chunk in torch.split(weights, max(1, _CHUNK_FLOATS // weights.shape[1]))])


def _pearson(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the correlation of two rows of ranks (R, n) in each resample: (R,)."""
    # the mean rank does not depend on ties; it is exact, so that constants have no spread
    mean = (weights.sum(1, keepdim=True) + 1) / 2
    x, y = x - mean, y - mean
    spread = (weights * x * x).sum(1).sqrt() * (weights * y * y).sum(1).sqrt()
    correlation = (weights * x * y).sum(1) / spread
    return torch.where(spread > 0, correlation, torch.nan)
