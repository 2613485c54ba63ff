"""Zero-shot classification with texts that say how confusable classes differ (arXiv 2409.09721, section 5).

    t_b <- normalize(alpha t_b + (1 - alpha) mean over a of (t_a - f(T_ab)))

t is a class's embedding, f the text tower and T_ab a text that describes class a against class b; all embeddings are unit.
If texts of differences point where differences of texts point, `t_a - f(T_ab)` is another estimate of t_b.

Three controls tell what an improvement is due to. They take another direction in place of f(T_ab): the text of another
pair (`shuffled`), a random one (`random`), and the text of the same pair the other way round (`reversed`). What they reach
too comes of mixing class embeddings, not of what the texts say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, resample_weights, weighted_mean
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Comparative, Encoder, Result
from pcclip.metrics.zero_shot import class_embeddings

TASK = "comparative_prompting"
ALPHAS = (0.7, 0.8, 0.9)
DRAWS = 5  # of the random and shuffled controls, whose accuracy is the mean over them


def comparative_prompting(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative],
    *,
    alphas: Sequence[float] = ALPHAS,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Top-1 accuracy with plain prompts, with comparative ones, and with the controls.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        labels: Index into `classes` of each image, (N,).
        classes: Names of the classes to choose among.
        templates: Sentences with `{}` for the class name.
        comparatives: The texts. They decide which pairs count as confused, so that these are the same for every model.
        alphas: Weights of the plain embedding; 1 would be plain prompts.
        subset: Name of the image set.
        resamples: Bootstrap resamples of images; 0 leaves the intervals NaN.
        seed: Seed of the resamples and of the controls.

    Returns:
        For all images (`<subset>/all`) and for those of classes that some text names (`<subset>/confused`):
        `top1_plain`, and for each alpha `top1_texts_<alpha>`, `top1_<control>_<alpha>`, and the differences
        `gain_over_plain_<alpha>` and `gain_over_<control>_<alpha>` on the same images. `shuffled` is left out where
        there are too few pairs to exchange their texts, `reversed` where some text has no counterpart.

    Raises:
        ValueError: No text, or one about an unknown class or one class only; no image of a named class; an alpha
            outside 0 to 1; images, labels and classes that do not fit together; or an embedding that is not finite.
    """
    where = f"comparative prompting {subset}"
    if not alphas or any(not 0 <= alpha < 1 for alpha in alphas) or len(set(alphas)) < len(alphas):
        raise ValueError(f"{where}: alphas {list(alphas)}: give different ones from 0 to below 1")
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{where}: {len(images)} images and {len(labels)} labels")
    labels = labels.to(images.device)
    if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
        raise ValueError(f"{where}: a label is outside the {len(classes)} classes")
    first, second = pair_indices(classes, comparatives, where)
    check_finite(images, f"{where}: image embeddings")
    plain = class_embeddings(encoder, classes, templates, where=where)
    first, second = first.to(plain.device), second.to(plain.device)
    texts = embed_texts(encoder, [comparative.text for comparative in comparatives], where)
    directions = {"texts": [texts]} | _controls(texts, first.tolist(), second.tolist(), seed)

    def correct(embeddings: Tensor) -> Tensor:
        return ((images @ embeddings.T).argmax(1) == labels).float()

    right = {"plain": correct(plain)}
    for alpha in alphas:
        for kind, choices in directions.items():
            verdicts = [correct(compared(plain, first, second, choice, alpha)) for choice in choices]
            right[f"{kind}_{alpha:g}"] = torch.stack(verdicts).mean(0)

    named = torch.zeros(len(classes), dtype=torch.bool, device=images.device)
    named[torch.cat([first, second])] = True
    confused = named[labels].nonzero().view(-1)
    if len(confused) == 0:
        raise ValueError(f"{where}: no image of the {int(named.sum())} classes that the texts name")
    results = []
    for part, chosen in (("all", torch.arange(len(images), device=images.device)), ("confused", confused)):
        weights = resample_weights(len(chosen), resamples, seed).to(images.device)
        name = f"{subset}/{part}" if subset else part

        def add(metric: str, values: Tensor, name: str = name, weights: Tensor = weights) -> None:
            low, high = interval(weighted_mean(weights, values))
            results.append(Result(TASK, name, metric, float(values.double().mean()), len(values), low, high))

        for kind, values in right.items():
            add(f"top1_{kind}", values[chosen])
        for alpha in alphas:
            ours = right[f"texts_{alpha:g}"]
            add(f"gain_over_plain_{alpha:g}", (ours - right["plain"])[chosen])
            for kind in directions:
                if kind == "texts":
                    continue
                add(f"gain_over_{kind}_{alpha:g}", (ours - right[f"{kind}_{alpha:g}"])[chosen])
    return results


def compared(plain: Tensor, first: Tensor, second: Tensor, directions: Tensor, alpha: float) -> Tensor:
    """Class embeddings (C, D) moved by what is said of them; a class that is no pair's second stays as it is.

    Args:
        plain: Unit class embeddings, (C, D); all classes move at once, so these are the t_a as well.
        first: Class a of each text, (T,).
        second: Class b of each text, (T,).
        directions: f(T_ab), unit, (T, D).
        alpha: Weight of the plain embedding.
    """
    sums = torch.zeros_like(plain).index_add_(0, second, plain[first] - directions)
    counts = torch.bincount(second, minlength=len(plain))[:, None]
    moved = normalize(alpha * plain + (1 - alpha) * sums / counts.clamp(min=1), dim=-1)
    return torch.where(counts > 0, moved, plain)


def pair_indices(classes: Sequence[str], comparatives: Sequence[Comparative], where: str) -> tuple[Tensor, Tensor]:
    """Indices into `classes` of each text's first and second class, (T,) and (T,).

    Raises:
        ValueError: No text, or one about an unknown class or about one class only.
    """
    if not comparatives:
        raise ValueError(f"{where}: no comparative text")
    index = {name: place for place, name in enumerate(classes)}
    for comparative in comparatives:
        pair = (comparative.first, comparative.second)
        if unknown := [name for name in pair if name not in index]:
            raise ValueError(f"{where}: a text is about {unknown}, which are not among the {len(classes)} classes")
        if pair[0] == pair[1]:
            raise ValueError(f'{where}: a text compares "{pair[0]}" with itself')
    return (
        torch.tensor([index[comparative.first] for comparative in comparatives]),
        torch.tensor([index[comparative.second] for comparative in comparatives]),
    )


def reverse_rows(first: Sequence[int], second: Sequence[int]) -> list[int | None]:
    """For each text the row of one about the same classes the other way round, or None."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, pair in enumerate(zip(first, second, strict=True)):
        rows.setdefault(pair, []).append(row)
    found: list[int | None] = [None] * len(first)
    for (a, b), own in rows.items():
        if others := rows.get((b, a)):
            for place, row in enumerate(own):
                found[row] = others[place % len(others)]
    return found


def _controls(texts: Tensor, first: list[int], second: list[int], seed: int) -> dict[str, list[Tensor]]:
    """Directions (T, D) in place of the texts', some draws of each control that is random."""
    generator = torch.Generator().manual_seed(seed)
    controls: dict[str, list[Tensor]] = {}
    shuffles = [shuffle for _ in range(DRAWS) if (shuffle := _other_pairs(first, second, generator)) is not None]
    if shuffles:
        controls["shuffled"] = [texts[shuffle] for shuffle in shuffles]
    noise = torch.randn(DRAWS, *texts.shape, generator=generator)
    controls["random"] = list(normalize(noise, dim=-1).to(texts.device))
    reverse = [row for row in reverse_rows(first, second) if row is not None]
    if len(reverse) == len(texts):
        controls["reversed"] = [texts[reverse]]
    return controls


def _other_pairs(first: list[int], second: list[int], generator: torch.Generator) -> list[int] | None:
    """A permutation that gives each row a text of another pair of classes; None if some pair has most of the texts."""
    groups: dict[frozenset[int], list[int]] = {}
    for row in torch.randperm(len(first), generator=generator).tolist():
        groups.setdefault(frozenset((first[row], second[row])), []).append(row)
    order = [row for group in groups.values() for row in group]
    # each pair's texts stand together, so that a turn by the largest group's length leaves none in its own
    turn = max(len(group) for group in groups.values())
    if 2 * turn > len(order):
        return None
    permutation = [0] * len(order)
    for place, row in enumerate(order):
        permutation[row] = order[(place + turn) % len(order)]
    return permutation
