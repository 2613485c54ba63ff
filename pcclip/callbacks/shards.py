"""What the evaluation callbacks on shard folders share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from pcclip.callbacks.embeddings import model_of
from pcclip.callbacks.evaluation import EvaluationCallback, finite_images
from pcclip.data.shard_index import ShardIndex, read_shard_index
from pcclip.metrics.protocol import Encoder, Result


class ShardEvaluation(EvaluationCallback):
    """Reads shard folders and embeds their images.

    Image shards are encoded; embedded shards serve only a model whose frozen image tower made them.

    Args:
        sets: Name to shard folder; results are named `<task>/<name>/<metric>`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, str],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._indices: dict[str, ShardIndex] = {}

    @abstractmethod
    def require(self, index: ShardIndex) -> None:
        """Raise a ValueError if the folder lacks what this evaluation needs."""

    @abstractmethod
    def measure(
        self, encoder: Encoder, images: Tensor, kept: list[int], index: ShardIndex, name: str, resamples: int
    ) -> list[Result]:
        """Measure one set, given embeddings (M, D) of its intact images and their M indices."""

    def prepare(self) -> None:
        """Read the shard folders, without decoding images.

        Raises:
            FileNotFoundError: A folder or shard is missing.
            ValueError: A shard is damaged or of another format, or lacks what this evaluation needs.
        """
        self._indices = {name: read_shard_index(folder) for name, folder in self.sets.items()}
        for index in self._indices.values():
            self.require(index)

    def check(self, pl_module: LightningModule) -> None:
        """Refuse embedded shards that another image tower made, or whose tower trains.

        Raises:
            ValueError: For such shards.
        """
        for index in self._indices.values():
            index.info.check_tower(index.folder, model_of(pl_module))

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all sets."""
        results = []
        for name, index in self._indices.items():
            if index.embeddings is None:
                images, kept = self.embed(trainer, pl_module, index.images, name)
            else:
                every = list(range(len(index.embeddings)))
                images, kept = finite_images(index.embeddings, every, f"{type(self).__name__} {name}")
                images = images.to(pl_module.device)
            results += self.measure(self.encoder(pl_module), images, kept, index, name, resamples)
        return results
