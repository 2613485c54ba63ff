"""One attribute's images, the pairs of them that are judged, and the resamples that all of its metrics share."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import interval, quadratic_form, resample_weights
from pcclip.metrics.embed import check_finite
from pcclip.metrics.protocol import Result

TASK = "attribute_ranking"


@dataclass
class JudgedAttribute:
    """The n images whose value is known, and the m of them whose pairs are judged: all, or so many drawn.

    Attributes:
        name: `<subset>/<attribute>`.
        images: Unit embeddings, (n, D).
        values: Their values, (n,) float64.
        groups: Group of each, (n,), which the ceiling's folds keep whole.
        weights: How often each image is in each bootstrap resample, (R, n).
        paired: Which images have part in pairs, (m,).
        more: (m, m): 1 where the first (row) has more than the second (column) and the pair is judged, else 0.
        pair_weights: The weights of those m images, (R, m).
    """

    name: str
    images: Tensor
    values: Tensor
    groups: Tensor
    weights: Tensor
    paired: Tensor
    more: Tensor
    pair_weights: Tensor

    @classmethod
    def of(
        cls,
        subset: str,
        attribute: str,
        images: Tensor,
        numbers: Tensor,
        groups: Tensor | None,
        gap: float,
        pair_images: int | None,
        resamples: int,
        seed: int,
    ) -> JudgedAttribute:
        """Leave out images of unknown value (NaN), and pairs whose values differ by no more than `gap`.

        Raises:
            ValueError: Values that do not match the images in number, fewer than two known, one value only, no pair
                beyond the gap, or an image embedding that is not finite.
        """
        if numbers.shape != (len(images),):
            raise ValueError(
                f'attribute "{attribute}": values of shape {tuple(numbers.shape)} for {len(images)} images'
            )
        numbers = numbers.to(images.device)
        known = ~numbers.isnan()
        if int(known.sum()) < 2:
            raise ValueError(
                f'attribute "{attribute}": only {int(known.sum())} of {len(images)} values known; give at least 2'
            )
        values = numbers[known].double()  # before float32 rounds two close values to one
        if bool((values == values[0]).all()):
            raise ValueError(f'attribute "{attribute}": every image has the value {float(values[0])}, nothing to rank')
        if not bool(values.max() - values.min() > gap):
            raise ValueError(f'attribute "{attribute}": no pair differs by more than min_gap {gap}; lower it')
        name = f"{subset}/{attribute}" if subset else attribute
        check_finite(images[known], f"{TASK} {name}: image embeddings")
        weights = resample_weights(len(values), resamples, seed).to(images.device)
        paired = _draw(values, gap, pair_images, seed)
        return cls(
            name=name,
            images=images[known],
            values=values,
            groups=(torch.arange(len(images)) if groups is None else groups).to(images.device)[known],
            weights=weights,
            paired=paired,
            more=(values[paired, None] - values[None, paired] > gap).float(),
            pair_weights=weights[:, paired],
        )

    @property
    def where(self) -> str:
        """Task and set, for messages."""
        return f"{TASK} {self.name}"

    def result(self, metric: str, value: float, n: int, statistics: Tensor) -> Result:
        """A row with the interval of the resamples' statistics (R,); an undefined value (NaN) has no interval."""
        low, high = interval(statistics) if value == value else (nan, nan)
        return Result(TASK, self.name, metric, value, n, low, high)

    def pair_mean(self, verdicts: Tensor, weights: Tensor) -> Tensor:
        """Mean verdict over the judged pairs in each resample, (R,).

        Args:
            verdicts: (m, m), read where `more` is 1.
            weights: (R, m).
        """
        return quadratic_form(weights, verdicts * self.more) / quadratic_form(weights, self.more)


def _draw(values: Tensor, gap: float, number: int | None, seed: int) -> Tensor:
    """Indices of `number` of the n images by lot, or of all, (m,), ascending."""
    if number is None or number >= len(values):
        return torch.arange(len(values), device=values.device)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).to(values.device)
    drawn = order[:number]
    if not bool(values[drawn].max() - values[drawn].min() > gap):
        # the images of a rare value were all passed over: two that can be judged take the first places
        extremes = torch.stack([values.argmin(), values.argmax()])
        drawn = torch.cat([extremes, order[~torch.isin(order, extremes)]])[:number]
    return drawn.sort().values
