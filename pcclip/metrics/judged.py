"""One attribute's images, the pairs of them that are judged, and the resamples that all of its metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap, measured, quadratic_form
from pcclip.metrics.protocol import Metric, check_finite


@dataclass
class JudgedAttribute:
    """The n images with a known value, and the m of them that form pairs: all, or a random subset."""

    attribute: str
    images: Tensor
    """Unit embeddings, (n, D)."""
    values: Tensor
    """Value of each image, (n,) float64."""
    groups: Tensor
    """Group of each image, (n,). The ceiling's folds keep groups whole."""
    weights: Tensor
    """How often each image was drawn in each bootstrap resample, (R, n)."""
    paired: Tensor
    """Indices of the images that form pairs, (m,)."""
    more: Tensor
    """(m, m): 1 where the first image (row) has more than the second (column) and the pair is judged, else 0."""
    pair_weights: Tensor
    """`weights` of the m images, (R, m)."""

    @classmethod
    def of(
        cls,
        attribute: str,
        images: Tensor,
        numbers: Tensor,
        groups: Tensor | None,
        gap: float,
        pair_images: int | None,
        bootstrap: Bootstrap,
    ) -> JudgedAttribute:
        """Exclude images with an unknown value (NaN), and pairs that differ by no more than `gap`.

        Raises:
            ValueError: No pair differs by more than the gap, or an image embedding is not finite.
        """
        numbers = numbers.to(images.device)
        known = ~numbers.isnan()
        values = numbers[known].double()  # before float32 rounds two close values to one
        if len(values) < 2 or not bool(values.max() - values.min() > gap):
            raise ValueError(
                f'attribute "{attribute}": no two of its {len(values)} images with a value differ by more than {gap:g}; '
                "lower min_gap, or exclude the attribute"
            )
        check_finite(images[known], f"{attribute}: image embeddings")
        weights = bootstrap.draw(len(values), images.device).weights
        paired = _choose_paired(values, gap, pair_images, bootstrap.seed)
        return cls(
            attribute=attribute,
            images=images[known],
            values=values,
            groups=(torch.arange(len(images)) if groups is None else groups).to(images.device)[known],
            weights=weights,
            paired=paired,
            more=(values[paired, None] - values[None, paired] > gap).float(),
            pair_weights=weights[:, paired],
        )

    @property
    def pairs(self) -> Tensor:
        """Indices into `paired` of the P judged pairs, (2, P). The first image has more than the second."""
        return self.more.nonzero().T

    def metric(self, name: str, value: float, n: int, statistics: Tensor, factor: float | None = None) -> Metric:
        """Return a metric of this attribute. Its interval is from the resampled statistics (R,)."""
        return measured(name, value, n, statistics, part=self.attribute, factor=factor)

    def correlations(
        self, correlation: Callable[[Tensor, Tensor, Tensor], Tensor], scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Correlate each row of scores (W, n) with the values. Return the correlations (W,), and by resample (W, R)."""
        once = self.weights.new_ones(1, scores.shape[1], dtype=torch.float64)
        whole = torch.cat([correlation(once, row, self.values) for row in scores])
        return whole, torch.stack([correlation(self.weights, row, self.values) for row in scores])

    def pair_metric(self, name: str, verdicts: Tensor) -> Metric:
        """Return the mean verdict (P,) over the judged pairs."""
        statistics = self.pair_mean(self.as_matrix(verdicts), self.pair_weights)
        return self.metric(name, float(verdicts.double().mean()), len(verdicts), statistics)

    def as_matrix(self, verdicts: Tensor) -> Tensor:
        """Return the verdicts (P,) on the judged pairs as a matrix (m, m) that is zero elsewhere."""
        return torch.zeros_like(self.more).masked_scatter(self.more.bool(), verdicts)

    def pair_mean(self, verdicts: Tensor, weights: Tensor) -> Tensor:
        """Return the mean of a matrix of verdicts over the judged pairs in each resample, (R,).

        Args:
            verdicts: See `as_matrix`, (m, m).
            weights: How often each of the m images was drawn, (R, m).
        """
        return quadratic_form(weights, verdicts) / quadratic_form(weights, self.more)


def _choose_paired(values: Tensor, gap: float, number: int | None, seed: int) -> Tensor:
    """Return ascending indices (m,) of `number` random images, or of all."""
    if number is None or number >= len(values):
        return torch.arange(len(values), device=values.device)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).to(values.device)
    drawn = order[:number]
    if not bool(values[drawn].max() - values[drawn].min() > gap):
        # no drawn pair can be judged: replace two by the images of the lowest and highest value
        extremes = torch.stack([values.argmin(), values.argmax()])
        drawn = torch.cat([extremes, order[~torch.isin(order, extremes)]])[:number]
    return drawn.sort().values
