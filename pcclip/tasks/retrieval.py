"""Retrieval between held-out images and their captions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from pcclip.datasets.annotations import read_karpathy
from pcclip.metrics.protocol import Metric
from pcclip.metrics.retrieval import retrieval
from pcclip.tasks.shards import ShardTask
from pcclip.tasks.task import Context, Task


@dataclass(kw_only=True)
class Retrieval(ShardTask):
    """Retrieval between the images of a shard folder and their captions (`pcclip.metrics.retrieval`)."""

    kind: ClassVar[str] = "retrieval"

    def prepare(self) -> None:
        """Read the shard folder. Images without a caption are excluded with a warning."""
        super().prepare()
        index = self._index
        bare = sum(not captions for captions in index.captions)
        if bare == len(index.captions):
            raise ValueError(f"{index.folder}: no image has a caption, so there is nothing to retrieve; leave it out")
        if bare:
            rank_zero_warn(f"{index.folder}: {bare} of {len(index.captions)} images have no caption and are left out")

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the intact images that have captions."""
        images, kept = self.embed(context)
        captions = self._index.captions
        rows = [row for row, image in enumerate(kept) if captions[image]]
        own = [captions[kept[row]] for row in rows]
        return retrieval(context.encoder, images[rows], own, bootstrap=context.bootstrap)


@dataclass(kw_only=True)
class KarpathyRetrieval(Task):
    """The same on Flickr8k, Flickr30k or COCO with Karpathy's captions and splits."""

    kind: ClassVar[str] = "retrieval"
    name: str
    """Second part of the names of its results."""
    captions: str
    """`dataset_flickr8k.json` or one like it; see `pcclip.datasets.annotations`."""
    images: str
    """Folder of the images."""
    split: str = "test"
    """Which of its splits."""

    def prepare(self) -> None:
        """Read the captions and find their images."""
        self._images, self._captions = read_karpathy(self.captions, self.images, self.split)

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the intact images."""
        images, kept = context.embed(self._images)
        own = [self._captions[image] for image in kept]
        return retrieval(context.encoder, images, own, bootstrap=context.bootstrap)
