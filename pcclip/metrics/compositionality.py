"""Choice between a caption and a hard negative of nearly the same words, as in SugarCrepe (arXiv 2306.14610)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, check_finite, embed_texts


def compositionality(
    encoder: Encoder,
    images: Tensor,
    image_of: Tensor,
    captions: Sequence[str],
    negatives: Sequence[str],
    *,
    bootstrap: Bootstrap | None = None,
) -> Metric:
    """Measure how often the caption is closer to its image than the negative caption. Ties count one half.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        image_of: Index of each choice's image, (Q,).
        captions: Q captions.
        negatives: Q captions that are false of the image.
        bootstrap: Resampling of images, each with its choices.

    Returns:
        `accuracy`; `n` is the number of choices.

    Raises:
        ValueError: No choice, or an embedding that is not finite.
    """
    check_finite(images, "image embeddings")
    image_of = image_of.to(images.device)
    embedded = embed_texts(encoder, [*captions, *negatives])
    right, wrong = ((part * images[image_of]).sum(1) for part in torch.split(embedded, len(captions)))
    used, places = torch.unique(image_of, return_inverse=True)
    draws = (bootstrap or Bootstrap()).draw(len(used), images.device)
    return draws.mean("accuracy", (1 + (right - wrong).sign()) / 2, places)
