"""How well an axis from a few labelled examples ranks, alone and blended with texts."""

from collections.abc import Sequence
from math import nan

import torch
from torch import Tensor

from pcclip.metrics.axes import blended_axis, example_axis, text_axes, text_weights
from pcclip.metrics.ceiling import folds
from pcclip.metrics.judged import JudgedAttribute
from pcclip.metrics.protocol import Encoder, Metric, Wording, check_finite
from pcclip.metrics.rank_correlation import weighted_ranks, weighted_spearman

EXTREME = 0.1  # share of the images at either end that examples are drawn from


def example_results(
    encoder: Encoder, judged: JudgedAttribute, wordings: Sequence[Wording], counts: Sequence[int], draws: int, seed: int
) -> list[Metric]:
    """Return `example_spearman` and `blended_spearman` for each number of examples of either end, the `factor`.

    Folds are those of the ceiling: the axis that scores the images of a fold is from examples among the other images. So
    text axis, examples and ceiling are judged on the same images.

    Args:
        encoder: The model.
        judged: The attribute; see `pcclip.metrics.ceiling.has_ceiling`.
        wordings: The wordings to blend with.
        counts: Numbers of examples of either end.
        draws: Number of random draws of examples.
        seed: Seed of the folds and the draws.

    Returns:
        Means over draws, and for `blended_spearman` over wordings. They are undefined (NaN) if a fold leaves too few images
        above or below the mean rank to draw from.
    """
    with torch.no_grad():
        projected = encoder.project(judged.images - judged.images.mean(0))
    check_finite(projected, "projected images")
    texts = text_axes(encoder, wordings)
    metrics = []
    for count in counts:
        generator = torch.Generator().manual_seed(seed)
        alone = projected.new_full((draws, len(projected)), nan)
        blended = projected.new_full((draws, len(texts), len(projected)), nan)
        for train, test in folds(judged.groups, seed):
            for draw in range(draws):
                high, low = (train[end] for end in draw_extremes(judged.values[train].cpu(), count, generator))
                if min(len(high), len(low)) == count:
                    ends = judged.images[high], judged.images[low]
                    axis = example_axis(encoder, *ends)
                    alone[draw][test] = projected[test] @ axis
                    blend = text_weights(encoder, texts, *ends)
                    blended[draw][:, test] = blended_axis(texts, axis, blend) @ projected[test].T
        for name, scores in (("example_spearman", alone), ("blended_spearman", blended.flatten(0, 1))):
            values, resampled = judged.correlations(weighted_spearman, scores)
            metrics.append(
                judged.metric(name, float(values.mean()), len(projected), resampled.mean(0), factor=float(count))
            )
    return metrics


def draw_extremes(values: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` of the highest and `count` of the lowest tenth of values (n,), or fewer if there are not that many.

    Images above the mean rank can be high, images below it low. Equal values are in random order.

    Returns:
        The indices of the high and of the low images.
    """
    order = torch.randperm(len(values), generator=generator)
    order = order[values[order].argsort(stable=True)]
    ranks = weighted_ranks(torch.ones(1, len(values)), values)[0, order]
    middle = (1 + len(values)) / 2
    most = max(count, int(EXTREME * len(values)))
    ends = order[ranks > middle].flip(0)[:most], order[ranks < middle][:most]
    high, low = (end[torch.randperm(len(end), generator=generator)[:count]] for end in ends)
    return high, low
