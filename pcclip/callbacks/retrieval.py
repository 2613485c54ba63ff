"""Retrieval between held-out images and their captions each epoch, on any number of shard folders."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.callbacks.shards import ShardEvaluation
from pcclip.data.shard_index import ShardIndex
from pcclip.evaluation.protocol import Encoder, Result
from pcclip.evaluation.retrieval import retrieval


class Retrieval(ShardEvaluation):
    """Measures retrieval between held-out images and their captions (`pcclip.evaluation.retrieval`)."""

    def require(self, index: ShardIndex) -> None:
        """Captions must be there; images without one are left out."""
        bare = sum(not captions for captions in index.captions)
        if bare == len(index.captions):
            raise ValueError(f"{index.folder}: no image has a caption, so there is nothing to retrieve; leave it out")
        if bare:
            rank_zero_warn(f"{index.folder}: {bare} of {len(index.captions)} images have no caption and are left out")

    def measure(
        self, encoder: Encoder, images: Tensor, kept: list[int], index: ShardIndex, name: str, resamples: int
    ) -> list[Result]:
        """Measure one set."""
        rows = [row for row, image in enumerate(kept) if index.captions[image]]
        return retrieval(
            encoder,
            images[rows],
            [index.captions[kept[row]] for row in rows],
            subset=name,
            resamples=resamples,
            seed=self.seed,
        )
