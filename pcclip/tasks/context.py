"""What a task measures with: the model, embeddings of images, and the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pcclip.data.labelled import ImageFile
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.embed import check_damaged
from pcclip.metrics.protocol import Encoder
from pcclip.model.clip import DifferenceCLIP
from pcclip.tasks.images import ImageEmbeddings
from pcclip.tasks.kept import KeptMetrics


@dataclass
class Context:
    """One measurement of one task."""

    title: str
    """The task's kind and name, for messages."""
    model: DifferenceCLIP
    encoder: Encoder
    """The model, or in `test` with a `cache_dir` one that keeps text embeddings."""
    final: bool
    """Whether numbers are for the table of results: with intervals, and with what is costly."""
    bootstrap: Bootstrap
    """Without resamples unless `final`."""
    kept: KeptMetrics
    """Metrics of earlier measurements of the same embeddings."""
    images: ImageEmbeddings
    store: bool
    """Whether embeddings may be kept on disk."""

    def embed(self, images: Sequence[ImageFile]) -> tuple[Tensor, list[int]]:
        """Return finite unit embeddings (M, D) of the intact images, and their M indices. Every process must call it.

        Raises:
            ValueError: No image is intact, or too many have a NaN or infinite embedding.
        """
        return self.finite(*self.images.embed(self.model, images, self.title, store=self.store))

    def finite(self, embeddings: Tensor, kept: list[int]) -> tuple[Tensor, list[int]]:
        """Exclude images with a NaN or infinite embedding, with a warning that counts them.

        Args:
            embeddings: (N, D).
            kept: Index of each image in its set, N of them.

        Raises:
            ValueError: There are more of them than single damaged images explain; see `check_damaged`.
        """
        finite = embeddings.isfinite().all(1)
        if bad := len(kept) - int(finite.sum()):
            check_damaged(bad, len(kept))
            rank_zero_warn(
                f"{self.title}: the embeddings of {bad} of {len(kept)} images are not finite; these images are left out"
            )
        rows = torch.arange(len(kept))[finite.cpu()].tolist()
        return embeddings[finite].to(self.model.device), [kept[row] for row in rows]
