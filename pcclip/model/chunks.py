"""Encode a batch in chunks: by length, to avoid padding, and by size, to fit into memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def forgetful(function: Callable[..., Tensor], chunk_size: int | None) -> Callable[..., Tensor]:
    """Wrap a function in activation checkpointing if there is a chunk size. Otherwise, return it unchanged.

    Activations are then recomputed in the backward pass. This is GradCache (arXiv 2101.06983): compute the embeddings
    of the whole batch, then the gradients chunk by chunk.
    """
    if chunk_size is None or not torch.is_grad_enabled():
        return function
    return partial(checkpoint, function, use_reentrant=False)


def in_chunks(function: Callable[[Any], Tensor], rows: Tensor, chunk_size: int | None) -> Tensor:
    """Return `function(rows)`, computed for `chunk_size` rows at a time, or for all with None. Rows must be independent.

    Values and gradients are the same, but only one chunk's activations exist at any time.
    """
    if chunk_size is None:
        return function(rows)
    run = forgetful(function, chunk_size)
    return torch.cat([run(part) for part in torch.split(rows, chunk_size)])


def cut(lengths: list[int], cost: int, chunk_size: int | None = None) -> list[int]:
    """Return the sizes of chunks that minimise the total work. Each chunk is padded to its longest text.

    Args:
        lengths: Length of each text in tokens, ascending.
        cost: Fixed work of a chunk, in tokens.
        chunk_size: Maximum number of texts in a chunk.

    Returns:
        Number of texts in each chunk. Chunks above `chunk_size` are divided evenly.

    Examples:
        >>> cut([3, 3, 4, 20, 20, 77], cost=10)
        [3, 2, 1]
        >>> cut([3, 3, 4, 20, 20, 77], cost=1000)
        [6]
    """
    values, counts = np.unique(lengths, return_counts=True)
    ends = np.cumsum(counts)
    begins = ends - counts
    # best[i]: minimal work for all texts shorter than values[i]; chosen[i]: start of the last chunk of that solution
    best, chosen = np.zeros(len(values) + 1), np.zeros(len(values) + 1, dtype=int)
    for i, value in enumerate(values):
        work = best[: i + 1] + (ends[i] - begins[: i + 1]) * value + cost
        chosen[i + 1] = work.argmin()
        best[i + 1] = work.min()
    sizes: list[int] = []
    last = len(values)
    while last:
        first = int(chosen[last])
        size = int(ends[last - 1] - begins[first])
        pieces = 1 if chunk_size is None else -(-size // chunk_size)
        sizes += [size * (i + 1) // pieces - size * i // pieces for i in range(pieces)]
        last = first
    return sizes[::-1] or [0]
