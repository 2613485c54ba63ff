"""Difference texts of held-out pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.shard_index import texts_in
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.protocol import Metric
from pcclip.roles import has_roles, swap_roles
from pcclip.tasks.shards import ShardTask
from pcclip.tasks.task import Context


@dataclass(kw_only=True)
class DifferenceTexts(ShardTask):
    """Difference texts of held-out pairs, both directions of each (`pcclip.metrics.difference_texts`)."""

    kind: ClassVar[str] = "difference_texts"
    training: list[str] = field(default_factory=list)
    """Shard folders of training texts. If some but not all pairs have a text that occurs in them, as it is or with "first" and
    "second" exchanged, the other pairs are also measured alone (part `new_texts`)."""

    def prepare(self) -> None:
        """Read the shard folders. A warning says if all texts occur in training."""
        super().prepare()
        if not self._index.texts:
            raise ValueError(
                f"{self.shards}: no pair is given in both directions; add the reverse texts, or leave it out"
            )
        texts = texts_in(self.training)
        trained = texts | {swap_roles(text) for text in texts if has_roles(text)}
        pairs = zip(self._index.texts, self._index.reverses, strict=True)
        self._recurs = [not trained.isdisjoint(pair) for pair in pairs]
        if all(self._recurs):
            rank_zero_warn(f"{self.title}: every pair's text occurs in the training shards")

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the pairs of intact images."""
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
