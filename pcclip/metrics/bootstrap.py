"""Bootstrap 95 % intervals, vectorised over resamples.

Every statistic here is written as a function of weights: how often each of n images was drawn in a resample. A mean is
then a matrix product, an accuracy over pairs of images a quadratic form (pairs that share an image are not independent,
so images are drawn, not pairs); for rank correlations see `pcclip.metrics.rank_correlation`. Weights of one give the point
estimate.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 1000
SEED = 0


def resample_weights(n: int, resamples: int = RESAMPLES, seed: int = SEED) -> Tensor:
    """How often each of n images is drawn in each resample: (R, n) float32, rows summing to n.

    The same (n, resamples, seed) always gives the same draws, so that two models are compared on the same resamples.

    Raises:
        ValueError: No image to draw from, or fewer than zero resamples.
    """
    if n < 1 or resamples < 0:
        raise ValueError(f"cannot draw {resamples} resamples of {n} images; both must be positive")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(n, (resamples, n), generator=generator)
    return torch.zeros(resamples, n).scatter_add_(1, draws, torch.ones(resamples, n))


def interval(statistics: Tensor) -> tuple[float, float]:
    """Middle 95 % of the statistics of the resamples (R,); undefined ones (NaN) are left out.

    Returns NaN for both ends if nothing is left, as with zero resamples.
    """
    defined = statistics[~statistics.isnan()].double()
    if len(defined) == 0:
        return float("nan"), float("nan")
    low, high = torch.quantile(defined, torch.tensor([0.025, 0.975], dtype=torch.float64, device=defined.device))
    return float(low), float(high)


def weighted_mean(weights: Tensor, values: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean of per-image values (n,) in each resample: (R,).

    Args:
        weights: Draws of each image, (R, n).
        values: One value an image, or the sum of its items' values when `counts` is given.
        counts: Number of items of each image (n,); an image without items has no say.
    """
    counts = torch.ones_like(values) if counts is None else counts
    return (weights @ values) / (weights @ counts)  # 0 / 0 is NaN, which `interval` leaves out


def quadratic_form(weights: Tensor, matrix: Tensor) -> Tensor:
    """`sum_ij w_ri m_ij w_rj` for each resample r: (R,). The mean over pairs of images is a quotient of two."""
    return ((weights @ matrix) * weights).sum(1)


def listed_pair_mean(weights: Tensor, first: Tensor, second: Tensor, values: Tensor) -> Tensor:
    """Mean over a list of P pairs of images in each resample: (R,).

    Args:
        weights: Draws of each image, (R, n).
        first: Index of each pair's first image, (P,).
        second: Index of each pair's second image, (P,).
        values: Value of each pair, (P,).
    """
    return listed_mean(weights, torch.stack([first, second]), values)


def listed_mean(weights: Tensor, items: Tensor, values: Tensor) -> Tensor:
    """Mean over a list of P tuples of distinct images in each resample: (R,).

    Args:
        weights: Draws of each image, (R, n).
        items: Indices of each tuple's images, (k, P).
        values: Value of each tuple, (P,).
    """
    parts = []
    # 80 MB of tuple weights at a time
    for chunk in torch.split(weights, max(1, 20_000_000 // max(1, len(values)))):
        tuple_weights = chunk[:, items[0]]
        for others in items[1:]:
            tuple_weights = tuple_weights * chunk[:, others]
        parts.append((tuple_weights @ values) / tuple_weights.sum(1))
    return torch.cat(parts)
