"""Zero-shot classification with texts that say how confusable classes differ (arXiv 2409.09721, section 5).

    t_b <- normalize(alpha t_b + (1 - alpha) mean over a of (t_a - f(T_ab)))

t is the embedding of a class, f is the text tower, and T_ab is a text that describes class a against class b. All embeddings
are unit vectors. If f(T_ab) points along t_a - t_b, then `t_a - f(T_ab)` is another estimate of t_b.

Three controls replace f(T_ab) by another direction: the text of another pair (`shuffled`), a random one (`random`), and the
text of the same pair in the other direction (`reversed`). An improvement that a control also reaches comes from mixing class
embeddings, not from what the texts say.

`text_geometry` measures where the embeddings of the texts alone point.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Comparative, Encoder, Metric, check_finite, embed_texts
from pcclip.metrics.zero_shot import class_embeddings

ALPHAS = (0.7, 0.8, 0.9)
DRAWS = 5  # of the random and shuffled controls; their accuracy is the mean over draws


def comparative_prompting(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative],
    *,
    alphas: Sequence[float] = ALPHAS,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure top-1 accuracy with plain prompts, with comparative ones, and with the controls.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        labels: Index into `classes` of each image, (N,).
        classes: Names of the classes to choose among.
        templates: Sentences with `{}` for the class name.
        comparatives: The texts. The classes that they name form the part `confused`, the same for every model.
        alphas: Weights of the plain embedding, each once, from 0 to below 1. A weight of 1 would be plain prompts.
        bootstrap: Resampling of images, and seed of the controls.

    Returns:
        For all images (part `all`) and for those of classes that some text names (part `confused`): `top1_plain`, and for
        each alpha (`factor`) `top1_texts`, `top1_<control>`, and the differences `gain_over_plain` and
        `gain_over_<control>` on the same images. `shuffled` is missing if there are too few pairs to exchange their
        texts, `reversed` if some text has no counterpart.

    Raises:
        ValueError: No image of a named class, an embedding that is not finite, or as `pair_indices` and
            `class_embeddings`.
    """
    labels = labels.to(images.device)
    check_finite(images, "image embeddings")
    first, second = pair_indices(classes, comparatives)
    plain = class_embeddings(encoder, classes, templates)
    first, second = first.to(plain.device), second.to(plain.device)
    texts = embed_texts(encoder, [comparative.text for comparative in comparatives])
    bootstrap = bootstrap or Bootstrap()
    directions = {"texts": [texts]} | _controls(texts, first.tolist(), second.tolist(), bootstrap.seed)

    def correct(embeddings: Tensor) -> Tensor:
        return ((images @ embeddings.T).argmax(1) == labels).float()

    top1 = correct(plain)
    right, gains = {}, {}
    for alpha in alphas:
        for kind, choices in directions.items():
            moved = [correct(compared(plain, first, second, choice, alpha)) for choice in choices]
            right[kind, alpha] = torch.stack(moved).mean(0)
            over = "plain" if kind == "texts" else kind
            gains[over, alpha] = right["texts", alpha] - (top1 if kind == "texts" else right[kind, alpha])
    named = torch.zeros(len(classes), dtype=torch.bool, device=images.device)
    named[torch.cat([first, second])] = True
    confused = named[labels].nonzero().view(-1)
    if len(confused) == 0:
        raise ValueError(f"no image of the {int(named.sum())} classes that the texts name")
    metrics = []
    for part, rows in (("all", torch.arange(len(images), device=images.device)), ("confused", confused)):
        draws = bootstrap.draw(len(rows), images.device)
        metrics.append(draws.mean("top1_plain", top1[rows], part=part))
        for prefix, table in (("top1", right), ("gain_over", gains)):
            metrics += [
                draws.mean(f"{prefix}_{kind}", values[rows], part=part, factor=alpha)
                for (kind, alpha), values in table.items()
            ]
    return metrics


def compared(plain: Tensor, first: Tensor, second: Tensor, directions: Tensor, alpha: float) -> Tensor:
    """Return class embeddings (C, D) moved by the texts. A class that is not the second of any text is unchanged.

    Args:
        plain: Unit class embeddings, (C, D). All classes move at once, so each t_a is a plain embedding.
        first: Class a of each text, (T,).
        second: Class b of each text, (T,).
        directions: f(T_ab), unit, (T, D).
        alpha: Weight of the plain embedding.
    """
    sums = torch.zeros_like(plain).index_add_(0, second, plain[first] - directions)
    counts = torch.bincount(second, minlength=len(plain))[:, None]
    moved = normalize(alpha * plain + (1 - alpha) * sums / counts.clamp(min=1), dim=-1)
    return torch.where(counts > 0, moved, plain)


def _controls(texts: Tensor, first: list[int], second: list[int], seed: int) -> dict[str, list[Tensor]]:
    """Return for each control one or more replacements (T, D) of the text embeddings."""
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
    """Return a permutation that gives each row a text of another pair of classes.

    It is None if more than half of the texts are of one pair.
    """
    groups: dict[frozenset[int], list[int]] = {}
    for row in torch.randperm(len(first), generator=generator).tolist():
        groups.setdefault(frozenset((first[row], second[row])), []).append(row)
    order = [row for group in groups.values() for row in group]
    # texts of a pair are adjacent, so a rotation by the length of the largest group leaves none in its own group
    turn = max(len(group) for group in groups.values())
    if 2 * turn > len(order):
        return None
    permutation = [0] * len(order)
    for place, row in enumerate(order):
        permutation[row] = order[(place + turn) % len(order)]
    return permutation


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
