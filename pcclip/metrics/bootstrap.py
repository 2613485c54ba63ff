"""Bootstrap 95 % intervals, vectorised over resamples.

Every statistic is a function of weights: how often each of n images was drawn in a resample. A mean is a matrix product, and
an accuracy over pairs of images is a quadratic form. Images are drawn, not pairs, because pairs that share an image are not
independent. For rank correlations see `pcclip.metrics.rank_correlation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from pcclip.metrics.protocol import Metric

_CHUNK_FLOATS = 20_000_000  # tuple weights in memory at a time: 80 MB


@dataclass(frozen=True)
class Bootstrap:
    """Number of resamples and their seed. With 0 resamples, intervals are NaN."""

    resamples: int = 1000
    seed: int = 0

    def draw(self, n: int, device: torch.device | str = "cpu") -> Resamples:
        """Draw n images with replacement, `resamples` times.

        Equal n, resamples and seed give equal draws, so that two models are compared on the same resamples.

        Raises:
            ValueError: There is no image.
        """
        if n < 1:
            raise ValueError("no item to measure; give at least one intact image, pair or text")
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randint(n, (self.resamples, n), generator=generator)
        weights = torch.zeros(self.resamples, n).scatter_add_(1, draws, torch.ones(self.resamples, n))
        return Resamples(weights.to(device))


@dataclass(frozen=True)
class Resamples:
    """Bootstrap draws of n images, with methods for metrics on these draws."""

    weights: Tensor
    """How often each image was drawn in each resample: (R, n) float32. Each row sums to n."""

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
            owners: Index of the image that each value belongs to, (P,). By default value i belongs to image i.
            importance: Weight of each value in the mean, (P,). Equal by default.
            part: See `Metric`.
            factor: See `Metric`.
        """
        ones = torch.ones_like(values) if importance is None else importance
        sums, counts = values * ones, ones
        if owners is not None:
            nothing = values.new_zeros(self.weights.shape[1])
            sums, counts = (nothing.index_add(0, owners, each) for each in (sums, counts))
        statistics = (self.weights @ sums) / (self.weights @ counts)  # 0 / 0 is NaN, which `measured` excludes
        mean = (values * ones).double().sum() / ones.double().sum()
        return measured(name, float(mean), len(values), statistics, part=part, factor=factor)

    def tuple_mean(self, name: str, items: Tensor, values: Tensor, *, part: str = "") -> Metric:
        """Return the mean of the values (P,) of P tuples of k distinct images. `items` (k, P) are the images' indices."""
        parts = []
        for chunk in torch.split(self.weights, max(1, _CHUNK_FLOATS // max(1, len(values)))):
            weights = torch.ones_like(chunk[:, items[0]])
            for own in items:
                weights *= chunk[:, own]
            parts.append((weights @ values) / weights.sum(1))
        return measured(name, float(values.double().mean()), len(values), torch.cat(parts), part=part)


def measured(
    name: str, value: float, n: int, statistics: Tensor, *, part: str = "", factor: float | None = None
) -> Metric:
    """Return a metric whose interval is the middle 95 % of the resampled statistics (R,).

    Undefined statistics (NaN) are excluded. Without any defined statistic, or for an undefined value, the interval is NaN.
    """
    defined = statistics[~statistics.isnan()].double()
    if isnan(value) or len(defined) == 0:
        return Metric(name, value, n, part=part, factor=factor)
    low, high = torch.quantile(defined, defined.new_tensor([0.025, 0.975])).tolist()
    return Metric(name, value, n, low, high, part, factor)


def quadratic_form(weights: Tensor, matrix: Tensor) -> Tensor:
    """Return `sum_ij w_ri m_ij w_rj` for each resample r: (R,).

    The mean over the pairs of drawn images is the quotient of two such forms.
    """
    return ((weights @ matrix) * weights).sum(1)
