"""Whether texts about differences point where differences of class texts point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, listed_pair_mean, resample_weights
from pcclip.metrics.comparative_prompting import pair_indices, reverse_rows
from pcclip.metrics.embed import embed_texts
from pcclip.metrics.protocol import Comparative, Encoder, Result
from pcclip.metrics.zero_shot import class_embeddings

TASK = "text_geometry"


def text_geometry(
    encoder: Encoder,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative],
    *,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Cosines of f(T_ab), and of its reverse f(T_ba), with `t_a - t_b`.

    Args:
        encoder: The model.
        classes: Names of the classes.
        templates: Sentences with `{}` for the class name, which make t.
        comparatives: The texts.
        subset: Name of the set.
        resamples: Bootstrap resamples of classes; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        `cosine_text`, and where texts have a counterpart the other way round `cosine_reverse`, `forced_choice` (the text
        is closer than its reverse, ties one half) and `text_with_reverse`, the cosine of f(T_ab) and f(T_ba). `n` is the
        number of texts.

    Raises:
        ValueError: No text, one about an unknown class or about one class only, or an embedding that is not finite.
    """
    where = f"text geometry {subset}"
    first, second = pair_indices(classes, comparatives, where)
    reverse = reverse_rows(first.tolist(), second.tolist())
    plain = class_embeddings(encoder, classes, templates, where=where)
    texts = embed_texts(encoder, [comparative.text for comparative in comparatives], where)
    differences = normalize(plain[first.to(plain.device)] - plain[second.to(plain.device)], dim=-1)
    cosine = (texts * differences).sum(1)

    def result(metric: str, values: Tensor, rows: list[int]) -> Result:
        # only classes that are in some pair are drawn
        used, places = torch.unique(torch.stack([first[rows], second[rows]]), return_inverse=True)
        weights = resample_weights(len(used), resamples, seed).to(values.device)
        places = places.to(values.device)
        low, high = interval(listed_pair_mean(weights, places[0], places[1], values))
        return Result(TASK, subset, metric, float(values.double().mean()), len(rows), low, high)

    results = [result("cosine_text", cosine, list(range(len(texts))))]
    counterparts = {row: other for row, other in enumerate(reverse) if other is not None}
    if rows := list(counterparts):
        reverses = texts[[counterparts[row] for row in rows]]
        against = (reverses * differences[rows]).sum(1)
        results.append(result("cosine_reverse", against, rows))
        results.append(result("forced_choice", (1 + (cosine[rows] - against).sign()) / 2, rows))
        results.append(result("text_with_reverse", (texts[rows] * reverses).sum(1), rows))
    return results
