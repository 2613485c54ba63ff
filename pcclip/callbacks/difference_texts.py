"""Difference texts of held-out pairs each epoch, on any number of shard folders."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.callbacks.shards import ShardEvaluation
from pcclip.data.shard_index import ShardIndex, texts_in
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.protocol import Encoder, Result
from pcclip.roles import has_roles, swap_roles


class DifferenceTexts(ShardEvaluation):
    """Measures difference texts of held-out pairs (`pcclip.metrics.difference_texts`), both directions of each.

    Args:
        sets: Name to shard folder; results are named `difference_texts/<name>/<metric>`.
        training: Shard folders of training texts. Where some but not all pairs of a set have a text that occurs in them,
            as it is or with "first" and "second" exchanged, the other pairs are also measured alone, as `<name>/new_texts`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(self, sets: dict[str, str], training: list[str] | None = None, **settings: Any) -> None:
        super().__init__(sets, **settings)
        self.training = training or []
        self._trained: set[str] = set()

    def prepare(self) -> None:
        """Read the shard folders and the training texts; warn of sets whose texts all occur in training."""
        super().prepare()
        texts = texts_in(self.training)
        self._trained = texts | {swap_roles(text) for text in texts if has_roles(text)}
        for name, index in self._indices.items():
            if all(self._recurs(index, row) for row in range(len(index.texts))):
                rank_zero_warn(f"difference texts {name}: every pair's text occurs in the training shards")

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
        subsets = {name: rows}
        new = [row for row in rows if not self._recurs(index, row)]
        if 0 < len(new) < len(rows):
            subsets[f"{name}/new_texts"] = new
        return [
            result
            for subset, chosen in subsets.items()
            for result in difference_texts(
                encoder,
                images,
                torch.tensor([place[index.first[row]] for row in chosen]),
                torch.tensor([place[index.second[row]] for row in chosen]),
                [index.texts[row] for row in chosen],
                [index.reverses[row] for row in chosen],
                captions=[index.captions[image] for image in kept],
                subset=subset,
                resamples=resamples,
                seed=self.seed,
            )
        ]

    def _recurs(self, index: ShardIndex, row: int) -> bool:
        return not self._trained.isdisjoint((index.texts[row], index.reverses[row]))
