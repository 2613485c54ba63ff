"""The shards that are being read, a few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from pcclip.data.damage import DamagedGroupError
from pcclip.data.folders import ShardFolder
from pcclip.data.format import ShardInfo
from pcclip.data.tar_index import TarIndex

KEPT = 16  # open files; their indices take a few megabytes


class OpenShards:
    """Opens shards when they are asked for, and closes those not asked for longest."""

    def __init__(self, shards: Sequence[tuple[ShardFolder, ShardInfo]]) -> None:
        self._shards = shards
        self._open: OrderedDict[int, TarIndex] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        # A spawned worker opens its own.
        return {"_shards": self._shards, "_open": OrderedDict()}

    def __len__(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def __getitem__(self, number: int) -> TarIndex:
        """The index of a shard, which reads from the open file.

        Raises:
            DamagedGroupError: The disk does not give it.
            ConnectionError: It is remote and cannot be fetched.
        """
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path = self.fetch(number)
        try:
            index = TarIndex(path)
        except OSError as error:
            raise DamagedGroupError("unreadable_file", str(path), error) from error
        self._open[number] = index
        while len(self._open) > KEPT:
            self._open.popitem(last=False)[1].close()
        return index

    def folder(self, number: int) -> ShardFolder:
        """The folder of a shard."""
        return self._shards[number][0]

    def fetch(self, number: int) -> Path:
        """The local file of a shard, fetched if it is remote; see `ShardFolder.path`."""
        folder, shard = self._shards[number]
        return folder.path(shard)
