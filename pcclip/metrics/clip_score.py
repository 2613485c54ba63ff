"""CLIPScore, and whether generated images follow difference texts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, Wording, check_finite, embed_texts


def clip_score(images: Tensor, texts: Tensor) -> Tensor:
    """Return the CLIPScore of images and texts, 2.5 times their cosine and at least 0 (arXiv 2104.08718).

    Args:
        images: Unit embeddings (..., D).
        texts: Unit embeddings (..., D).
    """
    return 2.5 * (images * texts).sum(-1).clamp(min=0)


def moved_images(
    encoder: Encoder,
    images: Tensor,
    targets: Sequence[Wording],
    prompts: Sequence[int],
    *,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Judge pairs of images that were generated from the same noise and moved along a text and its reverse.

    Args:
        encoder: The model that judges.
        images: Unit embeddings (Q, S, 2, D) of Q cases and S seeds, moved along a difference text (0) and its reverse (1).
        targets: For each case, a text on the images moved along the text, and one on those moved along its reverse.
        prompts: For each case, the index of its prompt. A prompt may have several difference texts and targets.
        bootstrap: Resampling of prompts, each with its images.

    Returns:
        `clip_score` of each image and its target, and `forced_choice`: whether the target is nearer to its own image than to
        the other one of the pair; a tie counts one half. `n` is the number of images.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(images.flatten(0, -2), "image embeddings")
    embedded = embed_texts(encoder, [text for target in targets for text in (target.text, target.reverse)])
    texts = embedded.view(len(images), 1, 2, -1)
    own, other = ((each * texts).sum(-1) for each in (images, images.flip(2)))
    owners = torch.tensor(prompts, device=images.device).repeat_interleave(own[0].numel())
    draws = (bootstrap or Bootstrap()).draw(max(prompts) + 1, images.device)
    return [
        draws.mean("clip_score", clip_score(images, texts).flatten(), owners),
        draws.mean("forced_choice", (1 + (own - other).sign()).flatten() / 2, owners),
    ]
