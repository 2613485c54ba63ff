"""Bootstrap 95 % intervals, vectorised over resamples.

Every statistic is a function of weights: how often each of n images was drawn in a resample. A mean is then a matrix
product, an accuracy over pairs of images a quadratic form. Pairs that share an image are not independent, so images are
drawn, not pairs. For rank correlations see `pcclip.metrics.rank_correlation`. Weights of one give the point estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import torch
from torch import Tensor

from pcclip.metrics.protocol import Metric

_CHUNK_FLOATS = 20_000_000  # weights of tuples held at a time: 80 MB


@dataclass(frozen=True)
class Bootstrap:
    """How many resamples to draw, and from which seed. Without resamples, intervals are NaN."""

    resamples: int = 1000
    seed: int = 0

    def draw(self, n: int, device: torch.device | str = "cpu") -> Resamples:
        """Draw n images with replacement, `resamples` times.

        The same (n, resamples, seed) gives the same draws, so that two models are compared on the same resamples.

        Raises:
            ValueError: No image to draw from, or a negative number of resamples.
        """
        if n < 1 or self.resamples < 0:
            raise ValueError(f"cannot draw {self.resamples} resamples of {n} images; both must be positive")
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randint(n, (self.resamples, n), generator=generator)
        weights = torch.zeros(self.resamples, n).scatter_add_(1, draws, torch.ones(self.resamples, n))
        return Resamples(weights.to(device))


@dataclass(frozen=True)
class Resamples:
    """Draws of n images, and the metrics that share them."""

    weights: Tensor
    """How often each image is in each resample, (R, n) float32, rows summing to n."""

    def mean(
        self,
        name: str,
        values: Tensor,
        owners: Tensor | None = None,
        importance: Tensor | None = None,
        *,
        part: str = "",
        factor: float | None = None,
    ) -> Metric:
        """Return the mean of values (P,), by default one value for each of the n images.

        Args:
            name: Name of the metric.
            values: The values, (P,).
            owners: The image that each value belongs to, (P,), if not each image has one value.
            importance: Weight of each value in the mean, (P,).
            part: See `Metric`.
            factor: See `Metric`.
        """
        ones = torch.ones_like(values) if importance is None else importance
        sums, counts = values * ones, ones
        if owners is not None:
            nothing = values.new_zeros(self.weights.shape[1])
            sums, counts = (nothing.index_add(0, owners, each) for each in (sums, counts))
        statistics = (self.weights @ sums) / (self.weights @ counts)  # 0 / 0 is NaN, which `interval` leaves out
        mean = (values * ones).double().sum() / ones.double().sum()
        return measured(name, float(mean), len(values), statistics, part=part, factor=factor)

    def tuple_mean(
        self, name: str, items: Tensor, values: Tensor, *, part: str = "", factor: float | None = None
    ) -> Metric:
        """Return the mean of values (P,) of P tuples of k distinct images, whose indices are `items` (k, P)."""
        statistics = tuple_means(self.weights, items, values)
        return measured(name, float(values.double().mean()), len(values), statistics, part=part, factor=factor)


def measured(
    name: str, value: float, n: int, statistics: Tensor, *, part: str = "", factor: float | None = None
) -> Metric:
    """Return a metric with the interval of its resampled statistics (R,). An undefined value (NaN) has no interval."""
    low, high = (nan, nan) if isnan(value) else interval(statistics)
    return Metric(name, value, n, low, high, part, factor)


def interval(statistics: Tensor) -> tuple[float, float]:
    """Return the middle 95 % of the statistics of the resamples (R,). Undefined ones (NaN) are excluded.

    Both ends are NaN if nothing is left, as with zero resamples.
    """
    defined = statistics[~statistics.isnan()].double()
    if len(defined) == 0:
        return nan, nan
    low, high = torch.quantile(defined, torch.tensor([0.025, 0.975], dtype=torch.float64, device=defined.device))
    return float(low), float(high)


def quadratic_form(weights: Tensor, matrix: Tensor) -> Tensor:
    """Return `sum_ij w_ri m_ij w_rj` for each resample r: (R,). The mean over pairs of images is a quotient of two."""
    return ((weights @ matrix) * weights).sum(1)


def tuple_means(weights: Tensor, items: Tensor, values: Tensor) -> Tensor:
    """Return the mean over P tuples of distinct images in each resample: (R,).

    Args:
        weights: Draws of each image, (R, n).
        items: Indices of each tuple's images, (k, P).
        values: Value of each tuple, (P,).
    """
    parts = []
    for chunk in torch.split(weights, max(1, _CHUNK_FLOATS // max(1, len(values)))):
        tuple_weights = chunk[:, items[0]]
        for others in items[1:]:
            tuple_weights = tuple_weights * chunk[:, others]
        parts.append((tuple_weights @ values) / tuple_weights.sum(1))
    return torch.cat(parts)
