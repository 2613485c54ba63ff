"""How well differences of images follow graded attributes, such as size: pairwise accuracies and rank correlations.

For every ordered pair of images that differ in the attribute, the difference is compared with texts that are true or
false of it: "the first is larger than the second" and its reverse. The metrics:

- `sign_accuracy`: cos(difference, true text) > 0, the paper's difference classification (arXiv 2409.09721, section 4.1);
- `sign_accuracy_paper`: the same in the paper's protocol, the mean over a few draws of `images_per_draw` images;
- `forced_choice`: the true text is closer than its reverse;
- `role_test`: the true text is closer than itself with the words "first" and "second" exchanged;
- `swapped_choice`: forced choice between the exchanged texts. A model that reads the order of mention instead of the words
  fails the role test. A model whose text embeddings ignore texts that mention the second image first fails here;
- `spearman`, `kendall`: rank correlation of the attribute with the images' scores on the axis from reverse to text;
- `prompt_forced_choice`, `prompt_spearman`: the same with an axis from one ordinary prompt to another, the baseline that
  needs no difference texts; `spearman_over_prompts` is the gain over it;
- `ceiling_forced_choice`, `ceiling_spearman`, `share_of_ceiling`: what ridge regression on the same embeddings reaches.

Ties count one half. Each is the mean over the wordings of the attribute; `_lowest` and `_highest` are those of the worst and
best wording.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap, quadratic_form
from pcclip.metrics.ceiling import ceiling_results, enough_of_either
from pcclip.metrics.difference_texts import embed_pair_texts, judge
from pcclip.metrics.judged import JudgedAttribute
from pcclip.metrics.protocol import Encoder, Metric, Wording, check_finite, embed_texts
from pcclip.metrics.rank_correlation import weighted_kendall, weighted_spearman

_CHUNK_FLOATS = 4_000_000  # of difference vectors at a time: 16 MB in float32


def attribute_ranking(
    encoder: Encoder,
    images: Tensor,
    values: Mapping[str, Tensor],
    texts: Mapping[str, Sequence[Wording]],
    *,
    prompts: Mapping[str, Sequence[Wording]] | None = None,
    groups: Tensor | None = None,
    min_gap: float | Mapping[str, float] = 0.0,
    pair_images: int | None = None,
    images_per_draw: int | None = None,
    draws: int = 5,
    ceiling: bool = False,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure every attribute of `values` with its wordings.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        values: Attribute to the images' values, (N,); NaN where unknown.
        texts: Attribute to its wordings; `text` is true when the first image has more of it.
        prompts: Attribute to pairs of ordinary prompts, `text` of an image with more of it and `reverse` of one with
            less; attributes may be missing.
        groups: Class of each image, (N,), where images have the value of their class: the ceiling's folds keep classes
            whole. By default each image is a group of its own.
        min_gap: Only pairs whose values differ by more than this are judged; one number, or one per attribute.
        pair_images: Number of random images of each attribute whose pairs are judged, since memory grows with its square.
            If none of these pairs can be judged, two of the images are those of the lowest and the highest value. Rank
            correlations use all images.
        images_per_draw: Also measure `sign_accuracy_paper` on draws of this number of images.
        draws: The number of these draws.
        ceiling: Also fit the supervised ceiling, for attributes with two values only if five groups have each.
        bootstrap: Resampling of images, and seed of the draws and the ceiling's folds.

    Returns:
        The `part` of a metric is its attribute. `n` is the number of unordered pairs for the pair metrics (of all draws
        together for `sign_accuracy_paper`), and of images for the rank correlations.

    Raises:
        ValueError: An attribute has fewer than two different values, values of too few groups for the ceiling, or no pair
            beyond `min_gap`; or an embedding is not finite.
    """
    bootstrap = bootstrap or Bootstrap()
    results: list[Metric] = []
    for attribute, numbers in values.items():
        gap = min_gap.get(attribute, 0.0) if isinstance(min_gap, Mapping) else min_gap
        judged = JudgedAttribute.of(attribute, images, numbers, groups, gap, pair_images, bootstrap)
        drawn = None if images_per_draw is None else _draw(len(judged.paired), images_per_draw, draws, bootstrap.seed)
        results += _pair_results(encoder, judged, texts[attribute], drawn)
        spearman, resampled, rows = _rank_results(encoder, judged, texts[attribute])
        results += rows
        if prompts and prompts.get(attribute):
            results += _prompt_results(encoder, judged, prompts[attribute], spearman, resampled)
        if ceiling and enough_of_either(judged.values, judged.groups):
            results += ceiling_results(judged, spearman, resampled, bootstrap.seed)
    return results


def attribute_scores(encoder: Encoder, images: Tensor, wordings: Sequence[Wording]) -> Tensor:
    """Return the score of each image on each wording's axis: `project(image - mean image) . (text - reverse)`, (W, N).

    Raises:
        ValueError: A text embedding or a score is not finite.
    """
    more = embed_texts(encoder, [wording.text for wording in wordings])
    less = embed_texts(encoder, [wording.reverse for wording in wordings])
    with torch.no_grad():
        projected = encoder.project(images - images.mean(0))
    scores = (more - less) @ projected.T
    check_finite(scores.T, "scores of images")
    return scores


def _draw(count: int, images_per_draw: int, draws: int, seed: int) -> Tensor:
    """Return which images are in which draw: (draws, n) of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(draws, count)
    for row in drawn:
        row[torch.randperm(count, generator=generator)[:images_per_draw]] = 1
    return drawn


def _pair_results(
    encoder: Encoder, judged: JudgedAttribute, wordings: Sequence[Wording], drawn: Tensor | None
) -> list[Metric]:
    first, second = judged.more.nonzero().T
    results = []

    def add(metric: str, verdicts: Tensor) -> Tensor:
        matrix = torch.zeros_like(judged.more)
        matrix[first, second] = verdicts
        statistics = judged.pair_mean(matrix, judged.pair_weights)
        results.append(judged.metric(metric, float(verdicts.double().mean()), len(first), statistics))
        return matrix

    images = judged.images[judged.paired]
    for metric, by_wording in _verdicts(encoder, images, first, second, wordings).items():
        matrix = add(metric, by_wording.mean(0))
        if metric == "sign_accuracy" and drawn is not None:
            results += _paper_results(judged, matrix, drawn.to(matrix.device))
        if metric == "forced_choice" and len(by_wording) > 1:
            totals = by_wording.double().mean(1)
            add(f"{metric}_lowest", by_wording[totals.argmin()])
            add(f"{metric}_highest", by_wording[totals.argmax()])
    return results


def _paper_results(judged: JudgedAttribute, verdicts: Tensor, drawn: Tensor) -> list[Metric]:
    """Return the mean over the draws, and the lowest and highest. Draws without a judged pair are excluded."""
    counts = quadratic_form(drawn, judged.more)
    accuracies = judged.pair_mean(verdicts, drawn)
    n = int(counts.sum())
    # draws stay as they are while their images are resampled
    resampled = torch.stack([judged.pair_mean(verdicts, judged.pair_weights * draw) for draw in drawn])
    results = [judged.metric("sign_accuracy_paper", float(accuracies.nanmean()), n, resampled.nanmean(0))]
    for ending, extreme in (
        ("lowest", accuracies.nan_to_num(torch.inf).argmin()),
        ("highest", accuracies.nan_to_num(-torch.inf).argmax()),
    ):
        row = int(extreme)
        results.append(
            judged.metric(f"sign_accuracy_paper_{ending}", float(accuracies[row]), int(counts[row]), resampled[row])
        )
    return results


def _verdicts(
    encoder: Encoder, images: Tensor, first: Tensor, second: Tensor, wordings: Sequence[Wording]
) -> dict[str, Tensor]:
    """Return the verdict of each metric on each pair, where first has more than second.

    `forced_choice` is (W, P), by wording. The others are (1, P), the mean over wordings.
    """
    texts = embed_pair_texts(encoder, [w.text for w in wordings], [w.reverse for w in wordings])
    parts: dict[str, list[Tensor]] = {}
    size = max(1, _CHUNK_FLOATS // images.shape[1])
    for ones, others in zip(torch.split(first, size), torch.split(second, size), strict=True):
        with torch.no_grad():
            forward = encoder.difference(images[ones], images[others])
            backward = encoder.difference(images[others], images[ones])
        verdicts = judge(texts.embedded @ forward.T, texts.embedded @ backward.T, texts.with_roles)
        for metric, verdict in verdicts.items():
            # only one metric is reported by wording
            parts.setdefault(metric, []).append(verdict if metric == "forced_choice" else verdict.mean(0, keepdim=True))
    return {metric: torch.cat(chunks, 1) for metric, chunks in parts.items()}


def _spearman(judged: JudgedAttribute, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return Spearman's correlation of each row of scores (W, n): (W,), and in each resample (W, R)."""
    once = judged.weights.new_ones(1, scores.shape[1], dtype=torch.float64)
    correlation = torch.cat([weighted_spearman(once, row, judged.values) for row in scores])
    return correlation, torch.stack([weighted_spearman(judged.weights, row, judged.values) for row in scores])


def _rank_results(
    encoder: Encoder, judged: JudgedAttribute, wordings: Sequence[Wording]
) -> tuple[float, Tensor, list[Metric]]:
    """Return the mean Spearman correlation, the same in each resample (R,), and all metrics."""
    scores = attribute_scores(encoder, judged.images, wordings)
    spearman, spearman_resampled = _spearman(judged, scores)
    once = judged.weights.new_ones(1, scores.shape[1])
    kendall = torch.stack([weighted_kendall(once, row, judged.values) for row in scores])
    kendall_resampled = torch.stack([weighted_kendall(judged.weights, row, judged.values) for row in scores])
    n = scores.shape[1]

    mean, resampled = float(spearman.mean()), spearman_resampled.mean(0)
    results = [judged.metric("spearman", mean, n, resampled)]
    if len(wordings) > 1:
        lowest, highest = int(spearman.argmin()), int(spearman.argmax())
        results.append(judged.metric("spearman_lowest", float(spearman[lowest]), n, spearman_resampled[lowest]))
        results.append(judged.metric("spearman_highest", float(spearman[highest]), n, spearman_resampled[highest]))
    results.append(judged.metric("kendall", float(kendall.mean()), n, kendall_resampled.mean(0)))
    return mean, resampled, results


def _prompt_results(
    encoder: Encoder, judged: JudgedAttribute, prompts: Sequence[Wording], spearman: float, resampled: Tensor
) -> list[Metric]:
    """Return the same metrics with ordinary prompts in place of text and reverse, and the gain of the texts over them."""
    first, second = judged.more.nonzero().T
    images = judged.images[judged.paired]
    verdicts = _verdicts(encoder, images, first, second, prompts)["forced_choice"].mean(0)
    matrix = torch.zeros_like(judged.more)
    matrix[first, second] = verdicts
    choice = judged.pair_mean(matrix, judged.pair_weights)
    theirs, theirs_resampled = _spearman(judged, attribute_scores(encoder, judged.images, prompts))
    mean, mean_resampled, n = float(theirs.mean()), theirs_resampled.mean(0), len(judged.images)
    return [
        judged.metric("prompt_forced_choice", float(verdicts.double().mean()), len(first), choice),
        judged.metric("prompt_spearman", mean, n, mean_resampled),
        judged.metric("spearman_over_prompts", spearman - mean, n, resampled - mean_resampled),
    ]
