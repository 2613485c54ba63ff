"""What an evaluation task is, and what it measures with."""

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


class Task(ABC):
    """One evaluation. Its settings are the fields of a dataclass: YAML names it by `class_path`, Python constructs it."""

    kind: ClassVar[str]
    """First part of the names of its results, for example `zero_shot`."""
    final_only: ClassVar[bool] = False
    """Whether the task is costly and measured only before training, at its end and in `test`."""
    name: str

    @property
    def title(self) -> str:
        """Kind and name, for messages."""
        return f"{self.kind} {self.name}"

    @abstractmethod
    def prepare(self) -> None:
        """Read and check all files. It is called before a model is made.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: Files that are damaged or do not fit together.
        """

    def check(self, model: DifferenceCLIP) -> None:  # noqa: B027 (most tasks have nothing to check)
        """Check the files against the model. It is called before the first step, and for each model that is measured.

        Raises:
            ValueError: They do not fit.
        """

    @abstractmethod
    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure the context's model, in evaluation mode and without gradients."""

    def pictures(self, context: Context) -> dict[str, Image.Image]:
        """Return pictures of what the model does, by name. Every process must call it; only the first must return them."""
        return {}

    def samples(self, context: Context) -> list[SamplePair]:
        """Return a few judged pairs, the same for every model. Every process must call it."""
        return []
