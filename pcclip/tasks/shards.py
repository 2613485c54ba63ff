"""Difference texts and retrieval on held-out shards, and retrieval on Karpathy's captions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.data.labelled import decoded
from pcclip.data.shard_index import read_shard_index, texts_in
from pcclip.datasets.annotations import read_karpathy
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.protocol import Metric, embed_texts
from pcclip.metrics.retrieval import retrieval
from pcclip.model.clip import DifferenceCLIP
from pcclip.reports.sample_pairs import SamplePair
from pcclip.roles import has_roles, swap_roles
from pcclip.tasks.task import Context, Task

_SAMPLES = 6  # pairs to look at
_THUMBNAIL = 160  # pixels


@dataclass(kw_only=True)
class ShardTask(Task):
    """A task on a shard folder.

    The images of image shards are encoded. Embedded shards need a model with the frozen image tower that made them.
    """

    shards: str
    """Shard folder."""

    def prepare(self) -> None:
        self._index = read_shard_index(self.shards)

    def check(self, model: DifferenceCLIP) -> None:
        self._index.info.check_tower(self._index.folder, model)

    def embed(self, context: Context) -> tuple[Tensor, list[int]]:
        """Return embeddings (M, D) of the intact images and their M indices."""
        if self._index.embeddings is None:
            return context.embed(self._index.images)
        return context.finite(self._index.embeddings, list(range(len(self._index.embeddings))))


@dataclass(kw_only=True)
class DifferenceTexts(ShardTask):
    """Difference texts of held-out pairs, both directions of each (`pcclip.metrics.difference_texts`)."""

    kind: ClassVar[str] = "difference_texts"
    training: list[str] = field(default_factory=list)
    """Shard folders of training texts. Pairs without a text that occurs in them are also measured alone (part `new_texts`).
    Exchanging "first" and "second" does not make a text new. There is no such part if all or no pairs are new."""

    def prepare(self) -> None:
        super().prepare()
        if not self._index.texts:
            raise ValueError(
                f"{self.shards}: no pair has texts in both directions; add reverse texts, or remove {self.title}"
            )
        texts = texts_in(self.training)
        trained = texts | {swap_roles(text) for text in texts if has_roles(text)}
        pairs = zip(self._index.texts, self._index.reverses, strict=True)
        self._recurs = [not trained.isdisjoint(pair) for pair in pairs]
        if all(self._recurs):
            rank_zero_warn(f"{self.title}: every pair's text occurs in the training shards")

    def measure(self, context: Context) -> Iterable[Metric]:
        images, kept = self.embed(context)
        index, place = self._index, {old: new for new, old in enumerate(kept)}
        pairs = enumerate(zip(index.first, index.second, strict=True))
        rows = [row for row, pair in pairs if place.keys() >= set(pair)]
        new = [row for row in rows if not self._recurs[row]]
        parts = {"": rows, "new_texts": new} if 0 < len(new) < len(rows) else {"": rows}
        for part, chosen in parts.items():
            yield from difference_texts(
                context.encoder,
                images,
                torch.tensor([place[index.first[row]] for row in chosen]),
                torch.tensor([place[index.second[row]] for row in chosen]),
                [index.texts[row] for row in chosen],
                [index.reverses[row] for row in chosen],
                captions=[index.captions[image] for image in kept],
                part=part,
                bootstrap=context.bootstrap,
            )

    def samples(self, context: Context) -> list[SamplePair]:
        """Return pairs of intact images, spread evenly over the folder."""
        embeddings, kept = self.embed(context)
        index, place = self._index, {old: new for new, old in enumerate(kept)}
        rows = [
            row for row, pair in enumerate(zip(index.first, index.second, strict=True)) if place.keys() >= set(pair)
        ]
        chosen = rows[:: max(1, len(rows) // _SAMPLES)][:_SAMPLES]
        firsts, seconds = [index.first[row] for row in chosen], [index.second[row] for row in chosen]
        with torch.no_grad():
            difference = context.encoder.difference(
                embeddings[[place[image] for image in firsts]], embeddings[[place[image] for image in seconds]]
            )
        texts, reverses = [index.texts[row] for row in chosen], [index.reverses[row] for row in chosen]
        scores, reverse_scores = (
            (difference * embed_texts(context.encoder, part)).sum(1).tolist() for part in (texts, reverses)
        )
        thumbnails = [
            [decoded(index.images[image], _THUMBNAIL) if index.images else None for image in images]
            for images in (firsts, seconds)
        ]
        return list(map(SamplePair, *thumbnails, texts, reverses, scores, reverse_scores))


@dataclass(kw_only=True)
class Retrieval(ShardTask):
    """Retrieval between the images of a shard folder and their captions (`pcclip.metrics.retrieval`)."""

    kind: ClassVar[str] = "retrieval"

    def prepare(self) -> None:
        super().prepare()
        index = self._index
        bare = sum(not captions for captions in index.captions)
        if bare == len(index.captions):
            raise ValueError(f"{index.folder}: no image has a caption to retrieve; remove {self.title}")
        if bare:
            rank_zero_warn(f"{index.folder}: excluded {bare} of {len(index.captions)} images without a caption")

    def measure(self, context: Context) -> Iterable[Metric]:
        images, kept = self.embed(context)
        captions = self._index.captions
        rows = [row for row, image in enumerate(kept) if captions[image]]
        own = [captions[kept[row]] for row in rows]
        return retrieval(context.encoder, images[rows], own, bootstrap=context.bootstrap)


@dataclass(kw_only=True)
class KarpathyRetrieval(Task):
    """Retrieval on Flickr8k, Flickr30k or COCO with Karpathy's captions and splits."""

    kind: ClassVar[str] = "retrieval"
    captions: str
    """File such as `dataset_flickr8k.json`; see `pcclip.datasets.annotations.read_karpathy`."""
    images: str
    """Folder of the images."""
    split: str = "test"
    """Split of the captions file."""

    def prepare(self) -> None:
        self._images, self._captions = read_karpathy(self.captions, self.images, self.split)

    def measure(self, context: Context) -> Iterable[Metric]:
        images, kept = context.embed(self._images)
        own = [self._captions[image] for image in kept]
        return retrieval(context.encoder, images, own, bootstrap=context.bootstrap)
