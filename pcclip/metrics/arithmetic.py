"""Arithmetic on embeddings: edits of images, and analogies between classes.

Edits are as in SIMAT (Couairon et al., arXiv 2112.03162): an image of a dog, plus lambda times "cat" minus "dog", should be
nearest to an image of a cat in the same situation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, check_finite, embed_texts

LAMBDAS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass
class Edits:
    """Q edits of some of N images, each with a right image other than the edited one."""

    images: Tensor
    """Index of the image of each edit, (Q,)."""
    sources: list[str]
    """Q texts: what the image shows."""
    targets: list[str]
    """Q texts: what the edited image is to show instead."""
    answers: Tensor
    """Index of each edit's set of right images, (Q,): a row of `right`."""
    right: Tensor
    """A sets of right images: whether each image is in the set, (A, N) bool."""
    weights: Tensor
    """Weight of each edit in the mean, (Q,)."""
    labels: Tensor | None = None
    """Class of each image, (N,), if known."""


def arithmetic(
    encoder: Encoder,
    images: Tensor,
    edits: Edits,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    difference_template: str | None = None,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure how often `image + lambda (target - source)` is nearest to a right image, for each lambda.

    The edited image itself is not a candidate. An image that ties with the right image counts as nearer. There are two
    references: the target's text alone, without an image; and, where classes are known, the difference of the class means
    of the same images in place of `target - source`, which uses no text.

    Args:
        encoder: The model. Its head is not used.
        images: Unit image embeddings, (N, D); all are candidates.
        edits: What to change.
        lambdas: Factors of the change, each once. 0 measures what the unchanged image retrieves.
        difference_template: A difference text with `{target}` (of the first image) and `{source}` (of the second). Images
            are then also moved by its embedding in place of `target - source`.
        bootstrap: Resampling of edited images, each with its edits.

    Returns:
        For each lambda (`factor`) `recall1`, the weighted mean over edits; with a template `difference_recall1`, with labels
        `class_means_recall1`; and `target_recall1`, of the target's text alone. `n` is the number of edits.

    Raises:
        ValueError: There is no edit, or an embedding is not finite.
    """
    check_finite(images, "image embeddings")
    own, answers = edits.images.to(images.device), edits.answers.to(images.device)
    right, importance = edits.right.to(images.device), edits.weights.to(images.device).float()
    targets = embed_texts(encoder, edits.targets)
    shifts = {"recall1": targets - embed_texts(encoder, edits.sources)}
    if difference_template is not None:
        pairs = zip(edits.targets, edits.sources, strict=True)
        texts = [difference_template.replace("{target}", to).replace("{source}", of) for to, of in pairs]
        shifts["difference_recall1"] = embed_texts(encoder, texts)
    if edits.labels is not None:
        labels = edits.labels.to(images.device)
        classes = labels == torch.arange(int(labels.max()) + 1, device=images.device)[:, None]
        shifts["class_means_recall1"] = _means(right, images)[answers] - _means(classes, images)[labels[own]]
    used, places = torch.unique(own, return_inverse=True)
    draws = (bootstrap or Bootstrap()).draw(len(used), images.device)

    def recall(name: str, queries: Tensor, factor: float | None = None) -> Metric:
        found = torch.cat(
            [
                _found(queries[rows], images, own[rows], right[answers[rows]])
                for rows in torch.split(torch.arange(len(own), device=images.device), 1024)
            ]
        )
        return draws.mean(name, found, places, importance, factor=factor)

    metrics = [
        recall(name, images[own] + factor * shift, factor) for name, shift in shifts.items() for factor in lambdas
    ]
    return [*metrics, recall("target_recall1", targets)]


def _means(members: Tensor, images: Tensor) -> Tensor:
    """Return the mean of each set of images (A, N): (A, D)."""
    return members.float() @ images / members.sum(1, keepdim=True)


def _found(edited: Tensor, images: Tensor, own: Tensor, right: Tensor) -> Tensor:
    """Return whether a right image is nearest to each edited one, (Q,) of 0 and 1."""
    scores = edited @ images.T
    scores[torch.arange(len(own), device=images.device), own] = -torch.inf
    best = scores.masked_fill(~right, -torch.inf).amax(1)
    return (best > scores.masked_fill(right, -torch.inf).amax(1)).float()


def analogies(
    texts: Tensor,
    images: Tensor,
    quadruples: Sequence[tuple[int, int, int, int]],
    *,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure analogies between class texts, between mean images, and of images moved by texts.

    Args:
        texts: Class embeddings, (C, D).
        images: Normalised mean image embedding of each class, (C, D).
        quadruples: Rows of a, b, c and d, all different: a is to b as d is to c.
        bootstrap: Resampling of classes.

    Returns:
        `text`, `image` and `image_by_text`; `n` is the number of analogies.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(torch.cat([texts, images]), "class embeddings")
    draws = (bootstrap or Bootstrap()).draw(len(texts), texts.device)
    items = torch.tensor(quadruples, device=texts.device).T
    answers = {
        "text": solved(texts, quadruples),
        "image": solved(images, quadruples),
        "image_by_text": solved(images, quadruples, moved=texts),
    }
    return [draws.tuple_mean(name, items, right) for name, right in answers.items()]


def solved(classes: Tensor, quadruples: Sequence[tuple[int, int, int, int]], *, moved: Tensor | None = None) -> Tensor:
    """Return whether `a - b + c` is nearest to d among the classes other than a, b and c: (A,) of 0 and 1.

    A class that ties with d counts as nearer.

    Args:
        classes: Unit embeddings (C, D) of c and of the candidates.
        quadruples: A rows of a, b, c and d.
        moved: Embeddings (C, D) of a and b. The default is `classes`.
    """
    a, b, c, d = torch.tensor(quadruples, device=classes.device).T
    source = classes if moved is None else moved
    scores = (source[a] - source[b] + classes[c]) @ classes.T
    rows = torch.arange(len(a), device=classes.device)
    wanted = scores[rows, d]
    for given in (a, b, c, d):
        scores[rows, given] = -torch.inf
    return (wanted > scores.amax(1)).float()


def attribute_quadruples(attributes: Sequence[tuple[str, str]]) -> list[tuple[int, int, int, int]]:
    """Return all analogies between classes known by two attributes: (x, y) - (x', y) + (x', y') = (x, y').

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
