"""How well differences of images match texts written for exactly these pairs, both directions of each pair.

The metrics are those of `pcclip.metrics.attribute_ranking` without the rank correlations. A pair has two orders. For each order
one text is true (`text` for first against second, `reverse` for second against first) and the other is false. Exchanging
"first" and "second" in a text makes it true for the other order. The baseline needs no difference text: it is the captions of
one image minus those of the other. `judge` is shared with attribute ranking.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, check_finite, embed_texts
from pcclip.roles import has_roles, swap_roles


def difference_texts(
    encoder: Encoder,
    images: Tensor,
    first: Tensor,
    second: Tensor,
    texts: Sequence[str],
    reverses: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] = (),
    part: str = "",
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure sign accuracy, forced choice, role test and forced choice between the texts with exchanged roles.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        first: Index of each pair's first image, (P,).
        second: Index of each pair's second image, (P,).
        texts: P texts that describe first against second.
        reverses: P texts that describe second against first.
        captions: Captions of each of the N images, for the baseline. Some images may have none.
        part: Name of these pairs within their set; see `Metric`.
        bootstrap: Resampling of images.

    Returns:
        Means over both orders of each pair; `n` is the number of pairs. `role_test` and `swapped_choice` exclude pairs
        without the words "first" and "second" in both texts. Two metrics are over the pairs whose images both have
        captions. `caption_forced_choice`: the mean caption embedding of the first image minus that of the second points
        along the difference of the images. `forced_choice_over_captions`: `forced_choice` minus that baseline.

    Raises:
        ValueError: No pair, or an embedding that is not finite.
    """
    first, second = first.to(images.device), second.to(images.device)
    pairs = torch.stack([first, second])
    check_finite(images, "image embeddings")

    with torch.no_grad():
        forward = encoder.difference(images[first], images[second])
        backward = encoder.difference(images[second], images[first])
    embedded, with_roles = embed_pair_texts(encoder, texts, reverses)
    every = list(range(len(texts)))
    # each text is compared with the differences of its own pair only
    own = every + every + with_roles + with_roles
    along, against = (embedded * forward[own]).sum(-1), (embedded * backward[own]).sum(-1)
    judged = {
        name: (verdict, every if len(verdict) == len(every) else with_roles)
        for name, verdict in judge(along, against, with_roles).items()
    }
    rows = [row for row in every if captions and captions[int(first[row])] and captions[int(second[row])]]
    if rows:
        baseline = _caption_choice(encoder, pairs[:, rows], forward[rows], captions)
        judged["caption_forced_choice"] = baseline, rows
        judged["forced_choice_over_captions"] = judged["forced_choice"][0][rows] - baseline, rows
    # only images that are in some pair are drawn: others would not change the accuracies
    used, places = torch.unique(pairs, return_inverse=True)
    draws = (bootstrap or Bootstrap()).draw(len(used), images.device)
    return [draws.tuple_mean(name, places[:, chosen], verdict, part=part) for name, (verdict, chosen) in judged.items()]


def _caption_choice(encoder: Encoder, pairs: Tensor, differences: Tensor, captions: Sequence[Sequence[str]]) -> Tensor:
    """Return whether the captions' difference points along the images', (P,): 1, 0, or one half for a tie.

    Args:
        encoder: The model.
        pairs: Indices of first and second images, (2, P).
        differences: Unit differences of these images, (P, D).
        captions: Captions of each image.
    """
    used, places = torch.unique(pairs, return_inverse=True)
    of = [captions[image] for image in used.tolist()]
    embedded = embed_texts(encoder, [caption for own in of for caption in own])
    means = torch.stack([part.mean(0) for part in torch.split(embedded, [len(own) for own in of])])
    means = normalize(means, dim=-1)
    cosines = ((means[places[0]] - means[places[1]]) * differences).sum(-1)
    return (cosines.sign() + 1) / 2


def embed_pair_texts(encoder: Encoder, texts: Sequence[str], reverses: Sequence[str]) -> tuple[Tensor, list[int]]:
    """Embed T texts and their reverses, and both again with the words "first" and "second" exchanged.

    Only the T' rows with these words in both texts have exchanged texts.

    Returns:
        Embeddings (2T + 2T', D) of texts, reverses, exchanged texts and exchanged reverses, in this order; and the
        indices of the T' rows.

    Raises:
        ValueError: As `embed_texts`.
    """
    both = zip(texts, reverses, strict=True)
    with_roles = [row for row, (text, reverse) in enumerate(both) if has_roles(text) and has_roles(reverse)]
    swapped = [swap_roles(part[row]) for part in (texts, reverses) for row in with_roles]
    return embed_texts(encoder, [*texts, *reverses, *swapped]), with_roles


def judge(forward: Tensor, backward: Tensor, with_roles: list[int]) -> dict[str, Tensor]:
    """Return the verdict of each metric, the mean over both orders of a pair: 1 is right, 0 wrong, one half a tie.

    Args:
        forward: Cosines of the embeddings of `embed_pair_texts` with the differences first - second, (2T + 2T', ...).
        backward: The same with the differences second - first.
        with_roles: T' rows of T, of `embed_pair_texts`.

    Returns:
        `sign_accuracy` and `forced_choice` (T, ...). If T' is not 0, `role_test` and `swapped_choice` (T', ...).

    Raises:
        ValueError: A cosine is not finite.
    """
    check_finite(torch.stack([forward, backward]).view(-1), "cosines of texts and image differences")
    swaps = len(with_roles)
    sizes = [len(forward) // 2 - swaps] * 2 + [swaps] * 2
    text, reverse, swapped_text, swapped_reverse = torch.split(forward, sizes)
    back_text, back_reverse, back_swapped_text, back_swapped_reverse = torch.split(backward, sizes)
    zero = forward.new_zeros(())
    verdicts = {
        "sign_accuracy": _mean(_wins(text, zero), _wins(back_reverse, zero)),
        "forced_choice": _mean(_wins(text, reverse), _wins(back_reverse, back_text)),
    }
    if swaps:
        verdicts["role_test"] = _mean(
            _wins(text[with_roles], swapped_text), _wins(back_reverse[with_roles], back_swapped_reverse)
        )
        verdicts["swapped_choice"] = _mean(
            _wins(swapped_reverse, swapped_text), _wins(back_swapped_text, back_swapped_reverse)
        )
    return verdicts


def _wins(right: Tensor, wrong: Tensor) -> Tensor:
    """Return 2 where `right` is larger, 0 where `wrong` is, 1 where they tie, as small integers to save memory."""
    return (right > wrong).to(torch.int8) + (right >= wrong).to(torch.int8)


def _mean(forward: Tensor, backward: Tensor) -> Tensor:
    return (forward + backward).float() / 4
