"""What tasks on shard folders share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pcclip.data.shard_index import read_shard_index
from pcclip.model.clip import DifferenceCLIP
from pcclip.tasks.task import Context, Task


@dataclass(kw_only=True)
class ShardTask(Task):
    """A task on a shard folder.

    Image shards are encoded. Embedded shards fit only a model with the frozen image tower that made them.
    """

    name: str
    """Second part of the names of its results."""
    shards: str
    """Shard folder."""

    def prepare(self) -> None:
        """Read the shard folder, without decoding images."""
        self._index = read_shard_index(self.shards)

    def check(self, model: DifferenceCLIP) -> None:
        """Refuse embedded shards that another image tower made, or if the image tower trains."""
        self._index.info.check_tower(self._index.folder, model)

    def embed(self, context: Context) -> tuple[Tensor, list[int]]:
        """Return embeddings (M, D) of the intact images and their M indices."""
        if self._index.embeddings is None:
            return context.embed(self._index.images)
        return context.finite(self._index.embeddings, list(range(len(self._index.embeddings))))
