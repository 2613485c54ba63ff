"""Retrieval between images and their captions: recall at 1, 5 and 10, both ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, resample_weights, weighted_mean
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Encoder, Result

TASK = "retrieval"
DEPTHS = (1, 5, 10)


def retrieval(
    encoder: Encoder,
    images: Tensor,
    captions: Sequence[Sequence[str]],
    *,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Text-to-image and image-to-text recall at 1, 5 and 10, as far as there are more images (or texts) than that.

    Text to image: the caption's own image is among the k nearest. Image to text: one of the image's own captions is
    among the k nearest of all captions. What ties with the right answer is counted before it, so that a model that
    says the same of everything gets nothing.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        captions: Captions of each image, at least one.
        subset: Name of the image set.
        resamples: Bootstrap resamples of images (each with its captions); 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Raises:
        ValueError: No image, an image without a caption, or an embedding that is not finite.
    """
    where = f"retrieval {subset}"
    if len(images) == 0 or len(images) != len(captions):
        raise ValueError(f"{where}: {len(images)} images and captions of {len(captions)}; must be as many")
    if bare := [index for index, own in enumerate(captions) if not own]:
        raise ValueError(f"{where}: images {bare[:5]} have no caption; leave them out")
    check_finite(images, f"{where}: image embeddings")
    device = images.device
    texts = [caption for own in captions for caption in own]
    owner = torch.tensor([index for index, own in enumerate(captions) for _ in own], device=device)
    counts = torch.bincount(owner, minlength=len(images)).float()
    similarity = embed_texts(encoder, texts, where) @ images.T  # (T, N)
    own_score = similarity.gather(1, owner[:, None])
    text_rank = (similarity >= own_score).sum(1)  # 1 is best; its own image is among those counted

    is_own = owner[:, None] == torch.arange(len(images), device=device)
    best_own = similarity.masked_fill(~is_own, -torch.inf).amax(0)
    image_rank = 1 + ((similarity >= best_own) & ~is_own).sum(0)

    weights = resample_weights(len(images), resamples, seed).to(device)
    results = []
    for k in DEPTHS:
        if len(images) > k:
            found = (text_rank <= k).float()
            per_image = torch.zeros_like(counts).index_add_(0, owner, found)
            low, high = interval(weighted_mean(weights, per_image, counts))
            results.append(Result(TASK, subset, f"text_to_image_recall{k}", float(found.mean()), len(texts), low, high))
    for k in DEPTHS:
        if len(texts) > k:
            found = (image_rank <= k).float()
            low, high = interval(weighted_mean(weights, found))
            results.append(
                Result(TASK, subset, f"image_to_text_recall{k}", float(found.mean()), len(images), low, high)
            )
    return results
