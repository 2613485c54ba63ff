"""How well differences of images follow graded attributes, such as size: pairwise accuracies and rank correlations.

For every ordered pair of images that differ in the attribute, the difference is compared with texts that are true or
false of it: "the first is larger than the second" and its reverse. The metrics:

- `sign_accuracy`: cos(difference, true text) > 0, the paper's difference classification (arXiv 2409.09721, section 4.1);
- `forced_choice`: the true text is closer than its reverse;
- `role_test`: the true text is closer than itself with the words "first" and "second" exchanged;
- `swapped_choice`: forced choice between the exchanged texts. A model that reads the order of mention rather than the
  words fails the role test; one that merely falls silent on texts that mention the second image first fails here;
- `spearman`, `kendall`: rank correlation of the attribute with the images' scores on the axis from reverse to text.

Ties count one half. Each is the mean over the wordings of the attribute; `_lowest` and `_highest` tell the spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional import spearman_corrcoef

from pcclip.evaluation.bootstrap import (
    RESAMPLES,
    SEED,
    interval,
    quadratic_form,
    resample_weights,
    weighted_kendall,
    weighted_spearman,
)
from pcclip.evaluation.embed import embed_texts
from pcclip.evaluation.pairs import embed_pair_texts, judge
from pcclip.evaluation.protocol import Encoder, Result, Wording

TASK = "attribute_ranking"
_CHUNK_FLOATS = 4_000_000  # of difference vectors at a time: 16 MB in float32


def attribute_ranking(
    encoder: Encoder,
    images: Tensor,
    values: Mapping[str, Tensor],
    texts: Mapping[str, Sequence[Wording]],
    *,
    subset: str = "",
    min_gap: float | Mapping[str, float] = 0.0,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Measure every attribute of `values` with its wordings.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        values: Attribute to the images' values, (N,); NaN where unknown.
        texts: Attribute to its wordings; `text` is true when the first image has more of it.
        subset: Name of the image set; results are named `<subset>/<attribute>`.
        min_gap: Only pairs whose values differ by more than this are judged; one number, or one per attribute.
        resamples: Bootstrap resamples of images; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        `n` is the number of unordered pairs for the pair metrics, and of images for the rank correlations.

    Raises:
        ValueError: An attribute has no wordings, fewer than two known values, one value only, or no pair beyond
            `min_gap`; or its values do not match the images in number.
    """
    results = []
    for attribute, numbers in values.items():
        if not texts.get(attribute):
            raise ValueError(f'attribute "{attribute}" has no texts; texts are given for {sorted(texts)}')
        gap = min_gap.get(attribute, 0.0) if isinstance(min_gap, Mapping) else min_gap
        known, order = _known_and_order(attribute, numbers.to(images.device), len(images), gap)
        judged = _Judged(
            name=f"{subset}/{attribute}" if subset else attribute,
            images=images[known],
            values=numbers.to(images.device)[known].float(),
            order=order,
            weights=resample_weights(int(known.sum()), resamples, seed).to(images.device),
        )
        results += _pair_results(encoder, judged, texts[attribute])
        results += _rank_results(encoder, judged, texts[attribute])
    return results


def attribute_scores(encoder: Encoder, images: Tensor, wordings: Sequence[Wording]) -> Tensor:
    """Score of each image on each wording's axis: `project(image - mean image) . (text - reverse)`, (W, N)."""
    more = embed_texts(encoder, [wording.text for wording in wordings])
    less = embed_texts(encoder, [wording.reverse for wording in wordings])
    with torch.no_grad():
        projected = encoder.project(images - images.mean(0))
    return (more - less) @ projected.T


@dataclass
class _Judged:
    """One attribute's images: only those whose value is known.

    `order` is (n, n): 1 where the first (row) has more than the second (column), -1 where less, 0 where not judged.
    """

    name: str
    images: Tensor
    values: Tensor
    order: Tensor
    weights: Tensor

    def result(self, metric: str, value: float, n: int, statistics: Tensor) -> Result:
        low, high = interval(statistics)
        return Result(TASK, self.name, metric, value, n, low, high)


def _known_and_order(attribute: str, values: Tensor, count: int, gap: float) -> tuple[Tensor, Tensor]:
    if values.shape != (count,):
        raise ValueError(f'attribute "{attribute}": values of shape {tuple(values.shape)} for {count} images')
    known = ~values.isnan()
    if int(known.sum()) < 2:
        raise ValueError(f'attribute "{attribute}": only {int(known.sum())} of {count} values known; give at least 2')
    numbers = values[known].double()  # before float32 rounds two close values to one
    if bool((numbers == numbers[0]).all()):
        raise ValueError(f'attribute "{attribute}": every image has the value {float(numbers[0])}, nothing to rank')
    difference = numbers[:, None] - numbers[None, :]
    order = difference.sign() * (difference.abs() > gap)
    if not bool(order.any()):
        raise ValueError(f'attribute "{attribute}": no pair differs by more than min_gap {gap}; lower it')
    return known, order.float()


def _pair_results(encoder: Encoder, judged: _Judged, wordings: Sequence[Wording]) -> list[Result]:
    more = (judged.order > 0).float()
    first, second = more.nonzero().T
    pairs = quadratic_form(judged.weights, more)

    def result(metric: str, verdicts: Tensor) -> Result:
        matrix = more.new_zeros(more.shape)
        matrix[first, second] = verdicts
        statistics = quadratic_form(judged.weights, matrix) / pairs
        return judged.result(metric, float(verdicts.double().mean()), len(first), statistics)

    results = []
    for metric, by_wording in _verdicts(encoder, judged.images, first, second, wordings).items():
        results.append(result(metric, by_wording.mean(0)))
        if metric == "forced_choice" and len(by_wording) > 1:
            totals = by_wording.double().mean(1)
            results.append(result(f"{metric}_lowest", by_wording[totals.argmin()]))
            results.append(result(f"{metric}_highest", by_wording[totals.argmax()]))
    return results


def _verdicts(
    encoder: Encoder, images: Tensor, first: Tensor, second: Tensor, wordings: Sequence[Wording]
) -> dict[str, Tensor]:
    """Verdict of each metric on each pair, where first has more than second: (W, P), or (1, P) their mean over wordings."""
    texts = embed_pair_texts(encoder, [w.text for w in wordings], [w.reverse for w in wordings])
    parts: dict[str, list[Tensor]] = {}
    size = max(1, _CHUNK_FLOATS // images.shape[1])
    for ones, others in zip(torch.split(first, size), torch.split(second, size), strict=True):
        with torch.no_grad():
            forward = encoder.difference(images[ones], images[others])
            backward = encoder.difference(images[others], images[ones])
        verdicts = judge(texts.embedded @ forward.T, texts.embedded @ backward.T, texts.with_roles)
        for metric, verdict in verdicts.items():
            # the wordings themselves are wanted of one metric only
            parts.setdefault(metric, []).append(verdict if metric == "forced_choice" else verdict.mean(0, keepdim=True))
    return {metric: torch.cat(chunks, 1) for metric, chunks in parts.items()}


def _rank_results(encoder: Encoder, judged: _Judged, wordings: Sequence[Wording]) -> list[Result]:
    scores = attribute_scores(encoder, judged.images, wordings)
    # on the CPU in float64, which not every accelerator has; torchmetrics adds an epsilon that matters in float32
    target = judged.values.double().cpu()
    spearman = torch.stack([spearman_corrcoef(row, target) for row in scores.double().cpu()])
    # torchmetrics' Kendall loops over images in Python, fifty times slower
    kendall = torch.stack(
        [weighted_kendall(judged.weights.new_ones(1, len(row)), row, judged.values) for row in scores]
    )
    n = len(target)

    spearman_resampled = torch.stack([weighted_spearman(judged.weights, row, judged.values) for row in scores])
    kendall_resampled = torch.stack([weighted_kendall(judged.weights, row, judged.values) for row in scores])
    results = [judged.result("spearman", float(spearman.mean()), n, spearman_resampled.mean(0))]
    if len(wordings) > 1:
        lowest, highest = int(spearman.argmin()), int(spearman.argmax())
        results.append(judged.result("spearman_lowest", float(spearman[lowest]), n, spearman_resampled[lowest]))
        results.append(judged.result("spearman_highest", float(spearman[highest]), n, spearman_resampled[highest]))
    results.append(judged.result("kendall", float(kendall.mean()), n, kendall_resampled.mean(0)))
    return results
