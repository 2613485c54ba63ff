"""Comparing batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcclip.batch import PairBatch


def same(left: Sequence[PairBatch], right: Sequence[PairBatch]) -> bool:
    """Whether two runs of batches are equal in everything."""
    return len(left) == len(right) and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else list(a or ()) == list(b or ())
        for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )
