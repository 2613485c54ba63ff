"""Difference texts of held-out pairs each epoch, on any number of shard folders."""

from __future__ import annotations

import torch
from torch import Tensor

from pcclip.callbacks.shards import ShardEvaluation
from pcclip.data.shard_index import ShardIndex
from pcclip.evaluation.difference_texts import difference_texts
from pcclip.evaluation.protocol import Encoder, Result


class DifferenceTexts(ShardEvaluation):
    """Measures difference texts of held-out pairs (`pcclip.evaluation.difference_texts`), both directions of each."""

    def require(self, index: ShardIndex) -> None:
        """Some pair must be there in both directions."""
        if not index.texts:
            raise ValueError(
                f"{index.folder}: no pair is given in both directions; add the reverse texts, or leave it out"
            )

    def measure(
        self, encoder: Encoder, images: Tensor, kept: list[int], index: ShardIndex, name: str, resamples: int
    ) -> list[Result]:
        """Measure one set; pairs of damaged images are left out."""
        place = {old: new for new, old in enumerate(kept)}
        rows = [
            row
            for row, (first, second) in enumerate(zip(index.first, index.second, strict=True))
            if first in place and second in place
        ]
        return difference_texts(
            encoder,
            images,
            torch.tensor([place[index.first[row]] for row in rows]),
            torch.tensor([place[index.second[row]] for row in rows]),
            [index.texts[row] for row in rows],
            [index.reverses[row] for row in rows],
            captions=[index.captions[image] for image in kept],
            subset=name,
            resamples=resamples,
            seed=self.seed,
        )
