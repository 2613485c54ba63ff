"""Retrieval between images and their captions: recall at 1, 5 and 10, in both directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, check_finite, embed_texts

DEPTHS = (1, 5, 10)


def retrieval(
    encoder: Encoder, images: Tensor, captions: Sequence[Sequence[str]], *, bootstrap: Bootstrap | None = None
) -> list[Metric]:
    """Measure text-to-image and image-to-text recall at each depth that is below the number of images (or texts).

    Text to image: the caption's own image is among the k nearest. Image to text: one of the image's own captions is
    among the k nearest of all captions. A candidate that ties with the right one ranks before it, so that a model with equal
    embeddings scores zero.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        captions: Captions of each image, at least one.
        bootstrap: Resampling of images, each with its captions.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(images, "image embeddings")
    device = images.device
    texts = [caption for own in captions for caption in own]
    owner = torch.tensor([index for index, own in enumerate(captions) for _ in own], device=device)
    similarity = embed_texts(encoder, texts) @ images.T  # (T, N)
    own_score = similarity.gather(1, owner[:, None])
    text_rank = (similarity >= own_score).sum(1)  # 1 is best; its own image is among those counted

    is_own = owner[:, None] == torch.arange(len(images), device=device)
    best_own = similarity.masked_fill(~is_own, -torch.inf).amax(0)
    image_rank = 1 + ((similarity >= best_own) & ~is_own).sum(0)

    draws = (bootstrap or Bootstrap()).draw(len(images), device)
    to_image = [
        draws.mean(f"text_to_image_recall{k}", (text_rank <= k).float(), owner) for k in DEPTHS if len(images) > k
    ]
    to_text = [draws.mean(f"image_to_text_recall{k}", (image_rank <= k).float()) for k in DEPTHS if len(texts) > k]
    return to_image + to_text
