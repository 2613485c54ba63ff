"""What an evaluation task is, and what it can use to measure a model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor

from pcclip.data.labelled import ImageFile
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Encoder, Metric, check_damaged
from pcclip.model.clip import DifferenceCLIP
from pcclip.reports.sample_pairs import SamplePair
from pcclip.tasks.images import ImageEmbeddings
from pcclip.tasks.kept import KeptMetrics


@dataclass
class Context:
    """What a task needs to measure a model: the encoder, image embeddings and the bootstrap."""

    title: str
    """Kind and name of the task, for messages."""
    model: DifferenceCLIP
    encoder: Encoder
    """The model. In `test` with a `cache_dir` it is wrapped to cache text embeddings on disk."""
    final: bool
    """Whether the numbers are for the table of results: with intervals and costly metrics."""
    bootstrap: Bootstrap
    """Bootstrap for intervals. It has no resamples unless `final`."""
    kept: KeptMetrics
    """Cache of metrics."""
    images: ImageEmbeddings
    store: bool
    """Whether embeddings may be cached on disk."""

    def embed(self, images: Sequence[ImageFile]) -> tuple[Tensor, list[int]]:
        """Return finite unit embeddings (M, D) of the intact images, and their M indices. Every process must call this.

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
            ValueError: Too many embeddings are not finite; see `check_damaged`.
        """
        finite = embeddings.isfinite().all(1)
        if bad := len(kept) - int(finite.sum()):
            check_damaged(bad, len(kept))
            rank_zero_warn(
                f"{self.title}: excluded {bad} of {len(kept)} images, because their embeddings are not finite"
            )
        rows = torch.arange(len(kept))[finite.cpu()].tolist()
        return embeddings[finite].to(self.model.device), [kept[row] for row in rows]


@dataclass(kw_only=True)
class Task(ABC):
    """One evaluation. Its settings are its fields. YAML names it by `class_path`, Python constructs it."""

    kind: ClassVar[str]
    """First part of the names of its results, for example `zero_shot`."""
    final_only: ClassVar[bool] = False
    """Whether the task is costly. It is then measured only before training, at the end of training and in `test`."""
    name: str
    """Second part of the names of its results."""

    @property
    def title(self) -> str:
        """Return kind and name, for messages."""
        return f"{self.kind} {self.name}"

    @abstractmethod
    def prepare(self) -> None:
        """Read and check all files. It is called before the model is created.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is damaged, or files do not fit together.
        """

    def check(self, model: DifferenceCLIP) -> None:  # noqa: B027 (most tasks have nothing to check)
        """Check the files against the model. It is called before training and before each final measurement.

        Raises:
            ValueError: The files do not fit the model.
        """

    @abstractmethod
    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the model. It is in evaluation mode, without gradients. Images that are damaged are excluded."""

    def pictures(self, context: Context) -> dict[str, Image.Image]:
        """Return pictures for TensorBoard by name. Every process must call this; only rank 0 must return pictures."""
        return {}

    def samples(self, context: Context) -> list[SamplePair]:
        """Return a few judged pairs, the same for every model. Every process must call it."""
        return []
