"""Text embeddings in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.evaluation.protocol import Encoder


def embed_texts(encoder: Encoder, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Unit embeddings (N, D) of the texts; each distinct text is encoded once, texts of like length together.

    Raises:
        ValueError: A text is empty, or there is none.
    """
    if not texts:
        raise ValueError("no texts to embed; give at least one")
    empty = [index for index, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ValueError(f"texts {empty[:5]} of {len(texts)} are empty; write them or leave them out")
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    rows = {text: row for row, text in enumerate(distinct)}
    with torch.no_grad():
        parts = [encoder.encode_texts(distinct[at : at + batch_size]) for at in range(0, len(distinct), batch_size)]
    return torch.cat(parts).float()[[rows[text] for text in texts]]
