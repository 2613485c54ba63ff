"""Arithmetic on embeddings: images edited by a change of text, retrieved among images; analogies between classes.

Edits follow SIMAT (Couairon et al., arXiv 2112.03162): a picture of a dog, plus lambda times "cat" minus "dog", should be
nearest to a picture of a cat in the same situation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, listed_mean, resample_weights, weighted_mean
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Encoder, Result

ARITHMETIC = "arithmetic"
ANALOGIES = "analogies"
LAMBDAS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass
class Edits:
    """Q edits of some of N images.

    Attributes:
        images: Index of each edit's image, (Q,).
        sources: What each image shows, Q texts.
        targets: What it is to show instead, Q texts.
        answers: Which of A sets of right answers belongs to each edit, (Q,).
        right: Whether an image is in a set of answers, (A, N) bool.
        weights: Weight of each edit in the mean, (Q,).
        labels: Class of each image, (N,), if known.
    """

    images: Tensor
    sources: list[str]
    targets: list[str]
    answers: Tensor
    right: Tensor
    weights: Tensor
    labels: Tensor | None = None


def arithmetic(
    encoder: Encoder,
    images: Tensor,
    edits: Edits,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    difference_template: str | None = None,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """How often `image + lambda (target - source)` is nearest to a right image, for each lambda.

    The image itself is no candidate. What ties with a right image stands before it. Beside it stand two numbers that tell what
    it is worth: what the target's text retrieves by itself, without any image, and, where classes are known, what moving by
    the difference of the class means of these very images reaches, which no text had to find.

    Args:
        encoder: The model. Its head has no part.
        images: Unit image embeddings, (N, D); all are candidates.
        edits: What to change.
        lambdas: Factors of the change; 0 tells what the unchanged image retrieves.
        difference_template: A difference text with `{target}`, said of the first image, and `{source}`, of the second: also
            move images by its embedding in place of `target - source`.
        subset: Name of the set.
        resamples: Bootstrap resamples of edited images, each with its edits; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        `recall1_<lambda>`, the weighted mean over edits; with a template `difference_recall1_<lambda>`, with labels
        `class_means_recall1_<lambda>`; and `target_recall1`, of the target's text alone. `n` is the number of edits.

    Raises:
        ValueError: A template without both places, no edit, lists of unlike length, an index out of range, an edit
            without a right image, or an embedding that is not finite.
    """
    where = f"arithmetic {subset}"
    if not lambdas or len(set(lambdas)) < len(lambdas):
        raise ValueError(f"{where}: lambdas {list(lambdas)}: give one or more, each once")
    _check_edits(edits, len(images), where)
    check_finite(images, f"{where}: image embeddings")
    own, answers = edits.images.to(images.device), edits.answers.to(images.device)
    right, edit_weights = edits.right.to(images.device), edits.weights.to(images.device).float()
    targets = embed_texts(encoder, edits.targets, where)
    shifts = {"recall1": targets - embed_texts(encoder, edits.sources, where)}
    if difference_template is not None:
        texts = difference_texts(difference_template, edits.targets, edits.sources)
        shifts["difference_recall1"] = embed_texts(encoder, texts, where)
    if edits.labels is not None:
        labels = edits.labels.to(images.device)
        classes = labels == torch.arange(int(labels.max()) + 1, device=images.device)[:, None]
        shifts["class_means_recall1"] = _means(right, images)[answers] - _means(classes, images)[labels[own]]
    queries = (
        (f"{metric}_{factor:g}", images[own] + factor * shift) for metric, shift in shifts.items() for factor in lambdas
    )
    used, places = torch.unique(own, return_inverse=True)
    weights = resample_weights(len(used), resamples, seed).to(images.device)
    counts = torch.zeros(len(used), device=images.device).index_add_(0, places, edit_weights)
    results = []
    for metric, query in chain(queries, [("target_recall1", targets)]):
        found = torch.cat(
            [
                _found(query[rows], images, own[rows], right[answers[rows]])
                for rows in torch.split(torch.arange(len(own), device=images.device), 1024)
            ]
        )
        sums = torch.zeros_like(counts).index_add_(0, places, found * edit_weights)
        low, high = interval(weighted_mean(weights, sums, counts))
        value = float((found * edit_weights).double().sum() / edit_weights.double().sum())
        results.append(Result(ARITHMETIC, subset, metric, value, len(own), low, high))
    return results


def difference_texts(template: str, targets: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The template with each target and source.

    Raises:
        ValueError: It lacks `{target}` or `{source}`.
    """
    if missing := [place for place in ("{target}", "{source}") if place not in template]:
        raise ValueError(f'difference_template "{template}": has no {" and no ".join(missing)}')
    return [
        template.replace("{target}", target).replace("{source}", source)
        for target, source in zip(targets, sources, strict=True)
    ]


def analogies(
    classes: Tensor, quadruples: Sequence[tuple[int, int, int, int]], *, moved: Tensor | None = None
) -> Tensor:
    """Whether `a - b + c` is nearest to d among the classes other than a, b and c: (A,) of 0 and 1.

    What ties with d stands before it.

    Args:
        classes: Unit embeddings (C, D) of c and of the candidates.
        quadruples: A rows of a, b, c and d.
        moved: Embeddings (C, D) of a and b; `classes` if left out.
    """
    a, b, c, d = torch.tensor(quadruples, device=classes.device).T
    source = classes if moved is None else moved
    scores = (source[a] - source[b] + classes[c]) @ classes.T
    rows = torch.arange(len(a), device=classes.device)
    wanted = scores[rows, d]
    for given in (a, b, c, d):
        scores[rows, given] = -torch.inf
    return (wanted > scores.amax(1)).float()


def analogy_results(
    texts: Tensor,
    images: Tensor,
    quadruples: Sequence[tuple[int, int, int, int]],
    *,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Accuracies of analogies between class texts, between mean images, and of images moved by texts.

    Args:
        texts: Class embeddings, (C, D).
        images: Normalised means of the classes' images, (C, D).
        quadruples: Rows of a, b, c and d, all different, with a to b as d to c.
        subset: Name of the set.
        resamples: Bootstrap resamples of classes; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        `text`, `image` and `image_by_text`; `n` is the number of analogies.

    Raises:
        ValueError: No analogy, one whose classes are not all different, or an embedding that is not finite.
    """
    if not quadruples:
        raise ValueError(f"analogies {subset}: none; there must be classes that differ in one attribute only")
    if bad := [row for row in quadruples if len(set(row)) < 4]:
        raise ValueError(f"analogies {subset}: {bad[0]} names a class twice")
    check_finite(torch.cat([texts, images]), f"analogies {subset}: class embeddings")
    weights = resample_weights(len(texts), resamples, seed).to(texts.device)
    items = torch.tensor(quadruples, device=texts.device).T
    results = []
    for metric, right in (
        ("text", analogies(texts, quadruples)),
        ("image", analogies(images, quadruples)),
        ("image_by_text", analogies(images, quadruples, moved=texts)),
    ):
        low, high = interval(listed_mean(weights, items, right))
        results.append(Result(ANALOGIES, subset, metric, float(right.double().mean()), len(quadruples), low, high))
    return results


def attribute_quadruples(attributes: Sequence[tuple[str, str]]) -> list[tuple[int, int, int, int]]:
    """All analogies between classes known by two attributes: (x, y) - (x', y) + (x', y') = (x, y').

    Raises:
        ValueError: Two classes have the same attributes.
    """
    place = {pair: index for index, pair in enumerate(attributes)}
    if len(place) < len(attributes):
        twice = sorted({pair for pair in attributes if list(attributes).count(pair) > 1})
        raise ValueError(f"several classes have the attributes {twice[:3]}; an analogy would have several answers")
    return [
        (a, place[x2, y], c, place[x, y2])
        for (x, y), a in place.items()
        for (x2, y2), c in place.items()
        if x != x2 and y != y2 and (x2, y) in place and (x, y2) in place
    ]


def _means(members: Tensor, images: Tensor) -> Tensor:
    """Mean of each set of images (A, N), (A, D)."""
    return members.float() @ images / members.sum(1, keepdim=True)


def _found(edited: Tensor, images: Tensor, own: Tensor, right: Tensor) -> Tensor:
    scores = edited @ images.T
    scores[torch.arange(len(own), device=images.device), own] = -torch.inf
    best = scores.masked_fill(~right, -torch.inf).amax(1)
    return (best > scores.masked_fill(right, -torch.inf).amax(1)).float()


def _check_edits(edits: Edits, images: int, where: str) -> None:
    lengths = {len(part) for part in (edits.images, edits.sources, edits.targets, edits.answers, edits.weights)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"{where}: {sorted(lengths)} images, sources, targets, answers and weights; as many, and one")
    if edits.right.shape[1] != images or int(edits.images.min()) < 0 or int(edits.images.max()) >= images:
        raise ValueError(f"{where}: edits of {edits.right.shape[1]} images, found {images}")
    if not bool((edits.weights > 0).all()):
        raise ValueError(f"{where}: weights must be positive")
    others = edits.right[edits.answers].clone()
    others[torch.arange(len(others)), edits.images] = False
    if lacking := (~others.any(1)).nonzero().view(-1).tolist():
        raise ValueError(f"{where}: {len(lacking)} edits have no right image but the edited one, first {lacking[0]}")
