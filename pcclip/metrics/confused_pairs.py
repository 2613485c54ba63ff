"""Pairs of classes that a model confuses, found without labels.

Choose them once, with the base model. Texts are then written for these pairs, and every model is measured on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcclip.metrics.protocol import check_finite

Pairs = list[tuple[int, int]]


def closest_pairs(class_embeddings: Tensor, count: int) -> Pairs:
    """Return the `count` pairs of classes with the closest unit embeddings (C, D): closest first, smaller index first.

    Raises:
        ValueError: Fewer than two classes, no pair asked for, or an embedding that is not finite.
    """
    _check(class_embeddings, count)
    first, second = torch.triu_indices(len(class_embeddings), len(class_embeddings), offset=1)
    cosines = (class_embeddings @ class_embeddings.T).cpu()[first, second]
    order = cosines.argsort(descending=True, stable=True)[:count]
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def disagreement_pairs(images: Tensor, class_embeddings: Tensor, count: int) -> Pairs:
    """Return the `count` pairs of classes between which unlabelled images are most often undecided.

    Counts the pair of the two nearest classes of each image, over the half of the images with the smallest margin between
    these two. There are at most `count` pairs, most frequent first; ties are ordered by how close the classes are.

    Args:
        images: Unit image embeddings, (N, D).
        class_embeddings: Unit, (C, D).
        count: Number of pairs wanted.

    Raises:
        ValueError: Fewer than two classes, no image, no pair asked for, or an embedding that is not finite.
    """
    _check(class_embeddings, count)
    if len(images) == 0:
        raise ValueError("no image to look for confused classes in")
    check_finite(images, "image embeddings")
    scores, nearest = (images @ class_embeddings.T).topk(2)
    margin = scores[:, 0] - scores[:, 1]
    undecided = nearest[margin <= margin.median()].sort(1).values.cpu()
    pairs, frequency = torch.unique(undecided, dim=0, return_counts=True)
    cosines = (class_embeddings @ class_embeddings.T).cpu()[pairs[:, 0], pairs[:, 1]]
    ranked = sorted(
        zip(frequency.tolist(), cosines.tolist(), map(tuple, pairs.tolist()), strict=True),
        key=lambda row: (-row[0], -row[1], row[2]),
    )
    return [(first, second) for _, _, (first, second) in ranked[:count]]


def _check(class_embeddings: Tensor, count: int) -> None:
    classes = len(class_embeddings)
    if classes < 2 or count < 1:
        raise ValueError(f"cannot choose {count} pairs of {classes} classes; there must be two classes, and one pair")
    check_finite(class_embeddings, "class embeddings")
