"""Choice between a caption and a hard negative of the same words or nearly so, as SugarCrepe asks (arXiv 2306.14610)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, resample_weights, weighted_mean
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Encoder, Result

TASK = "compositionality"


def compositionality(
    encoder: Encoder,
    images: Tensor,
    image_of: Tensor,
    captions: Sequence[str],
    negatives: Sequence[str],
    *,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """How often the caption is closer to its image than the negative caption; ties count one half.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        image_of: Index of each choice's image, (Q,).
        captions: Q captions.
        negatives: Q captions that are false of the image.
        subset: Name of the set of choices.
        resamples: Bootstrap resamples of images, each with its choices; 0 leaves the interval NaN.
        seed: Seed of the resamples.

    Returns:
        `accuracy`; `n` is the number of choices.

    Raises:
        ValueError: No choice, lists of unlike length, an image index out of range, or an embedding that is not finite.
    """
    where = f"compositionality {subset}"
    if not len(image_of) == len(captions) == len(negatives) or not captions:
        raise ValueError(
            f"{where}: {len(image_of)} images, {len(captions)} captions and {len(negatives)} negative captions; "
            "each choice needs one of each"
        )
    if int(image_of.min()) < 0 or int(image_of.max()) >= len(images):
        raise ValueError(f"{where}: a choice points outside the {len(images)} images")
    check_finite(images, f"{where}: image embeddings")
    image_of = image_of.to(images.device)
    embedded = embed_texts(encoder, [*captions, *negatives], where)
    right, wrong = ((part * images[image_of]).sum(1) for part in torch.split(embedded, len(captions)))
    verdicts = (1 + (right - wrong).sign()) / 2
    used, places = torch.unique(image_of, return_inverse=True)
    counts = torch.bincount(places).float()
    sums = torch.zeros_like(counts).index_add_(0, places, verdicts)
    weights = resample_weights(len(used), resamples, seed).to(images.device)
    low, high = interval(weighted_mean(weights, sums, counts))
    return [Result(TASK, subset, "accuracy", float(verdicts.double().mean()), len(captions), low, high)]
