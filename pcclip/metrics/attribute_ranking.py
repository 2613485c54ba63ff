"""How well differences of images follow graded attributes, such as size: pairwise accuracies and rank correlations.

For every ordered pair of images that differ in the attribute, the difference is compared with texts that are true or false of
the pair: "the first is larger than the second" and its reverse. The metrics:

- `sign_accuracy`: cos(difference, true text) > 0, the paper's difference classification (arXiv 2409.09721, section 4.1);
- `sign_accuracy_paper`: the same in the paper's protocol, the mean over a few draws of `images_per_draw` images;
- `forced_choice`: the true text is closer than its reverse;
- `role_test`: the true text is closer than the same text with the words "first" and "second" exchanged;
- `swapped_choice`: forced choice between the exchanged texts. A model that reads the order of mention instead of the words
  fails the role test. A model that ignores texts that mention the second image first fails here;
- `spearman`, `kendall`: rank correlation of the attribute with the images' scores on the axis from reverse to text;
- `prompt_forced_choice`, `prompt_spearman`: the same with an axis from one ordinary prompt to another, the baseline that
  needs no difference texts; `spearman_over_prompts` is the gain over it;
- `ceiling_forced_choice`, `ceiling_spearman`, `share_of_ceiling`: what ridge regression on the same embeddings reaches;
- `example_spearman`, `blended_spearman`: what an axis from a few examples reaches, alone and blended with the texts;
- `stored_spearman`: the same with axes from stored text embeddings, such as those of a CLIP whose text tower is not at hand.

Ties count one half. Each metric is the mean over the wordings of the attribute. `_lowest` and `_highest` are the values of the
worst and the best wording.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pcclip.metrics.axes import text_axes
from pcclip.metrics.bootstrap import Bootstrap, quadratic_form
from pcclip.metrics.ceiling import ceiling_results, has_ceiling, ridge_scores, transferred_scores
from pcclip.metrics.difference_texts import embed_pair_texts, judge
from pcclip.metrics.examples import example_results
from pcclip.metrics.judged import JudgedAttribute
from pcclip.metrics.protocol import Encoder, Metric, Wording, check_finite
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
    examples: Sequence[int] = (),
    ceiling_images: tuple[Tensor, Mapping[str, Tensor]] | None = None,
    stored_axes: Mapping[str, Tensor] | None = None,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure every attribute of `values` with its wordings.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        values: Attribute to the images' values, (N,); NaN where unknown.
        texts: Attribute to its wordings; `text` is true when the first image has more of it.
        prompts: Attribute to pairs of ordinary prompts: `text` describes an image with more of it, `reverse` one with less.
            Attributes may be missing.
        groups: Class of each image, (N,), where images have the value of their class: the ceiling's folds keep classes
            whole. By default each image is a group of its own.
        min_gap: Judge only pairs whose values differ by more than this; one number, or one for each attribute.
        pair_images: Number of random images of each attribute whose pairs are judged, since memory grows with its square.
            If none of these pairs can be judged, two of the images are those of the lowest and the highest value. Rank
            correlations use all images.
        images_per_draw: Also measure `sign_accuracy_paper` on draws of this number of images.
        draws: Number of random draws of images, and of examples.
        ceiling: Also fit the supervised ceiling, for attributes with enough groups (`has_ceiling`).
        ceiling_images: Fit it on other images, given by their embeddings (M, D) and by attribute to their values (M,), and
            not on folds of the measured ones.
        stored_axes: Attribute to axes (K, D) from stored text embeddings. Attributes may be missing.
        examples: Also rank by these numbers of examples of either end, for the same attributes.
        bootstrap: Resampling of images, and seed of the draws and folds.

    Returns:
        The `part` of a metric is its attribute. `n` is the number of unordered pairs for the pair metrics (of all draws
        together for `sign_accuracy_paper`), and of images for the rank correlations.

    Raises:
        ValueError: No pair of an attribute differs by more than `min_gap`, or an embedding is not finite.
    """
    bootstrap = bootstrap or Bootstrap()
    results: list[Metric] = []
    for attribute, numbers in values.items():
        gap = min_gap.get(attribute, 0.0) if isinstance(min_gap, Mapping) else min_gap
        judged = JudgedAttribute.of(attribute, images, numbers, groups, gap, pair_images, bootstrap)
        for metric, verdicts in _verdicts(encoder, judged, texts[attribute]).items():
            mean = verdicts.mean(0)
            results.append(judged.pair_metric(metric, mean))
            if metric == "sign_accuracy" and images_per_draw is not None:
                drawn = _draw(len(judged.paired), images_per_draw, draws, bootstrap.seed)
                results += _paper_results(judged, judged.as_matrix(mean), drawn.to(images.device))
            if metric == "forced_choice" and len(verdicts) > 1:
                by_wording = verdicts.double().mean(1)
                results.append(judged.pair_metric("forced_choice_lowest", verdicts[by_wording.argmin()]))
                results.append(judged.pair_metric("forced_choice_highest", verdicts[by_wording.argmax()]))
        spearman, resampled, rows = _rank_results(encoder, judged, texts[attribute])
        results += rows
        if prompts and prompts.get(attribute):
            results += _prompt_results(encoder, judged, prompts[attribute], spearman, resampled)
        if stored_axes and attribute in stored_axes:
            scores = stored_axes[attribute] @ (judged.images - judged.images.mean(0)).T
            results += _spearman_results("stored_spearman", judged, *judged.correlations(weighted_spearman, scores))
        if ceiling and ceiling_images is not None:
            others, known = ceiling_images
            scores = transferred_scores(others, known[attribute], judged.images)
            results += ceiling_results(judged, scores, spearman, resampled)
        elif ceiling and has_ceiling(judged.values, judged.groups):
            scores = ridge_scores(judged.images, judged.values, judged.groups, bootstrap.seed)
            results += ceiling_results(judged, scores, spearman, resampled)
        if examples and has_ceiling(judged.values, judged.groups):
            results += example_results(encoder, judged, texts[attribute], examples, draws, bootstrap.seed)
    return results


def attribute_scores(encoder: Encoder, images: Tensor, wordings: Sequence[Wording]) -> Tensor:
    """Return the score of each image on each wording's axis: `project(image - mean image) . (text - reverse)`, (W, N).

    Raises:
        ValueError: A text embedding or a score is not finite.
    """
    axes = text_axes(encoder, wordings)
    with torch.no_grad():
        projected = encoder.project(images - images.mean(0))
    scores = axes @ projected.T
    check_finite(scores.T, "scores of images")
    return scores


def _draw(count: int, images_per_draw: int, draws: int, seed: int) -> Tensor:
    """Return which images are in which draw: (draws, n) of 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(draws, count)
    for row in drawn:
        row[torch.randperm(count, generator=generator)[:images_per_draw]] = 1
    return drawn


def _paper_results(judged: JudgedAttribute, verdicts: Tensor, drawn: Tensor) -> list[Metric]:
    """Return the mean over the draws, and the lowest and highest. Draws without a judged pair are excluded."""
    counts = quadratic_form(drawn, judged.more)
    accuracies = judged.pair_mean(verdicts, drawn)
    # draws stay as they are while their images are resampled
    resampled = torch.stack([judged.pair_mean(verdicts, judged.pair_weights * draw) for draw in drawn])
    name, lowest, highest = "sign_accuracy_paper", *_extremes(accuracies)
    return [
        judged.metric(name, float(accuracies.nanmean()), int(counts.sum()), resampled.nanmean(0)),
        judged.metric(f"{name}_lowest", float(accuracies[lowest]), int(counts[lowest]), resampled[lowest]),
        judged.metric(f"{name}_highest", float(accuracies[highest]), int(counts[highest]), resampled[highest]),
    ]


def _extremes(numbers: Tensor) -> tuple[int, int]:
    """Return the indices of the lowest and the highest of the defined numbers."""
    return int(numbers.nan_to_num(torch.inf).argmin()), int(numbers.nan_to_num(-torch.inf).argmax())


def _verdicts(encoder: Encoder, judged: JudgedAttribute, wordings: Sequence[Wording]) -> dict[str, Tensor]:
    """Return the verdict of each metric on each judged pair: 1 right, 0 wrong.

    `forced_choice` is (W, P), by wording. The others are (1, P), the mean over wordings.
    """
    images, pairs = judged.images[judged.paired], judged.pairs
    texts, with_roles = embed_pair_texts(encoder, [w.text for w in wordings], [w.reverse for w in wordings])
    parts: dict[str, list[Tensor]] = {}
    for first, second in torch.split(pairs, max(1, _CHUNK_FLOATS // images.shape[1]), dim=1):
        with torch.no_grad():
            forward = encoder.difference(images[first], images[second])
            backward = encoder.difference(images[second], images[first])
        verdicts = judge(texts @ forward.T, texts @ backward.T, with_roles)
        for metric, verdict in verdicts.items():
            # only one metric is reported by wording
            parts.setdefault(metric, []).append(verdict if metric == "forced_choice" else verdict.mean(0, keepdim=True))
    return {metric: torch.cat(chunks, 1) for metric, chunks in parts.items()}


def _rank_results(
    encoder: Encoder, judged: JudgedAttribute, wordings: Sequence[Wording]
) -> tuple[float, Tensor, list[Metric]]:
    """Return the mean Spearman correlation, the same in each resample (R,), and all metrics."""
    scores = attribute_scores(encoder, judged.images, wordings)
    spearman, resampled = judged.correlations(weighted_spearman, scores)
    kendall, kendall_resampled = judged.correlations(weighted_kendall, scores)
    results = _spearman_results("spearman", judged, spearman, resampled)
    results.append(judged.metric("kendall", float(kendall.mean()), scores.shape[1], kendall_resampled.mean(0)))
    return float(spearman.mean()), resampled.mean(0), results


def _spearman_results(name: str, judged: JudgedAttribute, spearman: Tensor, resampled: Tensor) -> list[Metric]:
    """Return the mean of correlations (W,), and the lowest and highest, given the same in each resample (W, R)."""
    n = len(judged.images)
    results = [judged.metric(name, float(spearman.mean()), n, resampled.mean(0))]
    if len(spearman) > 1:
        for ending, row in (("lowest", int(spearman.argmin())), ("highest", int(spearman.argmax()))):
            results.append(judged.metric(f"{name}_{ending}", float(spearman[row]), n, resampled[row]))
    return results


def _prompt_results(
    encoder: Encoder, judged: JudgedAttribute, prompts: Sequence[Wording], spearman: float, resampled: Tensor
) -> list[Metric]:
    """Return the metrics with ordinary prompts in place of text and reverse, and the gain of the texts over them."""
    theirs, theirs_resampled = judged.correlations(weighted_spearman, attribute_scores(encoder, judged.images, prompts))
    mean, mean_resampled, n = float(theirs.mean()), theirs_resampled.mean(0), len(judged.images)
    return [
        judged.pair_metric("prompt_forced_choice", _verdicts(encoder, judged, prompts)["forced_choice"].mean(0)),
        judged.metric("prompt_spearman", mean, n, mean_resampled),
        judged.metric("spearman_over_prompts", spearman - mean, n, resampled - mean_resampled),
    ]
