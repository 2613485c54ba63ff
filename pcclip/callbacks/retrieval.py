"""Retrieval between held-out images and their captions each epoch, on any number of shard folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.callbacks.shards import ShardEvaluation
from pcclip.data.labelled import ImageFile
from pcclip.data.shard_index import ShardIndex
from pcclip.datasets.karpathy import read_karpathy
from pcclip.metrics.protocol import Encoder, Result
from pcclip.metrics.retrieval import retrieval


@dataclass
class KarpathySet:
    """Flickr8k, Flickr30k or COCO with Karpathy's captions.

    Attributes:
        captions: `dataset_flickr8k.json` or one like it; see `pcclip.datasets.karpathy`.
        images: Folder of the images.
        split: Which of its splits.
    """

    captions: str
    images: str
    split: str = "test"


class Retrieval(ShardEvaluation):
    """Measures retrieval between held-out images and their captions (`pcclip.metrics.retrieval`).

    Args:
        sets: Name to shard folder; results are named `retrieval/<name>/<metric>`.
        karpathy: Name to Karpathy's captions.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, str] | None = None,
        karpathy: dict[str, KarpathySet] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(sets or {}, **settings)
        self.karpathy = karpathy or {}
        if both := sorted(set(self.sets) & set(self.karpathy)):
            raise ValueError(f"Retrieval: {both} are in `sets` and in `karpathy`; give each set a name of its own")
        self._captioned: dict[str, tuple[list[ImageFile], list[list[str]]]] = {}

    def prepare(self) -> None:
        """Read shard folders and caption files.

        Raises:
            FileNotFoundError: A file, folder or image is missing.
            ValueError: One that is damaged or of another layout, or has no captions.
        """
        super().prepare()
        self._captioned = {
            name: read_karpathy(settings.captions, settings.images, settings.split)
            for name, settings in self.karpathy.items()
        }

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = super().results(trainer, pl_module, resamples)
        for name, (files, captions) in self._captioned.items():
            images, kept = self.embed(trainer, pl_module, files, name)
            results += retrieval(
                self.encoder(pl_module),
                images,
                [captions[image] for image in kept],
                subset=name,
                resamples=resamples,
                seed=self.seed,
            )
        return results

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
