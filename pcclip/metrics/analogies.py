"""Analogies between classes that are known by two attributes, such as shape and colour."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Metric, check_finite


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
