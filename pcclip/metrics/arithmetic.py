"""Edits of images by arithmetic on embeddings, retrieved among images.

As in SIMAT (Couairon et al., arXiv 2112.03162): a picture of a dog, plus lambda times "cat" minus "dog", should be nearest
to a picture of a cat in the same situation.
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
    """Index of each edit's image, (Q,)."""
    sources: list[str]
    """What each image shows, Q texts."""
    targets: list[str]
    """What it is to show instead, Q texts."""
    answers: Tensor
    """The set of right answers of each edit, (Q,), among A sets."""
    right: Tensor
    """Whether an image is in a set of answers, (A, N) bool."""
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

    The edited image itself is not a candidate. Ties with a right image count before it. Two references: the target's text
    alone, without any image; and, where classes are known, the difference of the class means of these very images in place
    of `target - source`, which no text had to find.

    Args:
        encoder: The model. Its head is not used.
        images: Unit image embeddings, (N, D); all are candidates.
        edits: What to change.
        lambdas: Factors of the change; 0 measures what the unchanged image retrieves.
        difference_template: A difference text with `{target}` (of the first image) and `{source}` (of the second). Images
            are then also moved by its embedding in place of `target - source`.
        bootstrap: Resampling of edited images, each with its edits.

    Returns:
        For each lambda (`factor`) `recall1`, the weighted mean over edits; with a template `difference_recall1`, with labels
        `class_means_recall1`; and `target_recall1`, of the target's text alone. `n` is the number of edits.

    Raises:
        ValueError: Equal lambdas, a template without both places, no edit, or an embedding that is not finite.
    """
    if not lambdas or len(set(lambdas)) < len(lambdas):
        raise ValueError(f"lambdas {list(lambdas)}: give one or more, each once")
    check_finite(images, "image embeddings")
    own, answers = edits.images.to(images.device), edits.answers.to(images.device)
    right, importance = edits.right.to(images.device), edits.weights.to(images.device).float()
    targets = embed_texts(encoder, edits.targets)
    shifts = {"recall1": targets - embed_texts(encoder, edits.sources)}
    if difference_template is not None:
        texts = difference_texts(difference_template, edits.targets, edits.sources)
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


def _means(members: Tensor, images: Tensor) -> Tensor:
    """Mean of each set of images (A, N), (A, D)."""
    return members.float() @ images / members.sum(1, keepdim=True)


def _found(edited: Tensor, images: Tensor, own: Tensor, right: Tensor) -> Tensor:
    scores = edited @ images.T
    scores[torch.arange(len(own), device=images.device), own] = -torch.inf
    best = scores.masked_fill(~right, -torch.inf).amax(1)
    return (best > scores.masked_fill(right, -torch.inf).amax(1)).float()
