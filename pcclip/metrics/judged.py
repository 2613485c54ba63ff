"""One attribute's images, the pairs of them that are judged, and the resamples that all of its metrics share."""

from __future__ import annotations

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
    """Their values, (n,) float64."""
    groups: Tensor
    """Group of each, (n,). The ceiling's folds keep groups whole."""
    weights: Tensor
    """How often each image is in each bootstrap resample, (R, n)."""
    paired: Tensor
    """Indices of the images that form pairs, (m,)."""
    more: Tensor
    """(m, m): 1 where the first (row) has more than the second (column) and the pair is judged, else 0."""
    pair_weights: Tensor
    """The weights of those m images, (R, m)."""

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
        """Exclude images of unknown value (NaN), and pairs that differ by no more than `gap`.

        Raises:
            ValueError: No two different values are known, no pair is beyond the gap, or an image embedding is not finite.
        """
        numbers = numbers.to(images.device)
        known = ~numbers.isnan()
        values = numbers[known].double()  # before float32 rounds two close values to one
        if len(torch.unique(values)) < 2:
            raise ValueError(f'attribute "{attribute}": the {len(values)} images with a value do not differ in it')
        if not bool(values.max() - values.min() > gap):
            raise ValueError(f'attribute "{attribute}": no pair differs by more than min_gap {gap}; lower it')
        check_finite(images[known], f"{attribute}: image embeddings")
        weights = bootstrap.draw(len(values), images.device).weights
        paired = _draw(values, gap, pair_images, bootstrap.seed)
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

    def metric(self, name: str, value: float, n: int, statistics: Tensor) -> Metric:
        """Return a metric with the interval of the resampled statistics (R,)."""
        return measured(name, value, n, statistics, part=self.attribute)

    def pair_mean(self, verdicts: Tensor, weights: Tensor) -> Tensor:
        """Return the mean verdict over the judged pairs in each resample, (R,).

        Args:
            verdicts: (m, m), read where `more` is 1.
            weights: (R, m).
        """
        return quadratic_form(weights, verdicts * self.more) / quadratic_form(weights, self.more)


def _draw(values: Tensor, gap: float, number: int | None, seed: int) -> Tensor:
    """Return indices of `number` random images of the n, or of all, (m,), ascending."""
    if number is None or number >= len(values):
        return torch.arange(len(values), device=values.device)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).to(values.device)
    drawn = order[:number]
    if not bool(values[drawn].max() - values[drawn].min() > gap):
        # no drawn pair can be judged: replace two by the images of the lowest and highest value
        extremes = torch.stack([values.argmin(), values.argmax()])
        drawn = torch.cat([extremes, order[~torch.isin(order, extremes)]])[:number]
    return drawn.sort().values
