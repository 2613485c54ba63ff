"""Texts that compare two classes: the classes they name, and the direction of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.embed import embed_texts
from pcclip.metrics.protocol import Comparative, Encoder, Metric
from pcclip.metrics.zero_shot import class_embeddings


def pair_indices(classes: Sequence[str], comparatives: Sequence[Comparative]) -> tuple[Tensor, Tensor]:
    """Return indices into `classes` of each text's first and second class, (T,) and (T,).

    Raises:
        ValueError: A text is about an unknown class.
    """
    index = {name: place for place, name in enumerate(classes)}
    named = {name for comparative in comparatives for name in (comparative.first, comparative.second)}
    if unknown := sorted(named - set(index)):
        raise ValueError(f"a comparative text is about {unknown[:5]}, not among the {len(classes)} classes")
    return (
        torch.tensor([index[comparative.first] for comparative in comparatives]),
        torch.tensor([index[comparative.second] for comparative in comparatives]),
    )


def reverse_rows(first: Sequence[int], second: Sequence[int]) -> list[int | None]:
    """Return for each text the row of one about the same classes in the other order, or None."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, pair in enumerate(zip(first, second, strict=True)):
        rows.setdefault(pair, []).append(row)
    found: list[int | None] = [None] * len(first)
    for (a, b), own in rows.items():
        if others := rows.get((b, a)):
            for place, row in enumerate(own):
                found[row] = others[place % len(others)]
    return found


def text_geometry(
    encoder: Encoder,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative],
    *,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure the cosines of f(T_ab), and of its reverse f(T_ba), with the difference of class embeddings t_a - t_b.

    Args:
        encoder: The model.
        classes: Names of the classes.
        templates: Sentences with `{}` for the class name, which make t.
        comparatives: The texts.
        bootstrap: Resampling of classes.

    Returns:
        `cosine_text`, and for texts with a counterpart in the other direction `cosine_reverse`, `forced_choice` (the text
        is closer than its reverse, ties one half) and `text_with_reverse`, the cosine of f(T_ab) and f(T_ba). `n` is the
        number of texts.

    Raises:
        ValueError: As `pair_indices`, or an embedding that is not finite.
    """
    first, second = pair_indices(classes, comparatives)
    reverse = reverse_rows(first.tolist(), second.tolist())
    plain = class_embeddings(encoder, classes, templates)
    texts = embed_texts(encoder, [comparative.text for comparative in comparatives])
    differences = normalize(plain[first.to(plain.device)] - plain[second.to(plain.device)], dim=-1)
    cosine = (texts * differences).sum(1)

    def result(name: str, values: Tensor, rows: list[int]) -> Metric:
        # only classes that are in some pair are drawn
        used, places = torch.unique(torch.stack([first[rows], second[rows]]), return_inverse=True)
        draws = (bootstrap or Bootstrap()).draw(len(used), values.device)
        return draws.tuple_mean(name, places.to(values.device), values)

    metrics = [result("cosine_text", cosine, list(range(len(texts))))]
    counterparts = {row: other for row, other in enumerate(reverse) if other is not None}
    if rows := list(counterparts):
        reverses = texts[[counterparts[row] for row in rows]]
        against = (reverses * differences[rows]).sum(1)
        metrics.append(result("cosine_reverse", against, rows))
        metrics.append(result("forced_choice", (1 + (cosine[rows] - against).sign()) / 2, rows))
        metrics.append(result("text_with_reverse", (texts[rows] * reverses).sum(1), rows))
    return metrics
