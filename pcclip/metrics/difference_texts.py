"""How well differences of images match texts written for exactly these pairs, both directions of each pair.

The metrics are those of `pcclip.metrics.attribute_ranking`, less the rank correlations: each ordered form of a pair has
a true text (`text` for first against second, `reverse` for second against first), and the other one is false of it. Beside
them stands the baseline that needs no difference text: the captions of the two images, one subtracted from the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, listed_pair_mean, resample_weights
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.pairs import embed_pair_texts, judge
from pcclip.metrics.protocol import Encoder, Result

TASK = "difference_texts"


def difference_texts(
    encoder: Encoder,
    images: Tensor,
    first: Tensor,
    second: Tensor,
    texts: Sequence[str],
    reverses: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] = (),
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Sign accuracy, forced choice, role test and forced choice between the texts with exchanged roles.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        first: Index of each pair's first image, (P,).
        second: Index of each pair's second image, (P,).
        texts: P texts that describe first against second.
        reverses: P texts that describe second against first.
        captions: Captions of each of the N images, for the baseline; of some there may be none.
        subset: Name of the set of pairs.
        resamples: Bootstrap resamples of images; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        Means over both ordered forms of each pair; `n` is the number of pairs. Pairs without the words "first" and
        "second" in both texts have no part in `role_test` and `swapped_choice`. With captions also, over the pairs of which
        both images have some, `caption_forced_choice`, whether the mean caption embedding of the first less that of the
        second points along the images' difference rather than against it, and `forced_choice_over_captions`, what the
        difference texts have beyond it on the same pairs.

    Raises:
        ValueError: No pair, lists of unlike length, an image index out of range, an image compared with itself, or an
            embedding that is not finite.
    """
    where = f"difference texts {subset}"
    if not len(texts) == len(reverses) == len(first) == len(second):
        raise ValueError(
            f"{where}: {len(first)} first, {len(second)} second, {len(texts)} texts and "
            f"{len(reverses)} reverses; each pair needs one of each"
        )
    if not texts:
        raise ValueError(f"{where}: no pair to judge")
    first, second = first.to(images.device), second.to(images.device)
    if int(torch.minimum(first, second).min()) < 0 or int(torch.maximum(first, second).max()) >= len(images):
        raise ValueError(f"{where}: a pair points outside the {len(images)} images")
    if bool((first == second).any()):
        raise ValueError(f"{where}: pair {int((first == second).nonzero()[0])} is of one image")
    check_finite(images, f"{where}: image embeddings")

    with torch.no_grad():
        forward = encoder.difference(images[first], images[second])
        backward = encoder.difference(images[second], images[first])
    embedded = embed_pair_texts(encoder, texts, reverses, where)
    # each text meets the differences of its own pair only
    forward = (embedded.embedded * forward[embedded.row]).sum(-1)
    backward = (embedded.embedded * backward[embedded.row]).sum(-1)
    verdicts = judge(forward, backward, embedded.with_roles, where)

    # only images that are in some pair are drawn: others would not change the accuracies
    used, places = torch.unique(torch.stack([first, second]), return_inverse=True)
    weights = resample_weights(len(used), resamples, seed).to(images.device)
    results = []
    judged = {
        metric: (verdict, list(range(len(texts))) if len(verdict) == len(texts) else embedded.with_roles)
        for metric, verdict in verdicts.items()
    }
    if captions:
        if len(captions) != len(images):
            raise ValueError(f"{where}: captions of {len(captions)} images, but {len(images)} images")
        rows = [row for row in range(len(texts)) if captions[int(first[row])] and captions[int(second[row])]]
        if rows:
            own = _caption_choice(encoder, images, first[rows], second[rows], captions, where)
            judged["caption_forced_choice"] = own, rows
            judged["forced_choice_over_captions"] = verdicts["forced_choice"][rows] - own, rows
    for metric, (verdict, rows) in judged.items():
        low, high = interval(listed_pair_mean(weights, places[0, rows], places[1, rows], verdict))
        results.append(Result(TASK, subset, metric, float(verdict.double().mean()), len(rows), low, high))
    return results


def _caption_choice(
    encoder: Encoder, images: Tensor, first: Tensor, second: Tensor, captions: Sequence[Sequence[str]], where: str
) -> Tensor:
    """Whether the captions' difference points along the images', (P,): 1, 0, or one half for a tie."""
    used, places = torch.unique(torch.stack([first, second]), return_inverse=True)
    of = [captions[image] for image in used.tolist()]
    embedded = embed_texts(encoder, [caption for own in of for caption in own], where)
    means = torch.stack([part.mean(0) for part in torch.split(embedded, [len(own) for own in of])])
    means = normalize(means, dim=-1)
    with torch.no_grad():
        differences = encoder.difference(images[first], images[second])
    cosines = ((means[places[0]] - means[places[1]]) * differences).sum(-1)
    return (cosines.sign() + 1) / 2
