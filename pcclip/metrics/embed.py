"""Text embeddings in batches, and the check that embeddings are numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.metrics.protocol import Encoder

MAX_NON_FINITE = 0.05  # share of images whose embedding alone may be damaged; the default of `data.max_damaged`
REMEDY = "NaN or infinite; training diverged or the weights are damaged: use other weights or a lower learning rate"


def embed_texts(encoder: Encoder, texts: Sequence[str], where: str, batch_size: int = 256) -> Tensor:
    """Unit embeddings (N, D) of the texts; each distinct text is encoded once, texts of like length together.

    Args:
        encoder: The model.
        texts: N texts.
        where: Task and set, for messages.
        batch_size: Texts encoded at a time.

    Raises:
        ValueError: A text is empty, there is none, or an embedding is not finite.
    """
    if not texts:
        raise ValueError(f"{where}: no texts to embed; give at least one")
    empty = [index for index, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ValueError(f"{where}: texts {empty[:5]} of {len(texts)} are empty; write them or leave them out")
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    rows = {text: row for row, text in enumerate(distinct)}
    with torch.no_grad():
        parts = [encoder.encode_texts(distinct[at : at + batch_size]) for at in range(0, len(distinct), batch_size)]
    embedded = torch.cat(parts).float()
    check_finite(embedded, f"{where}: text embeddings")
    return embedded[[rows[text] for text in texts]]


def check_finite(numbers: Tensor, what: str) -> None:
    """Refuse numbers that are NaN or infinite: a comparison with NaN is false, which a metric would take for an answer.

    Args:
        numbers: Embeddings (N, D), or other numbers of N items.
        what: Task and set, and what the numbers are.

    Raises:
        ValueError: Naming `what` and the number of items that have such numbers.
    """
    finite = numbers.isfinite().reshape(len(numbers), -1).all(1)
    if bad := len(numbers) - int(finite.sum()):
        raise ValueError(f"{what}: {bad} of {len(numbers)} are not finite ({REMEDY})")


def check_damaged(bad: int, count: int, where: str) -> None:
    """Refuse a model or images if more than `MAX_NON_FINITE` of the images, and more than one, have non-finite embeddings.

    Args:
        bad: Number of images whose embedding is NaN or infinite.
        count: Number of images.
        where: Task and set, for messages.

    Raises:
        ValueError: Naming `where` and both numbers. Of fewer images the embeddings may be left out.
    """
    if bad == count or bad > max(1, MAX_NON_FINITE * count):
        raise ValueError(f"{where}: image embeddings: {bad} of {count} are not finite ({REMEDY})")
