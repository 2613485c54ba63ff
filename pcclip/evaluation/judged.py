"""One attribute's images, the pairs of them that are judged, and the resamples that all of its metrics share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pcclip.evaluation.bootstrap import interval, quadratic_form, resample_weights
from pcclip.evaluation.protocol import Result

TASK = "attribute_ranking"


@dataclass
class JudgedAttribute:
    """The n images whose value is known.

    Attributes:
        name: `<subset>/<attribute>`.
        images: Unit embeddings, (n, D).
        values: Their values, (n,).
        more: (n, n): 1 where the first (row) has more than the second (column) and the pair is judged, else 0.
        weights: How often each image is in each bootstrap resample, (R, n).
    """

    name: str
    images: Tensor
    values: Tensor
    more: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, subset: str, attribute: str, images: Tensor, numbers: Tensor, gap: float, resamples: int, seed: int
    ) -> JudgedAttribute:
        """Leave out images of unknown value (NaN), and pairs whose values differ by no more than `gap`.

        Raises:
            ValueError: Values that do not match the images in number, fewer than two known, one value only, or no
                pair beyond the gap.
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
        more = values[:, None] - values[None, :] > gap
        if not bool(more.any()):
            raise ValueError(f'attribute "{attribute}": no pair differs by more than min_gap {gap}; lower it')
        return cls(
            name=f"{subset}/{attribute}" if subset else attribute,
            images=images[known],
            values=values.float(),
            more=more.float(),
            weights=resample_weights(len(values), resamples, seed).to(images.device),
        )

    def result(self, metric: str, value: float, n: int, statistics: Tensor) -> Result:
        """A row with the interval of the resamples' statistics (R,)."""
        low, high = interval(statistics)
        return Result(TASK, self.name, metric, value, n, low, high)

    def pair_mean(self, verdicts: Tensor, weights: Tensor) -> Tensor:
        """Mean verdict over the judged pairs in each resample, (R,).

        Args:
            verdicts: (n, n), read where `more` is 1.
            weights: (R, n).
        """
        return quadratic_form(weights, verdicts * self.more) / quadratic_form(weights, self.more)
